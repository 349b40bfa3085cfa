//! The holding pool: leads that nobody could take.

use async_trait::async_trait;
use common::ids::{PortalName, UserId};
use common::messages::AssignmentKey;
use distribution::{First, Name};
use jiff::Timestamp;

use crate::StoreError;

/// Which held leads are to be looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueHolds {
    /// The queue in which they wait; none for those that wait for a person.
    pub queue: Option<Name>,
    /// Those whose next look is not after this moment.
    pub due: Timestamp,
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
