//! A strict reader of `application/x-www-form-urlencoded` with PHP's brackets.
//!
//! `data[FIELDS][ID]=42` becomes the path `data`, `FIELDS`, `ID` with the value `42`. What PHP would
//! silently repair is refused here: a key that comes twice, broken percent-encoding, bytes that are
//! no UTF-8, brackets that do not close, more pairs or deeper nesting than any portal sends.
//!
//! It is read before anybody has proved who sends it. So it is read once, from its start to the first fault, and what a
//! fault costs grows no faster than the body.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use percent_encoding::percent_decode_str;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The portal sends some twenty pairs; a robot some more. Of JSON each member of an object and element of a list counts.
pub(crate) const PAIRS_MAX: usize = 64;

/// `data[FIELDS][ID]` has three parts.
pub(crate) const DEPTH_MAX: usize = 3;

/// How much of a key is shown in an error, in characters.
const SHOWN_MAX: usize = 60;

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
            form.insert(path(&key)?, value).map_err(|()| FormError::Twice(shown(&key)))?;
            if form.0.len() > PAIRS_MAX {
                return Err(FormError::TooMany);
            }
        }
        Ok(form)
    }

    /// A form with the same content as a JSON object: numbers and texts by path.
    pub(crate) fn from_json(body: &[u8]) -> Result<Self, serde_json::Error> {
        let mut form = Self::default();
        let mut json = serde_json::Deserializer::from_slice(body);
        Part { form: &mut form, path: &mut Vec::new(), entries: &mut 0 }.deserialize(&mut json)?;
        json.end()?;
        Ok(form)
    }

    /// The value at a path.
    pub(crate) fn get(&self, path: &[&str]) -> Option<&str> {
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        self.0.get(&path).map(String::as_str)
    }

    /// For the fuzzer: a form is of the size that was promised, and what it holds can be written and read again.
    #[cfg(fuzzing)]
    pub(crate) fn check(body: &[u8]) {
        use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        for form in [Self::parse(body).ok(), Self::from_json(body).ok()].into_iter().flatten() {
            assert!(form.0.len() <= PAIRS_MAX, "{form:?}");
            assert!(form.0.keys().all(|path| (1..=DEPTH_MAX).contains(&path.len())), "{form:?}");
            // A key of JSON may have brackets or no name, which a key of a form may not.
            let is_name = |part: &String| !part.is_empty() && !part.contains(['[', ']']);
            if form.0.keys().flatten().all(is_name) {
                let key = |path: &Vec<String>| {
                    let (first, rest) = path.split_first().unwrap_or_else(|| panic!("a path without parts"));
                    rest.iter().fold(encoded(first), |key, part| format!("{key}[{}]", encoded(part)))
                };
                let pair =
                    |(path, value): (&Vec<String>, &String)| format!("{}={}", key(path), encoded(value));
                let text = form.0.iter().map(pair).collect::<Vec<_>>().join("&");
                assert_eq!(Self::parse(text.as_bytes()).as_ref(), Ok(&form), "{text}");
            }
        }
    }

    fn insert(&mut self, path: Vec<String>, value: String) -> Result<(), ()> {
        if self.0.insert(path, value).is_some() { Err(()) } else { Ok(()) }
    }
}

/// The beginning of a key that a stranger has chosen.
fn shown(key: &str) -> String {
    key.chars().take(SHOWN_MAX).collect()
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
    let misfit = || FormError::Brackets(shown(key));
    let (first, mut rest) = key.find('[').map_or((key, ""), |at| key.split_at(at));
    if first.is_empty() || first.contains(']') {
        return Err(misfit());
    }
    let mut parts = vec![first.to_owned()];
    while !rest.is_empty() {
        let (part, after) =
            rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).ok_or_else(misfit)?;
        if parts.len() == DEPTH_MAX {
            return Err(FormError::TooDeep(shown(key)));
        }
        if part.contains('[') {
            return Err(misfit());
        }
        parts.push(part.to_owned());
        rest = after;
    }
    Ok(parts)
}

