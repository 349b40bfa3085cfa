//! One lead event, from the question whether it was decided before to the published command.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bitrix24::lead_reader::Read;
use bitrix24::{Fields, LeadReader, PortalError};
use common::broker::Broker;
use common::broker::topology::Topology;
use common::broker::worker::{Handler, Outcome, Received};
use common::clock::Clock;
use common::config::TimelineEntries;
use common::failure::{Failure, FailureClass, HandlerError, chain};
use common::ids::{LeadId, PortalName};
use common::messages::{AssignmentKey, Envelope, Epoch, EventSource, LeadEvent};
use distribution::{Lead, LeadError, MAKER_FIELDS, Routing, Tie, TieOf};
use jiff::{SignedDuration, Timestamp};
use store::unseen_leads::{believe_missing, wait_for_right};
use store::{
    Counting, Decided, Intervals, KnownPeople, NewGiving, Related, SavedDecision, Standing, Store, Verdict,
};
use tokio::sync::{Semaphore, watch};

use crate::clients::Clients;
use crate::command::{self, Seen};
use crate::decision::{By, Made, in_line};
use crate::metrics::RouterMetrics;
use crate::pool::Wake;

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
    /// How long a message that failed may wait for its next try.
    pub(crate) comes_again_within: SignedDuration,
    /// Decisions of a portal are made one at a time; who waits for that does so here, and not with a connection
    /// to the database in hand.
    pub(crate) deciding: Semaphore,
    /// How long a lead waits that the webhook's owner may not see.
    pub(crate) waits_for_right: Duration,
    /// A lead whose message is older may have waited because it was not seen; none comes back sooner.
    pub(crate) may_have_waited: Duration,
    /// Of the pool, for leads that wait and whose turn it is.
    pub(crate) wake: Wake,
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
            EventSource::Webhook
            | EventSource::Sweep
            | EventSource::Hold
            | EventSource::Unanswered
            | EventSource::Replay => event.epoch.unwrap_or(Epoch::FIRST),
        };
        let key = AssignmentKey { portal: self.portal.clone(), lead: event.lead, epoch };
        let result = self.decide_event(&key, &received).await;
        if let Err(error) = &result {
            self.note_undecided(&key, received.attempt.first_seen, error.class()).await;
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
        // Before the lead is read: an earlier giving that ends between the reading and the decision would leave us with an owner
        // of before, and the command would take the one whom we have set for a person's choice.
        if key.epoch != Epoch::FIRST && self.store.is_too_early(key).await? {
            return Err(DecideError::TooEarly.into());
        }
        let first_seen = received.attempt.first_seen;
        let reader = match received.envelope.payload.source {
            EventSource::Hold => &self.held,
            EventSource::Webhook
            | EventSource::Sweep
            | EventSource::Robot
            | EventSource::Unanswered
            | EventSource::Replay => &self.reader,
        };
        let (asked_at, read, routing) = self.read(key, reader).await?;
        let in_use = reader.in_use();
        let seen = Seen { at: asked_at, with: read.together };
        let mut lead = if let Some(lead) = read.lead {
            Some((Lead::from_fields(&lead.fields).map_err(DecideError::NoLead)?, lead))
        } else {
            believe_missing(&*self.store, &self.portal, key.lead, self.clock.now()).await?;
            None
        };
        let related = match &mut lead {
            Some((lead, _)) => self.find_client(key, &routing, lead, &received.envelope.payload).await?,
            None => Related::default(),
        };
        let people = Arc::clone(&self.people.borrow());
        let in_line = lead.as_ref().map(|(lead, _)| in_line(&routing, lead, first_seen));
        let counting =
            Counting { related, in_line, ..Counting::of(&routing, people.counted_at(), self.clock.now()) };
        let (mut client_went, mut joins_line) = (None, false);
        let make = Box::new(|standing: &Standing| {
            let by = By {
                routing: &routing,
                people: &people,
                intervals: self.intervals,
                timeline: self.timeline,
                first_seen,
                now: self.clock.now(),
            };
            let made: Made = by.decide(lead.as_ref(), standing);
            (client_went, joins_line) = (made.client_went, made.joins_line);
            made.new
        });
        let turn = self.deciding.acquire().await;
        let decided = self.store.decide(key, &counting, make).await?;
        drop((turn, in_use));
        match decided {
            Decided::Before(before) => self.decided_before(&before, received).await,
            Decided::TooEarly => Err(DecideError::TooEarly.into()),
            Decided::Now(saved) => {
                if received.attempt.age(self.clock.now()) > self.may_have_waited {
                    self.store.forget_unseen(&self.portal, key.lead).await?;
                }
                self.metrics.decided(&self.portal, &saved);
                if joins_line {
                    self.wake.notify_one();
                }
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

    /// Reads what the routing needs of the lead; answers when it was asked for, too, and the routing for which that is
    /// enough. Another may have been published meanwhile, which asks for more.
    async fn read(
        &self,
        key: &AssignmentKey,
        reader: &LeadReader,
    ) -> Result<(Timestamp, Read, Arc<Routing>), HandlerError> {
        let mut fields = Arc::new(fields(&self.routing.borrow()));
        loop {
            let asked_at = self.clock.now();
            let read = match reader.read(key.lead, &fields).await {
                Err(denied @ PortalError::Denied { .. }) => {
                    let (lead, times) = ((&self.portal, key.lead), (self.clock.now(), self.waits_for_right));
                    return Err(wait_for_right(&*self.store, lead, denied, times).await);
                }
                read => read?,
            };
            let routing = Arc::clone(&self.routing.borrow());
            let needed = self::fields(&routing);
            if fields.contain(&needed) {
                return Ok((asked_at, read, routing));
            }
            fields = Arc::new(needed);
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
    async fn note_undecided(&self, key: &AssignmentKey, first_seen: Timestamp, class: FailureClass) {
        let comes_again_by = self.clock.now() + self.comes_again_within;
        let mut noted = self.store.note_undecided(key, first_seen, comes_again_by).await;
        // What is wrong with this lead alone must not hold up those behind it.
        let is_its_own = match class {
            FailureClass::Transient | FailureClass::Permanent | FailureClass::Poison => true,
            FailureClass::Throttled | FailureClass::Blocked => false,
        };
        if is_its_own {
            noted = noted.and(self.store.leave_line(key).await);
        }
        if let Err(error) = noted {
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

/// What a decision by this routing needs of a lead.
fn fields(routing: &Routing) -> Fields {
    let fields = Fields::default().with(routing.fields()).with(MAKER_FIELDS);
    let knows_clients = routing.queues().any(|queue| queue.sticky.is_some());
    if knows_clients { fields.with(["PHONE", "EMAIL"]) } else { fields }
}

/// The word for logs and metrics.
pub(crate) fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Assign { .. } => "assign",
        Verdict::Hold { .. } => "hold",
        Verdict::Skip => "skip",
    }
}
