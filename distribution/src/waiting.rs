//! How long a lead may wait in a queue, and what happens then.

use std::sync::Arc;

use jiff::SignedDuration;

use crate::routing::{Person, Queue, Routing};

/// What a queue says of its leads that are held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HoldRules {
    /// How long one may wait, and who is told of those that wait longer.
    pub alarm: Option<HoldAlarm>,
    /// How many of them one person is given in 60 seconds; `None` for as many as his limits let.
    pub release_per_minute: Option<u32>,
    /// Which of them go first.
    pub first: First,
}

/// The end of patience with a held lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldAlarm {
    /// How long it may wait, in time in which somebody of the queue's people works by his schedule.
    pub deadline: SignedDuration,
    /// Who is told.
    pub escalate_to: Arc<Person>,
}

/// Which held leads of a queue go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum First {
    /// Who has waited longest; of equals the most valuable.
    #[default]
    Oldest,
    /// The largest amount, whatever its currency; of equals who has waited longest.
    MostValuable,
}

impl Routing {
    /// The queue of this name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<&Queue> {
        self.queues.iter().find(|queue| queue.name.as_str() == name)
    }

    /// The person of this name.
    #[must_use]
    pub fn person(&self, name: &str) -> Option<&Arc<Person>> {
        self.people.iter().find(|person| person.name.as_str() == name)
    }

    /// Whether any queue gives held leads away at a rate.
    #[must_use]
    pub fn releases_at_a_rate(&self) -> bool {
        self.queues.iter().any(|queue| queue.hold.release_per_minute.is_some())
    }
}
