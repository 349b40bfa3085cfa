//! How far the scan for lost events has come in each portal, and which process does it.

use std::time::Duration;

use async_trait::async_trait;
use common::ids::{LeadId, PortalName};
use jiff::Timestamp;
use uuid::Uuid;

use crate::StoreError;

/// The right to scan a portal for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepLease {
    /// What earlier scans have seen; none before the first one.
    pub seen: Option<Seen>,
}

/// How far scans have come, in lead ids; 0 where there was no lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The highest at the first scan: leads up to it were there before us.
    pub first_id: u64,
    /// The highest so far.
    pub last_id: u64,
}

/// Scans.
#[async_trait]
pub trait Sweeps: Send + Sync + 'static {
    /// Takes or keeps the right to scan a portal until `now + lease`; none while another has it.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn take_sweep(
        &self,
        portal: &PortalName,
        holder: Uuid,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<SweepLease>, StoreError>;

    /// Remembers how far the scan has come; it never goes back. The first call also sets where our
    /// leads begin.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn swept(&self, portal: &PortalName, last_id: u64) -> Result<(), StoreError>;

    /// Of these leads, notes those that were never decided, so that they wait from then on, and answers those that did
    /// not wait before: the caller publishes their events. A lead whose event is a dead letter, or was one, is a
    /// person's business and left out.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn note_found(
        &self,
        portal: &PortalName,
        leads: &[LeadId],
        now: Timestamp,
        publish_again_at: Timestamp,
    ) -> Result<Vec<LeadId>, StoreError>;
}
