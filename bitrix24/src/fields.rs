//! Which fields of a lead are asked for: those that the routing and what follows from it need, and no other.
//!
//! Comments may be of any size and any encoding, and one such text spoils the answer for all leads of a request. So no
//! mask (`*`, `UF_*`) is ever asked for.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// What is needed of every lead: its owner and maker, whether it is in process, its title for the notice, and what a deal
/// takes over.
const ALWAYS: [&str; 12] = [
    "ID",
    "TITLE",
    "ASSIGNED_BY_ID",
    "CREATED_BY_ID",
    "STATUS_ID",
    "STATUS_SEMANTIC_ID",
    "DATE_CREATE",
    "OPPORTUNITY",
    "CURRENCY_ID",
    "SOURCE_ID",
    "CONTACT_ID",
    "COMPANY_ID",
];

/// How much is kept of each text of a lead, in bytes: as much as a column of text holds in the portal's database. So leads
/// that wait for their decision take little, whatever a portal says.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Fields by the portal's codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields(BTreeSet<String>);

impl Default for Fields {
    /// What is needed of every lead.
    fn default() -> Self {
        Self(ALWAYS.map(str::to_owned).into())
    }
}

impl Fields {
    /// These fields and `more`, such as those that the rules name.
    #[must_use]
    pub fn with<'a>(mut self, more: impl IntoIterator<Item = &'a str>) -> Self {
        // A mask is no field, whoever writes it into a rule.
        let more = more.into_iter().filter(|code| !code.contains('*'));
        self.0.extend(more.map(str::to_owned));
        self
    }

    /// Whether all of `others` are among these.
    #[must_use]
    pub fn contain(&self, others: &Self) -> bool {
        others.0.is_subset(&self.0)
    }

    /// These and `others`.
    pub(crate) fn add(&mut self, others: &Self) {
        self.0.extend(others.0.iter().cloned());
    }

    /// As the parameter `select`.
    pub(crate) fn select(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    /// Drops all others: `crm.lead.get` knows no `select`, and a decision must not depend on how a lead was read. What is
    /// kept is kept to [`TEXT_BYTES_MAX`].
    pub(crate) fn keep_only(&self, fields: &mut Map<String, Value>) {
        fields.retain(|code, _| self.0.contains(code));
        fields.values_mut().for_each(shorten);
    }
}

/// Cuts the texts in a value to their greatest length.
fn shorten(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > TEXT_BYTES_MAX => {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
            // What is cut off is to be given back.
            text.shrink_to_fit();
        }
        Value::Array(elements) => elements.iter_mut().for_each(shorten),
        Value::Object(members) => members.values_mut().for_each(shorten),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_of_a_lead_is_cut_wherever_it_stands() {
        let long = "ж".repeat(TEXT_BYTES_MAX);
        let whole = "x".repeat(TEXT_BYTES_MAX);
        let mut fields = serde_json::json!({
            "TITLE": format!("x{long}"), "SOURCE_ID": whole, "PHONE": [{ "VALUE": long }], "COMMENTS": "dropped",
        });
        let fields = fields.as_object_mut().unwrap();
        Fields::default().with(["PHONE"]).keep_only(fields);
        let length = |text: &Value| text.as_str().unwrap().len();
        assert_eq!(length(&fields["TITLE"]), TEXT_BYTES_MAX - 1, "no sign is cut in two");
        assert_eq!(length(&fields["SOURCE_ID"]), TEXT_BYTES_MAX);
        assert_eq!(length(&fields["PHONE"][0]["VALUE"]), TEXT_BYTES_MAX);
        assert!(!fields.contains_key("COMMENTS"));
    }

    #[test]
    fn a_mask_is_never_asked_for() {
        let fields = Fields::default().with(["UF_CRM_PRODUCT", "*", "UF_*", "PHONE"]);
        let select = fields.select();
        assert!(select.contains(&"UF_CRM_PRODUCT") && select.contains(&"PHONE"), "{select:?}");
        assert!(select.iter().all(|code| !code.contains('*')), "{select:?}");
        assert!(fields.contain(&Fields::default()) && !Fields::default().contain(&fields));
    }
}
