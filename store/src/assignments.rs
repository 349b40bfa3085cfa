//! What was done in the portal about an assignment, step by step.

use async_trait::async_trait;
use common::ids::{PortalName, UserId};
use common::messages::{AssignmentKey, Epoch};
use jiff::Timestamp;
use uuid::Uuid;

use crate::StoreError;

/// How far an assignment has come. What is absent was not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignmentState {
    /// Nothing is known to be in the portal beyond what is named here.
    Open {
        /// Whether the portal confirmed the new owner.
        owner_set: bool,
        /// Whether the portal took the notice.
        notified: bool,
        /// When the deal that is ordered with it was about to be created, if that is not known to have failed.
        deal_sent_at: Option<Timestamp>,
        /// The lead's title as the decision saw it, as long as it is needed for the notice.
        title: Option<String>,
    },
    /// It went into this pack and nobody has written down how that ended.
    Sent {
        /// The pack.
        pack: Uuid,
        /// When the pack was about to be sent.
        sent_at: Timestamp,
    },
    /// Finished, with this outcome.
    Finished(String),
}

/// One assignment of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackItem {
    /// Which assignment.
    pub key: AssignmentKey,
    /// The new owner.
    pub to: UserId,
    /// The place in the pack of the command that writes the lead, from 0; without one, any. No two have the same.
    pub position: u32,
    /// Whether that command sets the owner; otherwise the pack only carries the notice.
    pub sets_owner: bool,
    /// The place of the notice in the pack; others may have the same. None where people are not told by us, or
    /// were told before.
    pub notice_position: Option<u32>,
}

/// What is known of an assignment after a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Which assignment.
    pub key: AssignmentKey,
    /// The new owner.
    pub to: UserId,
    /// The portal confirmed the new owner.
    pub owner_set: bool,
    /// The portal took the notice.
    pub notified: bool,
    /// The notice's id, where there is one; it does not prove delivery.
    pub notification: Option<i64>,
    /// It needs no further step; the outcome in one word.
    pub finished: Option<&'static str>,
}

/// Progress in the portal.
#[async_trait]
pub trait Assignments: Send + Sync + 'static {
    /// How far it has come.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn assignment(&self, key: &AssignmentKey) -> Result<AssignmentState, StoreError>;

    /// Writes down that these are about to be sent as one pack; answers those that nobody else has
    /// sent or finished, and whose lead is in no other pack. Only those may be sent.
    ///
    /// # Errors
    /// [`StoreError`], throttled; nothing may be sent then.
    async fn about_to_send(
        &self,
        pack: Uuid,
        items: &[PackItem],
        at: Timestamp,
    ) -> Result<Vec<AssignmentKey>, StoreError>;

    /// Writes down how a pack ended for each of its assignments. What is not finished is open again.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn done(&self, results: &[Done], at: Timestamp) -> Result<(), StoreError>;

    /// Forgets what was in a pack, once the end of all of it is written down.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn forget_pack(&self, pack: Uuid) -> Result<(), StoreError>;

    /// All assignments of a pack, by position.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn pack(&self, portal: &PortalName, pack: Uuid) -> Result<Vec<PackItem>, StoreError>;

    /// As [`Self::done`] for one assignment whose pack's end nobody saw, unless somebody else has
    /// been quicker; answers whether it was us.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn recovered(&self, pack: Uuid, result: &Done, at: Timestamp) -> Result<bool, StoreError>;

    /// Writes down that the deal of this assignment is about to be created; false when somebody else is at it, or
    /// has been.
    ///
    /// # Errors
    /// [`StoreError`], throttled; nothing may be sent then.
    async fn about_to_create_deal(&self, key: &AssignmentKey, at: Timestamp) -> Result<bool, StoreError>;

    /// Writes down that the deal was surely not created.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn deal_not_created(&self, key: &AssignmentKey) -> Result<(), StoreError>;

    /// Writes down the deal, and with it that the assignment is finished, with this outcome.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn deal_created(
        &self,
        key: &AssignmentKey,
        deal: u64,
        outcome: &str,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// All assignments of a portal with a pack, oldest lead first: `(key, outcome)`. For reports.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn outcomes(&self, portal: &PortalName)
    -> Result<Vec<(AssignmentKey, Option<String>)>, StoreError>;
}

pub(crate) fn key(portal: &PortalName, lead: i64, epoch: i32) -> Option<AssignmentKey> {
    let lead = u64::try_from(lead).ok().and_then(common::ids::LeadId::new)?;
    Some(AssignmentKey { portal: portal.clone(), lead, epoch: Epoch(u32::try_from(epoch).ok()?) })
}
