//! PHP's way with data: parameters from a query string, a form or JSON, and JSON as the portal writes
//! it.
//!
//! A PHP array is a list and a map in one and keeps the order of its keys, which a batch depends on.
//! Invalid JSON counts as "no parameters", as in the portal.

use std::io;

use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CharEscape, Formatter};

/// A value of PHP.
#[derive(Debug, Clone, PartialEq)]
pub enum Php {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number that came as JSON.
    Number(serde_json::Number),
    /// A text; everything that came as a form.
    Text(String),
    /// An array: entries in their order.
    Array(Vec<(String, Php)>),
}

impl Php {
    /// No parameters.
    #[must_use]
    pub const fn empty() -> Self {
        Self::Array(Vec::new())
    }

    /// The entry under a key, whatever the key's case.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let entries = self.entries();
        let exact = entries.iter().find(|(name, _)| name == key);
        exact
            .or_else(|| entries.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)))
            .map(|(_, value)| value)
    }

    /// The entries, if this is an array.
    #[must_use]
    pub fn entries(&self) -> &[(String, Self)] {
        match self {
            Self::Array(entries) => entries,
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => &[],
        }
    }

    /// As `(string)` would make it; arrays have none.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Null => Some(String::new()),
            Self::Bool(value) => Some(if *value { "1" } else { "" }.to_owned()),
            Self::Number(number) => Some(number.to_string()),
            Self::Text(text) => Some(text.clone()),
            Self::Array(_) => None,
        }
    }

    /// As `(int)` would make it: leading digits, else 0; a filled array is 1.
    #[must_use]
    pub fn int(&self) -> i64 {
        match self {
            Self::Array(entries) => i64::from(!entries.is_empty()),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => {
                let text = self.text().unwrap_or_default();
                let text = text.trim_start();
                let digits = text.strip_prefix('-').unwrap_or(text);
                let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                let number: i64 = digits[..end].parse().unwrap_or_default();
                if text.starts_with('-') { -number } else { number }
            }
        }
    }

    /// As PHP's `if` would see it.
    #[must_use]
    pub fn truthy(&self) -> bool {
        match self {
            Self::Array(entries) => !entries.is_empty(),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => {
                !matches!(self.text().as_deref(), Some("" | "0" | "0.0"))
            }
        }
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::String(text.clone()),
            Self::Array(entries) => {
                array(entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect())
            }
        }
    }

    /// Parameters of a form or query string.
    #[must_use]
    pub fn from_query(text: &str) -> Self {
        let mut root = Self::empty();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key), decode(value));
            let (first, rest) = key.find('[').map_or((key.as_str(), ""), |at| key.split_at(at));
            let inner = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let path = std::iter::once(first).chain(inner.into_iter().flat_map(|inner| inner.split("][")));
            root.put(path, Self::Text(value));
        }
        root
    }

    /// Parameters of a JSON body; what is no JSON object is no parameters.
    #[must_use]
    pub fn from_json(body: &[u8]) -> Self {
        match serde_json::from_slice::<Self>(body) {
            Ok(array @ Self::Array(_)) => array,
            Ok(Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_)) | Err(_) => Self::empty(),
        }
    }

    /// Puts the entries of `over` over the own ones.
    #[must_use]
    pub fn merged(self, over: &Self) -> Self {
        let mut entries = self.entries().to_vec();
        for (key, value) in over.entries() {
            entries.retain(|(name, _)| name != key);
            entries.push((key.clone(), value.clone()));
        }
        Self::Array(entries)
    }

    fn put<'a>(&mut self, mut path: impl Iterator<Item = &'a str>, value: Self) {
        let Some(key) = path.next() else {
            *self = value;
            return;
        };
        if !matches!(self, Self::Array(_)) {
            *self = Self::empty();
        }
        let Self::Array(entries) = self else { return };
        let key = if key.is_empty() { entries.len().to_string() } else { key.to_owned() };
        let at = entries.iter().position(|(name, _)| *name == key).unwrap_or_else(|| {
            entries.push((key, Self::Null));
            entries.len() - 1
        });
        entries[at].1.put(path, value);
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// A PHP array as `json_encode` writes it: a list if its keys are 0, 1, 2, …, also when it is empty.
#[must_use]
pub fn array(entries: Vec<(String, Value)>) -> Value {
    let is_list = entries.iter().enumerate().all(|(index, (key, _))| *key == index.to_string());
    if is_list {
        Value::Array(entries.into_iter().map(|(_, value)| value).collect())
    } else {
        Value::Object(entries.into_iter().collect())
    }
}

/// JSON text as the portal writes it: `\/` for `/`, `<`, `>`, `&`, `'` and `"` inside texts as
/// `\u003C` and so on, everything else as it is.
#[must_use]
pub fn to_text(value: &Value) -> String {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, Style);
    // Writing JSON of JSON values into memory has nothing that could fail.
    drop(value.serialize(&mut serializer));
    String::from_utf8_lossy(&text).into_owned()
}

