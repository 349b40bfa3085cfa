//! The portal's own log of what it did, as `GET /log` of its control API has it.

use serde::{Deserialize, Serialize};

/// An entry of the portal's own log of what it did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogEntry {
    /// When.
    pub at: jiff::Timestamp,
    /// The number of the request that did it; none for people, robots, and events.
    pub request: Option<u64>,
    /// What was done.
    #[serde(flatten)]
    pub what: Logged,
}

/// What a portal did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Logged {
    /// A lead was added.
    Added {
        /// Which.
        lead: u64,
        /// Its first owner.
        owner: String,
    },
    /// A lead was deleted.
    Deleted {
        /// Which.
        lead: u64,
    },
    /// A lead's owner was written, perhaps the one that it had.
    Owner {
        /// Which lead.
        lead: u64,
        /// Whose it was.
        from: String,
        /// Whose it is.
        to: String,
    },
    /// An employee got a notice.
    Notice {
        /// Its id.
        id: u64,
        /// Who.
        user: u64,
        /// Its tag.
        tag: Option<String>,
        /// The leads that its text has links to.
        leads: Vec<u64>,
    },
    /// A fault was played.
    Fault {
        /// The method that it met.
        method: String,
        /// Its kind.
        kind: String,
        /// The status of the answer that it brought.
        status: Option<u16>,
        /// Whether the request ran all the same.
        runs: bool,
    },
    /// A request was refused as too fast.
    Refused {
        /// Its method.
        method: String,
    },
    /// The caller of a request hung up.
    Unheard {
        /// Its method.
        method: String,
    },
    /// An event was posted, or lost.
    Event {
        /// Its lead.
        lead: u64,
        /// Its name.
        event: String,
        /// The status of the answer; `lost` and `unreachable` too.
        outcome: String,
    },
}

impl Logged {
    /// Whether it is about this lead.
    #[must_use]
    pub fn is_about(&self, wanted: u64) -> bool {
        match self {
            Self::Added { lead, .. }
            | Self::Deleted { lead }
            | Self::Owner { lead, .. }
            | Self::Event { lead, .. } => *lead == wanted,
            Self::Notice { leads, .. } => leads.contains(&wanted),
            Self::Fault { .. } | Self::Refused { .. } | Self::Unheard { .. } => false,
        }
    }
}
