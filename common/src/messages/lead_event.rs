//! "Lead 42 of portal acme needs an owner": the notice that starts everything. It carries no lead.

use serde::{Deserialize, Serialize};

use super::assignment::Epoch;
use super::envelope::Payload;
use crate::ids::LeadId;

/// A lead has appeared, or is to be given again.
///
/// **Shape**: `{"lead":42,"source":"webhook","ts":1795424400}`, `{"lead":42,"source":"robot","queue":"vip"}`,
/// `{"lead":42,"source":"hold","epoch":2}`
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
    /// Which giving of the lead is to be decided; without it the first, and for a robot the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The queue that a robot names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
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
    /// A robot of the portal asks for it to be given, most often once more.
    Robot,
    /// Who had it did not answer.
    Unanswered,
    /// It was a dead letter and is to be decided anew.
    Replay,
}

impl EventSource {
    /// The word in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Sweep => "sweep",
            Self::Hold => "hold",
            Self::Robot => "robot",
            Self::Unanswered => "unanswered",
            Self::Replay => "replay",
        }
    }
}

impl LeadEvent {
    /// A lead of which nothing else is known.
    #[must_use]
    pub const fn of(lead: LeadId, source: EventSource) -> Self {
        Self { lead, source, ts: None, epoch: None, queue: None }
    }
}

/// Version 2 added givings after the first: a program that knows only version 1 would take them for done. What it
/// understands is still written as version 1.
impl Payload for LeadEvent {
    const TYPE: &'static str = "lead-event";
    const VERSION: u32 = 2;
    const READS: &'static [u32] = &[1, 2];

    fn version(&self) -> u32 {
        let first = self.epoch.is_none_or(|epoch| epoch == Epoch::FIRST) && self.queue.is_none();
        let known = match self.source {
            EventSource::Webhook | EventSource::Sweep | EventSource::Hold => true,
            EventSource::Robot | EventSource::Unanswered | EventSource::Replay => false,
        };
        if first && known { 1 } else { Self::VERSION }
    }
}
