//! All that is known of one lead.

use async_trait::async_trait;
use common::ids::{LeadId, PortalName, UserId};
use jiff::Timestamp;
use serde_json::Value;

use crate::{Matter, StoreError};

/// All that the store knows of one lead; in no order but that of its givings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LeadStory {
    /// What was decided.
    pub decisions: Vec<ToldDecision>,
    /// What was done in the portal.
    pub assignments: Vec<ToldAssignment>,
    /// Givings that were asked for.
    pub givings: Vec<ToldGiving>,
    /// Where it waits.
    pub waiting: Vec<ToldWait>,
    /// Timers that run: by when its owner is to answer.
    pub timers: Vec<ToldTimer>,
    /// Turns that were given back: of whom, when, and why.
    pub refunds: Vec<(UserId, Timestamp, Option<String>)>,
    /// Notices that are not sent yet: to whom, when, and what they say.
    pub notices: Vec<(UserId, Timestamp, Matter)>,
    /// Entries of its timeline that are not sent yet: when they were written, and what they say.
    pub entries: Vec<(Timestamp, String)>,
}

/// How one giving was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct ToldDecision {
    /// Which giving.
    pub epoch: u32,
    /// `assign`, `hold` or `skip`.
    pub outcome: String,
    /// Who is to get it.
    pub person: Option<String>,
    /// Why, in one line.
    pub reason: String,
    /// The whole explanation.
    pub explanation: Value,
    /// The version of the routing.
    pub routing_version: u64,
    /// When the lead was first heard of.
    pub first_seen: Timestamp,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// When its command was with the broker.
    pub published_at: Option<Timestamp>,
}

/// How far one giving has come in the portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldAssignment {
    /// Which giving.
    pub epoch: u32,
    /// Who gets it.
    pub to: Option<UserId>,
    /// When its last pack was about to be sent.
    pub sent_at: Option<Timestamp>,
    /// When the portal confirmed the owner.
    pub owner_set_at: Option<Timestamp>,
    /// When the portal took the notice.
    pub notified_at: Option<Timestamp>,
    /// When the deal was about to be created.
    pub deal_sent_at: Option<Timestamp>,
    /// The deal.
    pub deal: Option<u64>,
    /// When it was over, and how.
    pub finished: Option<(Timestamp, String)>,
}

/// A giving that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldGiving {
    /// Which.
    pub epoch: u32,
    /// What for.
    pub cause: String,
    /// The name of the request.
    pub asked_by: String,
    /// The queue it is to go to.
    pub queue: Option<String>,
    /// The person it is to go to.
    pub person: Option<String>,
    /// When.
    pub asked_at: Timestamp,
}

/// A lead that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldWait {
    /// Which giving.
    pub epoch: u32,
    /// `undecided`, `held` or `assigned`.
    pub state: String,
    /// When it was first heard of.
    pub first_seen: Timestamp,
    /// Since when it is held.
    pub held_since: Option<Timestamp>,
    /// When somebody may take it at the earliest.
    pub held_until: Option<Timestamp>,
    /// When somebody is told of it.
    pub deadline_at: Option<Timestamp>,
    /// When they were.
    pub alarmed_at: Option<Timestamp>,
}

/// A timer that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldTimer {
    /// Of which giving.
    pub epoch: u32,
    /// Who is to answer.
    pub owner: Option<UserId>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Until when.
    pub due_at: Option<Timestamp>,
    /// When they were reminded.
    pub reminded_at: Option<Timestamp>,
    /// When the lead was to be given to somebody else.
    pub missed_at: Option<Timestamp>,
}

/// Stories of leads.
#[async_trait]
pub trait Stories: Send + Sync + 'static {
    /// All that is known of a lead beside its dead letters; empty where nothing is.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn lead_story(&self, portal: &PortalName, lead: LeadId) -> Result<LeadStory, StoreError>;
}
