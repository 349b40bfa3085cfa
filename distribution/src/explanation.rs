//! Why a lead went where it went: the record that a decision carries and the store keeps.
//!
//! It is complete in itself: who reads it years later needs neither the routing nor the lead. It holds no content of the
//! lead, only what the routing file says and how people stood. Other programs read its JSON form, so a field that is
//! there keeps its meaning; a change that breaks this is a new [`FORMAT`].

mod line;
mod text;

pub(crate) use text::reason_text;
pub use text::{Language, UnknownLanguage};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::giving::{Cause, Destination};
use crate::ids::UserId;
use crate::ledger::Credit;
use crate::name::Name;
use crate::roster::{NotKnown, WorkingDay};
use crate::routing::Person;
use crate::sticky::OwnClient;

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
/// `Display` gives it as one line: `rule "Cold calls" → queue cold_calls → sidorov (credit +0.50 → -0.50)`;
/// [`text`](Self::text) says all of it in words.
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
    /// Why the lead is given; not there for a new one.
    #[serde(default, skip_serializing_if = "Cause::is_new")]
    pub cause: Cause,
    /// Where it was to go in place of what the rules say; mostly not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Destination>,
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
    /// Whose client it is, where a queue asked for that and it is somebody's of the routing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<OwnClient>,
    /// The queue that gave it away; where it waits, the first that was asked.
    pub queue: Option<Name>,
    /// Everybody who came into question, in the order in which they were asked.
    pub candidates: Vec<Candidate>,
    /// What could not be told about people, so that it was decided without; mostly nothing, and then not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_known: Vec<NotKnown>,
    /// The routing's time zone, by its IANA name: in it times are told to people. Not there in the oldest records.
    #[serde(default)]
    pub time_zone: Option<Name>,
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
    /// As what he was asked. Not there in the oldest records, as the next.
    #[serde(default)]
    pub role: Role,
    /// The queue he was asked for; `None` for who is named by a rule.
    #[serde(default)]
    pub queue: Option<Name>,
    /// Whether he could have taken the lead.
    pub eligible: bool,
    /// Why he was taken, or why not; in JSON the member `reason` and what belongs to it.
    #[serde(flatten)]
    pub reason: Reason,
    /// His credit in the ledger that was asked; `None` where none is.
    pub credit: Option<CreditChange>,
    /// What he has to do; `None` where that is not asked.
    #[serde(default)]
    pub load: Option<Load>,
    /// His credit in the queue's ledger, when he took the lead on duty and it counts as his turn there.
    #[serde(default)]
    pub charge: Option<CreditChange>,
}

/// As what somebody is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// As the person a rule or the default names.
    Named,
    /// As a member of the queue.
    #[default]
    Member,
    /// As one of those on duty for the queue.
    OnDuty,
    /// As the person whose client it is.
    Client,
    /// As the substitute of that person, who is away.
    Substitute,
    /// As the successor of that person, who is dismissed.
    Successor,
}

/// How much somebody has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// His leads in process.
    pub open: u32,
    /// How much of that he can bear, relative to the others: his weight.
    pub weight: u32,
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
///
/// **Shape** in JSON: `{"reason": "absent", "until": "2026-12-03T06:00:00Z"}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Taken: a rule or the default names him.
    Named,
    /// Taken: his credit is the largest, or he is the first in the list of those who have it.
    LargestCredit,
    /// Taken: he has the fewest open leads for his weight; among equals his credit is the largest.
    LeastLoaded,
    /// Taken: he is the first in the list of those who may take it.
    FirstInList,
    /// Taken: the client is his.
    SameClient,
    /// Taken: he stands in for the person whose client it is.
    StandsIn,
    /// Not taken: his credit is smaller than the chosen's.
    SmallerCredit,
    /// Not taken: he has more open leads for his weight than the chosen.
    MoreLoaded,
    /// Not taken: he is equal to the chosen, and stands after him in the list.
    LaterInList,
    /// Not taken: he is on duty, and is asked as that when no other member is at work.
    ReservedForDuty,
    /// Left out: he is not active in the portal.
    Inactive,
    /// Left out: he had the lead before.
    HadBefore,
    /// Left out: he lacks what the rule asks for.
    LacksSkill {
        /// The first skill that he lacks.
        skill: Name,
    },
    /// Left out: he is paused.
    Paused {
        /// Until when.
        until: Timestamp,
    },
    /// Left out: he is on leave, on a business trip, ill or otherwise away.
    Absent {
        /// When he is back.
        until: Timestamp,
    },
    /// Left out: it is not his working time.
    OffSchedule {
        /// When his schedule is on again; `None` when that is not within a year.
        until: Option<Timestamp>,
    },
    /// Left out: the queue wants an open working day in the portal's time tracking.
    WorkingDay {
        /// What his is.
        state: WorkingDay,
    },
    /// Left out: he has as much as he may be given.
    AtLimit {
        /// Which limit.
        limit: Limit,
        /// The limit.
        max: u32,
        /// What he has.
        count: u32,
    },
}

