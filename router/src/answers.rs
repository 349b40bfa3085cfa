//! Timers of leads that are to be answered: reminds the owner, gives the lead to somebody else when his time is over, and
//! tells who is to be told.
//!
//! Timers are looked at every few seconds, by one router of all. Once a minute, while any runs, the portal is asked what
//! happened of late, in one request whatever the number of leads: that ends the timers of most who answer. Single leads are
//! asked for only where a lead was moved, and before their owner is reminded or loses them: one request for up to 49.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bitrix24::Portal;
use bitrix24::answers::{Answer, Asked, News};
use common::broker::topology::Topology;
use common::broker::{Broker, Message};
use common::clock::Clock;
use common::failure::{HandlerError, chain};
use common::ids::LeadId;
use common::lifecycle::Stop;
use common::messages::{AssignmentKey, EventSource, LeadEvent};
use distribution::{AnswerRules, Cause, Queue, Routing};
use jiff::{SignedDuration, Timestamp};
use store::{AnswerTimer, Matter, NewGiving, Notice, RunningTimer, Store, TimerState, Unseen};
use tokio::sync::watch;
use uuid::Uuid;

use crate::metrics::RouterMetrics;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(5);

/// How long after a failure: a portal that refuses to tell does so again.
const AFTER_FAILURE: Duration = Duration::from_mins(1);

/// How often the portal is asked what happened of late.
const NEWS_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// By how much the news go back behind those before: the portal's clock may go after ours, and what happens is seen late.
const NEWS_OVERLAP: SignedDuration = SignedDuration::from_mins(2);

/// For how long one router looks after the timers without saying so again. Longer than it waits after a failure.
const LEASE: SignedDuration = SignedDuration::from_secs(90);

/// Timers that are looked at together.
const AT_ONCE: u32 = 490;

/// When a lead event is published again of which nothing came.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// How long a lead of which the portal tells nothing is not asked for again.
const PUT_OFF_FOR: SignedDuration = SignedDuration::from_mins(10);

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
    /// When the portal was asked for news.
    pub(crate) news_at: Option<Timestamp>,
    /// Why it refused them, so that it is logged once.
    pub(crate) problem: Option<String>,
    /// Leads of which the portal tells nothing, and until when they are not asked for again.
    pub(crate) put_off: BTreeMap<AssignmentKey, Timestamp>,
}

