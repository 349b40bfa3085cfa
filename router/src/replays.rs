//! Sends dead letters again, where a person asked for it: one router of all, so slowly that new leads go first.
//!
//! A letter goes back as it came into the queue it failed in, as a first attempt that was first seen at this moment. What
//! was decided and done about its lead is found there by its key, so that a letter whose sending nobody saw confirmed is
//! sent again by whoever follows. Which letters these are, and which were sent, is in the store.

use std::sync::Arc;
use std::time::Duration;

use common::broker::topology::Topology;
use common::broker::{Broker, Headers, Message};
use common::clock::Clock;
use common::failure::{HandlerError, chain};
use common::ids::PortalName;
use common::lifecycle::Stop;
use common::messages::{AssignmentCommand, AssignmentKey, Envelope, Epoch, EventSource, LeadEvent, Payload};
use common::telemetry::new_traceparent;
use jiff::{SignedDuration, Timestamp};
use store::{DeadLetter, NextLetter, Replay, Store};
use uuid::Uuid;

/// How often is looked whether a replay is to be carried out.
const EVERY: Duration = Duration::from_secs(2);

/// For how long one router carries it out without saying so again; another goes on after it. Much longer than one letter
/// takes while the broker confirms.
const LEASE: SignedDuration = SignedDuration::from_secs(15);

/// The slowest replay says more often than its lease is long that it is still carried out.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Carries out replays.
pub(crate) struct Replays {
    pub(crate) portals: Vec<PortalName>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The name of this router among all, for the right to do it.
    pub(crate) holder: Uuid,
}

impl Replays {
    pub(crate) async fn run(self, stop: Stop) {
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            tokio::select! {
                // What was published and is not noted is published again by whoever follows.
                () = stop.requested() => return,
                carried_out = self.carry_out() => if let Err(error) = carried_out {
                    tracing::warn!(event = "replay.failed", error = chain(&*error), "it goes on in a moment");
                }
            }
        }
    }

    async fn carry_out(&self) -> Result<(), HandlerError> {
        let taken = self.store.take_replay(self.holder, self.clock.now(), LEASE).await?;
        let Some(replay) = taken else { return Ok(()) };
        tracing::info!(
            event = "replay.taken",
            replay = replay.id,
            author = replay.author,
            letters = replay.letters,
            sent = replay.sent,
        );
        loop {
            match self.store.next_letter(replay.id, self.holder, self.clock.now(), LEASE).await? {
                NextLetter::Send(id, letter) => self.send(&replay, id, &letter).await?,
                NextLetter::Ended => {
                    tracing::info!(event = "replay.done", replay = replay.id);
                    return Ok(());
                }
                // Cancelled, or another router's.
                NextLetter::NotOurs => return Ok(()),
            }
            if !self.pause(&replay).await? {
                return Ok(());
            }
        }
    }

    /// Leaves time to others; answers whether the replay is still ours.
    async fn pause(&self, replay: &Replay) -> Result<bool, HandlerError> {
        let mut left = Duration::from_secs_f64(1.0 / replay.per_second.max(0.001));
        while left > LONGEST_PAUSE {
            tokio::time::sleep(LONGEST_PAUSE).await;
            left -= LONGEST_PAUSE;
            let taken = self.store.take_replay(self.holder, self.clock.now(), LEASE).await?;
            if taken.is_none_or(|taken| taken.id != replay.id) {
                return Ok(false);
            }
        }
        tokio::time::sleep(left).await;
        Ok(true)
    }

    async fn send(&self, replay: &Replay, id: u64, letter: &DeadLetter) -> Result<(), HandlerError> {
        let now = self.clock.now();
        let known = |queue: &&String| {
            self.portals.iter().any(|portal| {
                [self.topology.lead_events(portal), self.topology.assignments(portal)].contains(queue)
            })
        };
        let Some(queue) = letter.queue.as_ref().filter(known) else {
            let problem = "its queue is not in the configuration of the routers";
            return Ok(self.store.letter_not_sent(replay.id, id, problem).await?);
        };
        let anew =
            if replay.decide_again { self.decide_again(replay.id, id, letter, now).await? } else { None };
        let (queue, message) = anew.unwrap_or_else(|| (queue.clone(), as_it_was(letter, now)));
        let sent_as = message.id.clone();
        self.broker.publish(self.topology.to_queue(queue), message).await?;
        self.store.letter_sent(replay.id, id, &sent_as, now).await?;
        tracing::info!(
            event = "dead_letter.replayed",
            replay = replay.id,
            letter = id,
            portal = letter.portal,
            lead.id = letter.lead.map(common::ids::LeadId::get),
            sent_as,
        );
        Ok(())
    }

    /// A new event for the lead of this letter, and its queue; none where the letter goes as it is.
    async fn decide_again(
        &self,
        replay: u64,
        id: u64,
        letter: &DeadLetter,
        now: Timestamp,
    ) -> Result<Option<(String, Message)>, HandlerError> {
        let Some(key) = self.key(letter).await? else { return Ok(None) };
        let Some(epoch) = self.store.decide_letter_again(replay, id, &key, now).await? else {
            return Ok(None);
        };
        let event = LeadEvent { epoch: Some(epoch), ..LeadEvent::of(key.lead, EventSource::Replay) };
        Ok(Some((self.topology.lead_events(&key.portal), Message::lead_event(&key.portal, event, now, now))))
    }

    /// Which giving a letter is about; none where it cannot be read, or a robot's giving was never opened.
    async fn key(&self, letter: &DeadLetter) -> Result<Option<AssignmentKey>, HandlerError> {
        let key = if letter.kind == AssignmentCommand::TYPE {
            let command = Envelope::<AssignmentCommand>::from_bytes(&letter.body).ok();
            command.map(|command| (command.portal, command.payload.lead, command.payload.epoch))
        } else if let Ok(event) = Envelope::<LeadEvent>::from_bytes(&letter.body) {
            let opened = match event.payload.source {
                EventSource::Robot => self.store.opened_by(&event.portal, &event.id).await?,
                EventSource::Webhook
                | EventSource::Sweep
                | EventSource::Hold
                | EventSource::Unanswered
                | EventSource::Replay => Some(event.payload.epoch.unwrap_or(Epoch::FIRST)),
            };
            opened.map(|epoch| (event.portal, event.payload.lead, epoch))
        } else {
            None
        };
        Ok(key
            .filter(|(portal, ..)| self.portals.contains(portal))
            .map(|(portal, lead, epoch)| AssignmentKey { portal, lead, epoch }))
    }
}

/// The same bytes as a first attempt; first seen now, as a lead's wait does not count while it lay dead.
fn as_it_was(letter: &DeadLetter, now: Timestamp) -> Message {
    Message {
        id: letter.message_id.clone(),
        kind: letter.kind.clone(),
        body: letter.body.clone(),
        headers: Headers {
            first_seen: Some(now),
            traceparent: letter.traceparent.clone().or_else(|| Some(new_traceparent())),
            ..Headers::default()
        },
    }
}
