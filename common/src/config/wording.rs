//! What an error of the configuration says: which key, what is expected, and never the value that stands there.
//!
//! Any value may be a secret that stands in the wrong place: an address in place of the section that holds it, a token
//! in place of the file's name. Libraries repeat what they found; [`without_values`] takes it out of their words.

/// The longest key that is repeated.
const KEY_MAX: usize = 40;

const SECTION: &str = "expected a section with keys of its own, not a value";

/// The words of a library, without the values in them. Keys stay.
pub(super) fn without_values(text: &str) -> String {
    if text == "expected mapping start" {
        return SECTION.to_owned();
    }
    if text == "expected sequence start" {
        return "expected a list".to_owned();
    }
    if text.starts_with("invalid type: ") || text.starts_with("invalid value: ") {
        // What was found may hold the same words, so the last ones count.
        let expected = text.rsplit_once(", expected ").map_or("something else", |(_, expected)| expected);
        return if expected.starts_with("struct ") {
            SECTION.to_owned()
        } else {
            format!("expected {}", expected.replace("a sequence", "a list"))
        };
    }
    if text.starts_with("unknown variant `") {
        let known = text.rsplit_once("`, expected ").map_or("another one", |(_, known)| known);
        return format!("unknown value, expected {known}");
    }
    if text.starts_with("duplicate mapping key") {
        return "the same key stands there twice".to_owned();
    }
    if text.starts_with("The string value [") {
        return "a text that looks like something else: put it into quotes".to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for (n, part) in text.split('`').enumerate() {
        let is_quoted = n % 2 == 1;
        if n > 0 {
            out.push('`');
        }
        out.push_str(if is_quoted && !is_key(part) { "…" } else { part });
    }
    out
}

/// Whether a text looks like one of our keys, as a mistyped one does.
fn is_key(text: &str) -> bool {
    (1..=KEY_MAX).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_lowercase() || c == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_repeated() {
        for (text, expected) in [
            (
                "invalid type: string \"postgres://u:p, expected x@h\", expected struct Database",
                "expected a section with keys of its own, not a value",
            ),
            ("expected mapping start", "expected a section with keys of its own, not a value"),
            ("invalid type: map, expected a sequence", "expected a list"),
            ("invalid value: integer `5`, expected u16", "expected u16"),
            (
                "unknown variant `s3cret`, expected `json` or `text`",
                "unknown value, expected `json` or `text`",
            ),
            ("unknown field `urll`, expected one of url", "unknown field `urll`, expected one of url"),
            ("unknown field `token:s3cret`, expected one of url", "unknown field `…`, expected one of url"),
            ("missing field `member_id`", "missing field `member_id`"),
            ("duplicate mapping key: s3cret, set it", "the same key stands there twice"),
            (
                "The string value [s3cret] must be quoted",
                "a text that looks like something else: put it into quotes",
            ),
            ("expected a wait; write 5s", "expected a wait; write 5s"),
            ("`S3cret` is not a name", "`…` is not a name"),
        ] {
            assert_eq!(without_values(text), expected);
        }
    }
}
