//! The holding pool: leads that nobody could take.

use async_trait::async_trait;
use common::ids::{PortalName, UserId};
use common::messages::AssignmentKey;
use distribution::{First, Name, Needs};
use jiff::Timestamp;

use crate::StoreError;

/// Which held leads are to be looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueHolds {
    /// The queue in which they wait; none for those that wait for a person.
    pub queue: Option<Name>,
    /// Those whose next look is not after this moment.
    pub due: Timestamp,
    /// The same of those that stand in line: they are called when their turn comes.
    pub due_in_line: Timestamp,
    /// Which go first.
    pub first: First,
    /// How many at the most.
    pub limit: u32,
}

/// What waits, in one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldQueue {
    /// The queue; none for leads that wait for a person.
    pub queue: Option<Name>,
    /// The earliest of their next looks.
    pub next_look: Timestamp,
}

/// Leads that wait and need the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindInLine {
    /// Which.
    pub kind: i64,
    /// What each of them needs.
    pub needs: Needs,
}

/// Which leads of a kind are called, because their turn has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The kind.
    pub kind: i64,
    /// Which go first.
    pub first: First,
    /// How many have their turn. Those among them that were called already are not called again.
    pub limit: u32,
    /// This moment.
    pub now: Timestamp,
    /// When one is called again that nobody has decided until then.
    pub again_at: Timestamp,
}

/// The holding pool.
#[async_trait]
pub trait Holds: Send + Sync + 'static {
    /// The queues in which leads wait.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn held_queues(&self, portal: &PortalName) -> Result<Vec<HeldQueue>, StoreError>;

    /// Takes held leads whose time to be looked at again has come, with when they were first heard of, in the order in
    /// which they go; their next look is put off to `next_look`, so that replicas share the work.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn due_holds(
        &self,
        portal: &PortalName,
        which: &DueHolds,
        next_look: Timestamp,
    ) -> Result<Vec<(AssignmentKey, Timestamp)>, StoreError>;

    /// The kinds of leads that stand in line.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn kinds_in_line(&self, portal: &PortalName) -> Result<Vec<KindInLine>, StoreError>;

    /// Takes the leads of a kind that go first, in their order, with when they were first heard of.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn call(
        &self,
        portal: &PortalName,
        call: &Call,
    ) -> Result<Vec<(AssignmentKey, Timestamp)>, StoreError>;

    /// Lets a lead hold nobody up until it is decided again, because it cannot even be looked at.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn leave_line(&self, key: &AssignmentKey) -> Result<(), StoreError>;

    /// Lets all held leads of a portal be looked at again at once.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn look_at_holds(&self, portal: &PortalName) -> Result<(), StoreError>;

    /// Tells `to`, by one notice, of the leads of a queue whose deadline has passed and of whom he was not told yet;
    /// answers how many these are.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn escalate_holds(
        &self,
        portal: &PortalName,
        queue: &Name,
        to: UserId,
        now: Timestamp,
    ) -> Result<usize, StoreError>;
}
