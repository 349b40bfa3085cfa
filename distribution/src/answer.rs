//! By when a lead's owner is to answer it, and what happens when he does not.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::giving::Destination;
use crate::routing::{Person, Queue, Routing};

/// What a queue says of leads that it gave and nobody answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerRules {
    /// How long the owner has, in his own working time.
    pub within: SignedDuration,
    /// After how much of it he is reminded; less than `within`.
    pub remind_at: Option<SignedDuration>,
    /// Where the lead goes then.
    pub then: Then,
    /// How often one person may get the lead before it is given to nobody any more.
    pub rounds: u32,
    /// Who is told when nobody else may take it.
    pub escalate_to: Arc<Person>,
    /// Whether who did not answer gets his turn back.
    pub refunds: bool,
}

/// Where a lead goes that nobody answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Then {
    /// To the next of the queue that gave it.
    #[default]
    Next,
    /// Elsewhere.
    To(Destination),
}

/// The moments of one lead's timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerTimes {
    /// When the owner is reminded.
    pub remind_at: Option<Timestamp>,
    /// When he has had his time.
    pub due_at: Timestamp,
}

impl Queue {
    /// Where a lead goes that this queue gave and nobody answered.
    #[must_use]
    pub fn destination_of_unanswered(&self, rules: &AnswerRules) -> Destination {
        match &rules.then {
            Then::Next => Destination::Queue(self.name.clone()),
            Then::To(destination) => destination.clone(),
        }
    }
}

impl Routing {
    /// When the timer of a lead rings that `person` owns since `since`. `None` when his schedule has no such time ahead.
    #[must_use]
    pub fn answer_times(
        &self,
        rules: &AnswerRules,
        person: &Person,
        since: Timestamp,
    ) -> Option<AnswerTimes> {
        let due_at = self.after_working_time(person, since, rules.within)?;
        let remind_at = rules.remind_at.and_then(|time| self.after_working_time(person, since, time));
        Some(AnswerTimes { remind_at, due_at })
    }
}
