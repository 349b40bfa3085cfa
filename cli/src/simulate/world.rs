//! The office during a simulation: what people were given, what waits, how the credits stand.

use std::collections::{BTreeMap, VecDeque};

use distribution::{
    Assignment, Decision, Giving, LeadId, Ledger, Name, Needs, Person, Presence, Role, Roster, Routing,
    UserId, decide_giving,
};
use jiff::{SignedDuration, Timestamp};

use super::Arrival;
use super::lines::{Held, Lines};

/// When a held lead is decided again where nothing tells a better moment.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// How long after the last lead held ones are still decided, where it is known when somebody may take them.
const DRAIN: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The same where it is not known: until the limits of the last hour are free again.
const DRAIN_UNKNOWN: SignedDuration = SignedDuration::from_hours(2);

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// What came of a simulation.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) leads: usize,
    pub(crate) skipped: usize,
    /// Leads that waited, the longest wait among those given away in the end, and how many still wait.
    pub(crate) held: usize,
    pub(crate) longest_wait: SignedDuration,
    pub(crate) still_held: usize,
    pub(crate) given: BTreeMap<Name, usize>,
    /// What each would have got by weights alone, lead by lead among those who could take it.
    pub(crate) expected: BTreeMap<Name, f64>,
    pub(crate) by_rule: BTreeMap<Option<Name>, usize>,
    pub(crate) by_queue: BTreeMap<Option<Name>, usize>,
    /// Who got each lead in the end; `None` for who waits or was skipped.
    pub(crate) takers: Vec<(LeadId, Option<Name>)>,
    /// The leads that were given, in the order in which they were.
    pub(crate) order: Vec<LeadId>,
}

/// What one person was given.
struct Given<'r> {
    person: &'r Person,
    presence: Presence,
    /// The times of the last hour.
    hour: VecDeque<Timestamp>,
    /// The times of the last minute at which he was given one that had waited.
    released: VecDeque<Timestamp>,
    /// When his day ends; `None` before the first lead.
    day_end: Option<Timestamp>,
}

/// A lead that is to wait.
struct Waits<'a> {
    needs: Option<Needs>,
    held: Held<'a>,
    /// When there is hope again, if there is.
    look_again: Option<Timestamp>,
}

pub(crate) struct World<'a> {
    routing: &'a Routing,
    roster: Roster,
    ledger: Ledger,
    given: BTreeMap<UserId, Given<'a>>,
    lines: Lines<'a>,
    /// When what waits is looked at again, if there is hope.
    next: Option<Timestamp>,
    now: Timestamp,
    /// When the last lead came.
    last: Timestamp,
    tally: Tally,
}

