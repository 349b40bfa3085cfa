//! Messages that wait for a human.

use std::collections::BTreeMap;

use async_trait::async_trait;
use common::ids::LeadId;
use jiff::Timestamp;

use crate::StoreError;

/// A message that could not be worked, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The AMQP `message_id`.
    pub message_id: String,
    /// The portal, where it can be told.
    pub portal: Option<String>,
    /// The lead it is about, where it can be told.
    pub lead: Option<LeadId>,
    /// The work queue it failed in, where it is known.
    pub queue: Option<String>,
    /// The AMQP `type`.
    pub kind: String,
    /// The class of the failure.
    pub class: String,
    /// The failure in words.
    pub reason: String,
    /// Which attempt failed last.
    pub attempt: u32,
    /// When the matter was first seen.
    pub first_seen: Option<Timestamp>,
    /// `traceparent`.
    pub traceparent: Option<String>,
    /// The bytes, untouched.
    pub body: Vec<u8>,
    /// When it was put here.
    pub died_at: Timestamp,
}

/// Dead letters.
#[async_trait]
pub trait DeadLetters: Send + Sync + 'static {
    /// Keeps one. Its lead does not count as waiting any more: a dead letter is counted by itself. The title kept for
    /// the notice is forgotten. A second copy of a letter that waits for a human changes nothing: it is the same where
    /// id, queue, attempt and bytes are.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn bury(&self, letter: &DeadLetter) -> Result<(), StoreError>;

    /// All of them, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, StoreError>;

    /// How many wait for a human, by portal and class; the portal is empty where it cannot be told.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn dead_letter_counts(&self) -> Result<BTreeMap<(String, String), u64>, StoreError>;
}
