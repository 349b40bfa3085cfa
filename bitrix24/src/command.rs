//! One call of a method as data, and its form inside a batch.
//!
//! A batch carries each command as text, `crm.lead.update?id=101&fields[ASSIGNED_BY_ID]=7`, which the
//! portal decodes as PHP does and then searches for references such as `$result[lead][ID]`. Every
//! value is percent-encoded here, and whatever in a value could be taken for a reference is broken up
//! ([`break_up_references`]): the values contain what strangers typed into a form.
//! Typed commands are made in [`crate::lead`] and [`crate::notify`].

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

/// How many commands one batch may carry. Source: page "Batch requests".
pub const MAX_COMMANDS: usize = 50;

/// What stays readable in an encoded command: the unreserved signs of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// One call of one method.
///
/// **Shape**: `crm.lead.get` with `{"id": 42}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    method: &'static str,
    params: Map<String, Value>,
    reference: Option<Reference>,
}

/// A parameter whose value is the result of an earlier command of the same batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reference {
    /// The parameter's name.
    param: &'static str,
    /// How many commands before this one.
    back: usize,
    /// Where in its result, as `[0][ID]`.
    path: &'static str,
}

impl Command {
    /// A call of `method` with `params`. The keys are ours, never a stranger's; the values may be
    /// anybody's.
    #[must_use]
    pub fn new(method: &'static str, params: Map<String, Value>) -> Self {
        Self { method, params, reference: None }
    }

    /// As [`Command::new`], with the parameters of a JSON object.
    #[must_use]
    pub(crate) fn of(method: &'static str, params: &Value) -> Self {
        Self::new(method, params.as_object().cloned().unwrap_or_default())
    }

    /// The same call with the parameter `param` taken from the result of the command `back` places before
    /// it, as the portal's `$result[c00][0][ID]`.
    ///
    /// The portal replaces such a text with whatever is found where the path ends, and it may end early: an
    /// empty list stands for its missing first element, and *all* results for that of a command that
    /// failed. So the batch must stop at the first failure.
    ///
    /// Source: page "Batch requests", part "Using the result of one request in another".
    #[must_use]
    pub(crate) fn with_result(mut self, param: &'static str, back: usize, path: &'static str) -> Self {
        self.reference = Some(Reference { param, back, path });
        self
    }

    /// The method, as `crm.lead.get`.
    #[must_use]
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The parameters, as they are sent when the command is called alone.
    #[must_use]
    pub fn params(&self) -> &Map<String, Value> {
        &self.params
    }

    /// The command as a batch carries it.
    ///
    /// **Shape**: `crm.lead.list?filter[%40ID][0]=5&start=-1`. An empty list or map and `null` cannot
    /// be said in this form: the first two vanish, the last becomes an empty text. Truth is `1` or `0`.
    #[must_use]
    pub fn to_batch(&self) -> String {
        let mut text = self.method.to_owned();
        let mut separator = '?';
        for (key, value) in &self.params {
            append(&mut text, &mut separator, &encoded(key), value);
        }
        text
    }

    /// The command at `index` of a batch.
    fn at(&self, index: usize) -> String {
        let mut text = self.to_batch();
        if let Some(Reference { param, back, path }) = self.reference {
            let separator = if text.contains('?') { '&' } else { '?' };
            let value = encoded(&format!("$result[{}]{path}", key_of(index.saturating_sub(back))));
            write!(text, "{separator}{param}={value}").unwrap_or_default();
        }
        text
    }
}

fn key_of(index: usize) -> String {
    format!("c{index:02}")
}

