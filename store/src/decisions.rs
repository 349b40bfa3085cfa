//! Decisions and the ledger of turns, written together or not at all.

use std::collections::BTreeMap;

use async_trait::async_trait;
use common::ids::{LeadId, PortalName, UserId};
use common::messages::AssignmentKey;
use jiff::Timestamp;

use crate::StoreError;

/// Credits by ledger and person, in units of `distribution::Credit`. Who is missing has zero.
pub type Balances = BTreeMap<String, BTreeMap<UserId, i64>>;

/// A change of one credit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Whose queue's account.
    pub ledger: String,
    /// Whose credit.
    pub user: UserId,
    /// By how much, in units of `distribution::Credit`.
    pub delta: i64,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Give it to a person.
    Assign {
        /// To whom.
        to: UserId,
        /// Their name in the routing file.
        person: String,
    },
    /// Nobody can take it now; decide again at this time.
    Hold {
        /// When.
        look_again_at: Timestamp,
    },
    /// It needs nobody.
    Skip,
}

/// A decision to be written.
#[derive(Debug, Clone)]
pub struct NewDecision {
    /// What was decided.
    pub verdict: Verdict,
    /// The owner the decision saw.
    pub from: Option<UserId>,
    /// The queue whose turn it was, if any.
    pub queue: Option<String>,
    /// The rule that matched, if any.
    pub rule: Option<String>,
    /// One line for people.
    pub reason: String,
    /// The whole explanation.
    pub explanation: serde_json::Value,
    /// The version of the routing it was made by.
    pub routing_version: u64,
    /// The changes of credits; their sum in each ledger is zero.
    pub entries: Vec<LedgerEntry>,
    /// When the lead was first heard of.
    pub first_seen: Timestamp,
    /// When it was decided.
    pub decided_at: Timestamp,
}

/// A decision as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedDecision {
    /// Which.
    pub key: AssignmentKey,
    /// What was decided.
    pub verdict: Verdict,
    /// The owner the decision saw.
    pub from: Option<UserId>,
    /// The queue whose turn it was, if any.
    pub queue: Option<String>,
    /// The rule that matched, if any.
    pub rule: Option<String>,
    /// One line for people.
    pub reason: String,
    /// The whole explanation.
    pub explanation: serde_json::Value,
    /// When the lead was first heard of.
    pub first_seen: Timestamp,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// Whether the command is known to be with the broker.
    pub published: bool,
}

/// Makes the decision from the credits of the moment; called under the lock, so it must be quick.
pub type Decide<'a> = Box<dyn FnOnce(&Balances) -> NewDecision + Send + 'a>;

/// What came of an attempt to decide.
#[derive(Debug, Clone, PartialEq)]
pub enum Decided {
    /// It was decided now.
    Now(SavedDecision),
    /// It had been decided before; nothing was changed and nobody was charged.
    Before(SavedDecision),
}

/// Decisions and credits.
#[async_trait]
pub trait Decisions: Send + Sync + 'static {
    /// The decision under this key.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn decision(&self, key: &AssignmentKey) -> Result<Option<SavedDecision>, StoreError>;

    /// Decides and writes decision and ledger in one transaction, one at a time for each portal.
    /// A decision that is there already is answered as it is, unless it was to hold: that one is
    /// made again and replaced.
    ///
    /// # Errors
    /// [`StoreError`], throttled; nothing was written then.
    async fn decide<'a>(&self, key: &AssignmentKey, decide: Decide<'a>) -> Result<Decided, StoreError>;

    /// Remembers that the command of this decision is with the broker.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn published(&self, key: &AssignmentKey, at: Timestamp) -> Result<(), StoreError>;

    /// The held leads whose time to be looked at again has come, longest waiting first, at most
    /// `limit`; the next look is put off to `next_look`, so that replicas share the work.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn due_holds(
        &self,
        portal: &PortalName,
        now: Timestamp,
        next_look: Timestamp,
        limit: u32,
    ) -> Result<Vec<(AssignmentKey, Timestamp)>, StoreError>;

    /// Those of these leads that were never decided.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn undecided(&self, portal: &PortalName, leads: &[LeadId]) -> Result<Vec<LeadId>, StoreError>;

    /// The credits of a portal.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn balances(&self, portal: &PortalName) -> Result<Balances, StoreError>;
}
