//! A lead as the rules see it: the fields they ask about, each made comparable once.
//!
//! A thousand rules ask about a handful of fields. The routing numbers those fields when it is loaded; here each is
//! looked up, folded and read as a number a single time per lead, so that a rule costs a comparison and no more.

use rust_decimal::Decimal;

use crate::compare;
use crate::lead::{FieldValue, Lead};
use crate::name::Name;

/// What one lead holds in the fields of one routing, by the routing's numbers for them.
pub(crate) struct Facts(Vec<Fact>);

/// What one field holds; no values when it is empty.
#[derive(Default)]
pub(crate) struct Fact {
    pub(crate) values: Vec<Comparable>,
}

/// One value in both forms in which it can be compared.
pub(crate) struct Comparable {
    /// Folded: see [`compare::fold`].
    pub(crate) text: String,
    /// The number it writes, if it writes one.
    pub(crate) number: Option<Decimal>,
}

impl Facts {
    /// Looks up `fields` (codes) in `lead`.
    pub(crate) fn of(lead: &Lead, fields: &[Name]) -> Self {
        Self(fields.iter().map(|code| Fact::from(lead.field(code))).collect())
    }

    /// The fact with this number; an empty one when there is none.
    pub(crate) fn get(&self, field: usize) -> &Fact {
        const NOTHING: &Fact = &Fact { values: Vec::new() };
        self.0.get(field).unwrap_or(NOTHING)
    }
}

impl From<&FieldValue> for Fact {
    fn from(value: &FieldValue) -> Self {
        let comparable = |value: &FieldValue| match value {
            FieldValue::Text(text) => {
                Some(Comparable { text: compare::fold(text), number: compare::number_in_field(text) })
            }
            FieldValue::Number(number) => {
                Some(Comparable { text: number.normalize().to_string(), number: Some(*number) })
            }
            FieldValue::Empty | FieldValue::List(_) => None,
        };
        Self { values: value.values().filter_map(comparable).collect() }
    }
}
