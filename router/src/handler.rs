//! One lead event, from the question whether it was decided before to the published command.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bitrix24::LeadReader;
use common::broker::Broker;
use common::broker::topology::Topology;
use common::broker::worker::{Handler, Outcome, Received};
use common::clock::Clock;
use common::config::TimelineEntries;
use common::failure::{Failure, FailureClass, HandlerError, chain};
use common::ids::{LeadId, PortalName};
use common::messages::{AssignmentKey, Envelope, Epoch, EventSource, LeadEvent};
use distribution::{Lead, LeadError, Routing, Tie, TieOf};
use jiff::Timestamp;
use store::{
    Counting, Decided, Intervals, KnownPeople, NewGiving, Related, SavedDecision, Standing, Store, Verdict,
};
use tokio::sync::{Semaphore, watch};

use crate::clients::Clients;
use crate::command::{self, Seen};
use crate::decision::{By, counting};
use crate::metrics::RouterMetrics;

/// Decides the lead events of one portal.
pub(crate) struct Decide {
    pub(crate) portal: PortalName,
    pub(crate) routing: watch::Receiver<Arc<Routing>>,
    pub(crate) people: watch::Receiver<Arc<KnownPeople>>,
    pub(crate) intervals: Intervals,
    /// What leads' timelines tell.
    pub(crate) timeline: TimelineEntries,
    pub(crate) reader: LeadReader,
    /// For held leads, which give way to fresh ones.
    pub(crate) held: LeadReader,
    pub(crate) clients: Clients,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<RouterMetrics>,
    /// Decisions of a portal are made one at a time; who waits for that does so here, and not with a connection
    /// to the database in hand.
    pub(crate) deciding: Semaphore,
}

/// Decisions that a process has under way for one portal: one that is made, one that is written.
pub(crate) const DECIDING: usize = 2;

#[derive(Debug, thiserror::Error)]
enum DecideError {
    #[error("the portal's answer is no lead")]
    NoLead(#[source] LeadError),
    #[error("an earlier giving of the lead is still carried out")]
    TooEarly,
}

impl Failure for DecideError {
    fn class(&self) -> FailureClass {
        match self {
            Self::NoLead(_) => FailureClass::Permanent,
            Self::TooEarly => FailureClass::Throttled,
        }
    }
}

#[async_trait]
impl Handler for Decide {
    type Payload = LeadEvent;

    fn lead(&self, payload: &LeadEvent) -> LeadId {
        payload.lead
    }

    async fn handle(&self, received: Received<LeadEvent>) -> Result<Outcome, HandlerError> {
        let event = &received.envelope.payload;
        let epoch = match event.source {
            EventSource::Robot => self.of_robot(&received).await?,
            EventSource::Webhook | EventSource::Sweep | EventSource::Hold | EventSource::Unanswered => {
                event.epoch.unwrap_or(Epoch::FIRST)
            }
        };
        let key = AssignmentKey { portal: self.portal.clone(), lead: event.lead, epoch };
        let result = self.decide_event(&key, &received).await;
        if result.is_err() {
            self.note_undecided(&key, received.attempt.first_seen).await;
        }
        result
    }
}

impl Decide {
    /// Which giving of its lead a robot asks for.
    async fn of_robot(&self, received: &Received<LeadEvent>) -> Result<Epoch, HandlerError> {
        let Envelope { id, occurred_at, payload, .. } = &received.envelope;
        let queue = payload.queue.as_deref();
        if let Some(queue) = queue
            && !self.routing.borrow().queues().any(|known| known.name.as_str() == queue)
        {
            tracing::warn!(
                event = "robot.unknown_queue", portal = %self.portal, lead.id = payload.lead.get(), queue,
                "the robot's address names a queue that the routing has not; the rules decide",
            );
        }
        let new = NewGiving::of_robot(id, queue, *occurred_at);
        let epoch = self.store.give_again(&self.portal, payload.lead, &new).await?;
        Ok(epoch.unwrap_or(Epoch::FIRST))
    }

