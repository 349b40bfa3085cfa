//! A strict reader of `application/x-www-form-urlencoded` with PHP's brackets.
//!
//! `data[FIELDS][ID]=42` becomes the path `data`, `FIELDS`, `ID` with the value `42`. What PHP would
//! silently repair is refused here: a key that comes twice, broken percent-encoding, bytes that are
//! no UTF-8, brackets that do not close, more pairs or deeper nesting than any portal sends.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

/// The portal sends some twenty pairs; a robot some more.
pub(crate) const PAIRS_MAX: usize = 64;

/// `data[FIELDS][ID]` has three parts.
pub(crate) const DEPTH_MAX: usize = 3;

/// A form: values by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Form(BTreeMap<Vec<String>, String>);

/// Why a body is no form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormError {
    #[error("the percent-encoding is broken, or the text is no UTF-8")]
    Encoding,
    #[error("the key {0:?} comes twice")]
    Twice(String),
    #[error("the key {0:?} has brackets that do not fit")]
    Brackets(String),
    #[error("the key {0:?} is nested deeper than {DEPTH_MAX}")]
    TooDeep(String),
    #[error("there are more than {PAIRS_MAX} pairs")]
    TooMany,
}

impl Form {
    /// Reads a body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, FormError> {
        let text = std::str::from_utf8(body).map_err(|_| FormError::Encoding)?;
        let mut form = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key)?, decode(value)?);
            form.insert(path(&key)?, value).map_err(|()| FormError::Twice(key))?;
            if form.0.len() > PAIRS_MAX {
                return Err(FormError::TooMany);
            }
        }
        Ok(form)
    }

    /// A form with the same content as a JSON object: numbers and texts by path.
    pub(crate) fn from_json(body: &[u8]) -> Result<Self, serde_json::Error> {
        let Unique(tree) = serde_json::from_slice(body)?;
        let mut form = Self::default();
        form.flatten(&mut Vec::new(), tree)?;
        Ok(form)
    }

    /// The value at a path.
    pub(crate) fn get(&self, path: &[&str]) -> Option<&str> {
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        self.0.get(&path).map(String::as_str)
    }

    fn insert(&mut self, path: Vec<String>, value: String) -> Result<(), ()> {
        if self.0.insert(path, value).is_some() { Err(()) } else { Ok(()) }
    }

    fn flatten(&mut self, path: &mut Vec<String>, tree: Tree) -> Result<(), serde_json::Error> {
        let refused = |error: FormError| serde::de::Error::custom(error);
        if path.len() > DEPTH_MAX {
            return Err(refused(FormError::TooDeep(path.join("."))));
        }
        match tree {
            Tree::Leaf(value) => {
                self.insert(path.clone(), value).map_err(|()| refused(FormError::Twice(path.join("."))))?;
            }
            Tree::Branch(entries) => {
                for (key, value) in entries {
                    path.push(key);
                    self.flatten(path, value)?;
                    path.pop();
                }
            }
        }
        if self.0.len() > PAIRS_MAX { Err(refused(FormError::TooMany)) } else { Ok(()) }
    }
}

fn decode(part: &str) -> Result<String, FormError> {
    // A `%` that is not followed by two hexadecimal digits would be kept as it is by the decoder.
    let bytes = part.as_bytes();
    let whole = |at: usize| {
        let digits = bytes.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if bytes.iter().enumerate().any(|(at, byte)| *byte == b'%' && !whole(at)) {
        return Err(FormError::Encoding);
    }
    let spaced = part.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned).map_err(|_| FormError::Encoding)
}

/// `a[b][c]` into its parts.
fn path(key: &str) -> Result<Vec<String>, FormError> {
    let misfit = || FormError::Brackets(key.to_owned());
    let (first, mut rest) = key.find('[').map_or((key, ""), |at| key.split_at(at));
    if first.is_empty() || first.contains(']') {
        return Err(misfit());
    }
    let mut parts = vec![first.to_owned()];
    while !rest.is_empty() {
        let (part, after) =
            rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).ok_or_else(misfit)?;
        if part.contains('[') {
            return Err(misfit());
        }
        parts.push(part.to_owned());
        rest = after;
    }
    if parts.len() > DEPTH_MAX { Err(FormError::TooDeep(key.to_owned())) } else { Ok(parts) }
}

/// JSON whose keys come once, reduced to what a form can say.
enum Tree {
    Leaf(String),
    Branch(Vec<(String, Tree)>),
}

struct Unique(Tree);

impl<'de> serde::Deserialize<'de> for Unique {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Unique)
    }
}

struct TreeVisitor;

impl<'de> serde::de::Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of texts, numbers and objects")
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf(number.to_string()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(String::new()))
    }

    /// PHP writes an empty map as an empty list.
    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut branch = Vec::new();
        while let Some(Unique(entry)) = entries.next_element()? {
            branch.push((branch.len().to_string(), entry));
        }
        Ok(Tree::Branch(branch))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut branch: Vec<(String, Tree)> = Vec::new();
        while let Some((key, Unique(value))) = entries.next_entry::<String, Unique>()? {
            if branch.iter().any(|(known, _)| *known == key) {
                return Err(serde::de::Error::custom(FormError::Twice(key)));
            }
            branch.push((key, value));
        }
        Ok(Tree::Branch(branch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_as_the_portal_sends_it() {
        let form =
            Form::parse(b"event=ONCRMLEADADD&data%5BFIELDS%5D%5BID%5D=42&auth[scope]=crm%2Cim&x=a+b%2B")
                .unwrap();
        assert_eq!(form.get(&["event"]), Some("ONCRMLEADADD"));
        assert_eq!(form.get(&["data", "FIELDS", "ID"]), Some("42"));
        assert_eq!(form.get(&["auth", "scope"]), Some("crm,im"));
        assert_eq!(form.get(&["x"]), Some("a b+"));
        assert_eq!(form.get(&["data"]), None);
    }

    #[test]
    fn what_php_would_repair_is_refused() {
        let many = (0..=PAIRS_MAX).map(|n| format!("k{n}=")).collect::<Vec<_>>().join("&");
        for (body, expected) in [
            ("a=1&a=2", FormError::Twice("a".to_owned())),
            ("a[b]=1&a%5Bb%5D=2", FormError::Twice("a[b]".to_owned())),
            ("a=%zz", FormError::Encoding),
            ("a=%4", FormError::Encoding),
            ("a=%ff", FormError::Encoding),
            ("a[b=1", FormError::Brackets("a[b".to_owned())),
            ("a]b=1", FormError::Brackets("a]b".to_owned())),
            ("a[b]c=1", FormError::Brackets("a[b]c".to_owned())),
            ("[a]=1", FormError::Brackets("[a]".to_owned())),
            ("a[b][c][d]=1", FormError::TooDeep("a[b][c][d]".to_owned())),
            (&many, FormError::TooMany),
        ] {
            assert_eq!(Form::parse(body.as_bytes()), Err(expected), "{body}");
        }
        assert_eq!(Form::parse(b"a=\xff"), Err(FormError::Encoding));
    }

    #[test]
    fn json_of_the_same_shape_reads_the_same() {
        let form =
            Form::from_json(br#"{"event":"ONCRMLEADADD","data":{"FIELDS":{"ID":42}},"auth":[]}"#).unwrap();
        assert_eq!(form, Form::parse(b"event=ONCRMLEADADD&data[FIELDS][ID]=42").unwrap());
        for bad in [r#"{"a":1,"a":2}"#, r#"{"a":{"b":{"c":{"d":1}}}}"#, "{", "", r#"{"a":"\ud800"}"#] {
            assert!(Form::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
