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

    /// Drops all others: `crm.lead.get` knows no `select`, and a decision must not depend on how a lead was read.
    pub(crate) fn keep_only(&self, fields: &mut Map<String, Value>) {
        fields.retain(|code, _| self.0.contains(code));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_never_asked_for() {
        let fields = Fields::default().with(["UF_CRM_PRODUCT", "*", "UF_*", "PHONE"]);
        let select = fields.select();
        assert!(select.contains(&"UF_CRM_PRODUCT") && select.contains(&"PHONE"), "{select:?}");
        assert!(select.iter().all(|code| !code.contains('*')), "{select:?}");
        assert!(fields.contain(&Fields::default()) && !Fields::default().contain(&fields));
    }
}
