//! The broker as the stages see it: publish and be sure, consume and settle.
//!
//! [`Broker`] is the seam: RabbitMQ stands behind it ([`rabbitmq`]). [`topology`] is the table of what
//! is declared, [`worker`] the loop around a handler, [`settle`] the one place that decides how a
//! message ends and the only caller of ack. Delivery is at least once: every effect of a handler must
//! be harmless when repeated.

pub mod rabbitmq;
pub mod settle;
pub mod topology;
pub mod worker;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::ids::PortalName;
use crate::messages::{Envelope, LeadEvent, Payload};
use crate::retry::Attempt;
use crate::telemetry::new_traceparent;

/// What travels beside a message's body: our own headers, and what the broker adds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// `x-rota-attempt`: which try this is, from 1; absent on a first sending.
    pub attempt: Option<u32>,
    /// `x-rota-first-seen`: when the first process of ours saw the matter.
    pub first_seen: Option<Timestamp>,
    /// `x-rota-throttled-since`: since when it has been put off as throttled, without anything else between.
    pub throttled_since: Option<Timestamp>,
    /// `x-rota-queue`: the work queue the message failed in.
    pub queue: Option<String>,
    /// `x-rota-class`: the class of the last failure.
    pub class: Option<String>,
    /// `x-rota-reason`: the last failure in words; at most [`Headers::REASON_MAX`] bytes.
    pub reason: Option<String>,
    /// `traceparent` of the W3C Trace Context.
    pub traceparent: Option<String>,
    /// The broker's own account of why it dead-lettered the message, for example `delivery_limit`.
    pub broker_death: Option<String>,
}

impl Headers {
    /// A reason longer than this is cut: a header must fit into one frame with all others.
    pub const REASON_MAX: usize = 2048;
}

/// A message as it lies in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The AMQP `message_id`.
    pub id: String,
    /// The AMQP `type`.
    pub kind: String,
    /// The bytes of the envelope; a retry repeats them unchanged.
    pub body: Vec<u8>,
    /// What travels beside the body.
    pub headers: Headers,
}

impl Message {
    /// An envelope on its first way, about a matter that was first seen at `first_seen`.
    #[must_use]
    pub fn first<P: Payload>(
        envelope: &Envelope<P>,
        first_seen: Timestamp,
        traceparent: Option<String>,
    ) -> Self {
        Self {
            id: envelope.id.clone(),
            kind: P::TYPE.to_owned(),
            body: envelope.to_bytes(),
            headers: Headers { first_seen: Some(first_seen), traceparent, ..Headers::default() },
        }
    }

    /// A lead event on its first way, about a lead that was first heard of at `first_seen`.
    #[must_use]
    pub fn lead_event(portal: &PortalName, event: LeadEvent, first_seen: Timestamp, now: Timestamp) -> Self {
        let id = Uuid::now_v7().to_string();
        let envelope = Envelope { id, portal: portal.clone(), occurred_at: now, payload: event };
        Self::first(&envelope, first_seen, Some(new_traceparent()))
    }

    /// Which try at this message a delivery of it is.
    #[must_use]
    pub fn attempt(&self, now: Timestamp) -> Attempt {
        Attempt {
            number: self.headers.attempt.unwrap_or(1).max(1),
            first_seen: self.headers.first_seen.unwrap_or(now),
            throttled_since: self.headers.throttled_since,
        }
    }
}

/// Where a message is published to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The exchange's name.
    pub exchange: String,
    /// The routing key: the name of the work queue in the end.
    pub routing_key: String,
}

/// The message is not known to be stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// No connection, or it broke before the confirm.
    #[error("the broker is not connected: {0}")]
    NotConnected(String),
    /// No confirm within the deadline; a broker under its memory or disk alarm looks like this.
    #[error("no confirm within {0:?}")]
    TimedOut(Duration),
    /// The broker refused it: a queue is full.
    #[error("the broker refused the message")]
    Refused,
    /// No queue is bound where it was sent.
    #[error("no queue takes what is sent to {exchange:?} with key {routing_key:?}")]
    Unroutable {
        /// The exchange.
        exchange: String,
        /// The routing key.
        routing_key: String,
    },
    /// This process is stopping.
    #[error("the publisher has stopped")]
    Stopped,
}

impl crate::failure::Failure for PublishError {
    fn class(&self) -> crate::failure::FailureClass {
        match self {
            Self::NotConnected(_)
            | Self::TimedOut(_)
            | Self::Refused
            | Self::Unroutable { .. }
            | Self::Stopped => crate::failure::FailureClass::Transient,
        }
    }
}

/// The delivery can no longer be acknowledged on the channel it came from; it will come again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the delivery is from before a reconnect and will come again")]
pub struct StaleDelivery;

/// The way back to the broker of one delivery.
#[async_trait]
pub trait Acknowledge: Send + Sync {
    /// Tells the broker to forget the message.
    ///
    /// # Errors
    /// [`StaleDelivery`]: the broker will deliver it again.
    async fn ack(&self) -> Result<(), StaleDelivery>;
}

/// A message in our hands. Dropped without an ack it comes back when the channel closes.
pub struct Delivery {
    /// The queue it came from.
    pub queue: String,
    /// What was delivered.
    pub message: Message,
    acknowledge: Box<dyn Acknowledge>,
}

impl Delivery {
    /// A delivery of some broker.
    #[must_use]
    pub fn new(queue: String, message: Message, acknowledge: Box<dyn Acknowledge>) -> Self {
        Self { queue, message, acknowledge }
    }

    /// The same, of a message that was meant for another queue and goes back there.
    #[must_use]
    pub fn meant_for(self, queue: String) -> Self {
        Self { queue, ..self }
    }
}

/// A subscription to one queue.
#[async_trait]
pub trait Consumer: Send {
    /// The next delivery; waits through reconnects for as long as it takes. Safe to cancel.
    async fn next(&mut self) -> Delivery;

    /// Takes no further deliveries; those in hand can still be acknowledged.
    async fn stop(&mut self);
}

/// How the connection to the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerStatus {
    /// Connected and accepting messages.
    Ready,
    /// Connected, but the broker takes no messages: its memory or disk alarm.
    Blocked(String),
    /// Not connected; why.
    Disconnected(String),
}

/// The broker.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Publishes persistently and returns when the broker has the message on disk in a queue.
    ///
    /// # Errors
    /// [`PublishError`]: the message may or may not be stored; who publishes must not acknowledge
    /// what it came from.
    async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError>;

    /// Subscribes to a queue with at most `prefetch` deliveries in hand.
    fn consume(&self, queue: &str, prefetch: u16) -> Box<dyn Consumer>;

    /// How the connection is.
    fn status(&self) -> BrokerStatus;

    /// Closes the connections in order; what is unacknowledged comes back to others.
    async fn close(&self);
}
