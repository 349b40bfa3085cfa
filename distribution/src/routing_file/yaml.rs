//! YAML text as a tree in which every node knows its place and its spelling.
//!
//! serde-saphyr parses; types of our own would stop at the first wrong key, so the sections read this tree instead.
//! A number is kept as it is written: `0123` and `1e5` are numbers to YAML, and their value is not what was meant.
//! The parser's budgets bound depth, size and the work of aliases.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, NonFiniteFloatPolicy, Spanned, UserMessageFormatter};

use super::problem::{Place, Problems};

/// How deep a file may be nested. The deepest that means something, a `not` in a rule in a list, needs seven.
const DEPTH_MAX: usize = 32;
/// How many nodes aliases (`*name`) may add. A file of a thousand rules has some ten thousand nodes.
const ALIASED_MAX: usize = 100_000;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What YAML can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    /// `true` or `false`; `yes`, `no`, `on` and `off` are texts.
    Bool(bool),
    /// Without quotes, and a number to YAML: as it is written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    /// In the file's order, repeated keys included.
    Map(Vec<(Node, Node)>),
}

/// Parses one YAML document. What is no YAML has no tree, only the problem of where the parser gave up.
pub(super) fn parse(text: &str, problems: &mut Problems) -> Option<Node> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
        emit_comments: false,
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: ALIASED_MAX },
    };
    match serde_saphyr::from_str_with_options::<Spanned<Parsed>>(text, options) {
        Ok(root) => Some(node(root, text)),
        Err(error) => {
            let place = error.location().map_or(Place::START, Place::from);
            problems.note(place, format!("this is not YAML: {}", message(&error)));
            None
        }
    }
}

/// The parser's message without the place that it repeats at its end.
fn message(error: &serde_saphyr::Error) -> String {
    let mut message = error.render_with_formatter(&UserMessageFormatter);
    if let Some(end) = message.rfind(" at line ") {
        message.truncate(end);
    }
    message
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self { line: location.line().max(1), column: location.column().max(1) }
    }
}

/// What the parser hands over, before places and spelling are looked up in the text.
enum Parsed {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<Spanned<Parsed>>),
    Map(Vec<(Spanned<Parsed>, Spanned<Parsed>)>),
}

fn node(parsed: Spanned<Parsed>, text: &str) -> Node {
    let place = Place::from(parsed.referenced);
    let value = match parsed.value {
        Parsed::Null => Value::Null,
        Parsed::Bool(value) => Value::Bool(value),
        Parsed::Number => Value::Number(spelling(parsed.defined, text)),
        Parsed::Text(value) => Value::Text(value),
        Parsed::List(items) => Value::List(items.into_iter().map(|item| node(item, text)).collect()),
        Parsed::Map(entries) => {
            let entry = |(key, value)| (node(key, text), node(value, text));
            Value::Map(entries.into_iter().map(entry).collect())
        }
    };
    Node { place, value }
}

/// What stands in the text at this location; nothing when the parser does not know, which no reader takes for a number.
fn spelling(location: Location, text: &str) -> String {
    let span = location.span();
    let range = span.byte_offset().zip(span.byte_len()).and_then(|(start, length)| {
        let start = usize::try_from(start).ok()?;
        Some(start..start.checked_add(usize::try_from(length).ok()?)?)
    });
    range.and_then(|range| text.get(range)).unwrap_or_default().trim().to_owned()
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParsedVisitor)
    }
}

struct ParsedVisitor;

impl<'de> Visitor<'de> for ParsedVisitor {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Null)
    }

    fn visit_none<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parsed, D::Error> {
        Parsed::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Parsed, E> {
        Ok(Parsed::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Parsed, E> {
        Ok(Parsed::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Parsed, E> {
        Ok(Parsed::Number)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Parsed, E> {
        Ok(Parsed::Number)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Parsed, E> {
        Ok(Parsed::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Parsed, E> {
        Ok(Parsed::Number)
    }

    fn visit_str<E>(self, value: &str) -> Result<Parsed, E> {
        Ok(Parsed::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Parsed, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Parsed::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Parsed, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Parsed::Map(map))
    }
}

/// As it would be written on one line: `[COLD_CALL, CALL]`, `{ over: 500000 }`.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => value.fmt(f),
            Value::Number(written) => f.write_str(written),
            Value::Text(text) if reads_as_text(text) => f.write_str(text),
            Value::Text(text) => write!(f, "{text:?}"),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index == 0 { "[" } else { ", " })?;
                }
                f.write_str(if items.is_empty() { "[]" } else { "]" })
            }
            Value::Map(entries) => {
                for (index, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key}: {value}", if index == 0 { "{ " } else { ", " })?;
                }
                f.write_str(if entries.is_empty() { "{}" } else { " }" })
            }
        }
    }
}

/// Whether a text can do without quotes: it starts with a letter and has nothing in it that YAML would read.
fn reads_as_text(text: &str) -> bool {
    text.starts_with(char::is_alphabetic)
        && !text.ends_with(' ')
        && text.chars().all(|c| c.is_alphanumeric() || " _-./+".contains(c))
        && !matches!(text, "true" | "false" | "null")
}
