//! What one process of all does from time to time: finds what should have been done long ago, and forgets what is old.

use async_trait::async_trait;
use common::ids::{LeadId, PortalName};
use common::messages::Epoch;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::{SavedDecision, StoreError};

/// What is overdue, and how much of it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    /// The time.
    pub now: Timestamp,
    /// For how long a message may be on its way: what was published longer ago is overdue.
    pub on_its_way: SignedDuration,
    /// How long after the decision a command that was never published is overdue.
    pub unpublished: SignedDuration,
    /// What was published again is overdue again after twice the time, but at the latest after this one.
    pub longest: SignedDuration,
    /// How many of each kind.
    pub limit: u32,
}

/// A robot asked for a lead to be given, and nothing came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverdueCall {
    /// Which lead.
    pub lead: LeadId,
    /// Which giving of it.
    pub epoch: Epoch,
    /// The id of the message that asked for it.
    pub asked_by: String,
    /// The queue that was asked for.
    pub queue: Option<String>,
    /// When it was asked for.
    pub asked_at: Timestamp,
}

/// From when on things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Dead letters that were settled before go.
    pub dead_letters: Timestamp,
    /// Decisions of leads that were done with before go.
    pub decisions: Timestamp,
    /// Titles of leads that were decided before go.
    pub titles: Timestamp,
    /// How many ids behind the newest lead the scan for lost events knows, decisions are kept whatever their age: an
    /// undecided lead that it finds is given.
    pub behind_scan: u64,
    /// How many of each kind go at once.
    pub limit: u32,
}

/// How many went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Dead letters.
    pub dead_letters: u64,
    /// Leads, with all decisions of each.
    pub leads: u64,
    /// Titles.
    pub titles: u64,
}

/// Looking after what is stored.
#[async_trait]
pub trait Upkeep: Send + Sync + 'static {
    /// Takes or keeps the right to do `name` until `now + lease`; false while another has it.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn take_lease(
        &self,
        name: &str,
        holder: Uuid,
        now: Timestamp,
        lease: SignedDuration,
    ) -> Result<bool, StoreError>;

    /// Decisions whose command should have been carried out long ago, those that have waited longest first. A command
    /// that has become a dead letter is not among them until it is replayed: a human has it. Who publishes one again says
    /// so by [`crate::Decisions::published`].
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn overdue_commands(
        &self,
        portal: &PortalName,
        overdue: &Overdue,
    ) -> Result<Vec<SavedDecision>, StoreError>;

    /// Calls of robots of which no decision came. They are noted as published again by this.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn overdue_calls(
        &self,
        portal: &PortalName,
        overdue: &Overdue,
    ) -> Result<Vec<OverdueCall>, StoreError>;

    /// At most `limit` leads that wait to be decided and whose event is to be published again, with when they were first
    /// seen, longest due first; the caller publishes them. Each is due once more after as long as it has waited by now,
    /// but not sooner than `sooner` and not later than `later` from now.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn take_overdue_leads(
        &self,
        portal: &PortalName,
        now: Timestamp,
        (sooner, later): (SignedDuration, SignedDuration),
        limit: u32,
    ) -> Result<Vec<(LeadId, Timestamp)>, StoreError>;

    /// Deletes some of what is old; where as much as `keep.limit` of one kind went there may be more. Balances of ledgers
    /// stay as they are, and so does what is held or not finished.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn forget(&self, keep: &Keep) -> Result<Forgotten, StoreError>;
}
