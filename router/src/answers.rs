//! Timers of leads that are to be answered: reminds the owner, gives the lead to somebody else when his time is over, and
//! tells who is to be told.
//!
//! Timers are looked at every few seconds, by one router of all. The portal is asked only of leads whose owner is to be
//! reminded or has had his time: one request for up to 49 of them.

use std::sync::Arc;
use std::time::Duration;

use bitrix24::Portal;
use bitrix24::answers::{Answer, Asked};
use common::broker::topology::Topology;
use common::broker::{Broker, Message};
use common::clock::Clock;
use common::failure::{HandlerError, chain};
use common::lifecycle::Stop;
use common::messages::{EventSource, LeadEvent};
use distribution::{AnswerRules, Cause, Queue, Routing};
use jiff::{SignedDuration, Timestamp};
use store::{AnswerTimer, Matter, NewGiving, Notice, Store, TimerState};
use tokio::sync::watch;
use uuid::Uuid;

use crate::metrics::RouterMetrics;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(5);

/// How long after a failure: a portal that refuses to tell does so again.
const AFTER_FAILURE: Duration = Duration::from_mins(1);

/// For how long one router looks after the timers without saying so again. Longer than it waits after a failure.
const LEASE: SignedDuration = SignedDuration::from_secs(90);

/// Timers that are looked at together.
const AT_ONCE: u32 = 490;

/// When a lead event is published again of which nothing came.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// By how much the portal's clock may go after ours.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(1);

/// What became of a timer, for the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timed {
    Answered,
    Reminded,
    TakenAway,
    Escalated,
}

impl Timed {
    pub(crate) const ALL: [Self; 4] = [Self::Answered, Self::Reminded, Self::TakenAway, Self::Escalated];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Reminded => "reminded",
            Self::TakenAway => "taken_away",
            Self::Escalated => "escalated",
        }
    }
}

/// The timers of one portal.
pub(crate) struct AnswerTimers {
    pub(crate) portal: Portal,
    pub(crate) routing: watch::Receiver<Arc<Routing>>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<RouterMetrics>,
    /// The name of this router among all, for the right to look after them.
    pub(crate) holder: Uuid,
}

/// The owner of the lead is asked for an answer, by the portal's word.
struct Awaited {
    timer: AnswerTimer,
    since: Timestamp,
    is_due: bool,
}