/// A limit of what one person may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Leads in process at the same time.
    Open,
    /// Leads given in 60 minutes.
    PerHour,
    /// Leads given in a day.
    PerDay,
    /// Held leads given in 60 seconds.
    ReleasePerMinute,
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
    /// It waits for the person whose client it is.
    OwnersAbsence,
    /// Somebody may take it, but leads that wait ahead of it go first.
    BehindOthers,
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
    /// A person chose its owner: who has it is none of those from whom leads may be taken (`only_if_owner_in` of the
    /// routing file), or not the one who did not answer it.
    Taken,
    /// A person made it for themselves.
    MadeByHand,
    /// Nobody answered it, and nobody else may take it: it stays with who has it.
    NobodyElse,
}

impl SkipReason {
    /// Every reason there is.
    pub const ALL: [Self; 5] = [Self::Converted, Self::Junk, Self::Taken, Self::MadeByHand, Self::NobodyElse];

    /// The word for it, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Converted => "converted",
            Self::Junk => "junk",
            Self::Taken => "taken",
            Self::MadeByHand => "made_by_hand",
            Self::NobodyElse => "nobody_else",
        }
    }
}

impl Explanation {
    /// One English line: the rule, the queue, the person or why there is none.
    #[must_use]
    pub fn summary(&self) -> String {
        self.to_string()
    }

    /// All of it in words, for people: several lines, the first of which says who got the lead.
    #[must_use]
    pub fn text(&self, language: Language) -> String {
        text::Text::new(self, language).to_string()
    }

    /// The reason of one of its candidates in words.
    #[must_use]
    pub fn reason(&self, candidate: &Candidate, language: Language) -> String {
        text::Writer::new(self, language).reason(&candidate.reason)
    }

    /// Whether it went where it was asked for, and no rule was looked at.
    pub(crate) fn goes_as_asked(&self) -> bool {
        self.to.is_some() && self.rule.is_none() && !self.by_default
    }

    /// The candidate who was taken.
    #[must_use]
    pub fn taken(&self) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.reason.is_taken())
    }
}

impl Candidate {
    pub(crate) fn new(person: &Person, role: Role, queue: Option<&Name>, reason: Reason) -> Self {
        Self {
            person: person.name.clone(),
            user: person.user,
            role,
            queue: queue.cloned(),
            eligible: !reason.is_left_out(),
            reason,
            credit: None,
            load: None,
            charge: None,
        }
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
    pub const fn is_taken(&self) -> bool {
        matches!(self.fate(), Fate::Taken)
    }

    /// Whether it says that the candidate could not have got the lead.
    #[must_use]
    pub const fn is_left_out(&self) -> bool {
        matches!(self.fate(), Fate::LeftOut)
    }

    const fn fate(&self) -> Fate {
        match self {
            Self::Named
            | Self::LargestCredit
            | Self::LeastLoaded
            | Self::FirstInList
            | Self::SameClient
            | Self::StandsIn => Fate::Taken,
            Self::SmallerCredit | Self::MoreLoaded | Self::LaterInList | Self::ReservedForDuty => {
                Fate::NotTaken
            }
            Self::Inactive
            | Self::HadBefore
            | Self::LacksSkill { .. }
            | Self::Paused { .. }
            | Self::Absent { .. }
            | Self::OffSchedule { .. }
            | Self::WorkingDay { .. }
            | Self::AtLimit { .. } => Fate::LeftOut,
        }
    }
}

/// What became of a candidate.
enum Fate {
    Taken,
    /// Somebody else was.
    NotTaken,
    /// He could not have been.
    LeftOut,
}
