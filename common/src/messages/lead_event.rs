//! "Lead 42 of portal acme needs an owner": the notice that starts everything. It carries no lead.

use serde::{Deserialize, Serialize};

use super::envelope::Payload;
use crate::ids::LeadId;

/// A lead has appeared.
///
/// **Shape**: `{"lead":42,"source":"webhook","ts":1795424400}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeadEvent {
    /// Which lead.
    pub lead: LeadId,
    /// How we came to know.
    pub source: EventSource,
    /// The portal's own time of the event in unix seconds, where it sent one. A hint only: sources
    /// disagree whether it is the time of raising or of sending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<i64>,
}

/// How we came to know of a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventSource {
    /// The portal posted `ONCRMLEADADD`.
    Webhook,
    /// The portal's event was lost; the scan of new leads found it.
    Sweep,
    /// It was held and is to be decided again.
    Hold,
}

impl EventSource {
    /// The word in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Sweep => "sweep",
            Self::Hold => "hold",
        }
    }
}

impl Payload for LeadEvent {
    const TYPE: &'static str = "lead-event";
    const VERSION: u32 = 1;
    const READS: &'static [u32] = &[1];
}
