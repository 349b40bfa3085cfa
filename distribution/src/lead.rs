//! A lead as it was fetched from the portal: its id, its owner and what its fields hold.
//!
//! The portal writes numbers as strings and "nothing" in four ways; [`FieldValue`] brings these forms to one. It
//! interprets no further: whether `"007"` is a number or a code is the business of the rule that compares it.
//! A lead holds personal data, so its `Debug` form names the fields and hides what is in them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use serde_json::{Map, Value};

use crate::compare;
use crate::ids::{LeadId, UserId};
use crate::sticky::Tie;

/// How deep lists and objects may be nested in a field. The portal nests once, a list of `{"VALUE": …}`; what lies
/// deeper than this is dropped, so that no input can exhaust the stack.
const DEPTH_MAX: usize = 4;

/// A lead as the portal last showed it.
#[derive(Clone, PartialEq, Eq)]
pub struct Lead {
    /// Its `ID`.
    pub id: LeadId,
    /// Its `ASSIGNED_BY_ID`; `None` when it belongs to nobody.
    pub owner: Option<UserId>,
    /// Every field the portal answered, by its code, such as `SOURCE_ID` or `UF_CRM_PRODUCT`.
    pub fields: BTreeMap<String, FieldValue>,
    /// Who has its client, as the portal told; `None` where nobody asked or it did not tell.
    pub ties: Option<Vec<Tie>>,
}

/// What one field of a lead holds.
#[derive(Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// Nothing: `null`, `false`, `[]`, `{}` or a text of blanks.
    Empty,
    /// A text as the portal wrote it. Most numbers are texts too: `"500000.00"`. JSON's `true` is `"1"`, the other
    /// form in which the portal writes it.
    Text(String),
    /// A JSON number.
    Number(Decimal),
    /// A field with several values, none of them empty or a list: `["3157", "3161"]`, or the phones of
    /// `[{"VALUE": "+7 900 000-00-00", "VALUE_TYPE": "WORK"}]`.
    List(Vec<FieldValue>),
}

/// Why an object is not a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeadError {
    /// The object has no `ID`.
    #[error("the lead has no `ID`")]
    NoId,
    /// Its `ID` cannot be one.
    #[error("the lead's `ID` is not a whole number from 1")]
    InvalidId,
    /// Its `ASSIGNED_BY_ID` can be no user, nor "nobody".
    #[error("the lead's `ASSIGNED_BY_ID` is not a whole number")]
    InvalidOwner,
}

impl Lead {
    /// Reads the object that `crm.lead.get` answers as `result`.
    ///
    /// **Shape**: `{"ID": "35943", "ASSIGNED_BY_ID": "1", "OPPORTUNITY": "500000.00", "UTM_TERM": null}`.
    ///
    /// # Errors
    ///
    /// When `ID` is missing, or it or `ASSIGNED_BY_ID` is no id. No other field can be wrong.
    pub fn from_fields(fields: &Map<String, Value>) -> Result<Self, LeadError> {
        let id = match fields.get("ID") {
            None | Some(Value::Null) => return Err(LeadError::NoId),
            Some(value) => whole_number(value).and_then(LeadId::new).ok_or(LeadError::InvalidId)?,
        };
        let owner = match fields.get("ASSIGNED_BY_ID").map(|value| (FieldValue::from(value), value)) {
            None | Some((FieldValue::Empty, _)) => None,
            Some((_, value)) => UserId::new(whole_number(value).ok_or(LeadError::InvalidOwner)?),
        };
        let fields = fields.iter().map(|(code, value)| (code.clone(), FieldValue::from(value))).collect();
        Ok(Self { id, owner, fields, ties: None })
    }

    /// What the field with this code holds; [`FieldValue::Empty`] when the portal answered no such field.
    #[must_use]
    pub fn field(&self, code: &str) -> &FieldValue {
        self.fields.get(code).unwrap_or(&FieldValue::Empty)
    }

    /// Its amount, `OPPORTUNITY`, whatever its currency: for comparing leads, not for reckoning. `None` without one.
    #[must_use]
    pub fn amount(&self) -> Option<f64> {
        let amount = match self.field("OPPORTUNITY") {
            FieldValue::Text(text) => compare::number(text)?,
            FieldValue::Number(number) => *number,
            FieldValue::Empty | FieldValue::List(_) => return None,
        };
        amount.to_f64()
    }

    /// When it was created: its `DATE_CREATE`, such as `2026-11-18T14:06:40+03:00`; `None` without one, or one that says
    /// no moment.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        match self.field("DATE_CREATE") {
            FieldValue::Text(text) => text.trim().parse().ok(),
            FieldValue::Empty | FieldValue::Number(_) | FieldValue::List(_) => None,
        }
    }
}

impl FieldValue {
    /// The values one by one: none for an empty field, one for a text or number, each of a list.
    pub fn values(&self) -> impl Iterator<Item = &FieldValue> {
        match self {
            Self::Empty => [].iter(),
            Self::Text(_) | Self::Number(_) => std::slice::from_ref(self).iter(),
            Self::List(values) => values.iter(),
        }
    }
}

