//! How a message ends: the one table, and the only place that acknowledges.
//!
//! | outcome | settlement | counts as an attempt |
//! |---|---|---|
//! | done, or nothing to do | ack | |
//! | throttled | delay, never sooner than told; for too long: dead letter | no |
//! | transient | next delay; after the last one dead letter | yes |
//! | blocked | delay, and the worker stops consuming | no |
//! | permanent, poison | dead letter with the reason, bytes untouched | |
//!
//! Delay and dead letter are publishes of ours: the copy goes out and is confirmed, then the original
//! is acknowledged. If the copy is not confirmed the original is not acknowledged. Nothing is ever
//! requeued as a retry: it would come back within a millisecond.

use std::sync::Arc;
use std::time::Duration;

use super::topology::Topology;
use super::{Broker, Delivery, Headers, Message, StaleDelivery};
use crate::failure::{Failure, FailureClass, chain};
use crate::retry::{Attempt, RetryPolicy};
use crate::telemetry::millis;

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// It is done.
    Ack,
    /// It comes back after this step of the ladder.
    Delay {
        /// The step.
        step: Duration,
        /// Which attempt the next one is.
        next_attempt: u32,
        /// Why.
        class: FailureClass,
    },
    /// It waits for a human.
    Bury(FailureClass),
}

/// The table.
#[must_use]
pub fn settlement(
    failure: Option<(FailureClass, Option<Duration>)>,
    attempt: Attempt,
    throttled_for: Duration,
    policy: &RetryPolicy,
) -> Settlement {
    let Some((class, told)) = failure else {
        return Settlement::Ack;
    };
    match class {
        FailureClass::Throttled if throttled_for > policy.throttled_for => Settlement::Bury(class),
        FailureClass::Throttled => Settlement::Delay {
            step: policy.step_not_sooner(told.unwrap_or_default()),
            next_attempt: attempt.number,
            class,
        },
        FailureClass::Transient => match policy.after_attempt(attempt.number) {
            Some(step) => Settlement::Delay {
                step: step.max(policy.step_not_sooner(told.unwrap_or_default())),
                next_attempt: attempt.number.saturating_add(1),
                class,
            },
            None => Settlement::Bury(class),
        },
        FailureClass::Blocked => Settlement::Delay {
            step: policy.step_not_sooner(policy.blocked_pause),
            next_attempt: attempt.number,
            class,
        },
        FailureClass::Permanent | FailureClass::Poison => Settlement::Bury(class),
    }
}

/// Carries settlements out.
#[derive(Clone)]
pub struct Settler {
    broker: Arc<dyn Broker>,
    topology: Arc<Topology>,
}

/// First and longest wait between tries to hand the copy of a message to the broker.
const COPY_WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

impl Settler {
    /// A settler for messages of this broker.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>, topology: Arc<Topology>) -> Self {
        Self { broker, topology }
    }

    /// Carries a settlement out; returns when the message is acknowledged.
    ///
    /// A copy that the broker does not take is offered again and again, with growing waits: the
    /// caller bounds how many messages are in hand, and ends this by dropping the future when the
    /// process stops, which leaves the original unacknowledged.
    ///
    /// # Errors
    /// [`StaleDelivery`]: the connection broke meanwhile, the message will come again.
    pub async fn settle(
        &self,
        delivery: Delivery,
        settlement: &Settlement,
        reason: Option<&(dyn Failure + 'static)>,
        attempt: Attempt,
    ) -> Result<(), StaleDelivery> {
        let route = match settlement {
            Settlement::Ack => None,
            Settlement::Delay { step, .. } => Some(self.topology.to_delay(*step, &delivery.queue)),
            Settlement::Bury(_) => Some(self.topology.to_dead(&delivery.queue)),
        };
        if let Some(route) = route {
            let copy = copy_of(&delivery, settlement, reason, attempt);
            let (mut wait, longest) = COPY_WAITS;
            while let Err(error) = self.broker.publish(route.clone(), copy.clone()).await {
                tracing::warn!(
                    event = "message.copy_refused",
                    queue = delivery.queue,
                    id = copy.id,
                    error = chain(&error),
                    retry_in_ms = millis(wait),
                );
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(longest);
            }
        }
        delivery.acknowledge.ack().await
    }

    /// Acknowledges a message that another place has taken over for good, such as the store.
    ///
    /// # Errors
    /// [`StaleDelivery`]: it will come again.
    pub async fn taken_over(&self, delivery: Delivery) -> Result<(), StaleDelivery> {
        delivery.acknowledge.ack().await
    }
}

fn copy_of(
    delivery: &Delivery,
    settlement: &Settlement,
    reason: Option<&(dyn Failure + 'static)>,
    attempt: Attempt,
) -> Message {
    let (next_attempt, class) = match settlement {
        Settlement::Ack => (attempt.number, None),
        Settlement::Delay { next_attempt, class, .. } => (*next_attempt, Some(*class)),
        Settlement::Bury(class) => (attempt.number, Some(*class)),
    };
    let original = &delivery.message;
    Message {
        id: original.id.clone(),
        kind: original.kind.clone(),
        body: original.body.clone(),
        headers: Headers {
            attempt: Some(next_attempt),
            first_seen: Some(attempt.first_seen),
            throttled_since: attempt.throttled_since,
            queue: Some(delivery.queue.clone()),
            class: class.map(|class| class.as_str().to_owned()),
            reason: reason.map(|failure| cut(chain(failure), Headers::REASON_MAX)),
            traceparent: original.headers.traceparent.clone(),
            broker_death: None,
        },
    }
}

fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_hours(1);

    fn settled(class: FailureClass, told: Option<Duration>, number: u32, age: Duration) -> Settlement {
        let attempt = Attempt { number, first_seen: jiff::Timestamp::UNIX_EPOCH, throttled_since: None };
        settlement(Some((class, told)), attempt, age, &RetryPolicy::default())
    }

    fn delay(seconds: u64, next_attempt: u32, class: FailureClass) -> Settlement {
        Settlement::Delay { step: Duration::from_secs(seconds), next_attempt, class }
    }

    #[test]
    fn the_table() {
        use FailureClass::{Blocked, Permanent, Poison, Throttled, Transient};
        let attempt = Attempt { number: 1, first_seen: jiff::Timestamp::UNIX_EPOCH, throttled_since: None };
        assert_eq!(settlement(None, attempt, HOUR, &RetryPolicy::default()), Settlement::Ack);
        for (class, told, number, age, expected) in [
            (Throttled, None, 3, SECOND, delay(5, 3, Throttled)),
            (Throttled, Some(20 * SECOND), 1, SECOND, delay(30, 1, Throttled)),
            (Throttled, Some(2 * HOUR), 1, SECOND, delay(3600, 1, Throttled)),
            (Throttled, None, 1, 25 * HOUR, Settlement::Bury(Throttled)),
            (Transient, None, 1, SECOND, delay(5, 2, Transient)),
            (Transient, None, 5, SECOND, delay(3600, 6, Transient)),
            (Transient, None, 6, SECOND, Settlement::Bury(Transient)),
            (Transient, Some(60 * SECOND), 1, SECOND, delay(120, 2, Transient)),
            (Blocked, None, 2, 100 * HOUR, delay(30, 2, Blocked)),
            (Permanent, None, 1, SECOND, Settlement::Bury(Permanent)),
            (Poison, None, 1, SECOND, Settlement::Bury(Poison)),
        ] {
            assert_eq!(settled(class, told, number, age), expected, "{class} {told:?} {number} {age:?}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(cut("привет".to_owned(), 5), "пр");
        assert_eq!(cut("short".to_owned(), 5), "short");
    }
}