/// A part of a JSON body that is to be written into a form, with the path to it. What a form cannot say is a fault, and so
/// is a key that comes twice.
struct Part<'f> {
    form: &'f mut Form,
    path: &'f mut Vec<String>,
    /// How many members and elements there were so far, in the whole body.
    entries: &'f mut usize,
}

/// What stands under a key of it.
struct Under<'f> {
    part: Part<'f>,
    key: String,
}

impl Part<'_> {
    fn under(&mut self, key: String) -> Under<'_> {
        Under { part: Part { form: self.form, path: self.path, entries: self.entries }, key }
    }

    fn leaf<E: Error>(self, value: String) -> Result<(), E> {
        if self.path.is_empty() {
            return Err(E::custom("the body is a value alone; send an object of texts, numbers and objects"));
        }
        let twice = |()| E::custom(FormError::Twice(shown(&self.path.join("."))));
        self.form.insert(self.path.clone(), value).map_err(twice)
    }
}

impl<'de> DeserializeSeed<'de> for Under<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        let Part { form, path, entries } = self.part;
        *entries += 1;
        if *entries > PAIRS_MAX {
            return Err(D::Error::custom(FormError::TooMany));
        }
        path.push(self.key);
        if path.len() > DEPTH_MAX {
            return Err(D::Error::custom(FormError::TooDeep(shown(&path.join(".")))));
        }
        Part { form, path, entries }.deserialize(json)?;
        path.pop();
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts, numbers and objects")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.leaf(text.to_owned())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.leaf(number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.leaf(number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.leaf(number.to_string())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.leaf(value.to_string())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.leaf(String::new())
    }

    /// PHP writes an empty map as an empty list.
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        let mut number = 0_usize;
        while elements.next_element_seed(self.under(number.to_string()))?.is_some() {
            number += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        // At most as many as there may be entries.
        let mut known: Vec<String> = Vec::new();
        while let Some(key) = members.next_key::<String>()? {
            if known.contains(&key) {
                return Err(A::Error::custom(FormError::Twice(shown(&key))));
            }
            known.push(key.clone());
            members.next_value_seed(self.under(key))?;
        }
        Ok(())
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
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":{"b":{"c":{"d":1}}}}"#,
            "{",
            "",
            "5",
            "null",
            r#""text""#,
            r#"{"a":"\ud800"}"#,
        ] {
            assert!(Form::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    /// Behind the fault stands no JSON and no form, so whoever read on would say so.
    #[test]
    fn nothing_is_read_behind_the_first_fault() {
        let members =
            |count: usize| (0..count).map(|n| format!(r#""k{n}":{n}"#)).collect::<Vec<_>>().join(",");
        let elements = |count: usize| vec!["0"; count].join(",");
        let many = FormError::TooMany.to_string();
        let deep = |key: &str| FormError::TooDeep(key.to_owned()).to_string();
        let twice = |key: &str| FormError::Twice(key.to_owned()).to_string();
        for (body, expected) in [
            (format!("{{{},}}}}\u{1}", members(PAIRS_MAX + 1)), &many),
            (format!(r#"{{"a":[{},!"#, elements(PAIRS_MAX)), &many),
            (format!(r#"{{"a":{{{},!"#, members(PAIRS_MAX)), &many),
            (format!("[{},!", vec!["{}"; PAIRS_MAX + 1].join(",")), &many),
            (r#"{"a":1,"a":!"#.to_owned(), &twice("a")),
            (format!(r#"{{"{0}":1,"{0}":!"#, "k".repeat(8000)), &twice(&"k".repeat(SHOWN_MAX))),
            ("[".repeat(8000), &deep("0.0.0.0")),
            (r#"{"a":"#.repeat(2000), &deep("a.a.a.a")),
        ] {
            let error = Form::from_json(body.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error} for {}", body.chars().take(40).collect::<String>());
        }
        for full in [format!("{{{}}}", members(PAIRS_MAX)), format!("[{}]", elements(PAIRS_MAX))] {
            assert!(Form::from_json(full.as_bytes()).is_ok(), "{full}");
        }
        let nested = format!("a{}[=", "[b]".repeat(5000));
        let expected = FormError::TooDeep(nested.chars().take(SHOWN_MAX).collect());
        assert_eq!(Form::parse(nested.as_bytes()), Err(expected));
    }
}