/// A batch's body, and its commands as pairs of key and method.
///
/// The keys sort as the commands stand, because the portal runs them in the order of the object and
/// a JSON map of ours is sorted; they are not numbers, because then the answer would be an array.
pub(crate) fn batch_body<'a>(commands: &[&'a Command], halt: bool) -> (Value, Vec<(String, &'a str)>) {
    let keys: Vec<(String, &str)> =
        commands.iter().enumerate().map(|(index, command)| (key_of(index), command.method)).collect();
    let cmd: Map<String, Value> = keys
        .iter()
        .zip(commands)
        .enumerate()
        .map(|(index, ((key, _), command))| (key.clone(), Value::String(command.at(index))))
        .collect();
    (serde_json::json!({ "halt": u8::from(halt), "cmd": cmd }), keys)
}

fn append(text: &mut String, separator: &mut char, key: &str, value: &Value) {
    let plain = match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                append(text, separator, &format!("{key}[{index}]"), item);
            }
            return;
        }
        Value::Object(members) => {
            for (name, member) in members {
                append(text, separator, &format!("{key}[{}]", encoded(name)), member);
            }
            return;
        }
        Value::Null => String::new(),
        Value::Bool(truth) => u8::from(*truth).to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(string) => break_up_references(string),
    };
    // Writing to a String cannot fail.
    write!(text, "{separator}{key}={}", encoded(&plain)).unwrap_or_default();
    *separator = '&';
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// Puts a space behind each `$` that could begin a reference to another command's result, so that
/// `$result[lead][ID]` reads `$ result[lead][ID]` and means nothing to the portal.
///
/// The portal looks, without case, for `$` and the name of a container, and takes everything to the
/// next white space for the path if a `[` is in it. So a `$` before a letter is broken up when a `[`
/// comes before the next white space; all other text stays as it is. Doing it twice changes nothing.
///
/// Source: page "Batch requests", part "Using the result of one request in another".
#[must_use]
pub fn break_up_references(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        let run = after.split([' ', '\t', '\n', '\r']).next().unwrap_or_default();
        if run.starts_with(|c: char| c.is_ascii_alphabetic()) && run.contains('[') {
            out.push(' ');
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn command(params: Value) -> Command {
        let Value::Object(params) = params else { panic!("parameters are an object") };
        Command::new("crm.lead.update", params)
    }

    /// The values in order, decoded as the portal does it; the keys as they stand.
    fn decoded(query: &str) -> Vec<(String, String)> {
        let (_, query) = query.split_once('?').unwrap_or_default();
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| {
                let value = percent_decode_str(&value.replace('+', " ")).decode_utf8().unwrap().into_owned();
                (percent_decode_str(key).decode_utf8().unwrap().into_owned(), value)
            })
            .collect()
    }

    #[test]
    fn nested_parameters_become_brackets() {
        let made = command(json!({
            "id": 101, "fields": {"ASSIGNED_BY_ID": 7, "TITLE": "a&b=c #5 +1 50%"}, "start": -1,
            "filter": {"@ID": [5, 6]}, "none": null, "yes": true, "empty": [],
        }));
        assert_eq!(
            made.to_batch(),
            "crm.lead.update?fields[ASSIGNED_BY_ID]=7&fields[TITLE]=a%26b%3Dc%20%235%20%2B1%2050%25\
             &filter[%40ID][0]=5&filter[%40ID][1]=6&id=101&none=&start=-1&yes=1"
        );
    }

    #[test]
    fn a_command_without_parameters_is_its_method() {
        assert_eq!(Command::new("server.time", Map::new()).to_batch(), "server.time");
    }

    #[test]
    fn references_are_broken_up_and_stay_readable() {
        for (text, expected) in [
            ("$result[lead][ID]", "$ result[lead][ID]"),
            ("Hi $RESULT[x], $total[y]!", "Hi $ RESULT[x], $ total[y]!"),
            ("$result,price[USD]", "$ result,price[USD]"),
            ("$$error[x]", "$$ error[x]"),
            ("$result [x]", "$result [x]"),
            ("costs $5[net] or $USD", "costs $5[net] or $USD"),
        ] {
            assert_eq!(break_up_references(text), expected);
            assert_eq!(break_up_references(expected), expected, "twice");
        }
    }

    #[test]
    fn commands_keep_their_order_in_the_body() {
        let commands: Vec<Command> = (0..MAX_COMMANDS).map(|id| command(json!({ "id": id }))).collect();
        let (body, keys) = batch_body(&commands.iter().collect::<Vec<_>>(), false);
        let text = body.to_string();
        let places: Vec<usize> = keys.iter().map(|(key, _)| text.find(key.as_str()).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
        assert!(keys.iter().all(|(key, _)| key.parse::<u32>().is_err()));
    }

    #[test]
    fn a_reference_of_ours_names_an_earlier_command_of_the_batch() {
        let plain = command(json!({ "id": 1 }));
        let refers =
            command(json!({ "fields": { "TITLE": "$result[c00]" } })).with_result("id", 1, "[0][ID]");
        let (body, _) = batch_body(&[&plain, &plain, &refers], true);
        assert_eq!(
            body["cmd"]["c02"],
            "crm.lead.update?fields[TITLE]=%24%20result%5Bc00%5D&id=%24result%5Bc01%5D%5B0%5D%5BID%5D"
        );
        assert_eq!(body["halt"], 1);
    }

    proptest! {
        #[test]
        fn any_text_arrives_as_it_was_but_for_the_break_up(text in any::<String>(), other in any::<String>()) {
            let made = command(json!({"fields": {"A": text, "B": [other]}})).to_batch();
            prop_assert!(made.is_ascii());
            prop_assert_eq!(decoded(&made), vec![
                ("fields[A]".to_owned(), break_up_references(&text)),
                ("fields[B][0]".to_owned(), break_up_references(&other)),
            ]);
        }

        #[test]
        fn no_reference_is_left(text in r"(\$|result|TOTAL|\[|\]|x| |\n|,){0,12}") {
            let sent = break_up_references(&text).to_ascii_lowercase();
            for (at, _) in sent.match_indices('$') {
                let run = sent[at + 1..].split_ascii_whitespace().next().unwrap_or_default();
                let named = sent[at + 1..].starts_with("result") || sent[at + 1..].starts_with("total");
                prop_assert!(!(named && run.contains('[')), "{}", sent);
            }
            prop_assert_eq!(sent.replace("$ ", "$"), text.to_ascii_lowercase().replace("$ ", "$"));
        }
    }
}
