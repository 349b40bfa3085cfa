//! What is to become of a lead: it goes to somebody, it waits, or it is left alone.
//!
//! A decision changes nothing by itself. Whoever asked for it stores it, books its ledger entries in the same
//! transaction, and tells the portal.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::explanation::{Explanation, HoldReason, SkipReason};
use crate::ids::UserId;
use crate::ledger::LedgerEntry;
use crate::line::Needs;
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
    /// What the lead does to the ledgers; empty when he was named, or is the only one eligible. The deltas of each ledger
    /// sum to zero.
    pub entries: Vec<LedgerEntry>,
    /// What is to be done with the lead besides.
    pub orders: Orders,
    /// Why him.
    pub explanation: Explanation,
}

/// What a rule asks for besides an owner.
///
/// **Shape** in JSON: `{"set": {"STATUS_ID": "IN_PROCESS"}, "deal": {"category": 5, "stage": "C5:NEW"}}`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Orders {
    /// Fields of the lead to be written, by the portal's codes: texts, numbers, flags, `null` to empty a field, and lists
    /// of these.
    pub set: BTreeMap<String, Value>,
    /// A deal to be created for the lead.
    pub deal: Option<DealOrder>,
}

/// "Add it to a funnel": a deal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DealOrder {
    /// The funnel, `CATEGORY_ID`; 0 is the portal's first.
    pub category: u32,
    /// The stage in it, such as `C5:NEW`; `None` for the funnel's first.
    pub stage: Option<String>,
}

/// The lead waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The queue it waits in; `None` when it waits for a person that the default names.
    pub queue: Option<Name>,
    /// For what it waits.
    pub reason: HoldReason,
    /// When somebody may take it at the earliest, as far as schedules, absences and pauses tell; `None` when they do not.
    pub until: Option<Timestamp>,
    /// What it needs of people: by this it stands in the line of its queue. `None` where that does not tell when it may go,
    /// so that it is looked at from time to time and holds nobody up.
    pub needs: Option<Needs>,
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