impl From<&Value> for FieldValue {
    fn from(value: &Value) -> Self {
        let mut values = Vec::new();
        collect(value, DEPTH_MAX, &mut values);
        let many = value.is_array() || value.is_object();
        if many && !values.is_empty() { Self::List(values) } else { values.pop().unwrap_or(Self::Empty) }
    }
}

/// Shows which fields are there and never what they hold: names and phones belong in no log.
impl fmt::Debug for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<&str> = self.fields.keys().map(String::as_str).collect();
        let mut lead = f.debug_struct("Lead");
        lead.field("id", &self.id).field("owner", &self.owner).field("fields", &fields);
        lead.field("ties", &self.ties).finish()
    }
}

/// Shows the kind of value and hides the value.
impl fmt::Debug for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Text(_) => f.write_str("Text(…)"),
            Self::Number(_) => f.write_str("Number(…)"),
            Self::List(values) => f.debug_tuple("List").field(values).finish(),
        }
    }
}

/// Adds what `value` holds, flattened, without the empty ones.
fn collect(value: &Value, depth: usize, into: &mut Vec<FieldValue>) {
    if depth == 0 {
        return;
    }
    match value {
        Value::Null | Value::Bool(false) => {}
        Value::Bool(true) => into.push(FieldValue::Text("1".to_owned())),
        Value::Number(number) => {
            let text = number.to_string();
            into.push(compare::number(&text).map_or(FieldValue::Text(text), FieldValue::Number));
        }
        Value::String(text) if text.trim().is_empty() => {}
        Value::String(text) => into.push(FieldValue::Text(text.clone())),
        Value::Array(values) => values.iter().for_each(|value| collect(value, depth - 1, into)),
        // A phone, an e-mail address: the value beside its id and type. Anything else, such as a file: all it has.
        Value::Object(object) => match object.get("VALUE") {
            Some(value) => collect(value, depth - 1, into),
            None => object.values().for_each(|value| collect(value, depth - 1, into)),
        },
    }
}

/// A whole number as the portal writes it, `"123"`, or as other producers do, `123`.
fn whole_number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<Lead, LeadError> {
        Lead::from_fields(value.as_object().unwrap())
    }

    #[test]
    fn reads_every_form_the_portal_writes() {
        let text = |text: &str| FieldValue::Text(text.to_owned());
        let cases = [
            (json!(null), FieldValue::Empty),
            (json!(""), FieldValue::Empty),
            (json!(" \t"), FieldValue::Empty),
            (json!(false), FieldValue::Empty),
            (json!([]), FieldValue::Empty),
            (json!({}), FieldValue::Empty),
            (json!([null, ""]), FieldValue::Empty),
            (json!(true), text("1")),
            (json!("007"), text("007")),
            (json!("500000.00"), text("500000.00")),
            (json!(12.5), FieldValue::Number(Decimal::new(125, 1))),
            (json!(1e300), text("1e+300")),
            (json!(["3157", "3161"]), FieldValue::List(vec![text("3157"), text("3161")])),
            (
                json!([{"ID": "1", "VALUE": "+7 900", "VALUE_TYPE": "WORK"}]),
                FieldValue::List(vec![text("+7 900")]),
            ),
            (json!({"id": "5", "downloadUrl": "/f"}), FieldValue::List(vec![text("/f"), text("5")])),
        ];
        for (json, expected) in cases {
            assert!(FieldValue::from(&json) == expected, "{json}");
        }
    }

    #[test]
    fn drops_what_is_nested_too_deep() {
        let deep = (0..100).fold(json!("x"), |value, _| json!([value]));
        assert_eq!(FieldValue::from(&deep), FieldValue::Empty);
    }

    #[test]
    fn needs_an_id_and_reads_the_owner() {
        let owner = |value: Value| read(&json!({"ID": "1", "ASSIGNED_BY_ID": value})).map(|lead| lead.owner);
        assert_eq!(owner(json!("7")), Ok(UserId::new(7)));
        assert_eq!(owner(json!(7)), Ok(UserId::new(7)));
        assert_eq!(owner(json!("0")), Ok(None));
        assert_eq!(owner(json!("")), Ok(None));
        assert_eq!(owner(json!("-7")), Err(LeadError::InvalidOwner));
        assert_eq!(owner(json!(["7"])), Err(LeadError::InvalidOwner));
        assert_eq!(read(&json!({"ID": "1"})).map(|lead| lead.owner), Ok(None));
        assert_eq!(read(&json!({})), Err(LeadError::NoId));
        assert_eq!(read(&json!({"ID": "0"})), Err(LeadError::InvalidId));
        assert_eq!(read(&json!({"ID": 1e9})), Err(LeadError::InvalidId));
    }

    #[test]
    fn hides_personal_data() {
        let lead = read(&json!({"ID": "1", "NAME": "Olga", "PHONE": [{"VALUE": "+7 900"}]})).unwrap();
        assert_eq!(
            format!("{lead:?}"),
            r#"Lead { id: LeadId(1), owner: None, fields: ["ID", "NAME", "PHONE"], ties: None }"#
        );
        assert_eq!(format!("{:?}", lead.field("PHONE")), "List([Text(…)])");
    }
}
