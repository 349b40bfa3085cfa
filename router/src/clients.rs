//! Whose client a lead is: asked of the portal before a decision that depends on it.
//!
//! A portal that refuses to tell stops nothing: the lead is given as if the client were new, which its explanation says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bitrix24::clients::Sought;
use bitrix24::{ClientFinder, Portal, PortalError};
use common::budget::Purpose;
use common::failure::{Failure, FailureClass, chain};
use common::ids::PortalName;
use distribution::{ClientSought, FieldValue, Giving, Lead, Roster, Routing, Tie, TieBy};
use jiff::Timestamp;

use crate::metrics::{ClientSearch, RouterMetrics};

/// Asks one portal.
pub(crate) struct Clients {
    portal: PortalName,
    fresh: ClientFinder,
    /// For held leads, which give way to fresh ones.
    held: ClientFinder,
    metrics: Arc<RouterMetrics>,
    /// Whether the portal refused the last time, so that it is logged once.
    refused: AtomicBool,
}

impl Clients {
    pub(crate) fn new(client: &Portal, metrics: Arc<RouterMetrics>) -> Self {
        Self {
            portal: client.name().clone(),
            fresh: ClientFinder::new(client.clone()),
            held: ClientFinder::new(client.for_purpose(Purpose::Held)),
            metrics,
            refused: AtomicBool::new(false),
        }
    }

    /// Who has the lead's client; `None` where the decision does not depend on it, or the portal does not tell.
    ///
    /// # Errors
    /// When the portal could not be asked at this moment.
    pub(crate) async fn ties(
        &self,
        routing: &Routing,
        lead: &Lead,
        (giving, is_held): (&Giving, bool),
        roster: &Roster,
        now: Timestamp,
    ) -> Result<Option<Vec<Tie>>, PortalError> {
        let Some(by) = routing.client_sought(lead, giving, roster, now) else { return Ok(None) };
        let finder = if is_held { &self.held } else { &self.fresh };
        let found = finder.find(sought(lead, by, routing.country_code())).await;
        let outcome = match &found {
            Ok(ties) if ties.is_empty() => ClientSearch::New,
            Ok(_) => ClientSearch::Known,
            Err(error) if is_refusal(error) => ClientSearch::Refused,
            Err(_) => return found.map(Some),
        };
        self.metrics.client_sought(&self.portal, outcome);
        self.tell(&found);
        Ok(found.ok())
    }

    fn tell(&self, found: &Result<Vec<Tie>, PortalError>) {
        let before = self.refused.swap(found.is_err(), Ordering::Relaxed);
        match found {
            Err(error) if !before => tracing::warn!(
                event = "clients.refused", portal = %self.portal, error = chain(error),
                "leads are given as if their clients were new",
            ),
            Ok(_) if before => tracing::info!(event = "clients.told_again", portal = %self.portal),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Whether it would be refused again in a moment: a right or a method that is missing, or execution time that is used up.
fn is_refusal(error: &PortalError) -> bool {
    let used_up = error.is_operation_time_limit() || matches!(error, PortalError::MethodBlocked { .. });
    used_up || error.is_of_one_method() || error.class() == FailureClass::Permanent
}

fn sought(
    lead: &Lead,
    ClientSought { by, since, settled_by }: ClientSought,
    country_code: Option<&str>,
) -> Sought {
    let id = |by: &BTreeSet<TieBy>, wanted, field| {
        let is = by.contains(&wanted);
        texts(lead.field(field)).into_iter().find_map(|text| text.parse().ok()).filter(|id| is && *id > 0)
    };
    let typed = |wanted, field| if by.contains(&wanted) { texts(lead.field(field)) } else { Vec::new() };
    Sought {
        lead: lead.id,
        contact: id(&by, TieBy::Contact, "CONTACT_ID"),
        company: id(&by, TieBy::Company, "COMPANY_ID"),
        phones: typed(TieBy::Phone, "PHONE"),
        emails: typed(TieBy::Email, "EMAIL"),
        country_code: country_code.map(str::to_owned),
        since,
        settled_by,
    }
}

fn texts(value: &FieldValue) -> Vec<String> {
    let text = |value: &FieldValue| match value {
        FieldValue::Text(text) => Some(text.trim().to_owned()),
        FieldValue::Number(number) => Some(number.to_string()),
        FieldValue::Empty | FieldValue::List(_) => None,
    };
    value.values().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_the_rules_recognise_clients_by_is_asked_for() {
        let fields = json!({
            "ID": "42", "CONTACT_ID": "84", "COMPANY_ID": "0",
            "PHONE": [{ "VALUE": "+7 916 123-45-67" }, { "VALUE": "" }], "EMAIL": [{ "VALUE": "a@b.c" }],
        });
        let lead = Lead::from_fields(fields.as_object().unwrap()).unwrap();
        let of = |by: &[TieBy]| {
            let by =
                ClientSought { by: by.iter().copied().collect(), since: None, settled_by: BTreeSet::new() };
            let sought = sought(&lead, by, Some("7"));
            (sought.contact, sought.company, sought.phones, sought.emails)
        };
        let (phone, email) = (vec!["+7 916 123-45-67".to_owned()], vec!["a@b.c".to_owned()]);
        assert_eq!(of(&[TieBy::Contact, TieBy::Company]), (Some(84), None, vec![], vec![]));
        assert_eq!(of(&[TieBy::Phone]), (None, None, phone, vec![]));
        assert_eq!(of(&[TieBy::Email]), (None, None, vec![], email));
    }
}
