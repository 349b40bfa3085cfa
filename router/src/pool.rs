//! The holding pool: held leads go back into the queue of lead events when somebody may take them, and somebody is told of
//! those that wait too long.
//!
//! The pool is looked at every few seconds, and at once when a new lead has to wait for those that waited before it. Of
//! leads that stand in line, as many are called as people may take, those that go first; the others are looked at every ten
//! minutes, because the lead itself may have changed. Those of which nothing tells when they may go are looked at each
//! minute.

use std::sync::Arc;
use std::time::Duration;

use common::broker::topology::Topology;
use common::broker::{Broker, Message};
use common::clock::Clock;
use common::failure::{HandlerError, chain};
use common::ids::PortalName;
use common::lifecycle::Stop;
use common::messages::{AssignmentKey, EventSource, LeadEvent};
use distribution::{Name, Routing};
use jiff::{SignedDuration, Timestamp};
use store::{Call, Counting, DueHolds, Intervals, KindInLine, KnownPeople, Store};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(5);

/// The least time between two looks, however often somebody wakes the pool.
const BREATH: Duration = Duration::from_millis(300);

/// When a held lead may be looked at again.
pub(crate) const LOOK_AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// When a lead that was called, and found others ahead of it, may be called again: they have been decided by then.
pub(crate) const CALL_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// When it is looked at even where nobody may take it.
const LOOK_ANYWAY_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// How many leads of a queue are brought back at once; the rest follows at the next look.
const AT_ONCE: u32 = 1000;

/// Wakes the pool of a portal.
pub(crate) type Wake = Arc<Notify>;

/// The pool of one portal.
pub(crate) struct Pool {
    pub(crate) portal: PortalName,
    pub(crate) routing: watch::Receiver<Arc<Routing>>,
    pub(crate) people: watch::Receiver<Arc<KnownPeople>>,
    pub(crate) intervals: Intervals,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wake: Wake,
}

impl Pool {
    pub(crate) async fn run(self, stop: Stop) {
        let mut next_look = Instant::now() + EVERY;
        loop {
            let looked = tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep_until(next_look) => {
                    next_look = Instant::now() + EVERY;
                    self.look().await
                }
                () = self.wake.notified() => self.call_all(self.clock.now()).await,
            };
            if let Err(error) = looked {
                tracing::warn!(event = "hold.look_failed", portal = %self.portal, error = chain(&*error));
            }
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(BREATH) => {}
            }
        }
    }

    async fn look(&self) -> Result<(), HandlerError> {
        let held = self.store.held_queues(&self.portal).await?;
        if held.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let routing = Arc::clone(&self.routing.borrow());
        for waiting in held.into_iter().filter(|waiting| waiting.next_look <= now) {
            let which = which(waiting.queue, &routing, now);
            let due = self.store.due_holds(&self.portal, &which, now + LOOK_AGAIN_AFTER).await?;
            self.bring_back(due, now).await?;
        }
        self.call_all(now).await?;
        self.escalate(&routing, now).await
    }

    /// Calls those that stand in line and whose turn it is.
    async fn call_all(&self, now: Timestamp) -> Result<(), HandlerError> {
        let kinds = self.store.kinds_in_line(&self.portal).await?;
        if kinds.is_empty() {
            return Ok(());
        }
        let routing = Arc::clone(&self.routing.borrow());
        let people = Arc::clone(&self.people.borrow());
        // Who is at a limit takes none, so leads that wait for him need not be read.
        let given = self.store.given(&self.portal, &Counting::of(&routing, people.counted_at(), now)).await?;
        let roster = people.roster(&routing, &given, self.intervals, now);
        for KindInLine { kind, needs } in kinds {
            let limit = routing.places(&needs, &roster, now).min(AT_ONCE);
            if limit > 0 {
                let (first, again_at) = (routing.first(&needs), now + LOOK_AGAIN_AFTER);
                let called =
                    self.store.call(&self.portal, &Call { kind, first, limit, now, again_at }).await?;
                // People may take more than are called at once: the next follow as soon as some of these are given.
                if limit == AT_ONCE && !called.is_empty() {
                    self.wake.notify_one();
                }
                self.bring_back(called, now).await?;
            }
        }
        Ok(())
    }

    /// A lead whose publish fails is looked at again a minute later: its next look is in the store.
    async fn bring_back(
        &self,
        leads: Vec<(AssignmentKey, Timestamp)>,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        for (key, first_seen) in leads {
            let event = LeadEvent { epoch: Some(key.epoch), ..LeadEvent::of(key.lead, EventSource::Hold) };
            let message = Message::lead_event(&self.portal, event, first_seen, now);
            let route = self.topology.to_queue(self.topology.lead_events(&self.portal));
            self.broker.publish(route, message).await?;
        }
        Ok(())
    }

    async fn escalate(&self, routing: &Routing, now: Timestamp) -> Result<(), HandlerError> {
        for queue in routing.queues() {
            let Some(alarm) = &queue.hold.alarm else { continue };
            let to = &alarm.escalate_to;
            let count = self.store.escalate_holds(&self.portal, &queue.name, to.user, now).await?;
            if count > 0 {
                tracing::warn!(
                    event = "hold.too_long", portal = %self.portal, queue = %queue.name, leads = count,
                    told = %to.name,
                );
            }
        }
        Ok(())
    }
}

/// Which leads of this queue are looked at, whosever turn it is. Of a queue that the routing has not any more, and of leads
/// that wait for a person, all that are due.
fn which(queue: Option<Name>, routing: &Routing, now: Timestamp) -> DueHolds {
    let known = queue.as_deref().and_then(|queue| routing.queue(queue));
    let first = known.map(|queue| queue.hold.first).unwrap_or_default();
    let due_in_line = if known.is_some() { now + LOOK_AGAIN_AFTER - LOOK_ANYWAY_AFTER } else { now };
    DueHolds { queue, due: now, due_in_line, first, limit: AT_ONCE }
}

#[cfg(test)]
mod tests {
    use distribution::First;

    use super::*;

    #[test]
    fn who_stands_in_line_is_called_and_needs_no_other_looks() {
        let routing = "{ version: 1, people: { a: { user: 1 } }, default: { queue: main },
                         queues: { main: { members: [a], hold: { first: most_valuable } } } }";
        let routing = Routing::from_yaml(routing, "routing.yaml").unwrap();
        let now: Timestamp = "2026-11-23T09:00:00Z".parse().unwrap();
        let of = |queue: Option<&str>| {
            let which = which(queue.map(Name::from), &routing, now);
            (
                now.duration_since(which.due).as_mins(),
                now.duration_since(which.due_in_line).as_mins(),
                which.first,
            )
        };
        assert_eq!(of(Some("main")), (0, 9, First::MostValuable));
        assert_eq!(of(Some("gone")), (0, 0, First::Oldest));
        assert_eq!(of(None), (0, 0, First::Oldest));
    }
}