struct Style;

impl Formatter for Style {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for c in fragment.chars() {
            match c {
                '/' => writer.write_all(b"\\/")?,
                '<' | '>' | '&' | '\'' => write!(writer, "\\u{:04X}", u32::from(c))?,
                _ => write!(writer, "{c}")?,
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        match escape {
            CharEscape::Quote => writer.write_all(b"\\u0022"),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"\\/"),
            CharEscape::Backspace => writer.write_all(b"\\b"),
            CharEscape::FormFeed => writer.write_all(b"\\f"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04x}"),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Php {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl<'de> serde::de::Visitor<'de> for Visitor {
    type Value = Php;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Php, E> {
        Ok(Php::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Php, E> {
        Ok(Php::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Php, E> {
        Ok(Php::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Php, E> {
        Ok(Php::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Php, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Php::Null, Php::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Php, E> {
        Ok(Php::Text(value.to_owned()))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Php, A::Error> {
        let mut entries = Vec::new();
        while let Some(item) = items.next_element()? {
            entries.push((entries.len().to_string(), item));
        }
        Ok(Php::Array(entries))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut items: A) -> Result<Php, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = items.next_entry()? {
            entries.push(entry);
        }
        Ok(Php::Array(entries))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forms_nest_and_number_themselves() {
        let form = Php::from_query("filter%5B%3EID%5D=10&select[]=ID&select[]=TITLE&a[b][c]=x+y%26");
        assert_eq!(
            form.to_json(),
            json!({"filter": {">ID": "10"}, "select": ["ID", "TITLE"], "a": {"b": {"c": "x y&"}}})
        );
    }

    #[test]
    fn invalid_json_is_no_parameters() {
        assert_eq!(Php::from_json(b"{\"id\": 1"), Php::empty());
        assert_eq!(Php::from_json(b"{\"b\":1,\"a\":[]}").entries()[0].0, "b", "the order is kept");
    }

    #[test]
    fn integers_are_cast_as_php_does() {
        for (text, number) in [("42", 42), (" 7abc", 7), ("abc", 0), ("-3", -3), ("", 0)] {
            assert_eq!(Php::Text(text.to_owned()).int(), number, "{text:?}");
        }
        assert_eq!((Php::empty().int(), Php::from_query("a=1").int()), (0, 1));
    }

    #[test]
    fn json_is_written_in_the_portals_style() {
        let value = json!({"a": "<b>/'\"&\n ёж"});
        assert_eq!(to_text(&value), "{\"a\":\"\\u003Cb\\u003E\\/\\u0027\\u0022\\u0026\\n ёж\"}");
        assert_eq!(to_text(&array(Vec::new())), "[]");
        assert_eq!(array(vec![("1".to_owned(), json!(0))]), json!({"1": 0}));
    }
}
