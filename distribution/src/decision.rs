//! What is to become of a lead: it goes to somebody, it waits, or it is left alone.
//!
//! A decision changes nothing by itself. Whoever asked for it stores it, books its ledger entries in the same
//! transaction, and tells the portal.

use crate::explanation::{Explanation, HoldReason, SkipReason};
use crate::ids::UserId;
use crate::ledger::LedgerEntry;
use crate::name::Name;

/// The answer of [`decide`](crate::decide).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Somebody gets the lead.
    Assign(Assignment),
    /// Nobody may take it at this moment; it is to be decided again.
    Hold(Hold),
    /// It needs no owner from us.
    Skip(Skip),
}

/// Somebody gets the lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// His name in the routing file.
    pub person: Name,
    /// Who he is in the portal: the lead's new `ASSIGNED_BY_ID`.
    pub user: UserId,
    /// The queue he was chosen from; `None` when he was named.
    pub queue: Option<Name>,
    /// The rule that matched; `None` when the default decided.
    pub rule: Option<Name>,
    /// What the lead does to the ledger; empty when he was named, or is the only one eligible. The deltas sum to zero.
    pub entries: Vec<LedgerEntry>,
    /// Why him.
    pub explanation: Explanation,
}

/// The lead waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The queue it waits in; `None` when it waits for a person that the default names.
    pub queue: Option<Name>,
    /// For what it waits.
    pub reason: HoldReason,
    /// Why nobody got it.
    pub explanation: Explanation,
}

/// The lead is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// Why.
    pub reason: SkipReason,
    /// The same, with the time and the routing's version.
    pub explanation: Explanation,
}

impl Decision {
    /// The reasons, whatever was decided.
    #[must_use]
    pub fn explanation(&self) -> &Explanation {
        match self {
            Self::Assign(assignment) => &assignment.explanation,
            Self::Hold(hold) => &hold.explanation,
            Self::Skip(skip) => &skip.explanation,
        }
    }
}
