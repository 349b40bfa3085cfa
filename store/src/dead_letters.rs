//! Messages that wait for a human.

use std::collections::BTreeMap;

use async_trait::async_trait;
use common::failure::FailureClass;
use common::ids::{LeadId, PortalName, UserId};
use common::messages::Epoch;
use jiff::{SignedDuration, Timestamp};

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

/// Which dead letters are meant: all that is named here must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// These.
    pub ids: Option<Vec<u64>>,
    /// Of this portal.
    pub portal: Option<PortalName>,
    /// About this lead.
    pub lead: Option<LeadId>,
    /// Of this class.
    pub class: Option<FailureClass>,
    /// That failed in one of these work queues.
    pub queues: Option<Vec<String>>,
    /// That died before this moment.
    pub died_before: Option<Timestamp>,
    /// That died after this moment.
    pub died_after: Option<Timestamp>,
    /// With this in the text of their reason, in large or small letters.
    pub reason: Option<String>,
    /// Those too that nobody need look at any more.
    pub settled: bool,
}

/// A dead letter in the store, and what is known of it since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLetter {
    /// Its number.
    pub id: u64,
    /// What was put here.
    pub letter: DeadLetter,
    /// Since when it does not wait for a human any more, and what they did about it.
    pub settled: Option<(Timestamp, String)>,
    /// The replay that runs and has not sent it yet.
    pub in_replay: Option<u64>,
    /// The replay that sent it last, and when.
    pub sent: Option<(u64, Timestamp)>,
    /// Which giving of its lead it is about, where that can be told.
    pub epoch: Option<Epoch>,
    /// The dead letter that became of it when it was sent last.
    pub died_again: Option<u64>,
    /// How that giving was decided.
    pub decided: Option<LetterDecision>,
    /// How that giving ended in the portal: in one word, and when.
    pub ended: Option<(String, Timestamp)>,
}

/// How the lead of a dead letter was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterDecision {
    /// `assign`, `hold` or `skip`.
    pub outcome: String,
    /// Who is to get it.
    pub person: Option<String>,
    /// Why, in one line.
    pub reason: String,
}

/// Why dead letters are left as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none with this number.
    #[error("there is no dead letter {0}")]
    Unknown(u64),
    /// Somebody has dealt with it.
    #[error("dead letter {letter} was dealt with: {settlement}")]
    Settled {
        /// Which.
        letter: u64,
        /// How.
        settlement: String,
    },
    /// It is being sent again.
    #[error("dead letter {letter} is about to be sent again by replay {replay}")]
    InReplay {
        /// Which.
        letter: u64,
        /// By which replay.
        replay: u64,
    },
    /// Another replay runs.
    #[error("replay {replay} of {author} is running, and there is one at a time")]
    Runs {
        /// Which.
        replay: u64,
        /// Who began it.
        author: String,
    },
}

/// What the card of a dead letter's lead is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnCard {
    /// Where it has no owner.
    pub not_given: String,
    /// Where its owner was set, and something else failed.
    pub given: String,
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

    /// Writes an entry for the timeline of the letter's lead, once for each letter; none where an earlier letter of this
    /// lead had the same reason. Answers whether it did.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn tell_on_card(&self, letter: &DeadLetter, says: &OnCard) -> Result<bool, StoreError>;

    /// Tells `to`, by one notice, of the leads of a portal that wait as dead letters and of which nobody was told; but not
    /// before `every` has passed since the last such notice. Answers of how many.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn tell_of_letters(
        &self,
        portal: &PortalName,
        to: UserId,
        now: Timestamp,
        every: SignedDuration,
    ) -> Result<usize, StoreError>;

    /// All of them, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, StoreError>;

    /// Those that are meant, oldest first, with what is known of each.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn find_letters(&self, filter: &LetterFilter) -> Result<Vec<KeptLetter>, StoreError>;

    /// Notes that these need nobody any more, all of them or none.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn settle_letters(
        &self,
        ids: &[u64],
        settlement: &str,
        at: Timestamp,
    ) -> Result<Result<(), Refused>, StoreError>;

    /// How many wait for a human, by portal and class; the portal is empty where it cannot be told.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn dead_letter_counts(&self) -> Result<BTreeMap<(String, String), u64>, StoreError>;
}
