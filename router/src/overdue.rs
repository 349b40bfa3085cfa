//! Publishes again what was decided and never carried out, and what was asked for and never decided.
//!
//! A message is gone where the broker lost its disk, where a queue was deleted, or where it was published while no queue was
//! bound. Nothing is doubled by publishing again: a decision is made once, and an assignment is written once, whatever the
//! number of copies. So the store is believed and not the broker: what is not finished, and was published longer ago than
//! any message is on its way, is published again, by one router of all, a bounded number at a time. A message that is
//! rightly put off for longer, as with a portal that refuses everybody, gets a copy after twice the time each time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::broker::topology::Topology;
use common::broker::{Broker, Message};
use common::clock::Clock;
use common::config::Retry;
use common::failure::{HandlerError, chain};
use common::ids::PortalName;
use common::lifecycle::Stop;
use common::messages::{AssignmentKey, Envelope, EventSource, LeadEvent};
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

/// What a message may take beside its waits between attempts: a backlog, requests that time out.
const SLACK: SignedDuration = SignedDuration::from_mins(15);

/// A router that lives publishes a command within seconds of its decision, or the event comes again to one that does.
const UNPUBLISHED: SignedDuration = SignedDuration::from_mins(5);

/// What is published again, for the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    Command,
    Event,
}

impl Again {
    pub(crate) const ALL: [Self; 2] = [Self::Command, Self::Event];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Event => "event",
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
    /// When events were published again of which the store does not keep it.
    pub(crate) events: BTreeMap<AssignmentKey, Timestamp>,
}

impl Overdue {
    pub(crate) async fn run(mut self, stop: Stop) {
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

    async fn look(&mut self) -> Result<(), HandlerError> {
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
        self.events.retain(|_, at| now.duration_since(*at) < self.on_its_way);
        for call in self.store.overdue_calls(&self.portal, &overdue).await? {
            let key = AssignmentKey { portal: self.portal.clone(), lead: call.lead, epoch: call.epoch };
            if self.events.contains_key(&key) {
                continue;
            }
            let asked_at = call.asked_at;
            let route = self.topology.to_queue(self.topology.lead_events(&self.portal));
            self.broker.publish(route, self.event(call, now)).await?;
            self.count(Again::Event, &key, asked_at);
            self.events.insert(key, now);
        }
        Ok(())
    }

    /// A robot's call under its own id, by which its giving is found; any other as an event of its giving.
    fn event(&self, call: OverdueCall, now: Timestamp) -> Message {
        let Some(id) = call.asked_by else {
            let event = LeadEvent { epoch: Some(call.epoch), ..LeadEvent::of(call.lead, EventSource::Sweep) };
            return Message::lead_event(&self.portal, event, call.asked_at, now);
        };
        let payload = LeadEvent { queue: call.queue, ..LeadEvent::of(call.lead, EventSource::Robot) };
        let envelope = Envelope { id, portal: self.portal.clone(), occurred_at: call.asked_at, payload };
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
