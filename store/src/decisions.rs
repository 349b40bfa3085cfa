//! Decisions and the ledger of turns, written together or not at all.

use std::collections::BTreeMap;

use async_trait::async_trait;
use common::ids::{LeadId, PortalName, UserId};
use common::messages::{AssignmentKey, Orders};
use distribution::{Giving, Needs, Routing};
use jiff::{SignedDuration, Timestamp};

use crate::{Balances, LedgerEntry, StoreError};

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Give it to a person.
    Assign {
        /// To whom.
        to: UserId,
        /// Their name in the routing file.
        person: String,
    },
    /// Nobody can take it now.
    Hold {
        /// When it is decided again.
        look_again_at: Timestamp,
        /// When somebody may take it at the earliest, if that is known.
        until: Option<Timestamp>,
    },
    /// It needs nobody.
    Skip,
}

/// A decision to be written.
#[derive(Debug, Clone)]
pub struct NewDecision {
    /// What was decided.
    pub verdict: Verdict,
    /// The owner the decision saw.
    pub from: Option<UserId>,
    /// The queue whose turn it was, if any.
    pub queue: Option<String>,
    /// The rule that matched, if any.
    pub rule: Option<String>,
    /// One line for people.
    pub reason: String,
    /// The whole explanation.
    pub explanation: serde_json::Value,
    /// The version of the routing it was made by.
    pub routing_version: u64,
    /// What is done with the lead besides.
    pub orders: Orders,
    /// The lead's title, for the notice; forgotten when the person was told.
    pub title: Option<String>,
    /// What the lead's timeline is to say of it, if anything.
    pub timeline: Option<String>,
    /// Of a lead that is held: by when somebody is to take it. That of the first hold stays.
    pub deadline: Option<Timestamp>,
    /// Whether its owner is to answer within the time of the queue that gave it.
    pub to_be_answered: bool,
    /// Who is to be told that the lead is theirs no more, once somebody else is its owner. Not of a lead's first giving.
    pub loser: Option<UserId>,
    /// Of a lead that is held: its amount, whatever its currency.
    pub amount: Option<f64>,
    /// Of a lead that is held: how it stands in line; none where it holds nobody up.
    pub line: Option<Line>,
    /// The changes of credits; their sum in each ledger is zero.
    pub entries: Vec<LedgerEntry>,
    /// When the lead was first heard of.
    pub first_seen: Timestamp,
    /// When it was decided.
    pub decided_at: Timestamp,
}

/// How a lead that is held stands in the line of its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it needs of people.
    pub needs: Needs,
    /// When its turn comes it is called, but not before this moment.
    pub call_again_at: Timestamp,
}

/// A decision as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedDecision {
    /// Which.
    pub key: AssignmentKey,
    /// What was decided.
    pub verdict: Verdict,
    /// The owner the decision saw.
    pub from: Option<UserId>,
    /// The queue whose turn it was, if any.
    pub queue: Option<String>,
    /// The rule that matched, if any.
    pub rule: Option<String>,
    /// One line for people.
    pub reason: String,
    /// The whole explanation.
    pub explanation: serde_json::Value,
    /// What is done with the lead besides.
    pub orders: Orders,
    /// When the lead was first heard of.
    pub first_seen: Timestamp,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// Whether the command is known to be with the broker.
    pub published: bool,
}

/// Whose leads are counted, and from when.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counting {
    /// For [`Given::hour`].
    pub hour_from: Timestamp,
    /// For [`Given::day`]: by person, because each has midnight at another time. Only these people are counted.
    pub day_from: BTreeMap<UserId, Timestamp>,
    /// For [`Given::reserved`]: since when the portal's counts of open leads do not know what was given; none where
    /// they are not asked for.
    pub open_from: Option<Timestamp>,
    /// For [`Given::released`]; none where it does not matter.
    pub released_from: Option<Timestamp>,
    /// For [`Standing::owners`].
    pub related: Related,
    /// For [`Giving::ahead`]; none where it does not matter.
    pub in_line: Option<InLine>,
}

