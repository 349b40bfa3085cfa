//! The ledgers of turns: their balances, and what changes them besides decisions.

use std::collections::BTreeMap;

use async_trait::async_trait;
use common::ids::{PortalName, UserId};
use common::messages::AssignmentKey;
use distribution::EntryKind;
use jiff::Timestamp;

use crate::StoreError;

/// Credits by ledger and person, in units of `distribution::Credit`. Who is missing has zero.
pub type Balances = BTreeMap<String, BTreeMap<UserId, i64>>;

/// A change of one credit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Which account.
    pub ledger: String,
    /// Whose credit.
    pub user: UserId,
    /// By how much, in units of `distribution::Credit`.
    pub delta: i64,
    /// What for.
    pub kind: EntryKind,
}

/// Who changed a ledger by hand, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manual {
    /// Who.
    pub author: String,
    /// Why, in his words.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// Ledgers of turns.
#[async_trait]
pub trait Ledgers: Send + Sync + 'static {
    /// The credits of a portal.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn balances(&self, portal: &PortalName) -> Result<Balances, StoreError>;

    /// Books a correction.
    ///
    /// # Errors
    /// [`StoreError`]: also when the entries of a ledger do not sum to zero; nothing is booked then.
    async fn correct(
        &self,
        portal: &PortalName,
        entries: &[LedgerEntry],
        manual: &Manual,
    ) -> Result<(), StoreError>;

    /// Gives back what a decision cost and earned. False when it cost nothing, or was given back before.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is booked then.
    async fn refund(&self, key: &AssignmentKey, manual: &Manual) -> Result<bool, StoreError>;
}
