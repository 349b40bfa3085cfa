//! What must survive: decisions and the ledger of turns, what was done about them in the portal,
//! the published routings, who is at work, the portals' request budgets, dead letters, and how far the scan for lost events has come.
//!
//! [`Store`] is the seam; PostgreSQL stands behind it ([`postgres`]). Each method is one transaction.
//! Nothing here decides anything: what to write comes from the stages.

mod addresses;
mod answers;
mod assignments;
mod dead_letters;
mod decisions;
mod givings;
mod holds;
mod known_people;
mod ledgers;
mod lost_packs;
mod notices;
pub mod postgres;
mod replays;
mod rosters;
mod stories;
mod sweeps;
mod timeline;
pub mod unseen_leads;
mod upkeep;
mod versions;
mod waiting;

use std::sync::Arc;

use async_trait::async_trait;
use common::budget::{BucketLimits, RequestBudget};
use common::failure::{Failure, FailureClass};
use common::ids::PortalName;

pub use addresses::{Address, Addresses};
pub use answers::{AnswerTimer, Answers, RunningTimer, TimerState};
pub use assignments::{AssignmentState, Assignments, Done, PackItem};
pub use dead_letters::{DeadLetter, DeadLetters, KeptLetter, LetterDecision, LetterFilter, OnCard, Refused};
pub use decisions::{
    Counting, Decide, Decided, Decisions, Given, InLine, Line, NewDecision, Related, SavedDecision, Standing,
    Verdict,
};
pub use givings::{Givings, NewGiving};
pub use holds::{Call, DueHolds, HeldQueue, Holds, KindInLine};
pub use known_people::{Intervals, KnownDay, KnownPeople};
pub use ledgers::{Balances, LedgerEntry, Ledgers, Manual};
pub use lost_packs::LostPacks;
pub use notices::{Matter, Notice, Notices};
pub use replays::{NewReplay, NextLetter, Replay, ReplayState, Replays};
pub use rosters::{
    NewReading, OwnAbsence, OwnKind, Reading, RosterSource, RosterState, Rosters, WITHOUT_LEADS,
};
pub use stories::{LeadStory, Stories, ToldAssignment, ToldDecision, ToldGiving, ToldTimer, ToldWait};
pub use sweeps::{Seen, SweepLease, Sweeps};
pub use timeline::{EntryAbout, Timeline, TimelineEntry};
pub use unseen_leads::{Unseen, UnseenLeads};
pub use upkeep::{Forgotten, Keep, Overdue, OverdueCall, Upkeep};
pub use versions::{NewVersion, PublishedVersion, VersionInfo, Versions};
pub use waiting::{Waiting, WaitingLeads};

/// Everything that is stored; what a stage needs is one or two of these.
#[async_trait]
pub trait Store:
    Decisions
    + Givings
    + Answers
    + Holds
    + Notices
    + Ledgers
    + Versions
    + Assignments
    + LostPacks
    + Waiting
    + Rosters
    + Timeline
    + UnseenLeads
    + DeadLetters
    + Replays
    + Sweeps
    + Upkeep
    + Addresses
    + RequestBudget
{
    /// Whether the store answers.
    ///
    /// # Errors
    /// When it does not.
    async fn ping(&self) -> Result<(), StoreError>;

    /// How high the count of a portal's requests stands at this moment, for a gauge; 0 before the first.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn budget_used(&self, portal: &PortalName, limits: BucketLimits) -> Result<u32, StoreError>;
}

/// The store did not do what was asked. Mostly the message is put off and no attempt of it is used up: that our own
/// database is away is not its fault. Only what the database refuses because of what is in the message never works
/// ([`postgres::class_of`]). Cheap to clone: a pack's failure goes to every message in it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation}")]
pub struct StoreError {
    /// What was to be done, such as `saving a decision`.
    pub operation: &'static str,
    /// What the database said.
    #[source]
    pub source: Arc<dyn std::error::Error + Send + Sync>,
}

impl StoreError {
    /// For `map_err`: names the operation that failed.
    pub fn during<E>(operation: &'static str) -> impl Fn(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |error| Self { operation, source: Arc::from(error.into()) }
    }
}

impl Failure for StoreError {
    fn class(&self) -> FailureClass {
        postgres::class_of(&*self.source)
    }
}
