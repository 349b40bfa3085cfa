//! Dead letters that are sent again, as a task of the routers.

use async_trait::async_trait;
use common::messages::{AssignmentKey, Epoch};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::{DeadLetter, Refused, StoreError};

/// A replay to be begun.
#[derive(Debug, Clone, PartialEq)]
pub struct NewReplay {
    /// The dead letters.
    pub letters: Vec<u64>,
    /// Which were asked for, in words.
    pub what: String,
    /// Who asks.
    pub author: String,
    /// How many are sent in a second.
    pub per_second: f64,
    /// Whether their leads are decided anew where that can be.
    pub decide_again: bool,
    /// When it was asked for.
    pub at: Timestamp,
}

/// How far a replay has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayState {
    /// It goes on.
    Running,
    /// All that could be sent was sent.
    Done,
    /// Somebody ended it.
    Cancelled,
}

/// A replay.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// Its number.
    pub id: u64,
    /// Which letters were asked for, in words.
    pub what: String,
    /// Who began it.
    pub author: String,
    /// How many are sent in a second.
    pub per_second: f64,
    /// Whether leads are decided anew where that can be.
    pub decide_again: bool,
    /// How far it has come.
    pub state: ReplayState,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Who cancelled it.
    pub ended_by: Option<String>,
    /// How many letters it has.
    pub letters: u64,
    /// How many of them were sent.
    pub sent: u64,
    /// Those that could not be sent, and why.
    pub problems: Vec<(u64, String)>,
}

/// What a replay does next.
#[derive(Debug, Clone, PartialEq)]
pub enum NextLetter {
    /// It sends this one.
    Send(u64, Box<DeadLetter>),
    /// It has ended.
    Ended,
    /// It is somebody else's now.
    NotOurs,
}

/// Replays. One runs at a time, carried out by one router.
#[async_trait]
pub trait Replays: Send + Sync + 'static {
    /// Begins one, with all these letters or not at all. A letter that was sent by an earlier replay may be sent again.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn start_replay(&self, new: &NewReplay) -> Result<Result<u64, Refused>, StoreError>;

    /// Ends the one that runs; answers which that was. What it has not begun to send waits for a human as before.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn cancel_replay(&self, author: &str, at: Timestamp) -> Result<Option<Replay>, StoreError>;

    /// The last ones, newest first.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn replays(&self, limit: u32) -> Result<Vec<Replay>, StoreError>;

    /// Takes or keeps the right to carry out the one that runs, or to send what a cancelled one has begun, if nobody else
    /// has it.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn take_replay(
        &self,
        holder: Uuid,
        now: Timestamp,
        lease: SignedDuration,
    ) -> Result<Option<Replay>, StoreError>;

    /// The next letter of it; once it is cancelled, only what was begun. The letter is settled from here on, and the lead of
    /// a command that is not carried out waits again.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn next_letter(
        &self,
        replay: u64,
        holder: Uuid,
        now: Timestamp,
        lease: SignedDuration,
    ) -> Result<NextLetter, StoreError>;

    /// Opens another giving for the lead of a letter, and answers which. None where its message is to be sent as it is:
    /// nothing was decided, or what was decided is done or begun. A lead that is held stays in the giving that waits. What
    /// the old decision cost is given back. A repeated call finds its giving.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn decide_letter_again(
        &self,
        replay: u64,
        letter: u64,
        key: &AssignmentKey,
        at: Timestamp,
    ) -> Result<Option<Epoch>, StoreError>;

    /// The broker has it, as this message.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn letter_sent(
        &self,
        replay: u64,
        letter: u64,
        sent_as: &str,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// It cannot be sent, for this reason; it waits for a human as before.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn letter_not_sent(&self, replay: u64, letter: u64, problem: &str) -> Result<(), StoreError>;
}
