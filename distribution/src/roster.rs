//! What is known of people at the moment of a decision.
//!
//! The router loads it from the portal and the store. It holds facts and draws no conclusion: whether they let a person
//! take a lead is the business of `eligibility`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::ids::UserId;

/// The people at one moment. Whoever is not in it is present and has nothing to do: a default roster is "everybody is
/// here".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    people: FxHashMap<UserId, Presence>,
    not_known: BTreeSet<NotKnown>,
}

/// Something about people that nobody could tell, so that a decision was made without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NotKnown {
    /// Whether the portal lets them in.
    People,
    /// Their working days.
    WorkingDays,
    /// Their absences.
    Absences,
    /// Their leads in process.
    OpenLeads,
    /// Whose client sent the lead.
    Clients,
    /// Where they live.
    TimeZones,
}

/// What is known of one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Whether the portal lets this user in: `ACTIVE` of `user.get`. A dismissed person is not active.
    pub active: bool,
    /// His working day in the portal's time tracking.
    pub working_day: WorkingDay,
    /// When he is on leave, on a business trip, ill or otherwise away; in any order, they may overlap.
    pub absent: Vec<Absence>,
    /// Until when he has paused himself, or was paused, by hand.
    pub paused_until: Option<Timestamp>,
    /// How many leads in process are his, with those that were decided for him and are not visible in the portal yet.
    pub open: u32,
    /// How many leads he was given in the last 60 minutes.
    pub hour: u32,
    /// How many leads he was given since midnight of his own time zone: see [`Person::day_start`](crate::Person::day_start).
    pub day: u32,
    /// How many leads that had been held he was given in the last 60 seconds.
    pub released: u32,
}

/// A time somebody is away.
///
/// **Shape** in JSON: `["2026-11-23T09:00:00Z", "2026-12-03T00:00:00Z"]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence(
    /// The first moment.
    pub Timestamp,
    /// The first moment at which he is back.
    pub Timestamp,
);

/// The state of a working day: `STATUS` of `timeman.status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkingDay {
    /// It is running.
    #[default]
    Opened,
    /// It is interrupted.
    Paused,
    /// It is over, or has not begun.
    Closed,
    /// It was begun on an earlier day and never closed.
    Expired,
    /// He keeps none, so his schedule alone counts.
    NotKept,
    /// Nobody could tell, so his schedule alone counts.
    Unknown,
}

impl WorkingDay {
    /// Whether it is no reason to give him no leads.
    #[must_use]
    pub fn lets_work(self) -> bool {
        match self {
            Self::Opened | Self::NotKept | Self::Unknown => true,
            Self::Paused | Self::Closed | Self::Expired => false,
        }
    }
}

impl Roster {
    /// Records what is known of a person, in place of what was.
    pub fn set(&mut self, user: UserId, presence: Presence) {
        self.people.insert(user, presence);
    }

    /// Records that this could not be told.
    pub fn set_not_known(&mut self, what: NotKnown) {
        self.not_known.insert(what);
    }

    /// What could not be told.
    pub fn not_known(&self) -> impl Iterator<Item = NotKnown> {
        self.not_known.iter().copied()
    }

    /// What is known of a person.
    #[must_use]
    pub fn get(&self, user: UserId) -> &Presence {
        const HERE: &Presence = &Presence::HERE;
        self.people.get(&user).unwrap_or(HERE)
    }
}

impl Presence {
    const HERE: Self = Self {
        active: true,
        working_day: WorkingDay::Opened,
        absent: Vec::new(),
        paused_until: None,
        open: 0,
        hour: 0,
        day: 0,
        released: 0,
    };
}

impl Default for Presence {
    fn default() -> Self {
        Self::HERE
    }
}

impl FromIterator<(UserId, Presence)> for Roster {
    fn from_iter<I: IntoIterator<Item = (UserId, Presence)>>(people: I) -> Self {
        Self { people: people.into_iter().collect(), not_known: BTreeSet::new() }
    }
}
