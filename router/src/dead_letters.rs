//! Takes dead letters out of the broker into the store, where people can read them.
//!
//! Three kinds arrive: what a stage gave up (with class and reason in its headers), what the broker gave up because it was
//! given back too often, and what no queue was bound for, which comes back first ([`crate::without_queue`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::broker::settle::Settler;
use common::broker::{Broker, Delivery, Message};
use common::clock::Clock;
use common::config::TimelineEntries;
use common::failure::{Failure as _, FailureClass, chain};
use common::ids::LeadId;
use common::lifecycle::Stop;
use jiff::Timestamp;
use store::{DeadLetter, OnCard, Store};

use crate::without_queue::{ComesBack, NoQueue, WithoutQueue};

/// Dead letters are few; a handful in hand is enough.
const IN_HAND: u16 = 8;

/// Of a reason, so much stands in the lead's card.
const REASON_CHARS: usize = 500;

/// The wait before a dead letter that the store did not take is offered again.
const STORE_WAIT: Duration = Duration::from_secs(1);

/// Empties the dead queue.
pub(crate) struct DeadLetterTaker {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) settler: Settler,
    pub(crate) queue: String,
    pub(crate) clock: Arc<dyn Clock>,
    /// What the cards of each portal's leads tell.
    pub(crate) timelines: BTreeMap<String, TimelineEntries>,
    pub(crate) without_queue: WithoutQueue,
}

impl DeadLetterTaker {
    pub(crate) async fn run(self, stop: Stop) {
        let mut consumer = self.broker.consume(&self.queue, IN_HAND);
        loop {
            let delivery = tokio::select! {
                () = stop.requested() => break,
                delivery = consumer.next() => delivery,
            };
            tokio::select! {
                () = stop.requested() => break,
                () = self.take(delivery) => {}
            }
        }
        consumer.stop().await;
    }

    async fn take(&self, delivery: Delivery) {
        let now = self.clock.now();
        let letter = letter(&delivery.message, now);
        let back = self.without_queue.comes_back(&delivery.message, letter.portal.as_deref(), now);
        if let Some(ComesBack { queue, settlement, attempt }) = back {
            tracing::warn!(
                event = "message.had_no_queue",
                queue,
                id = letter.message_id,
                attempt = attempt.number
            );
            let delivery = delivery.meant_for(queue);
            if self.settler.settle(delivery, &settlement, Some(&NoQueue), attempt).await.is_err() {
                tracing::warn!(event = "dead_letter.comes_again", id = letter.message_id);
            }
            return;
        }
        while let Err(error) = self.store.bury(&letter).await {
            tracing::error!(event = "dead_letter.not_stored", id = letter.message_id, error = chain(&error));
            tokio::time::sleep(STORE_WAIT).await;
        }
        tracing::error!(
            event = "dead_letter.stored",
            portal = letter.portal,
            lead.id = letter.lead.map(LeadId::get),
            queue = letter.queue,
            id = letter.message_id,
            class = letter.class,
            reason = letter.reason,
            attempt = letter.attempt,
        );
        self.tell_on_card(&letter).await;
        if self.settler.taken_over(delivery).await.is_err() {
            tracing::warn!(event = "dead_letter.comes_again", id = letter.message_id);
        }
    }
}

impl DeadLetterTaker {
    /// Only the card suffers where that fails.
    async fn tell_on_card(&self, letter: &DeadLetter) {
        let timeline = letter.portal.as_ref().and_then(|portal| self.timelines.get(portal));
        let Some(says) = timeline.and_then(|timeline| on_card(*timeline, &letter.reason)) else { return };
        if let Err(error) = self.store.tell_on_card(letter, &says).await {
            tracing::warn!(event = "dead_letter.not_on_card", id = letter.message_id, error = chain(&error));
        }
    }
}

/// What the lead's card says.
fn on_card(timeline: TimelineEntries, reason: &str) -> Option<OnCard> {
    let reason: String = reason.chars().take(REASON_CHARS).collect();
    let (not_given, given) = match timeline {
        TimelineEntries::None => return None,
        TimelineEntries::En => ("Not given", "Given, but not everything was done"),
        TimelineEntries::Ru => ("Лид не передан", "Лид передан, но сделано не всё"),
    };
    Some(OnCard { not_given: format!("{not_given}: {reason}"), given: format!("{given}: {reason}") })
}

fn letter(message: &Message, now: Timestamp) -> DeadLetter {
    let headers = &message.headers;
    let body = serde_json::from_slice::<serde_json::Value>(&message.body).unwrap_or_default();
    let portal = body.get("portal").and_then(serde_json::Value::as_str);
    let lead = body.pointer("/payload/lead").and_then(serde_json::Value::as_u64).and_then(LeadId::new);
    let (class, reason) = match (&headers.class, &headers.broker_death) {
        (_, Some(death)) => (
            FailureClass::Transient.as_str().to_owned(),
            format!("the broker gave it up ({death}): whoever took it died or lost the connection each time"),
        ),
        (Some(class), None) if headers.reason.is_some() => {
            (class.clone(), headers.reason.clone().unwrap_or_default())
        }
        (_, None) => (NoQueue.class().as_str().to_owned(), NoQueue.to_string()),
    };
    DeadLetter {
        message_id: message.id.clone(),
        portal: portal.map(str::to_owned),
        lead,
        queue: headers.queue.clone(),
        kind: message.kind.clone(),
        class,
        reason,
        attempt: headers.attempt.unwrap_or(1),
        first_seen: headers.first_seen,
        traceparent: headers.traceparent.clone(),
        body: message.body.clone(),
        died_at: now,
    }
}

#[cfg(test)]
mod tests {
    use common::broker::Headers;

    use super::*;

    fn letter_with(headers: Headers, body: &[u8]) -> DeadLetter {
        let message =
            Message { id: "1".to_owned(), kind: "lead-event".to_owned(), body: body.to_vec(), headers };
        letter(&message, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn each_kind_says_why_it_is_here() {
        let given_up = Headers {
            class: Some("poison".to_owned()),
            reason: Some("the message is no envelope".to_owned()),
            attempt: Some(2),
            ..Headers::default()
        };
        let letter = letter_with(given_up, b"\xff not json");
        assert_eq!((letter.class.as_str(), letter.portal.as_deref(), letter.attempt), ("poison", None, 2));
        assert_eq!(letter.body, b"\xff not json");

        let returned = Headers { broker_death: Some("delivery_limit".to_owned()), ..Headers::default() };
        let letter = letter_with(returned, br#"{"portal":"acme","payload":{"lead":42}}"#);
        assert!(letter.reason.contains("delivery_limit"), "{}", letter.reason);
        assert_eq!((letter.portal.as_deref(), letter.lead), (Some("acme"), LeadId::new(42)));

        assert!(letter_with(Headers::default(), b"{}").reason.contains("did not exist"));
    }
}