impl<'a> World<'a> {
    pub(crate) fn new(routing: &'a Routing, roster: Roster, ledger: Ledger) -> Self {
        let given = |person: &'a Person| {
            let presence = roster.get(person.user).clone();
            (
                person.user,
                Given { person, presence, hour: VecDeque::new(), released: VecDeque::new(), day_end: None },
            )
        };
        let given = routing.people().map(given).collect();
        let (lines, tally) = (Lines::default(), Tally::default());
        Self {
            routing,
            roster,
            ledger,
            given,
            lines,
            next: None,
            now: Timestamp::MIN,
            last: Timestamp::MIN,
            tally,
        }
    }

    /// A lead comes; before it, those that wait take what places there are.
    pub(crate) fn receive(&mut self, arrival: &'a Arrival) {
        self.look_until(arrival.at);
        (self.now, self.last) = (arrival.at, arrival.at);
        self.settle();
        self.tally.leads += 1;
        let held = Held { arrival, taker: self.tally.takers.len(), since: None };
        self.tally.takers.push((arrival.lead.id, None));
        if let Some(waits) = self.decide(held) {
            self.tally.held += 1;
            self.join(waits);
        }
    }

    /// Decides what waits, as long as schedules and absences let hope.
    pub(crate) fn drain(&mut self) {
        self.look_until(later(self.last, DRAIN));
        self.tally.still_held += self.lines.count();
    }

    pub(crate) fn into_tally(self) -> Tally {
        self.tally
    }

    fn look_until(&mut self, end: Timestamp) {
        while let Some(at) = self.next.take_if(|next| *next <= end) {
            self.now = at;
            self.settle();
        }
    }

    /// Gives those that wait, who goes first first, as long as somebody may take one.
    fn settle(&mut self) {
        if self.lines.count() == 0 {
            return;
        }
        self.count();
        self.next = None;
        // None is looked at twice at the same moment.
        let mut again = Vec::new();
        while let Some(held) = self.lines.pop_foremost(self.routing, &self.roster, self.now) {
            again.extend(self.decide(held));
        }
        // One of each kind tells when there is hope for the others.
        for held in self.lines.pop_one_of_each_kind() {
            again.extend(self.decide(held));
        }
        for waits in again {
            self.join(waits);
        }
    }

    fn join(&mut self, waits: Waits<'a>) {
        let look_again = waits.look_again.filter(|at| *at > self.now);
        self.next = [self.next, look_again].into_iter().flatten().min();
        self.lines.join(self.routing, waits.needs, waits.held);
    }

    /// Decides at this moment.
    fn decide(&mut self, held: Held<'a>) -> Option<Waits<'a>> {
        self.count();
        let Held { arrival, taker, since } = held;
        let ahead = self.lines.ahead(self.routing, &held);
        let giving = Giving { held_since: since, ahead, ..Giving::default() };
        match decide_giving(&arrival.lead, &giving, &self.roster, self.routing, &self.ledger, self.now) {
            Decision::Assign(assignment) => {
                self.give(&assignment, since.is_some());
                if let Some(entry) = self.tally.takers.get_mut(taker) {
                    entry.1 = Some(assignment.person.clone());
                }
                self.tally.order.push(arrival.lead.id);
                self.ledger.extend(assignment.entries);
                self.note_wait(held);
                None
            }
            Decision::Hold(holding) => {
                let known = [holding.until, self.released_again()].into_iter().flatten();
                let known = known.filter(|until| *until > self.now).min();
                let hopeless = known.is_none() && self.now > later(self.last, DRAIN_UNKNOWN);
                let soon = [Some(later(self.now, LOOK_AGAIN)), self.hour_over()].into_iter().flatten().min();
                let soon = soon.filter(|_| !hopeless);
                let held = Held { since: Some(since.unwrap_or(self.now)), ..held };
                Some(Waits { needs: holding.needs, held, look_again: known.or(soon) })
            }
            Decision::Skip(_) => {
                self.tally.skipped += 1;
                self.note_wait(held);
                None
            }
        }
    }

    fn note_wait(&mut self, held: Held<'_>) {
        if held.since.is_some() {
            let wait = self.now.duration_since(held.arrival.at);
            self.tally.longest_wait = self.tally.longest_wait.max(wait);
        }
    }

    /// When the first of the leads that people were given in the last hour counts no more.
    fn hour_over(&self) -> Option<Timestamp> {
        let first = self.given.values().filter_map(|given| given.hour.front()).min();
        first.map(|first| later(*first, HOUR)).filter(|over| *over > self.now)
    }

    /// When somebody may be given the next of those that waited, where that goes by a rate.
    fn released_again(&self) -> Option<Timestamp> {
        let first = self.given.values().filter_map(|given| given.released.front()).min();
        first.map(|first| later(*first, MINUTE))
    }

    /// Forgets what is older than an hour, or of another day.
    fn count(&mut self) {
        let hour_ago = self.now.checked_sub(HOUR).unwrap_or(Timestamp::MIN);
        for (user, given) in &mut self.given {
            let before = (given.presence.hour, given.presence.day, given.presence.released);
            if given.day_end.is_none() {
                // What he was given before counts as if it had been a moment ago.
                given.hour.extend((0..given.presence.hour).map(|_| self.now));
            }
            while given.hour.front().is_some_and(|at| *at <= hour_ago) {
                given.hour.pop_front();
            }
            given.presence.hour = u32::try_from(given.hour.len()).unwrap_or(u32::MAX);
            if given.day_end.is_none_or(|end| self.now >= end) {
                if given.day_end.is_some() {
                    given.presence.day = 0;
                }
                given.day_end = Some(given.person.next_day(self.now).unwrap_or(Timestamp::MAX));
            }
            while given.released.front().is_some_and(|at| later(*at, MINUTE) <= self.now) {
                given.released.pop_front();
            }
            given.presence.released = u32::try_from(given.released.len()).unwrap_or(u32::MAX);
            if before != (given.presence.hour, given.presence.day, given.presence.released) {
                self.roster.set(*user, given.presence.clone());
            }
        }
    }

    fn give(&mut self, assignment: &Assignment, waited: bool) {
        *self.tally.given.entry(assignment.person.clone()).or_default() += 1;
        *self.tally.by_rule.entry(assignment.rule.clone()).or_default() += 1;
        *self.tally.by_queue.entry(assignment.queue.clone()).or_default() += 1;
        for (person, part) in self.shares(assignment) {
            *self.tally.expected.entry(person).or_default() += part;
        }
        if let Some(given) = self.given.get_mut(&assignment.user) {
            given.hour.push_back(self.now);
            given.presence.day += 1;
            given.presence.hour += 1;
            if waited && self.routing.releases_at_a_rate() {
                given.released.push_back(self.now);
                given.presence.released += 1;
            }
            self.roster.set(assignment.user, given.presence.clone());
        }
    }

    /// How this lead would be shared out by weights: among those of the queue who could take it. A lead on duty that
    /// counts as a turn is shared by those whose turn it makes.
    fn shares(&self, assignment: &Assignment) -> Vec<(Name, f64)> {
        let why = &assignment.explanation;
        let whole = vec![(assignment.person.clone(), 1.0)];
        let queue = assignment.queue.as_ref();
        let Some(queue) = self.routing.queues().find(|one| Some(&one.name) == queue) else { return whole };
        let Some(taken) = why.taken() else { return whole };
        let takes_part = |person: &Person| match (taken.role, taken.charge) {
            (Role::OnDuty, None) | (Role::Named, _) => false,
            (Role::OnDuty, Some(_)) | (Role::Client | Role::Substitute | Role::Successor, _) => {
                assignment.entries.iter().any(|entry| entry.user == person.user)
            }
            (Role::Member, _) => why.candidates.iter().any(|candidate| {
                candidate.user == person.user
                    && candidate.role == Role::Member
                    && candidate.queue.as_ref() == Some(&queue.name)
                    && candidate.eligible
            }),
        };
        let members = || queue.members.iter().filter(|member| takes_part(&member.person));
        let total: f64 = members().map(|member| f64::from(member.weight.get())).sum();
        if total == 0.0 {
            return whole;
        }
        members().map(|member| (member.person.name.clone(), f64::from(member.weight.get()) / total)).collect()
    }
}

fn later(moment: Timestamp, by: SignedDuration) -> Timestamp {
    moment.checked_add(by).unwrap_or(Timestamp::MAX)
}