    async fn decide_event(
        &self,
        key: &AssignmentKey,
        received: &Received<LeadEvent>,
    ) -> Result<Outcome, HandlerError> {
        if let Some(before) = self.store.decision(key).await?
            && !matches!(before.verdict, Verdict::Hold { .. })
        {
            return self.decided_before(&before, received).await;
        }
        let first_seen = received.attempt.first_seen;
        let reader = match received.envelope.payload.source {
            EventSource::Hold => &self.held,
            EventSource::Webhook | EventSource::Sweep | EventSource::Robot | EventSource::Unanswered => {
                &self.reader
            }
        };
        let asked_at = self.clock.now();
        let read = reader.read(key.lead).await?;
        let in_use = reader.in_use();
        let seen = Seen { at: asked_at, with: read.together };
        let mut lead = match read.lead {
            Some(lead) => Some((Lead::from_fields(&lead.fields).map_err(DecideError::NoLead)?, lead)),
            None => None,
        };
        let routing = Arc::clone(&self.routing.borrow());
        let related = match &mut lead {
            Some((lead, _)) => self.find_client(key, &routing, lead, &received.envelope.payload).await?,
            None => Related::default(),
        };
        let people = Arc::clone(&self.people.borrow());
        let counting = Counting { related, ..counting(&routing, people.counted_at(), self.clock.now()) };
        let mut client_went = None;
        let make = Box::new(|standing: &Standing| {
            let by = By {
                routing: &routing,
                people: &people,
                intervals: self.intervals,
                timeline: self.timeline,
                first_seen,
                now: self.clock.now(),
            };
            let (new, went) = by.decide(lead.as_ref(), standing);
            client_went = went;
            new
        });
        let turn = self.deciding.acquire().await;
        let decided = self.store.decide(key, &counting, make).await?;
        drop((turn, in_use));
        match decided {
            Decided::Before(before) => self.decided_before(&before, received).await,
            Decided::TooEarly => Err(DecideError::TooEarly.into()),
            Decided::Now(saved) => {
                self.metrics.decided(&self.portal, &saved);
                if let Some(went) = client_went {
                    self.metrics.client_went(&self.portal, went);
                }
                tracing::info!(
                    event = "lead.decided", portal = %self.portal, lead.id = key.lead.get(),
                    outcome = word(&saved.verdict), reason = saved.reason,
                    source = received.envelope.payload.source.as_str(),
                );
                self.publish(&saved, received, Some(seen)).await?;
                Ok(Outcome::Done(word(&saved.verdict)))
            }
        }
    }

    /// Finds who has the lead's client, where that matters, and answers which other leads say so.
    async fn find_client(
        &self,
        key: &AssignmentKey,
        routing: &Routing,
        lead: &mut Lead,
        event: &LeadEvent,
    ) -> Result<Related, HandlerError> {
        if routing.queues().all(|queue| queue.sticky.is_none()) {
            return Ok(Related::default());
        }
        let read_at = self.clock.now();
        let giving = self.store.giving(key).await?;
        let is_held = event.source == EventSource::Hold;
        let roster = {
            let people = Arc::clone(&self.people.borrow());
            people.roster(routing, &BTreeMap::new(), self.intervals, read_at)
        };
        lead.ties = self.clients.ties(routing, lead, (&giving, is_held), &roster, read_at).await?;
        let other_lead = |tie: &Tie| match tie.of {
            TieOf::Lead(lead) => Some(lead),
            TieOf::Contact | TieOf::Company | TieOf::Deal => None,
        };
        let leads = lead.ties.iter().flatten().filter_map(other_lead).collect();
        Ok(Related { leads, read_at })
    }

    /// So that a parked or throttled lead counts as waiting. Only the gauge suffers where that fails.
    async fn note_undecided(&self, key: &AssignmentKey, first_seen: Timestamp) {
        if let Err(error) = self.store.note_undecided(key, first_seen).await {
            tracing::warn!(event = "lead.wait_not_noted", lead.id = key.lead.get(), error = chain(&error));
        }
    }

    /// A repeated event. Its command is published again unless it is known to be with the broker: we
    /// may have died between the transaction and the confirm.
    async fn decided_before(
        &self,
        before: &SavedDecision,
        received: &Received<LeadEvent>,
    ) -> Result<Outcome, HandlerError> {
        if !before.published {
            self.publish(before, received, None).await?;
        }
        Ok(Outcome::Before("decided_before"))
    }

    async fn publish(
        &self,
        saved: &SavedDecision,
        received: &Received<LeadEvent>,
        seen: Option<Seen>,
    ) -> Result<(), HandlerError> {
        let Some(message) = command::message(saved, seen, received.traceparent.clone()) else {
            return Ok(());
        };
        let route = self.topology.to_queue(self.topology.assignments(&self.portal));
        self.broker.publish(route, message).await?;
        self.store.published(&saved.key, self.clock.now()).await?;
        Ok(())
    }
}

/// The word for logs and metrics.
pub(crate) fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Assign { .. } => "assign",
        Verdict::Hold { .. } => "hold",
        Verdict::Skip => "skip",
    }
}
