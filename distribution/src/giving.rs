//! What is particular about one giving of a lead: why it is given, where it is to go, who had it before.
//!
//! A lead is given once by itself. It is given again only when somebody asks for it, or nobody answered it.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::UserId;
use crate::line::Ahead;
use crate::name::Name;

/// One giving of a lead. The default is what every lead has at first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Giving {
    /// Why it is given.
    pub cause: Cause,
    /// Where it is to go; `None` for what the rules say.
    pub to: Option<Destination>,
    /// Who had it before in this round: none of them gets it.
    pub had: BTreeSet<UserId>,
    /// Since when it is held; `None` where it was not held until now.
    pub held_since: Option<Timestamp>,
    /// From whom it is taken; somebody else who has it by now keeps it. Only of [`Cause::Unanswered`].
    pub from: Option<UserId>,
    /// The leads that wait ahead of it, in the line of whatever queue.
    pub ahead: Vec<Ahead>,
}

/// Why a lead is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// It is new.
    #[default]
    New,
    /// A robot of the portal asked for it.
    Robot,
    /// Who had it did not answer.
    Unanswered,
}

/// Where a lead is to go, in place of what the rules say.
///
/// **Shape** in JSON: `{"queue": "vip"}` or `{"person": "ivanov"}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// A queue, by its name in the routing file.
    Queue(Name),
    /// A person, by his name in the routing file.
    Person(Name),
}

impl Cause {
    /// Every cause there is.
    pub const ALL: [Self; 3] = [Self::New, Self::Robot, Self::Unanswered];

    /// The word for it, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Robot => "robot",
            Self::Unanswered => "unanswered",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "so serde calls it")]
    pub(crate) fn is_new(&self) -> bool {
        *self == Self::New
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(queue) => write!(f, "queue {queue}"),
            Self::Person(person) => person.fmt(f),
        }
    }
}
