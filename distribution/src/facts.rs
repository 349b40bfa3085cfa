//! A lead as the rules see it: the fields they ask about, each made comparable once, and when it came.
//!
//! A thousand rules ask about a handful of fields. The routing numbers those fields when it is loaded; here each is
//! looked up, folded and read as a number a single time per lead, so that a rule costs a comparison and no more.

use jiff::Timestamp;
use rust_decimal::Decimal;

use crate::calendar::Calendar;
use crate::compare;
use crate::lead::{FieldValue, Lead};
use crate::routing::Routing;

/// What one lead holds in the fields of one routing, by the routing's numbers for them.
pub(crate) struct Facts<'r> {
    fields: Vec<Fact>,
    /// The schedules when the lead came.
    received: Calendar<'r>,
}

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

impl<'r> Facts<'r> {
    /// Looks up the routing's fields in `lead`. A lead that does not say when it was created came `now`.
    pub(crate) fn of(lead: &Lead, routing: &'r Routing, now: Timestamp) -> Self {
        let fields = routing.fields.iter().map(|code| Fact::from(lead.field(code))).collect();
        Self { fields, received: Calendar::at(routing, lead.created_at().unwrap_or(now)) }
    }

    /// The fact with this number; an empty one when there is none.
    pub(crate) fn get(&self, field: usize) -> &Fact {
        const NOTHING: &Fact = &Fact { values: Vec::new() };
        self.fields.get(field).unwrap_or(NOTHING)
    }

    /// Whether the lead came while a schedule was on.
    pub(crate) fn received_within(&self, hours: usize) -> bool {
        self.received.is_on(hours)
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
