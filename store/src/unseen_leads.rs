//! Leads that the portal does not show: what is believed of that, and when.
//!
//! A list that leaves a lead out says nothing of it. The portal's word about the one lead counts: that there is none is
//! believed when it says so again some minutes later, because a portal that is restored or moved says so for a moment of
//! everything. That the webhook's owner has no right to it says nothing about the lead; it waits for the right. What was
//! said first is remembered in the store, so that restarts and replicas do not begin anew.

use std::time::Duration;

use async_trait::async_trait;
use common::failure::{Failure, FailureClass, HandlerError};
use common::ids::{LeadId, PortalName};
use jiff::{SignedDuration, Timestamp};

use crate::{Store, StoreError};

/// What the portal said when it was asked for the one lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unseen {
    /// That there is none.
    Missing,
    /// That the webhook's owner has no right to it.
    Hidden,
}

impl Unseen {
    /// As it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Hidden => "hidden",
        }
    }
}

/// The portal's word that there is no such lead must still stand after this time.
pub const BELIEVED_AFTER: SignedDuration = SignedDuration::from_mins(2);

/// A word that is older than this is no first word for what is said now; and rights that were refused are as good as given
/// when nobody was refused for so long. Longer than a lead waits before it is asked for again.
pub const WORD_HOLDS: SignedDuration = SignedDuration::from_mins(30);

/// Leads that are not seen.
#[async_trait]
pub trait UnseenLeads: Send + Sync + 'static {
    /// Notes that the portal does not show the lead; answers since when it has said so, without another word and without
    /// [`WORD_HOLDS`] between two of them.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn note_unseen(
        &self,
        portal: &PortalName,
        lead: LeadId,
        unseen: Unseen,
        now: Timestamp,
    ) -> Result<Timestamp, StoreError>;

    /// The lead was seen, or is given up.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn forget_unseen(&self, portal: &PortalName, lead: LeadId) -> Result<(), StoreError>;

    /// How many leads of the portal were hidden when they were asked for last, since this moment.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn hidden_leads(&self, portal: &PortalName, since: Timestamp) -> Result<u64, StoreError>;
}

/// Why a lead that the portal does not show waits.
#[derive(Debug, thiserror::Error)]
pub enum WaitingUnseen {
    /// It may be deleted.
    #[error(
        "the portal says that there is no such lead; that is believed when it says so again in some minutes"
    )]
    Missing {
        /// Until it is to be asked again.
        wait: Duration,
    },
    /// It is asked for again later.
    #[error("the lead waits for a right")]
    Hidden {
        /// What the portal said.
        #[source]
        said: HiddenCause,
        /// How long it waits.
        wait: Option<Duration>,
        /// Whether it has waited for the right as long as a lead may wait.
        given_up: bool,
    },
}

/// What the portal said of a hidden lead.
pub type HiddenCause = Box<dyn std::error::Error + Send + Sync>;

impl Failure for WaitingUnseen {
    fn class(&self) -> FailureClass {
        match self {
            Self::Missing { .. } | Self::Hidden { .. } => FailureClass::Throttled,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Missing { wait } => Some(*wait),
            Self::Hidden { wait, .. } => *wait,
        }
    }

    fn is_patient(&self) -> bool {
        match self {
            Self::Missing { .. } => true,
            Self::Hidden { given_up, .. } => !given_up,
        }
    }
}

/// The portal says of this one lead that there is none.
///
/// # Errors
/// [`WaitingUnseen::Missing`] while that is not to be believed; [`StoreError`].
pub async fn believe_missing(
    store: &dyn Store,
    portal: &PortalName,
    lead: LeadId,
    now: Timestamp,
) -> Result<(), HandlerError> {
    let since = store.note_unseen(portal, lead, Unseen::Missing, now).await?;
    let left = BELIEVED_AFTER - now.duration_since(since);
    if left.is_positive() {
        return Err(WaitingUnseen::Missing { wait: Duration::try_from(left).unwrap_or_default() }.into());
    }
    store.forget_unseen(portal, lead).await?;
    Ok(())
}

/// The portal says that the webhook's owner has no right to this lead: notes it, and answers how it waits. A lead waits for
/// the right for `longest`, from the first word on, however old its message is.
pub async fn wait_for_right<E: Failure>(
    store: &dyn Store,
    (portal, lead): (&PortalName, LeadId),
    said: E,
    (now, longest): (Timestamp, Duration),
) -> HandlerError {
    match store.note_unseen(portal, lead, Unseen::Hidden, now).await {
        Ok(since) => {
            let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
            let wait = said.retry_after();
            WaitingUnseen::Hidden { said: Box::new(said), wait, given_up: waited >= longest }.into()
        }
        Err(error) => error.into(),
    }
}
