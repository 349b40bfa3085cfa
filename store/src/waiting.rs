//! The leads that wait for their owner to be set.

use async_trait::async_trait;
use common::ids::PortalName;
use common::messages::AssignmentKey;
use jiff::Timestamp;

use crate::StoreError;

/// What waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WaitingLeads {
    /// How many leads are held.
    pub held: u64,
    /// How many of them are past their deadline.
    pub overdue: u64,
    /// Since when the first of them is held.
    pub held_since: Option<Timestamp>,
    /// Since when the lead that waits longest for an owner has waited: held ones, those whose event failed and is tried
    /// again, and those whose command is not carried out yet. A lead that is held for a known opening waits from then on;
    /// before it, it does not count here.
    pub oldest: Option<Timestamp>,
}

/// What waits, for gauges and alarms. Who waits follows by itself from decisions, ends and dead letters;
/// only a lead that cannot even be decided must be told.
#[async_trait]
pub trait Waiting: Send + Sync + 'static {
    /// Remembers that the event of this lead failed and comes again by itself, by this moment at the latest. Nothing else
    /// changes where the lead waits already, and nothing where it was decided.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn note_undecided(
        &self,
        key: &AssignmentKey,
        first_seen: Timestamp,
        comes_again_by: Timestamp,
    ) -> Result<(), StoreError>;

    /// What waits at this moment.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn waiting(&self, portal: &PortalName, now: Timestamp) -> Result<WaitingLeads, StoreError>;
}
