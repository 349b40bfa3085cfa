//! The line of a queue: which of its leads that wait go first, who waits behind whom, and who may take one of them.
//!
//! A lead joins the line when it is held. From then on two things are known of it beside its place: nothing of its
//! content, but what it needs ([`Needs`]). Leads with the same needs are one kind, so that ten thousand leads that wait
//! are a few kinds and their numbers.
//!
//! A lead is given only when that takes nothing from those ahead of it that somebody could give a place to. A lead ahead
//! that nobody may take at this moment holds nobody up.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::calendar::Calendar;
use crate::eligibility::Demands;
use crate::explanation::Role;
use crate::giving::Giving;
use crate::ids::{LeadId, UserId};
use crate::name::Name;
use crate::roster::Roster;
use crate::routing::{Fallback, Handover, Person, Queue, Routing, Target};
use crate::waiting::First;

/// Where a lead stands among those that wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// When it was first heard of.
    pub since: Timestamp,
    /// Its amount, whatever its currency.
    pub amount: Option<f64>,
    /// Its number; of leads that are equal in all else the first goes first.
    pub lead: LeadId,
}

/// What a lead that waits needs of people, apart from where it stands.
///
/// **Shape** in JSON; what is empty is left out: `{"queues": ["main"], "skills": ["moscow"], "had": [11]}`
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// The queues that are asked for it, in this order, with what these fall back to. It stands in the line of the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    queues: Vec<Name>,
    /// Who is asked for it by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    people: Vec<Name>,
    /// Whose client it is, where it waits for nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    only: Option<Name>,
    /// What its rule asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    skills: Vec<Name>,
    /// Who had it before.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    had: BTreeSet<UserId>,
}

/// Leads of one kind that wait ahead of another lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// What each of them needs.
    pub needs: Needs,
    /// How many they are. Who counts may stop at a number far above the places that people have.
    pub count: u32,
}

impl First {
    /// Which of two leads that wait in the queue goes first.
    #[must_use]
    pub fn compare(self, one: &Place, other: &Place) -> Ordering {
        let age = || one.since.cmp(&other.since);
        let worth = |place: &Place| place.amount.unwrap_or(f64::NEG_INFINITY);
        let value = || worth(other).total_cmp(&worth(one));
        let (first, then) = match self {
            Self::Oldest => (age(), value()),
            Self::MostValuable => (value(), age()),
        };
        first.then(then).then_with(|| one.lead.cmp(&other.lead))
    }
}

impl Routing {
    /// How many leads of this kind, which have waited, people may take at this moment, each within his limits.
    #[must_use]
    pub fn places(&self, needs: &Needs, roster: &Roster, now: Timestamp) -> u32 {
        sum(&needs.takers(self, roster, &Calendar::at(self, now), true))
    }

    /// Which leads go first in the line in which one with these needs stands.
    #[must_use]
    pub fn first(&self, needs: &Needs) -> First {
        needs.queue().and_then(|queue| self.queue(queue)).map(|queue| queue.hold.first).unwrap_or_default()
    }
}

impl Needs {
    /// The queue in whose line it stands; `None` where it waits for people who are named, and no queue is asked.
    #[must_use]
    pub fn queue(&self) -> Option<&Name> {
        self.queues.first()
    }

    /// What a lead needs that goes this way.
    pub(crate) fn of(routing: &Routing, handover: &Handover, had: &BTreeSet<UserId>) -> Self {
        let mut needs = Self { skills: handover.skills.clone(), had: had.clone(), ..Self::default() };
        let mut next = Some(&handover.target);
        while let Some(target) = next.take() {
            match target {
                Target::Queue(queue) => needs.queues.extend(name(routing, *queue)),
                // The default falls back to nothing.
                Target::Person { person, .. } if needs.people.contains(&person.name) => {}
                Target::Person { person, if_nobody } => {
                    needs.people.push(person.name.clone());
                    match if_nobody {
                        Some(fallbacks) => {
                            needs
                                .queues
                                .extend(before_hold(fallbacks).filter_map(|next| name(routing, next)));
                        }
                        None if needs.people.len() == 1 => next = Some(&routing.default.target),
                        None => {}
                    }
                }
            }
        }
        needs
    }

    /// The same of a lead that nobody but this person is asked for.
    pub(crate) fn only(self, person: Name) -> Self {
        Self { only: Some(person), ..self }
    }

