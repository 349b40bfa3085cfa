//! What is known of people at the moment of a decision.
//!
//! The router loads it from the portal. It holds facts and draws no conclusion: whether they let a person take a lead
//! is the business of `eligibility`.

use std::collections::BTreeMap;

use crate::ids::UserId;

/// The people at one moment. Whoever is not in it is present: a default roster is "everybody is here".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    people: BTreeMap<UserId, Presence>,
}

/// What is known of one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Whether the portal lets this user in: `ACTIVE` of `user.get`. A dismissed person is not active.
    pub active: bool,
}

impl Roster {
    /// Records what is known of a person, in place of what was.
    pub fn set(&mut self, user: UserId, presence: Presence) {
        self.people.insert(user, presence);
    }

    /// What is known of a person.
    #[must_use]
    pub fn get(&self, user: UserId) -> &Presence {
        const PRESENT: &Presence = &Presence { active: true };
        self.people.get(&user).unwrap_or(PRESENT)
    }
}

impl Default for Presence {
    fn default() -> Self {
        Self { active: true }
    }
}

impl FromIterator<(UserId, Presence)> for Roster {
    fn from_iter<I: IntoIterator<Item = (UserId, Presence)>>(people: I) -> Self {
        Self { people: people.into_iter().collect() }
    }
}
