//! Messages among the dead letters that nobody gave up: their queue was not there.
//!
//! What is published while its work queue does not exist, or comes back from a delay then, is caught by the alternate
//! exchange. Nothing is wrong with it, and whoever consumes declares the queue again. So it is tried again by the same
//! ladder as after any other failure, and is a dead letter only at its end.

use std::sync::Arc;

use common::broker::Message;
use common::broker::settle::{Settlement, settlement};
use common::broker::topology::Topology;
use common::failure::{Failure, FailureClass};
use common::ids::PortalName;
use common::messages::{AssignmentCommand, LeadEvent, Payload as _};
use common::retry::{Attempt, RetryPolicy};
use jiff::Timestamp;

/// Why it is where it is.
#[derive(Debug, thiserror::Error)]
#[error("it was published, but the queue it was meant for did not exist")]
pub(crate) struct NoQueue;

impl Failure for NoQueue {
    fn class(&self) -> FailureClass {
        FailureClass::Transient
    }
}

/// A message that goes back to its queue.
#[derive(Debug)]
pub(crate) struct ComesBack {
    /// The queue.
    pub(crate) queue: String,
    /// The delay before.
    pub(crate) settlement: Settlement,
    /// As the next try is to find it.
    pub(crate) attempt: Attempt,
}

/// Knows the queues there should be.
pub(crate) struct WithoutQueue {
    pub(crate) topology: Arc<Topology>,
    pub(crate) policy: Arc<RetryPolicy>,
    pub(crate) portals: Vec<PortalName>,
}

impl WithoutQueue {
    /// How a message of the dead queue comes back; none if it was given up, or is of no portal of ours. `portal` is what its
    /// body says.
    pub(crate) fn comes_back(
        &self,
        message: &Message,
        portal: Option<&str>,
        now: Timestamp,
    ) -> Option<ComesBack> {
        let headers = &message.headers;
        if headers.broker_death.is_some() {
            return None;
        }
        let class = match headers.class.as_deref() {
            None => FailureClass::Transient,
            Some(name) => FailureClass::ALL.into_iter().find(|class| class.as_str() == name)?,
        };
        let attempt = message.attempt(now);
        // A stage asks the same before it gives a message up, so a message that would be put off was not given up.
        let settlement = settlement(Some((class, None)), attempt, attempt.throttled_for(now), &self.policy);
        match settlement {
            Settlement::Delay { .. } => {}
            Settlement::Ack | Settlement::Bury(_) => return None,
        }
        let portal = self.portals.iter().find(|known| Some(known.as_str()) == portal)?;
        let queue = match message.kind.as_str() {
            LeadEvent::TYPE => self.topology.lead_events(portal),
            AssignmentCommand::TYPE => self.topology.assignments(portal),
            _ => return None,
        };
        Some(ComesBack { queue, settlement, attempt: attempt.failed(class, now) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::broker::Headers;

    use super::*;

    fn comes_back(kind: &str, headers: Headers) -> Option<(String, u64)> {
        let policy = RetryPolicy::default();
        let acme: PortalName = "acme".parse().unwrap();
        let topology = Topology::new("rota", &policy.delays, [acme.clone()]);
        let portals = vec![acme];
        let without = WithoutQueue { topology: Arc::new(topology), policy: Arc::new(policy), portals };
        let message = Message { id: "1".to_owned(), kind: kind.to_owned(), body: Vec::new(), headers };
        let now = Timestamp::UNIX_EPOCH + Duration::from_hours(100);
        let back = without.comes_back(&message, Some("acme"), now)?;
        match back.settlement {
            Settlement::Delay { step, .. } => Some((back.queue, step.as_secs())),
            Settlement::Ack | Settlement::Bury(_) => None,
        }
    }

    fn failed(class: &str, attempt: u32) -> Headers {
        Headers { class: Some(class.to_owned()), attempt: Some(attempt), ..Headers::default() }
    }

    #[test]
    fn what_nobody_gave_up_comes_back_by_the_ladder() {
        let events = |seconds| Some(("rota.acme.lead-events".to_owned(), seconds));
        let commands = |seconds| Some(("rota.acme.assignments".to_owned(), seconds));
        for (kind, headers, expected) in [
            ("lead-event", Headers::default(), events(5)),
            ("assignment-command", Headers::default(), commands(5)),
            ("assignment-command", failed("transient", 3), commands(120)),
            ("assignment-command", failed("throttled", 1), commands(5)),
            ("assignment-command", failed("blocked", 1), commands(30)),
            // Given up.
            ("assignment-command", failed("transient", 6), None),
            ("assignment-command", failed("permanent", 1), None),
            ("assignment-command", failed("poison", 1), None),
            ("assignment-command", failed("a word of tomorrow", 1), None),
            (
                "assignment-command",
                Headers { throttled_since: Some(Timestamp::UNIX_EPOCH), ..failed("throttled", 1) },
                None,
            ),
            (
                "lead-event",
                Headers { broker_death: Some("delivery_limit".to_owned()), ..Headers::default() },
                None,
            ),
            ("a stranger's", Headers::default(), None),
        ] {
            assert_eq!(comes_back(kind, headers.clone()), expected, "{kind} {headers:?}");
        }
    }
}