impl AnswerTimers {
    pub(crate) async fn run(mut self, stop: Stop) {
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

    async fn look(&mut self) -> Result<(), HandlerError> {
        let now = self.clock.now();
        if !self.store.take_answers(self.portal.name(), self.holder, now, LEASE).await? {
            self.news_at = None;
            return Ok(());
        }
        self.ask_for_news(now).await?;
        let portal = self.portal.name();
        let timers = self.store.answer_timers(portal, now, now - AGAIN_AFTER, AT_ONCE).await?;
        self.put_off.retain(|_, until| *until > now);
        let routing = Arc::clone(&self.routing.borrow());
        // Those whose owners are to have answered, and as the portal is asked of them.
        let (mut awaited, mut asked) = (Vec::new(), Vec::new());
        for timer in timers {
            // Rules that were taken out of the routing since then count no more; but who lost a lead by them is told.
            let rules = routing.queue(&timer.queue).and_then(|queue| Some((queue, queue.answer.as_ref()?)));
            let Some((queue, rules)) = rules else {
                match timer.state.clone() {
                    TimerState::Taken(person) => self.taken(&timer, false, person).await?,
                    TimerState::Over
                    | TimerState::Starts(_)
                    | TimerState::Remind(_)
                    | TimerState::Due(_)
                    | TimerState::NobodyElse => drop(self.end(&timer.key, None).await?),
                }
                continue;
            };
            match timer.state.clone() {
                TimerState::Over => drop(self.end(&timer.key, None).await?),
                TimerState::Starts(since) => self.start(&timer, rules, &routing, since).await?,
                TimerState::Remind(_) | TimerState::Due(_) if self.put_off.contains_key(&timer.key) => {}
                TimerState::Remind(since) | TimerState::Due(since) => {
                    asked.push(RunningTimer { key: timer.key.clone(), owner: timer.owner, since });
                    awaited.push((timer, queue, rules));
                }
                TimerState::Taken(person) => self.taken(&timer, rules.refunds, person).await?,
                TimerState::NobodyElse => self.escalate(&timer, rules, &routing).await?,
            }
        }
        let answers = self.ask(&asked).await?;
        for ((running, answer), (timer, queue, rules)) in asked.iter().zip(answers).zip(&awaited) {
            let is_due = matches!(timer.state, TimerState::Due(_));
            match answer {
                Answer::Answered(at) => self.answered(running, at).await?,
                Answer::NotHis => drop(self.end(&timer.key, None).await?),
                Answer::Hidden => {
                    let (portal, lead) = (self.portal.name(), timer.key.lead);
                    self.store.note_unseen(portal, lead, Unseen::Hidden, now).await?;
                    self.put_off.insert(timer.key.clone(), now + PUT_OFF_FOR);
                }
                Answer::Unknown => drop(self.put_off.insert(timer.key.clone(), now + PUT_OFF_FOR)),
                Answer::NotYet if is_due => self.give_to_another(timer, queue, rules).await?,
                Answer::NotYet => self.remind(timer, rules).await?,
            }
        }
        Ok(())
    }

    /// Ends the timers of those who answered of late. Without news they end when their time comes.
    async fn ask_for_news(&mut self, now: Timestamp) -> Result<(), HandlerError> {
        let due = self.news_at.is_none_or(|at| now.duration_since(at) >= NEWS_EVERY);
        if !due || !self.store.answers_run(self.portal.name()).await? {
            return Ok(());
        }
        let since = self.news_at.unwrap_or(now - NEWS_EVERY) - NEWS_OVERLAP;
        self.news_at = Some(now);
        let problem = match self.portal.answer_news(since).await {
            Ok(news) => {
                self.take_news(&news).await?;
                None
            }
            Err(error) => Some(chain(&error)),
        };
        if let Some(problem) = problem.as_ref().filter(|_| problem != self.problem) {
            tracing::warn!(
                event = "answers.no_news", portal = %self.portal.name(), error = problem,
                "leads are asked for one by one, when somebody is to be reminded or late",
            );
        }
        self.problem = problem;
        Ok(())
    }

    async fn take_news(&self, news: &News) -> Result<(), HandlerError> {
        let leads: Vec<LeadId> = news.answered.iter().map(|(lead, _)| *lead).collect();
        for timer in self.running(&leads).await? {
            let answers = news.answered.iter().filter(|(lead, _)| *lead == timer.key.lead);
            let at = answers.map(|(_, at)| *at).filter(|at| *at >= timer.since - CLOCKS_DIFFER).min();
            if let Some(at) = at {
                self.answered(&timer, at).await?;
            }
        }
        // Who moved it, only the lead itself tells.
        let moved: Vec<LeadId> = news.moved.iter().copied().collect();
        let moved = self.running(&moved).await?;
        for (timer, answer) in moved.iter().zip(self.ask(&moved).await?) {
            match answer {
                Answer::Answered(at) => self.answered(timer, at).await?,
                Answer::NotHis => drop(self.end(&timer.key, None).await?),
                Answer::NotYet | Answer::Hidden | Answer::Unknown => {}
            }
        }
        Ok(())
    }

    async fn running(&self, leads: &[LeadId]) -> Result<Vec<RunningTimer>, HandlerError> {
        if leads.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.store.running_answer_timers(self.portal.name(), leads).await?)
    }

    /// Asks for single leads.
    async fn ask(&self, timers: &[RunningTimer]) -> Result<Vec<Answer>, HandlerError> {
        if timers.is_empty() {
            return Ok(Vec::new());
        }
        let asked = timers.iter().map(|timer| Asked {
            lead: timer.key.lead,
            owner: timer.owner,
            since: timer.since - CLOCKS_DIFFER,
        });
        Ok(self.portal.answers(&asked.collect::<Vec<_>>()).await?)
    }

    async fn answered(&self, timer: &RunningTimer, at: Timestamp) -> Result<(), HandlerError> {
        if self.end(&timer.key, Some(Timed::Answered)).await? {
            self.metrics.answered_after(self.portal.name(), at.duration_since(timer.since));
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
            None => drop(self.end(&timer.key, None).await?),
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
            return self.end(&timer.key, None).await.map(drop);
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

    async fn taken(&self, timer: &AnswerTimer, refunds: bool, person: String) -> Result<(), HandlerError> {
        let matter = Matter::TakenAway { lead: timer.key.lead, person };
        let notice = Notice { tag: format!("{}/taken", timer.key), to: timer.owner, matter };
        let now = self.clock.now();
        if self.store.end_answer_timer(&timer.key, Some(&notice), refunds, now).await? {
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

    /// Answers whether it had not ended before.
    async fn end(&self, key: &AssignmentKey, because: Option<Timed>) -> Result<bool, HandlerError> {
        let ended = self.store.end_answer_timer(key, None, false, self.clock.now()).await?;
        if let Some(timed) = because.filter(|_| ended) {
            self.metrics.timed(self.portal.name(), timed);
        }
        Ok(ended)
    }
}
