//! Texts as PostgreSQL can hold them: all but the character zero, which neither its `text` nor its `jsonb` takes.
//!
//! Such a character comes from outside (a lead's title, a stage's name in the reason of a decision), and nobody can see it.
//! A refused statement would cost the lead, so it is replaced.

use std::borrow::Cow;

use serde_json::Value;

/// What stands in its place.
const REPLACEMENT: &str = "\u{fffd}";

/// A text without the character zero.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', REPLACEMENT)) } else { Cow::Borrowed(text) }
}

/// A JSON value none of whose texts and keys has the character zero.
pub(super) fn json(value: Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
        Value::String(string) => Value::String(text(&string).into_owned()),
        Value::Array(items) => Value::Array(items.into_iter().map(json).collect()),
        Value::Object(entries) => {
            let entry = |(key, value): (String, Value)| (text(&key).into_owned(), json(value));
            Value::Object(entries.into_iter().map(entry).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json as value;

    use super::*;

    #[test]
    fn only_the_character_zero_is_replaced() {
        assert_eq!(text("Иванов 🙂\u{1}"), "Иванов 🙂\u{1}");
        assert_eq!(text("a\0b\0"), "a\u{fffd}b\u{fffd}");
        let untouched = value!({ "a": [1, null, "b", { "c": true }] });
        assert_eq!(json(untouched.clone()), untouched);
        assert_eq!(
            json(value!({ "a\0": ["\0", { "b": "c\0" }] })),
            value!({ "a\u{fffd}": ["\u{fffd}", { "b": "c\u{fffd}" }] })
        );
    }
}
