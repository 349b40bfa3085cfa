//! What a portal's POST says: an event, or a robot's call.
//!
//! Sources: the documentation's page of events; for robots the activity of the module `bizproc` that the robot
//! "Outgoing webhook" is.

use common::ids::LeadId;

use crate::form::Form;

/// The event that a lead was added.
const LEAD_ADDED: &str = "ONCRMLEADADD";

/// A portal's event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PortalEvent {
    /// A lead was added.
    LeadAdded {
        /// Which.
        lead: LeadId,
        /// The portal's time of it, if it sent one.
        ts: Option<i64>,
    },
    /// Something that we do not act upon.
    Other,
}

/// Why an event cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EventError {
    #[error("`event` is missing")]
    NoEvent,
    #[error("`data[FIELDS][ID]` is missing")]
    NoId,
    #[error("`data[FIELDS][ID]` is {0:?}, not a whole number from 1")]
    WrongId(String),
    #[error("`document_id[2]` is missing; is this the robot \"Outgoing webhook\"?")]
    NoDocument,
    #[error("`document_id[2]` is {0:?}, not a lead such as LEAD_42; set the robot up on a stage of leads")]
    NoLead(String),
}

/// Reads an event whose sender is proved. Its name is compared without case: the portal sends capitals,
/// subscriptions may be written otherwise.
pub(crate) fn read(form: &Form) -> Result<PortalEvent, EventError> {
    let event = form.get(&["event"]).ok_or(EventError::NoEvent)?;
    if !event.eq_ignore_ascii_case(LEAD_ADDED) {
        return Ok(PortalEvent::Other);
    }
    // `FIELDS_AFTER` is what events of tasks have; integrations in front of us send leads so too.
    let id = form.get(&["data", "FIELDS", "ID"]).or_else(|| form.get(&["data", "FIELDS_AFTER", "ID"]));
    let id = id.ok_or(EventError::NoId)?;
    let lead = id.trim().parse().map_err(|_| EventError::WrongId(shortened(id)))?;
    Ok(PortalEvent::LeadAdded { lead, ts: form.get(&["ts"]).and_then(|ts| ts.parse().ok()) })
}

/// Reads the call of a robot whose sender is proved: which lead it is about.
pub(crate) fn read_robot(form: &Form) -> Result<LeadId, EventError> {
    let document = form.get(&["document_id", "2"]).ok_or(EventError::NoDocument)?;
    let id = document.trim().strip_prefix("LEAD_").and_then(|id| id.parse().ok());
    id.ok_or_else(|| EventError::NoLead(shortened(document)))
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(body: &str) -> Result<PortalEvent, EventError> {
        read(&Form::parse(body.as_bytes()).unwrap())
    }

    #[test]
    fn the_id_is_found_or_named_as_wrong() {
        let added = |id| PortalEvent::LeadAdded { lead: LeadId::new(id).unwrap(), ts: None };
        for (body, expected) in [
            ("event=ONCRMLEADADD&data[FIELDS][ID]=42", Ok(added(42))),
            ("event=onCrmLeadAdd&data[FIELDS_AFTER][ID]=42", Ok(added(42))),
            ("event=ONCRMDEALADD", Ok(PortalEvent::Other)),
            ("data[FIELDS][ID]=42", Err(EventError::NoEvent)),
            ("event=ONCRMLEADADD", Err(EventError::NoId)),
            ("event=ONCRMLEADADD&data[FIELDS][ID]=", Err(EventError::WrongId(String::new()))),
            ("event=ONCRMLEADADD&data[FIELDS][ID]=0", Err(EventError::WrongId("0".to_owned()))),
            ("event=ONCRMLEADADD&data[FIELDS][ID]=-1", Err(EventError::WrongId("-1".to_owned()))),
            ("event=ONCRMLEADADD&data[FIELDS][ID]=4e1", Err(EventError::WrongId("4e1".to_owned()))),
        ] {
            assert_eq!(event(body), expected, "{body}");
        }
        let with_time = event("event=ONCRMLEADADD&data[FIELDS][ID]=1&ts=1742807175").unwrap();
        assert_eq!(
            with_time,
            PortalEvent::LeadAdded { lead: LeadId::new(1).unwrap(), ts: Some(1_742_807_175) }
        );
    }

    #[test]
    fn a_robot_names_a_lead_or_what_it_names_is_told() {
        let robot = |document: &str| {
            let body =
                format!("document_id[0]=crm&document_id[1]=CCrmDocumentLead&document_id[2]={document}");
            read_robot(&Form::parse(body.as_bytes()).unwrap())
        };
        assert_eq!(robot("LEAD_42"), Ok(LeadId::new(42).unwrap()));
        for wrong in ["DEAL_42", "LEAD_0", "LEAD_", "42", ""] {
            assert_eq!(robot(wrong), Err(EventError::NoLead(wrong.to_owned())));
        }
        assert_eq!(read_robot(&Form::default()), Err(EventError::NoDocument));
    }
}