    /// The same of a lead that this person is asked for besides.
    pub(crate) fn also(mut self, person: Name) -> Self {
        if !self.people.contains(&person) {
            self.people.push(person);
        }
        self
    }

    /// Whether somebody may take such a lead at this moment; `waited` says that it has waited, so that rates bind it.
    pub(crate) fn has_takers(
        &self,
        routing: &Routing,
        roster: &Roster,
        calendar: &Calendar<'_>,
        waited: bool,
    ) -> bool {
        !self.takers(routing, roster, calendar, waited).is_empty()
    }

    /// Who may take such a lead, and how many of them.
    fn takers(
        &self,
        routing: &Routing,
        roster: &Roster,
        calendar: &Calendar<'_>,
        waited: bool,
    ) -> BTreeMap<UserId, u32> {
        let mut takers = BTreeMap::new();
        let mut ask = |person: &Person, demands: &Demands<'_>| {
            let presence = roster.get(person.user);
            if demands.refusal(person, presence, calendar).is_none() {
                let places = demands.places(person, presence);
                takers
                    .entry(person.user)
                    .and_modify(|known: &mut u32| *known = places.max(*known))
                    .or_insert(places);
            }
        };
        let of_queue = |queue, role| Demands::of_queue(queue, role, &self.skills, &self.had, waited);
        if let Some(only) = &self.only {
            let queue = self.queue().and_then(|queue| routing.queue(queue));
            if let (Some(person), Some(queue)) = (routing.person(only), queue) {
                ask(person, &of_queue(queue, Role::Client));
            }
            return takers;
        }
        for person in self.people.iter().filter_map(|person| routing.person(person)) {
            ask(person, &Demands::of_rule(&self.skills, &self.had));
        }
        for queue in self.reached(routing) {
            for (member, role) in queue.everybody() {
                ask(&member.person, &of_queue(queue, role));
            }
        }
        takers
    }

    /// The queues that are asked in the end.
    fn reached<'r>(&self, routing: &'r Routing) -> Vec<&'r Queue> {
        let mut reached: Vec<&Queue> = Vec::new();
        let mut waiting: Vec<&Queue> = self.queues.iter().filter_map(|name| routing.queue(name)).collect();
        while let Some(queue) = waiting.pop() {
            if !reached.iter().any(|known| known.name == queue.name) {
                reached.push(queue);
                waiting.extend(before_hold(&queue.if_nobody).filter_map(|next| routing.queues.get(next)));
            }
        }
        reached
    }
}

/// Whether a lead with these needs, which somebody could take, is to wait for those ahead of it.
///
/// One that comes new waits for all that want somebody who might take it too, also for those that only a rate holds back.
/// One that has waited goes as soon as those ahead of it leave a place, in whatever order they are looked at.
pub(crate) fn is_behind(
    needs: &Needs,
    giving: &Giving,
    routing: &Routing,
    roster: &Roster,
    calendar: &Calendar<'_>,
) -> bool {
    let ahead =
        || giving.ahead.iter().filter(|ahead| ahead.count > 0 && ahead.needs.queue() == needs.queue());
    if ahead().next().is_none() {
        return false;
    }
    let waited = giving.held_since.is_some();
    let own = needs.takers(routing, roster, calendar, waited);
    let wants_the_same = |ahead: &&Ahead| {
        let takers = ahead.needs.takers(routing, roster, calendar, false);
        takers.keys().any(|user| own.contains_key(user))
    };
    let before = ahead().filter(wants_the_same).fold(0, |sum: u32, ahead| sum.saturating_add(ahead.count));
    before > 0 && (!waited || before >= sum(&own))
}

fn sum(takers: &BTreeMap<UserId, u32>) -> u32 {
    takers.values().fold(0, |sum, places| sum.saturating_add(*places))
}

fn name(routing: &Routing, queue: usize) -> Option<Name> {
    routing.queues.get(queue).map(|queue| queue.name.clone())
}

/// What is tried before the lead is held.
fn before(fallbacks: &[Fallback]) -> impl Iterator<Item = &Fallback> {
    fallbacks.iter().take_while(|fallback| **fallback != Fallback::Hold)
}

/// The queues among that, by their places.
fn before_hold(fallbacks: &[Fallback]) -> impl Iterator<Item = usize> {
    before(fallbacks).filter_map(|fallback| match fallback {
        Fallback::Queue(queue) => Some(*queue),
        Fallback::OnDuty | Fallback::Hold => None,
    })
}
