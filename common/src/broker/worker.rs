//! The loop around a handler: take a delivery, read it, hand it over, settle it, say so in one line.
//!
//! A handler is a plain `async fn` from message to outcome and never sees a delivery. At most
//! `in_flight` messages are in hand at once. When a handler reports that the portal refuses
//! everybody, the worker takes nothing for a pause and then lets one message probe.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::settle::{Settlement, Settler, settlement};
use super::{Broker, Delivery};
use crate::clock::Clock;
use crate::failure::{Failure, FailureClass, HandlerError, chain};
use crate::ids::{LeadId, PortalName};
use crate::lifecycle::{Health, Stop};
use crate::messages::{Envelope, Payload, Unreadable};
use crate::metrics::WorkerMetrics;
use crate::retry::{Attempt, RetryPolicy};
use crate::telemetry::millis;

/// A message that was handled, or that needed no handling; with a word for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was handled.
    Done(&'static str),
    /// It had been handled before; nobody was asked anything.
    Before(&'static str),
}

impl Outcome {
    /// The word for the log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done(word) | Self::Before(word) => word,
        }
    }
}

/// A message as a handler gets it.
#[derive(Debug, Clone)]
pub struct Received<P> {
    /// The message.
    pub envelope: Envelope<P>,
    /// Which try at it this is.
    pub attempt: Attempt,
    /// `traceparent`, to be passed on.
    pub traceparent: Option<String>,
}

/// What a stage does with its messages.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The payload it reads.
    type Payload: Payload;

    /// Handles one message; must be harmless when repeated.
    ///
    /// # Errors
    /// Any failure with its class; the class decides what becomes of the message.
    async fn handle(&self, received: Received<Self::Payload>) -> Result<Outcome, HandlerError>;

    /// The lead a message is about, for the log.
    fn lead(&self, payload: &Self::Payload) -> LeadId;
}

/// Everything a worker needs beside its handler.
#[derive(Clone)]
pub struct Surroundings {
    /// Where messages come from and copies go to.
    pub broker: Arc<dyn Broker>,
    /// How messages end.
    pub settler: Settler,
    /// How often and after what waits.
    pub policy: Arc<RetryPolicy>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<WorkerMetrics>,
    /// Where a refusing portal is reported.
    pub health: Health,
}

/// One portal's queue and its handler.
pub struct Worker<H> {
    surroundings: Surroundings,
    handler: H,
    portal: PortalName,
    queue: String,
    in_flight: u16,
    blocked: AtomicBool,
}

#[derive(Debug, thiserror::Error)]
#[error("the handler panicked: {0}")]
struct Panicked(String);

impl Failure for Panicked {
    fn class(&self) -> FailureClass {
        FailureClass::Transient
    }
}

impl<H: Handler> Worker<H> {
    /// A worker for one queue with at most `in_flight` messages in hand.
    pub fn new(
        surroundings: Surroundings,
        handler: H,
        portal: PortalName,
        queue: String,
        in_flight: u16,
    ) -> Self {
        Self { surroundings, handler, portal, queue, in_flight, blocked: AtomicBool::new(false) }
    }

    /// Works until told to stop; then takes nothing more and finishes what is in hand.
    pub async fn run(self, stop: Stop) {
        let mut consumer = self.surroundings.broker.consume(&self.queue, self.in_flight);
        let worker = Arc::new(self);
        let mut tasks = JoinSet::new();
        loop {
            let delivery = tokio::select! {
                biased;
                () = stop.requested() => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                delivery = consumer.next(), if tasks.len() < usize::from(worker.in_flight) => delivery,
            };
            if worker.blocked.load(Ordering::Relaxed) {
                tokio::select! {
                    // The delivery is not settled and comes again.
                    () = stop.requested() => break,
                    () = tokio::time::sleep(worker.surroundings.policy.blocked_pause) => {}
                }
            }
            let work = Arc::clone(&worker).process(delivery);
            if worker.blocked.load(Ordering::Relaxed) {
                work.await;
            } else {
                tasks.spawn(work);
            }
        }
        consumer.stop().await;
        while tasks.join_next().await.is_some() {}
    }

