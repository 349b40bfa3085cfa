//! Looking for leads by their number, to find those whose event was lost.
//!
//! Ids only grow, so "everything above the highest one seen" is complete but for leads that became
//! visible out of order; who scans looks some way back for those. Counting is switched off, which on
//! large portals is the difference between milliseconds and a minute (page "Huge data").

use common::ids::LeadId;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::client::Portal;
use crate::envelope::unsigned;
use crate::error::PortalError;
use crate::lead::LEADS_A_LIST;

const LIST: &str = "crm.lead.list";

/// A lead as a scan sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// Which lead.
    pub id: LeadId,
    /// When it was created, where the portal says so.
    pub created: Option<Timestamp>,
}

impl Portal {
    /// Up to 50 leads with an id above `after`, lowest first; fewer than 50 means that there are no
    /// more. One request.
    ///
    /// # Errors
    /// As [`Portal::call`].
    pub async fn leads_after(&self, after: u64) -> Result<Vec<Sighting>, PortalError> {
        let sightings = self.sightings(json!({ ">ID": after }), "ASC").await?;
        // A portal that did not understand the condition would answer with its first leads, for ever.
        if sightings.iter().any(|sighting| sighting.id.get() <= after) {
            return Err(unexpected("a list of leads above the id asked for"));
        }
        Ok(sightings)
    }

    /// The lead with the highest id; `None` where there is none. One request.
    ///
    /// # Errors
    /// As [`Portal::call`].
    pub async fn newest_lead(&self) -> Result<Option<LeadId>, PortalError> {
        let newest = self.sightings(json!({}), "DESC").await?;
        Ok(newest.iter().map(|sighting| sighting.id).max())
    }

    async fn sightings(&self, filter: Value, order: &str) -> Result<Vec<Sighting>, PortalError> {
        let params = json!({
            "filter": filter, "order": { "ID": order }, "select": ["ID", "DATE_CREATE"], "start": -1,
        });
        let envelope = self.call(LIST, &params).await?;
        let Value::Array(rows) = envelope.result else { return Err(unexpected("a list of leads")) };
        if rows.len() > LEADS_A_LIST {
            return Err(unexpected("a list of at most 50 leads"));
        }
        let sighting = |row: &Value| {
            let id = row.get("ID").and_then(unsigned).and_then(LeadId::new)?;
            let created = row.get("DATE_CREATE").and_then(Value::as_str).and_then(|at| at.parse().ok());
            Some(Sighting { id, created })
        };
        rows.iter().map(|row| sighting(row).ok_or_else(|| unexpected("a list of leads"))).collect()
    }
}

fn unexpected(expected: &'static str) -> PortalError {
    PortalError::Unexpected { method: LIST.to_owned(), expected }
}
