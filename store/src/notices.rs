//! Notices to people beside those of assignments.

use async_trait::async_trait;
use common::ids::{LeadId, PortalName, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// A notice that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Marks it in the portal; of two with one tag the first is sent.
    pub tag: String,
    /// Who gets it.
    pub to: UserId,
    /// What it says.
    pub matter: Matter,
}

/// What a notice says.
///
/// **Shape**: `{"kind":"held_too_long","queue":"main","leads":[42,43],"count":7}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Matter {
    /// Leads of a queue have waited longer than they may.
    HeldTooLong {
        /// Which queue.
        queue: String,
        /// The first of them.
        leads: Vec<LeadId>,
        /// How many there are.
        count: usize,
    },
    /// Somebody is to answer a lead of his.
    Reminder {
        /// Which.
        lead: LeadId,
        /// How much of his working time is left, in minutes.
        minutes: i64,
    },
    /// A lead of his was given to somebody else, because he did not answer it in time.
    TakenAway {
        /// Which.
        lead: LeadId,
        /// Who has it now.
        person: String,
    },
    /// A lead of his was given to somebody else, because a robot of the portal asked for it.
    GivenAway {
        /// Which.
        lead: LeadId,
        /// Who has it now.
        person: String,
    },
    /// Leads could not be given: they wait as dead letters.
    DeadLetters {
        /// The first of them.
        leads: Vec<LeadId>,
        /// How many there are, with messages of which nobody can tell the lead.
        count: usize,
    },
    /// A lead was not answered in time, and nobody else may take it.
    Unanswered {
        /// Which.
        lead: LeadId,
        /// Who has it.
        person: String,
    },
}

/// Notices that wait to be sent.
#[async_trait]
pub trait Notices: Send + Sync + 'static {
    /// Takes up to `limit` notices, oldest first. One that tells of a giving waits until that has been carried out, and is
    /// dropped where it ended otherwise. Those that somebody took before `lost_before` and never ended are
    /// dropped, and so are those in words of a newer version.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn take_notices(
        &self,
        portal: &PortalName,
        limit: u32,
        now: Timestamp,
        lost_before: Timestamp,
    ) -> Result<Vec<Notice>, StoreError>;

    /// What became of notices that were taken, by their tags: those with `true` were sent, or are not to be sent again; the
    /// others wait again.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn end_notices(&self, portal: &PortalName, ends: &[(String, bool)]) -> Result<(), StoreError>;
}