    async fn process(self: Arc<Self>, delivery: Delivery) {
        let Surroundings { settler, policy, clock, metrics, .. } = &self.surroundings;
        let started = Instant::now();
        let now = clock.now();
        let attempt = delivery.message.attempt(now);
        let _in_flight = metrics.in_flight(&self.portal);
        let (lead, result) = self.handle(&delivery, attempt).await;

        let failure = result.as_ref().err().map(|error| (error.class(), error.retry_after()));
        let patient = result.as_ref().is_err_and(|error| error.is_patient());
        let throttled_for = if patient { Duration::ZERO } else { attempt.throttled_for(now) };
        let settlement = settlement(failure, attempt, throttled_for, policy);
        let attempt = failure.map_or(attempt, |(class, _)| attempt.failed(class, now));
        self.note_blocked(&result);
        let line = Line {
            queue: delivery.queue.clone(),
            kind: delivery.message.kind.clone(),
            id: delivery.message.id.clone(),
            traceparent: delivery.message.headers.traceparent.clone(),
            lead,
            attempt,
        };
        let reason = result.as_ref().err().map(|error| &**error);
        let settled = settler.settle(delivery, &settlement, reason, attempt).await;
        metrics.settled(&self.portal, &settlement, started.elapsed(), attempt.age(clock.now()));
        line.write(&result, &settlement, settled.is_ok(), started.elapsed());
    }

    async fn handle(
        &self,
        delivery: &Delivery,
        attempt: Attempt,
    ) -> (Option<LeadId>, Result<Outcome, HandlerError>) {
        let envelope = match Envelope::<H::Payload>::from_bytes(&delivery.message.body) {
            Ok(envelope) if envelope.portal == self.portal => envelope,
            Ok(envelope) => {
                let expected = self.portal.clone();
                return (None, Err(Unreadable::OtherPortal { found: envelope.portal, expected }.into()));
            }
            Err(unreadable) => return (None, Err(unreadable.into())),
        };
        let lead = self.handler.lead(&envelope.payload);
        let traceparent = delivery.message.headers.traceparent.clone();
        let received = Received { envelope, attempt, traceparent };
        let result = AssertUnwindSafe(self.handler.handle(received)).catch_unwind().await;
        (Some(lead), result.unwrap_or_else(|panic| Err(Panicked(panic_text(panic.as_ref())).into())))
    }

    fn note_blocked(&self, result: &Result<Outcome, HandlerError>) {
        let (blocked, proves_open) = match result {
            Ok(Outcome::Done(_)) => (false, true),
            Ok(Outcome::Before(_)) => (false, false),
            Err(error) => (error.class() == FailureClass::Blocked, error.class() == FailureClass::Permanent),
        };
        let check = format!("portal:{}", self.portal);
        if blocked {
            let why = result.as_ref().err().map(|error| chain(&**error)).unwrap_or_default();
            self.surroundings.health.fail(&check, &why);
            if !self.blocked.swap(true, Ordering::Relaxed) {
                tracing::error!(event = "portal.blocked", portal = %self.portal, reason = why);
            }
        } else if proves_open && self.blocked.swap(false, Ordering::Relaxed) {
            self.surroundings.health.pass(&check);
            tracing::info!(event = "portal.open_again", portal = %self.portal);
        }
        self.surroundings.metrics.blocked(&self.portal, self.blocked.load(Ordering::Relaxed));
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a text".to_owned())
}

/// The one line that is written for each settled message.
struct Line {
    queue: String,
    kind: String,
    id: String,
    traceparent: Option<String>,
    lead: Option<LeadId>,
    attempt: Attempt,
}

impl Line {
    fn write(
        &self,
        result: &Result<Outcome, HandlerError>,
        settlement: &Settlement,
        acknowledged: bool,
        duration: Duration,
    ) {
        let (outcome, class, error) = match result {
            Ok(outcome) => (outcome.word(), None, None),
            Err(error) => ("failed", Some(error.class().as_str()), Some(chain(&**error))),
        };
        let (settled, next_delay) = match settlement {
            Settlement::Ack => ("ack", None),
            Settlement::Delay { step, .. } => ("delay", Some(step.as_secs_f64())),
            Settlement::Bury(_) => ("dead_letter", None),
        };
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    event = "message.settled",
                    queue = self.queue,
                    r#type = self.kind,
                    id = self.id,
                    traceparent = self.traceparent,
                    lead.id = self.lead.map(LeadId::get),
                    attempt = self.attempt.number,
                    outcome,
                    class,
                    error,
                    settled,
                    acknowledged,
                    duration_ms = millis(duration),
                    next_delay_seconds = next_delay,
                )
            };
        }
        match settlement {
            Settlement::Ack => line!(info),
            Settlement::Delay { .. } => line!(warn),
            Settlement::Bury(_) => line!(error),
        }
    }
}
