//! Why a lead went where it went: the record that a decision carries and the store keeps.
//!
//! It is complete in itself: who reads it years later needs neither the routing nor the lead. It holds no content of the
//! lead, only what the routing file says and how people stood. Other programs read its JSON form, so a field that is
//! there keeps its meaning; a change that breaks this is a new [`FORMAT`].

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::UserId;
use crate::ledger::Credit;
use crate::name::Name;
use crate::routing::Person;

/// The version of the shape of [`Explanation`]. A reader refuses a larger one.
pub const FORMAT: u32 = 1;

/// How many of the rules that did not match are listed; the others are counted. The cost of an explanation must not
/// grow with the number of rules, and nobody reads more of them than this.
pub const NOT_MATCHED_LISTED_MAX: usize = 32;

/// The reasons of one decision.
///
/// **Shape** (format 1; what does not apply is `null` or `[]`):
///
/// ```json
#[doc = include_str!("../tests/explanation.json")]
/// ```
///
/// `Display` gives it as one line: `rule "Cold calls" → queue cold_calls → sidorov (credit +0.50 → -0.50)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The version of this shape: [`FORMAT`].
    pub format: u32,
    /// The time the decision was given.
    pub decided_at: Timestamp,
    /// The label of the routing: [`Routing::version`](crate::Routing::version).
    pub routing_version: u64,
    /// What was decided.
    pub outcome: Outcome,
    /// The rule that matched; `None` when the default decided.
    pub rule: Option<Name>,
    /// The cases of its tree that led on, outermost first: `region: Moscow`. Not there in the oldest records.
    #[serde(default)]
    pub cases: Vec<Name>,
    /// The rules above it that did not match, in the file's order, the first [`NOT_MATCHED_LISTED_MAX`] of them.
    pub not_matched: Vec<NotMatched>,
    /// How many rules above it did not match, listed or not.
    pub not_matched_total: usize,
    /// Whether the lead came to the routing's default: no rule matched, or the person it names may not take the lead.
    pub by_default: bool,
    /// The queue that was asked.
    pub queue: Option<Name>,
    /// Everybody who came into question, in order: the person a rule names, then the queue's members.
    pub candidates: Vec<Candidate>,
}

/// A rule that did not match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotMatched {
    /// Its name.
    pub rule: Name,
    /// Its first condition that was not met, as in the file but on one line and shortened: `amount: { over: 500000 }`.
    pub condition: Name,
}

/// A person who came into question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// His name in the routing file.
    pub person: Name,
    /// Who he is in the portal.
    pub user: UserId,
    /// Whether he could have taken the lead.
    pub eligible: bool,
    /// Why he was taken, or why not.
    pub reason: Reason,
    /// His credit in the queue's ledger; `None` where no ledger is asked.
    pub credit: Option<CreditChange>,
}

/// What a lead did to one person's credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditChange {
    /// His balance when the lead came.
    pub before: Credit,
    /// With what the lead earned him: this is what was compared.
    pub compared: Credit,
    /// His balance afterwards; the chosen paid for the lead.
    pub after: Credit,
}

/// Why a candidate was taken or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Taken: a rule or the default names him.
    Named,
    /// Taken: his credit is the largest, or he is the first in the list of those who have it.
    LargestCredit,
    /// Not taken: his credit is smaller than the chosen's.
    SmallerCredit,
    /// Not taken: he has the same credit as the chosen, and stands after him in the list.
    LaterInList,
    /// Left out: he is not active in the portal.
    Inactive,
}

/// What was decided, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// The lead goes to this person.
    Assign {
        /// His name in the routing file.
        person: Name,
        /// Who he is in the portal.
        user: UserId,
    },
    /// The lead waits.
    Hold {
        /// For what.
        reason: HoldReason,
        /// When somebody may take it at the earliest; `None` when that is not known. Not there in the oldest records.
        #[serde(default)]
        until: Option<Timestamp>,
    },
    /// The lead is none of our business.
    Skip {
        /// Why.
        reason: SkipReason,
    },
}

/// Why a lead waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HoldReason {
    /// Nobody who should get it may take it.
    NobodyEligible,
}

/// Why a lead is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SkipReason {
    /// It was converted: `STATUS_SEMANTIC_ID` is `S`.
    Converted,
    /// It was closed as junk: `STATUS_SEMANTIC_ID` is `F`.
    Junk,
}

impl Explanation {
    /// One English line: the rule, the queue, the person or why there is none.
    #[must_use]
    pub fn summary(&self) -> String {
        self.to_string()
    }

    /// The candidate who was taken.
    #[must_use]
    pub fn taken(&self) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.reason.is_taken())
    }
}

impl Candidate {
    pub(crate) fn new(person: &Person, reason: Reason, credit: Option<CreditChange>) -> Self {
        let eligible = !reason.is_left_out();
        Self { person: person.name.clone(), user: person.user, eligible, reason, credit }
    }
}

impl CreditChange {
    /// A lead that left this balance as it was.
    pub(crate) const fn none(balance: Credit) -> Self {
        Self { before: balance, compared: balance, after: balance }
    }
}

impl Reason {
    /// Whether it says that the candidate got the lead.
    #[must_use]
    pub const fn is_taken(self) -> bool {
        match self {
            Self::Named | Self::LargestCredit => true,
            Self::SmallerCredit | Self::LaterInList | Self::Inactive => false,
        }
    }

    /// Whether it says that the candidate could not have got the lead.
    #[must_use]
    pub const fn is_left_out(self) -> bool {
        match self {
            Self::Inactive => true,
            Self::Named | Self::LargestCredit | Self::SmallerCredit | Self::LaterInList => false,
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Outcome::Skip { reason } = self.outcome {
            return write!(f, "skipped: {reason}");
        }
        match &self.rule {
            Some(rule) => {
                write!(f, "rule \"{rule}\"")?;
                if !self.cases.is_empty() {
                    let cases: Vec<&str> = self.cases.iter().map(Name::as_str).collect();
                    write!(f, " ({})", cases.join(", "))?;
                }
            }
            None => f.write_str("default")?,
        }
        // Without a ledger he was named, not found in a queue.
        let named = |candidate: &&Candidate| candidate.credit.is_none() && candidate.reason.is_left_out();
        for candidate in self.candidates.iter().filter(named) {
            write!(f, " → {} ({})", candidate.person, candidate.reason)?;
        }
        if self.by_default && self.rule.is_some() {
            f.write_str(" → default")?;
        }
        if let Some(queue) = &self.queue {
            write!(f, " → queue {queue}")?;
        }
        match &self.outcome {
            Outcome::Assign { person, .. } => write!(f, " → {person}")?,
            Outcome::Hold { reason, .. } => write!(f, " → held: {reason}")?,
            Outcome::Skip { .. } => {}
        }
        match self.taken().and_then(|candidate| candidate.credit) {
            Some(credit) => write!(f, " (credit {} → {})", credit.compared, credit.after),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Named => "named",
            Self::LargestCredit => "largest credit",
            Self::SmallerCredit => "smaller credit",
            Self::LaterInList => "same credit, later in the list",
            Self::Inactive => "not active in the portal",
        })
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NobodyEligible => "nobody may take it",
        })
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Converted => "the lead is converted",
            Self::Junk => "the lead is junk",
        })
    }
}
