//! "Set the responsible person of lead 42 to 9": complete, nothing is left to choose.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::envelope::Payload;
use crate::ids::{LeadId, PortalName, UserId};

/// Which giving of the lead this is: 1 at first, more only when it is deliberately given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The first giving.
    pub const FIRST: Self = Self(1);
}

/// The name of one assignment everywhere: unique key in the store, tag of the notice, field of logs.
///
/// **Shape** as text: `acme/42/1`
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssignmentKey {
    /// The portal.
    pub portal: PortalName,
    /// The lead.
    pub lead: LeadId,
    /// Which giving of it.
    pub epoch: Epoch,
}

impl fmt::Display for AssignmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.portal, self.lead, self.epoch.0)
    }
}

/// Set `ASSIGNED_BY_ID` of a lead, do what the rule asks for besides, and tell the person.
///
/// **Shape**: `{"lead":42,"epoch":1,"from":7,"to":9,"person":"petrov","reason":"…",
/// "looked_at":"2026-11-23T09:00:00Z","looked_at_with":500,
/// "set":{"STATUS_ID":"IN_PROCESS"},"deal":{"category":5,"stage":"C5:NEW"}}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentCommand {
    /// Which lead.
    pub lead: LeadId,
    /// Which giving of it.
    pub epoch: Epoch,
    /// The owner the decision saw; another one at the time of writing means that a person took it.
    pub from: Option<UserId>,
    /// The new owner.
    pub to: UserId,
    /// The new owner's name in the routing file.
    pub person: String,
    /// Why, in one line, for the log.
    pub reason: String,
    /// When the lead was read that had the owner `from`; none where that is long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<Timestamp>,
    /// How many leads were read by the same request: whether this one comes alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_at_with: Option<usize>,
    /// What else is done with the lead.
    #[serde(flatten)]
    pub orders: Orders,
}

/// What a rule asks for besides the owner.
///
/// **Shape**: `{"set":{"STATUS_ID":"IN_PROCESS"},"deal":{"category":5,"stage":"C5:NEW"}}`; what is not asked for
/// is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Fields of the lead, by the portal's codes, that are written together with the owner. A value is a text, a number,
    /// `true`, `false`, `null` or a list of these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, Value>,
    /// The deal that is created for the lead, once for each giving of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deal: Option<Deal>,
}

/// A deal in a funnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deal {
    /// The funnel (`CATEGORY_ID`); 0 is the portal's first.
    pub category: u32,
    /// The stage in it, such as `C5:NEW`; without it the portal takes the funnel's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
}

/// Version 2 added [`Orders`]: a program that knows only version 1 would leave them out without a word.
impl Payload for AssignmentCommand {
    const TYPE: &'static str = "assignment-command";
    const VERSION: u32 = 2;
    const READS: &'static [u32] = &[1, 2];
}
