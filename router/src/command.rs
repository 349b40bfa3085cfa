//! The assignment command of a decision: the same whenever it is published.

use common::broker::Message;
use common::messages::{AssignmentCommand, Envelope};
use jiff::Timestamp;
use store::{SavedDecision, Verdict};

/// When a lead was read, and with how many others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) at: Timestamp,
    pub(crate) with: usize,
}

/// The command; none where the decision gives the lead to nobody.
pub(crate) fn message(
    saved: &SavedDecision,
    seen: Option<Seen>,
    traceparent: Option<String>,
) -> Option<Message> {
    let Verdict::Assign { to, person } = &saved.verdict else { return None };
    let envelope = Envelope {
        id: saved.key.to_string(),
        portal: saved.key.portal.clone(),
        occurred_at: saved.decided_at,
        payload: AssignmentCommand {
            lead: saved.key.lead,
            epoch: saved.key.epoch,
            from: saved.from,
            to: *to,
            person: person.clone(),
            reason: saved.reason.clone(),
            looked_at: seen.map(|seen| seen.at),
            looked_at_with: seen.map(|seen| seen.with),
            orders: saved.orders.clone(),
        },
    };
    Some(Message::first(&envelope, saved.first_seen, traceparent))
}
