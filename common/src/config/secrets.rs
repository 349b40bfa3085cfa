//! Secrets: where they are read from, and what cannot be right in one.
//!
//! A mistake names the key and what to do, never the value. That holds for the name of a file too, as somebody may have
//! put the secret itself there.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::{Config, ConfigError, Reader};

/// What a secret looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `scheme://…`
    Address,
    /// A word that the portal or a person made.
    Word,
    /// The value of `auth[application_token]`, and nothing around it.
    Token,
}

impl Config {
    /// Reads the secrets that this process uses, also from files. Of the others it only looks at what stands in the
    /// configuration itself.
    pub(super) fn read_secrets(&mut self, reader: Reader, folder: &Path) -> Result<(), ConfigError> {
        let (asks_portals, takes_events) = (reader.asks_portals(self), reader.takes_events());
        let is_stage = reader.is_stage();
        let unread = |used: bool, file: &mut Option<PathBuf>| {
            if !used {
                *file = None;
            }
        };
        unread(is_stage, &mut self.amqp.url_file);
        unread(is_stage, &mut self.admin.token_file);
        for portal in &mut self.portals {
            unread(asks_portals, &mut portal.webhook_url_file);
            unread(takes_events, &mut portal.application_token_file);
            unread(takes_events, &mut portal.event_key_file);
            unread(takes_events, &mut portal.robot_key_file);
        }
        let mut reading = Reading { folder, problems: Vec::new() };
        reading.needed(Form::Address, "amqp.url", &mut self.amqp.url, &mut self.amqp.url_file);
        reading.optional(Form::Word, "admin.token", &mut self.admin.token, &mut self.admin.token_file);
        let database = &mut self.database;
        reading.needed(Form::Address, "database.url", &mut database.url, &mut database.url_file);
        for portal in &mut self.portals {
            let key = |key: &str| format!("portal {}: {key}", portal.name);
            let (url, token) = (key("webhook_url"), key("application_token"));
            let (event_key, robot_key) = (key("event_key"), key("robot_key"));
            reading.needed(Form::Address, &url, &mut portal.webhook_url, &mut portal.webhook_url_file);
            let file = &mut portal.application_token_file;
            reading.needed(Form::Token, &token, &mut portal.application_token, file);
            reading.optional(Form::Word, &event_key, &mut portal.event_key, &mut portal.event_key_file);
            reading.optional(Form::Word, &robot_key, &mut portal.robot_key, &mut portal.robot_key_file);
        }
        if reading.problems.is_empty() { Ok(()) } else { Err(ConfigError(reading.problems)) }
    }
}

struct Reading<'a> {
    folder: &'a Path,
    problems: Vec<String>,
}

impl Reading<'_> {
    fn needed(&mut self, form: Form, key: &str, secret: &mut SecretString, file: &mut Option<PathBuf>) {
        let file = file.take();
        let place = if file.is_some() { format!("{key}_file") } else { key.to_owned() };
        let read = match file {
            Some(file) => from_file(self.folder, &file),
            None => Ok(secret.expose_secret().to_owned()),
        };
        let checked = read.and_then(|text| match wrong(form, &text) {
            Some(problem) => Err(problem.to_owned()),
            None => Ok(text),
        });
        match checked {
            Ok(text) => *secret = text.into(),
            Err(problem) => self.problems.push(format!("{place}: {problem}")),
        }
    }

    fn optional(
        &mut self,
        form: Form,
        key: &str,
        secret: &mut Option<SecretString>,
        file: &mut Option<PathBuf>,
    ) {
        if secret.is_some() || file.is_some() {
            self.needed(form, key, secret.get_or_insert_default(), file);
        }
    }
}

fn from_file(folder: &Path, file: &Path) -> Result<String, String> {
    if file.to_string_lossy().contains("://") {
        return Err(
            "the name of a file is expected, and an address stands there; put it into a file".to_owned()
        );
    }
    let text = std::fs::read_to_string(folder.join(file)).map_err(|error| {
        let from = folder.display();
        format!("the file cannot be read: {error}; a relative name begins in the folder `{from}`")
    })?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() { Err("the file is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// What cannot be right in a secret. An empty one is missing, which is said elsewhere.
fn wrong(form: Form, text: &str) -> Option<&'static str> {
    let in_quotes = |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if text.contains(['\n', '\r']) {
        Some("more than one line; only the secret itself may stand there")
    } else if text.chars().any(|c| c.is_control() || c == '\u{feff}') {
        Some("a character in it cannot be seen; write the secret anew")
    } else if in_quotes('"') || in_quotes('\'') {
        Some("the secret stands in quotes of its own; take them away")
    } else if text.contains(char::is_whitespace) {
        Some("a space in it; only the secret itself may stand there")
    } else if form != Form::Address && text.contains("://") {
        Some("an address, where a secret word is expected; are two values or files mixed up?")
    } else if form == Form::Address && !text.is_empty() && !text.contains("://") {
        Some(
            "an address is expected, which begins with a scheme such as https://; are two values or files mixed up?",
        )
    } else if form == Form::Token && !text.is_ascii() {
        Some("a character in it that no token has; copy it anew")
    } else if form == Form::Token && text.contains(['=', '&', '[']) {
        Some("more than the token; write only what stands behind `auth[application_token]=`")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_right_is_named() {
        for (form, text, expected) in [
            (Form::Token, "51856fefc120afa4b628cc82d3935cce", None),
            (Form::Token, "", None),
            (Form::Token, "auth[application_token]=51856fef", Some("more than the token")),
            (Form::Token, "https://acme.test/", Some("an address, where")),
            (Form::Token, "one\ntwo", Some("more than one line")),
            (Form::Token, "one\u{200b}two", Some("no token has")),
            (Form::Word, "a+b=", None),
            (Form::Word, "one two", Some("a space in it")),
            (Form::Word, "'one'", Some("quotes of its own")),
            (Form::Word, "one\u{0}", Some("cannot be seen")),
            (Form::Address, "https://acme.test/rest/1/s/", None),
            (Form::Address, "51856fef", Some("an address is expected")),
            (Form::Address, "\"https://acme.test\"", Some("quotes of its own")),
        ] {
            let problem = wrong(form, text);
            assert_eq!(problem.is_some(), expected.is_some(), "{text:?}: {problem:?}");
            assert!(problem.unwrap_or_default().contains(expected.unwrap_or_default()), "{problem:?}");
        }
    }

    #[test]
    fn a_file_is_read_without_what_editors_add_and_never_named() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| from_file(folder.path(), Path::new(name));
        std::fs::write(folder.path().join("token"), "\u{feff}s3cret\r\n\n").unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        assert_eq!(read("token").as_deref(), Ok("s3cret"));
        assert_eq!(read("empty").unwrap_err(), "the file is empty");
        for (name, expected) in
            [("postgres://u:s3cret@h/d", "address stands there"), ("s3cret", "cannot be read")]
        {
            let error = read(name).unwrap_err();
            assert!(error.contains(expected) && !error.contains("s3cret"), "{error}");
        }
    }
}
