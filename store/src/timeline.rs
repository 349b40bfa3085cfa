//! Entries for the timelines of leads.

use async_trait::async_trait;
use common::ids::PortalName;
use common::messages::AssignmentKey;
use jiff::Timestamp;

use crate::StoreError;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryAbout {
    /// The lead waits.
    Waits,
    /// Its message is a dead letter.
    NotGiven,
    /// It was given to somebody.
    Assigned,
}

/// An entry that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineEntry {
    /// About which giving of which lead.
    pub key: AssignmentKey,
    /// What it is about.
    pub about: EntryAbout,
    /// What it says.
    pub text: String,
}

/// Entries that wait to be sent; they are written with the decision.
#[async_trait]
pub trait Timeline: Send + Sync + 'static {
    /// Takes up to `limit` entries that may be sent: of leads that wait or were not given, and of those whose owner was set; oldest first.
    /// Entries of leads that were not given after all, or not for two days, are dropped, and so are those that somebody
    /// took before `lost_before` and never ended.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn take_timeline_entries(
        &self,
        portal: &PortalName,
        limit: u32,
        now: Timestamp,
        lost_before: Timestamp,
    ) -> Result<Vec<TimelineEntry>, StoreError>;

    /// What became of entries that were taken: those with `true` were sent, or are not to be sent again; the others wait
    /// again.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn end_timeline_entries(&self, entries: &[(TimelineEntry, bool)]) -> Result<(), StoreError>;
}
