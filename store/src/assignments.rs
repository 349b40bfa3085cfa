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
        /// With how many leads at the most it may be in a pack, itself included, because a larger one failed as a
        /// whole; none: any number.
        pack_at_most: Option<u32>,
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
    /// The owner that the lead had when the pack was made.
    pub from: Option<UserId>,
    /// The new owner.
    pub to: UserId,
    /// The place in the pack of the command that writes the lead, from 0; without one, any. No two have the same.
    pub position: u32,
    /// Whether that command sets the owner; otherwise the pack only carries the notice.
    pub sets_owner: bool,
    /// The place of the notice in the pack; others may have the same. None where people are not told by us, or
    /// were told before.
    pub notice_position: Option<u32>,
    /// Whether something is left to do afterwards, so that the assignment is not finished by the pack.
    pub more_to_do: bool,
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
    /// In how large a pack it may go the next time; none leaves that as it is.
    pub pack_at_most: Option<u32>,
}

impl Done {
    /// Nothing is known to be in the portal that was not before.
    #[must_use]
    pub fn nothing(key: AssignmentKey, to: UserId) -> Self {
        Self {
            key,
            to,
            owner_set: false,
            notified: false,
            notification: None,
            finished: None,
            pack_at_most: None,
        }
    }
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

    /// Writes down how these assignments ended; what is not finished is open again. With `pack`, only those that are in
    /// it and whose end in it is not known, and none while somebody clears it up: a sender that is late must not speak
    /// about what was sent again since. Answers those that were written.
    ///
    /// # Errors
    /// [`StoreError`], throttled; nothing was written then.
    async fn done(
        &self,
        pack: Option<Uuid>,
        results: &[Done],
        at: Timestamp,
    ) -> Result<Vec<AssignmentKey>, StoreError>;

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