impl AnswerTimers {
    pub(crate) async fn run(self, stop: Stop) {
        let mut pause = EVERY;
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = EVERY;
            if let Err(error) = self.look().await {
                pause = AFTER_FAILURE;
                tracing::warn!(
                    event = "answers.look_failed", portal = %self.portal.name(), error = chain(&*error),
                    "no lead is taken from anybody meanwhile",
                );
            }
        }
    }

    async fn look(&self) -> Result<(), HandlerError> {
        let (portal, now) = (self.portal.name(), self.clock.now());
        if !self.store.take_answers(portal, self.holder, now, LEASE).await? {
            return Ok(());
        }
        let timers = self.store.answer_timers(portal, now, now - AGAIN_AFTER, AT_ONCE).await?;
        let routing = Arc::clone(&self.routing.borrow());
        let mut awaited = Vec::new();
        for timer in timers {
            // Rules that were taken out of the routing since then count no more.
            let rules = routing.queue(&timer.queue).and_then(|queue| Some((queue, queue.answer.as_ref()?)));
            let Some((_, rules)) = rules else {
                self.end(&timer, None).await?;
                continue;
            };
            match timer.state.clone() {
                TimerState::Over => self.end(&timer, None).await?,
                TimerState::Starts(since) => self.start(&timer, rules, &routing, since).await?,
                TimerState::Remind(since) => awaited.push(Awaited { timer, since, is_due: false }),
                TimerState::Due(since) => awaited.push(Awaited { timer, since, is_due: true }),
                TimerState::Taken(person) => self.taken(&timer, rules, person).await?,
                TimerState::NobodyElse => self.escalate(&timer, rules, &routing).await?,
            }
        }
        let asked = awaited.iter().map(|Awaited { timer, since, .. }| Asked {
            lead: timer.key.lead,
            owner: timer.owner,
            since: *since - CLOCKS_DIFFER,
        });
        let asked: Vec<Asked> = asked.collect();
        let answers = if asked.is_empty() { Vec::new() } else { self.portal.answers(&asked).await? };
        for (Awaited { timer, is_due, .. }, answer) in awaited.iter().zip(answers) {
            let queue = routing.queue(&timer.queue);
            let Some((queue, rules)) = queue.and_then(|queue| Some((queue, queue.answer.as_ref()?))) else {
                continue;
            };
            match answer {
                Answer::Answered => self.end(timer, Some(Timed::Answered)).await?,
                Answer::NotHis => self.end(timer, None).await?,
                Answer::NotYet if *is_due => self.give_to_another(timer, queue, rules).await?,
                Answer::NotYet => self.remind(timer, rules).await?,
            }
        }
        Ok(())
    }

    async fn start(
        &self,
        timer: &AnswerTimer,
        rules: &AnswerRules,
        routing: &Routing,
        since: Timestamp,
    ) -> Result<(), HandlerError> {
        let owner = routing.people().find(|person| person.user == timer.owner);
        match owner.and_then(|owner| routing.answer_times(rules, owner, since)) {
            Some(at) => self.store.start_answer_timer(&timer.key, since, at).await?,
            // He has left the routing, or never works again.
            None => self.end(timer, None).await?,
        }
        Ok(())
    }

    async fn remind(&self, timer: &AnswerTimer, rules: &AnswerRules) -> Result<(), HandlerError> {
        let left = rules.remind_at.map_or(SignedDuration::ZERO, |at| rules.within - at);
        let matter = Matter::Reminder { lead: timer.key.lead, minutes: left.as_mins().max(1) };
        let notice = Notice { tag: format!("{}/reminder", timer.key), to: timer.owner, matter };
        self.store.remind(&timer.key, &notice, self.clock.now()).await?;
        self.metrics.timed(self.portal.name(), Timed::Reminded);
        Ok(())
    }

    /// Asks for another giving. A process that dies between two of these steps does them again, and the same comes of it.
    async fn give_to_another(
        &self,
        timer: &AnswerTimer,
        queue: &Queue,
        rules: &AnswerRules,
    ) -> Result<(), HandlerError> {
        let (portal, lead, now) = (self.portal.name(), timer.key.lead, self.clock.now());
        let new = NewGiving {
            asked_by: format!("{}/unanswered", timer.key),
            cause: Cause::Unanswered,
            to: Some(queue.destination_of_unanswered(rules)),
            from: Some(timer.owner),
            rounds: rules.rounds,
            after: Some(timer.key.epoch),
            at: now,
        };
        let Some(epoch) = self.store.give_again(portal, lead, &new).await? else {
            return self.end(timer, None).await;
        };
        let event = LeadEvent { epoch: Some(epoch), ..LeadEvent::of(lead, EventSource::Unanswered) };
        let message = Message::lead_event(portal, event, now, now);
        self.broker.publish(self.topology.to_queue(self.topology.lead_events(portal)), message).await?;
        self.store.note_missed(&timer.key, now).await?;
        tracing::info!(
            event = "lead.unanswered", %portal, lead.id = lead.get(), owner = timer.owner.get(),
            queue = %timer.queue,
        );
        Ok(())
    }

    async fn taken(
        &self,
        timer: &AnswerTimer,
        rules: &AnswerRules,
        person: String,
    ) -> Result<(), HandlerError> {
        let matter = Matter::TakenAway { lead: timer.key.lead, person };
        let notice = Notice { tag: format!("{}/taken", timer.key), to: timer.owner, matter };
        let now = self.clock.now();
        if self.store.end_answer_timer(&timer.key, Some(&notice), rules.refunds, now).await? {
            self.metrics.timed(self.portal.name(), Timed::TakenAway);
        }
        Ok(())
    }

    async fn escalate(
        &self,
        timer: &AnswerTimer,
        rules: &AnswerRules,
        routing: &Routing,
    ) -> Result<(), HandlerError> {
        let owner = routing.people().find(|person| person.user == timer.owner);
        let person = owner.map_or_else(|| timer.owner.to_string(), |owner| owner.name.to_string());
        let matter = Matter::Unanswered { lead: timer.key.lead, person };
        let tag = format!("{}/escalated", timer.key);
        let notice = Notice { tag, to: rules.escalate_to.user, matter };
        if self.store.end_answer_timer(&timer.key, Some(&notice), false, self.clock.now()).await? {
            self.metrics.timed(self.portal.name(), Timed::Escalated);
        }
        Ok(())
    }

    async fn end(&self, timer: &AnswerTimer, because: Option<Timed>) -> Result<(), HandlerError> {
        let ended = self.store.end_answer_timer(&timer.key, None, false, self.clock.now()).await?;
        if let Some(timed) = because.filter(|_| ended) {
            self.metrics.timed(self.portal.name(), timed);
        }
        Ok(())
    }
}
