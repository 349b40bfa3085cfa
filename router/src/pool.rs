//! The holding pool: held leads go back into the queue of lead events when somebody may take them, and somebody is told of
//! those that wait too long.
//!
//! The pool is looked at every few seconds. Where somebody of a queue may take a lead, those whose next look is due are
//! decided anew, each at the most once a minute; where nobody may, they are still looked at every ten minutes, because the
//! lead itself may have changed.

use std::sync::Arc;
use std::time::Duration;

use common::broker::topology::Topology;
use common::broker::{Broker, Message};
use common::clock::Clock;
use common::failure::{HandlerError, chain};
use common::ids::PortalName;
use common::lifecycle::Stop;
use common::messages::{EventSource, LeadEvent};
use distribution::{Name, Roster, Routing};
use jiff::{SignedDuration, Timestamp};
use store::{Counting, DueHolds, Intervals, KnownPeople, Store};
use tokio::sync::watch;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(5);

/// Looks in a minute.
const LOOKS_A_MINUTE: usize = 12;

/// When a held lead may be looked at again.
pub(crate) const LOOK_AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// When it is looked at even where nobody may take it.
const LOOK_ANYWAY_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// How many leads of a queue are brought back at once; the rest follows at the next look.
const AT_ONCE: usize = 1000;

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
}

impl Pool {
    pub(crate) async fn run(self, stop: Stop) {
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Err(error) = self.look().await {
                tracing::warn!(event = "hold.look_failed", portal = %self.portal, error = chain(&*error));
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
        let people = Arc::clone(&self.people.borrow());
        // Who is at a limit takes none, so leads that wait for him need not be read.
        let given = self.store.given(&self.portal, &Counting::of(&routing, people.counted_at(), now)).await?;
        let roster = people.roster(&routing, &given, self.intervals, now);
        for waiting in held.into_iter().filter(|waiting| waiting.next_look <= now) {
            let which = which(waiting.queue, &routing, &roster, now);
            if waiting.next_look <= which.due {
                self.bring_back(&which, now).await?;
            }
        }
        self.escalate(&routing, now).await
    }

    /// A lead whose publish fails is looked at again a minute later: its next look is in the store.
    async fn bring_back(&self, which: &DueHolds, now: Timestamp) -> Result<(), HandlerError> {
        for (key, first_seen) in self.store.due_holds(&self.portal, which, now + LOOK_AGAIN_AFTER).await? {
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

/// Which leads of this queue are looked at now. Of a queue that the routing has not any more, all that are due.
fn which(queue: Option<Name>, routing: &Routing, roster: &Roster, now: Timestamp) -> DueHolds {
    let known = queue.as_deref().and_then(|queue| routing.queue(queue));
    let takers = known.map(|queue| routing.takers(&queue.name, roster, now));
    let due = if takers == Some(0) { now + LOOK_AGAIN_AFTER - LOOK_ANYWAY_AFTER } else { now };
    let rules = known.map(|queue| queue.hold.clone()).unwrap_or_default();
    let rate = rules.release_per_minute.and_then(|rate| usize::try_from(rate).ok());
    // What each may be given in a minute is the decision's business; more than that need not be read.
    let limit = rate.zip(takers.filter(|takers| *takers > 0));
    let limit = limit.map_or(AT_ONCE, |(rate, takers)| (rate * takers).div_ceil(LOOKS_A_MINUTE));
    DueHolds { queue, due, first: rules.first, limit: u32::try_from(limit.min(AT_ONCE)).unwrap_or(u32::MAX) }
}

#[cfg(test)]
mod tests {
    use distribution::{First, Presence};

    use super::*;

    const ROUTING: &str = "
version: 1
people: { a: { user: 1 }, b: { user: 2 }, d: { user: 3 } }
queues:
  main: { members: [a, b], on_duty: [d], hold: { release_per_minute: 10, first: most_valuable } }
  other: { members: [a] }
default: { queue: main }
";

    #[test]
    fn as_many_are_looked_at_as_can_be_taken() {
        let routing = Routing::from_yaml(ROUTING, "routing.yaml").unwrap();
        let now: Timestamp = "2026-11-23T09:00:00Z".parse().unwrap();
        let away = |users: &[u64]| -> Roster {
            let one = |user: &u64| {
                (user.to_string().parse().unwrap(), Presence { active: false, ..Presence::default() })
            };
            users.iter().map(one).collect()
        };
        let of = |queue: Option<&str>, away: &Roster| {
            let which = which(queue.map(Name::from), &routing, away, now);
            (which.due == now, which.first, which.limit)
        };
        let (mv, oldest) = (First::MostValuable, First::Oldest);
        assert_eq!(of(Some("main"), &away(&[])), (true, mv, 3));
        assert_eq!(of(Some("main"), &away(&[1, 2])), (true, mv, 1), "who is on duty takes some");
        assert_eq!(of(Some("main"), &away(&[1, 2, 3])), (false, mv, 1000));
        assert_eq!(of(Some("other"), &away(&[1])), (false, oldest, 1000));
        assert_eq!(of(Some("gone"), &away(&[])), (true, oldest, 1000));
        assert_eq!(of(None, &away(&[1, 2, 3])), (true, oldest, 1000));
    }
}
