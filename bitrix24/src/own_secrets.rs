//! A portal's own secrets, taken out of what it sends before anybody reads it.
//!
//! A portal, or a proxy before it, may repeat in an error what it was asked, the address included. Such a text would
//! reach logs, the reasons of dead letters and tables. So each body is searched as it came.

use std::fmt;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};
use secrecy::{ExposeSecret, SecretString};

/// A shorter secret could be a part of anything, and what is not secret would be spoiled.
const SECRET_MIN: usize = 8;

/// What stands in a secret's place. It may stand in a string of JSON.
const HIDDEN: &str = "(secret)";

/// The secrets of one portal.
#[derive(Clone, Default)]
pub(crate) struct OwnSecrets(Option<AhoCorasick>);

impl OwnSecrets {
    /// Those of at least eight bytes.
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Self {
        let long = |secret: &&str| secret.len() >= SECRET_MIN;
        let secrets: Vec<&str> = secrets.into_iter().map(SecretString::expose_secret).filter(long).collect();
        let search = AhoCorasickBuilder::new().ascii_case_insensitive(true).build(&secrets).ok();
        Self(search.filter(|_| !secrets.is_empty()))
    }

    /// The text without the secrets in it.
    pub(crate) fn hide(&self, text: Vec<u8>) -> Vec<u8> {
        match &self.0 {
            Some(search) if search.is_match(&text) => {
                search.replace_all_bytes(&text, &vec![HIDDEN; search.patterns_len()])
            }
            _ => text,
        }
    }
}

impl fmt::Debug for OwnSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnSecrets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_wherever_they_stand() {
        let secrets = ["w3bhook-s3cret".into(), "t0ken-of-acme".into(), "short".into()];
        let secrets = OwnSecrets::new(&secrets);
        let hidden = |text: &str| String::from_utf8(secrets.hide(text.as_bytes().to_vec())).unwrap();
        assert_eq!(
            hidden(r#"{"error":"no \/rest\/1\/w3bhook-s3cret\/x, T0KEN-of-acme","short":"w3bhook"}"#),
            r#"{"error":"no \/rest\/1\/(secret)\/x, (secret)","short":"w3bhook"}"#
        );
        assert_eq!(hidden("nothing"), "nothing");
        assert_eq!(OwnSecrets::new(&[]).hide(b"all".to_vec()), b"all");
        assert_eq!(format!("{secrets:?}"), "OwnSecrets");
    }
}
