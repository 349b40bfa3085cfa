//! Publishes again what was decided and never carried out, and what was asked for and never decided.
//!
//! A message is gone where the broker lost its disk, where a queue was deleted, or where it was published while no queue was
//! bound. Nothing is doubled by publishing again: a decision is made once, and an assignment is written once, whatever the
//! number of copies. So the store is believed and not the broker: what is not finished, and was published longer ago than
//! any message is on its way, is published again, by one router of all, a bounded number at a time. A message that is
//! rightly put off for longer, as with a portal that refuses everybody, gets a copy after twice the time each time.
//!
//! The event of a new lead is published again sooner, because nothing but a backlog keeps it. One that has failed is
//! known to come again by itself, and waits until then.

use std::sync::Arc;
use std::time::Duration;

use common::broker::topology::Topology;
use common::broker::{Broker, Message};
use common::clock::Clock;
use common::config::Retry;
use common::failure::{HandlerError, chain};
use common::ids::PortalName;
use common::lifecycle::Stop;
use common::messages::{AssignmentKey, Envelope, Epoch, EventSource, LeadEvent};
use jiff::{SignedDuration, Timestamp};
use store::{OverdueCall, Store};
use uuid::Uuid;

use crate::command;
use crate::metrics::RouterMetrics;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(20);

/// For how long one router looks without saying so again.
const LEASE: SignedDuration = SignedDuration::from_secs(90);

/// How many of each kind are published again at one look: 600 a minute, which the work of fresh leads does not feel.
const AT_ONCE: u32 = 200;

/// When the event of a lead that still waits to be decided is published once more: after as long as it has waited by now,
/// but not sooner and not later than this. So a lead that waits for a day is published some ten times.
const LEAD_AGAIN_AFTER: (SignedDuration, SignedDuration) =
    (SignedDuration::from_mins(3), SignedDuration::from_hours(6));

/// What a message may take beside its waits between attempts: a backlog, requests that time out.
const SLACK: SignedDuration = SignedDuration::from_mins(15);

/// A router that lives publishes a command within seconds of its decision, or the event comes again to one that does.
const UNPUBLISHED: SignedDuration = SignedDuration::from_mins(5);

/// What is published again, for the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    Command,
    Call,
    Lead,
}

impl Again {
    pub(crate) const ALL: [Self; 3] = [Self::Command, Self::Call, Self::Lead];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Call => "call",
            Self::Lead => "lead",
        }
    }
}

/// How long a message may be on its way: all waits of its attempts, and some.
pub(crate) fn on_its_way(retry: &Retry) -> SignedDuration {
    let waits: Duration = retry.delays.iter().sum();
    signed(waits) + SLACK
}

/// How long it may be put off as throttled.
pub(crate) fn longest(retry: &Retry) -> SignedDuration {
    signed(retry.throttled_for)
}

fn signed(wait: Duration) -> SignedDuration {
    SignedDuration::try_from(wait).unwrap_or(SignedDuration::from_hours(24))
}

/// Looks after one portal.
pub(crate) struct Overdue {
    pub(crate) portal: PortalName,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<RouterMetrics>,
    /// See [`on_its_way`].
    pub(crate) on_its_way: SignedDuration,
    /// See [`longest`].
    pub(crate) longest: SignedDuration,
    /// The name of this router among all.
    pub(crate) holder: Uuid,
}

impl Overdue {
    pub(crate) async fn run(self, stop: Stop) {
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Err(error) = self.look().await {
                tracing::warn!(event = "overdue.look_failed", portal = %self.portal, error = chain(&*error));
            }
        }
    }

    async fn look(&self) -> Result<(), HandlerError> {
        let now = self.clock.now();
        if !self.store.take_lease(&format!("overdue/{}", self.portal), self.holder, now, LEASE).await? {
            return Ok(());
        }
        let overdue = store::Overdue {
            now,
            on_its_way: self.on_its_way,
            unpublished: UNPUBLISHED,
            longest: self.longest,
            limit: AT_ONCE,
        };
        for saved in self.store.overdue_commands(&self.portal, &overdue).await? {
            let Some(message) = command::message(&saved, None, None) else { continue };
            let route = self.topology.to_queue(self.topology.assignments(&self.portal));
            self.broker.publish(route, message).await?;
            self.store.published(&saved.key, now).await?;
            self.count(Again::Command, &saved.key, saved.decided_at);
        }
        let events = self.topology.to_queue(self.topology.lead_events(&self.portal));
        for call in self.store.overdue_calls(&self.portal, &overdue).await? {
            let key = AssignmentKey { portal: self.portal.clone(), lead: call.lead, epoch: call.epoch };
            let asked_at = call.asked_at;
            self.broker.publish(events.clone(), self.call(call)).await?;
            self.count(Again::Call, &key, asked_at);
        }
        let leads = self.store.take_overdue_leads(&self.portal, now, LEAD_AGAIN_AFTER, AT_ONCE);
        for (lead, first_seen) in leads.await? {
            let event = LeadEvent::of(lead, EventSource::Sweep);
            let message = Message::lead_event(&self.portal, event, first_seen, now);
            self.broker.publish(events.clone(), message).await?;
            let key = AssignmentKey { portal: self.portal.clone(), lead, epoch: Epoch::FIRST };
            self.count(Again::Lead, &key, first_seen);
        }
        Ok(())
    }

    /// A robot's call under its own id, by which its giving is found.
    fn call(&self, call: OverdueCall) -> Message {
        let payload = LeadEvent { queue: call.queue, ..LeadEvent::of(call.lead, EventSource::Robot) };
        let envelope =
            Envelope { id: call.asked_by, portal: self.portal.clone(), occurred_at: call.asked_at, payload };
        Message::first(&envelope, call.asked_at, None)
    }

    fn count(&self, what: Again, key: &AssignmentKey, since: Timestamp) {
        self.metrics.published_again(&self.portal, what);
        tracing::warn!(
            event = "overdue.published_again", portal = %self.portal, lead.id = key.lead.get(),
            epoch = key.epoch.0, what = what.as_str(), since = %since,
            "nothing came of it for longer than a message is on its way",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_may_be_on_its_way_for_all_waits_and_some() {
        let retry = Retry::default();
        assert_eq!(on_its_way(&retry), SignedDuration::from_secs(5 + 30 + 120 + 600 + 3600) + SLACK);
        assert_eq!(longest(&retry), SignedDuration::from_hours(24));
    }
}
