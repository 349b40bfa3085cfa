//! The office during a simulation: what people were given, what waits, how the credits stand.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use distribution::{
    Assignment, Decision, LeadId, Ledger, Name, Person, Presence, Role, Roster, Routing, UserId, decide,
};
use jiff::{SignedDuration, Timestamp};

use super::Arrival;

/// When a held lead is decided again where nothing tells a better moment.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// How long after the last lead held ones are still decided, where it is known when somebody may take them.
const DRAIN: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The same where it is not known: until the limits of the last hour are free again.
const DRAIN_UNKNOWN: SignedDuration = SignedDuration::from_hours(2);

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
}

/// What one person was given.
struct Given<'r> {
    person: &'r Person,
    presence: Presence,
    /// The times of the last hour.
    hour: VecDeque<Timestamp>,
    /// When his day ends; `None` before the first lead.
    day_end: Option<Timestamp>,
}

struct Held<'a> {
    arrival: &'a Arrival,
    taker: usize,
}

pub(crate) struct World<'a> {
    routing: &'a Routing,
    roster: Roster,
    ledger: Ledger,
    given: BTreeMap<UserId, Given<'a>>,
    held: Vec<Held<'a>>,
    /// Held leads by the time of their next look, oldest first.
    due: BinaryHeap<Reverse<(Timestamp, usize)>>,
    now: Timestamp,
    /// When the last lead came.
    last: Timestamp,
    tally: Tally,
}

impl<'a> World<'a> {
    pub(crate) fn new(routing: &'a Routing, roster: Roster, ledger: Ledger) -> Self {
        let given = |person: &'a Person| {
            let presence = roster.get(person.user).clone();
            (person.user, Given { person, presence, hour: VecDeque::new(), day_end: None })
        };
        let given = routing.people().map(given).collect();
        let (held, due, tally) = (Vec::new(), BinaryHeap::new(), Tally::default());
        Self { routing, roster, ledger, given, held, due, now: Timestamp::MIN, last: Timestamp::MIN, tally }
    }

    /// A lead comes; before it, what is due is decided.
    pub(crate) fn receive(&mut self, arrival: &'a Arrival) {
        self.look_until(arrival.at);
        (self.now, self.last) = (arrival.at, arrival.at);
        self.tally.leads += 1;
        let taker = self.tally.takers.len();
        self.tally.takers.push((arrival.lead.id, None));
        if let Some(again) = self.decide(arrival, taker) {
            self.tally.held += 1;
            self.due.push(Reverse((again, self.held.len())));
            self.held.push(Held { arrival, taker });
        }
    }

    /// Decides what waits, as long as schedules and absences let hope.
    pub(crate) fn drain(&mut self) {
        self.look_until(later(self.last, DRAIN));
        self.tally.still_held += self.due.len();
    }

    pub(crate) fn into_tally(self) -> Tally {
        self.tally
    }

    fn look_until(&mut self, end: Timestamp) {
        while let Some(Reverse((at, _))) = self.due.peek()
            && *at <= end
            && let Some(Reverse((at, number))) = self.due.pop()
            && let Some(&Held { arrival, taker }) = self.held.get(number)
        {
            self.now = at;
            match self.decide(arrival, taker) {
                Some(again) if again > self.now => self.due.push(Reverse((again, number))),
                Some(_) => self.tally.still_held += 1,
                None => {
                    let wait = at.duration_since(arrival.at);
                    self.tally.longest_wait = self.tally.longest_wait.max(wait);
                }
            }
        }
    }

    /// Decides at this moment; answers when to look again if it waits: this moment for never.
    fn decide(&mut self, arrival: &Arrival, taker: usize) -> Option<Timestamp> {
        self.count();
        match decide(&arrival.lead, &self.roster, self.routing, &self.ledger, self.now) {
            Decision::Assign(assignment) => {
                self.give(&assignment);
                if let Some(entry) = self.tally.takers.get_mut(taker) {
                    entry.1 = Some(assignment.person.clone());
                }
                self.ledger.extend(assignment.entries);
                None
            }
            Decision::Hold(hold) => {
                let known = hold.until.filter(|until| *until > self.now);
                let hopeless = known.is_none() && self.now > later(self.last, DRAIN_UNKNOWN);
                Some(if hopeless { self.now } else { known.unwrap_or(later(self.now, LOOK_AGAIN)) })
            }
            Decision::Skip(_) => {
                self.tally.skipped += 1;
                None
            }
        }
    }

    /// Forgets what is older than an hour, or of another day.
    fn count(&mut self) {
        let hour_ago = self.now.checked_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MIN);
        for (user, given) in &mut self.given {
            let before = (given.presence.hour, given.presence.day);
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
            if before != (given.presence.hour, given.presence.day) {
                self.roster.set(*user, given.presence.clone());
            }
        }
    }

    fn give(&mut self, assignment: &Assignment) {
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
