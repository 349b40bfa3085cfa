//! "Set the responsible person of lead 42 to 9": complete, nothing is left to choose.

use std::fmt;

use serde::{Deserialize, Serialize};

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

/// Set `ASSIGNED_BY_ID` of a lead and tell the person.
///
/// **Shape**: `{"lead":42,"epoch":1,"from":7,"to":9,"person":"petrov","reason":"…"}`
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
}

impl Payload for AssignmentCommand {
    const TYPE: &'static str = "assignment-command";
    const VERSION: u32 = 1;
    const READS: &'static [u32] = &[1];
}