/// Where a lead would stand among those that wait.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InLine {
    /// When it was first heard of; of one that waits, what is written of it counts.
    pub first_seen: Timestamp,
    /// Its amount, whatever its currency.
    pub amount: Option<f64>,
    /// The queues in whose line the most valuable goes first.
    pub most_valuable: Vec<String>,
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

impl Counting {
    /// What must be counted for a decision by this routing at `now`; open leads were counted at `counted_at`.
    #[must_use]
    pub fn of(routing: &Routing, counted_at: Option<Timestamp>, now: Timestamp) -> Self {
        let counts_open = routing.counts_open_leads();
        let releases = routing.releases_at_a_rate();
        let people = routing.people().filter(|_| routing.counts_leads_given() || counts_open || releases);
        Self {
            hour_from: now - HOUR,
            day_from: people.map(|person| (person.user, person.day_start(now))).collect(),
            // Where they were never counted, what was given in the last hour is all that is known.
            open_from: counts_open.then(|| counted_at.unwrap_or(now - HOUR)),
            released_from: releases.then(|| now - MINUTE),
            related: Related::default(),
            in_line: None,
        }
    }
}

/// Other leads that matter for a decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Related {
    /// Which.
    pub leads: Vec<LeadId>,
    /// When the portal told whose they are.
    pub read_at: Timestamp,
}

/// How many leads somebody was given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Given {
    /// Since [`Counting::hour_from`].
    pub hour: u32,
    /// Since his [`Counting::day_from`].
    pub day: u32,
    /// Those of which the portal did not know at [`Counting::open_from`]: their owner was set later, or is not set yet.
    pub reserved: u32,
    /// Those that had been held, since [`Counting::released_from`].
    pub released: u32,
}

/// How people stand at the moment of a decision, with all earlier ones and none beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Their credits.
    pub balances: Balances,
    /// What they were given, of those who are counted.
    pub given: BTreeMap<UserId, Given>,
    /// Who is to own the related leads, of those of which the portal did not know it when it told.
    pub owners: BTreeMap<LeadId, UserId>,
    /// What was asked for this giving of the lead, and which leads wait ahead of it.
    pub giving: Giving,
}

/// Makes the decision from how people stand; called under the lock, so it must be quick.
pub type Decide<'a> = Box<dyn FnOnce(&Standing) -> NewDecision + Send + 'a>;

/// What came of an attempt to decide.
#[derive(Debug, Clone, PartialEq)]
pub enum Decided {
    /// It was decided now.
    Now(SavedDecision),
    /// It had been decided before; nothing was changed and nobody was charged.
    Before(SavedDecision),
    /// It cannot be decided yet: an earlier giving of the lead is still carried out.
    TooEarly,
}

/// Decisions and credits.
#[async_trait]
pub trait Decisions: Send + Sync + 'static {
    /// The decision under this key.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn decision(&self, key: &AssignmentKey) -> Result<Option<SavedDecision>, StoreError>;

    /// Decides and writes decision and ledger in one transaction, one at a time for each portal.
    /// A decision that is there already is answered as it is, unless it was to hold: that one is
    /// made again and replaced.
    ///
    /// # Errors
    /// [`StoreError`], throttled; nothing was written then.
    async fn decide<'a>(
        &self,
        key: &AssignmentKey,
        counting: &Counting,
        decide: Decide<'a>,
    ) -> Result<Decided, StoreError>;

    /// How many leads people were given, as a decision is told it, but with others beside it.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn given(
        &self,
        portal: &PortalName,
        counting: &Counting,
    ) -> Result<BTreeMap<UserId, Given>, StoreError>;

    /// Remembers that the command of this decision is with the broker.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn published(&self, key: &AssignmentKey, at: Timestamp) -> Result<(), StoreError>;
}
