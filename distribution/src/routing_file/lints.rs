//! What a routing without errors probably does not do as it was meant: rules that are never reached, rules that share
//! values but not targets, people and queues that get nothing, queues in which nobody is at work when their leads come.
//!
//! Each of these is sound rather than complete: what is warned of is so, what is not may be so all the same.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, date};
use rust_decimal::Decimal;

use super::people::People;
use super::problem::{Place, Problems};
use crate::answer::Then;
use crate::condition::{Condition, Expected};
use crate::giving::Destination;
use crate::ids::UserId;
use crate::routing::{Clause, Fallback, Handover, Member, Queue, Route, Routing, Rule, Target, Test};
use crate::sticky::IfAbsent;

/// Where the parts of a routing stand in its file.
pub(super) struct Places<'p> {
    pub(super) people: &'p People,
    pub(super) queues: &'p [Place],
    pub(super) rules: &'p [Place],
}

/// Rules are compared in pairs, so a file of very many is spared this.
const RULES_COMPARED_MAX: usize = 3_000;

/// Looks for all of it.
pub(super) fn note(routing: &Routing, places: &Places, problems: &mut Problems) {
    if routing.rules.len() <= RULES_COMPARED_MAX {
        rules(routing, places, problems);
    }
    people(routing, places, problems);
    queues(routing, places, problems);
    coverage(routing, places, problems);
    clients(routing, places, problems);
}

/// Rules that an earlier one leaves nothing, and pairs that share values.
fn rules(routing: &Routing, places: &Places, problems: &mut Problems) {
    for (index, (rule, place)) in routing.rules.iter().zip(places.rules).enumerate() {
        let earlier = routing.rules.iter().take(index);
        let covers = |earlier: &&Rule| earlier.route.takes_all() && implies(&rule.clauses, &earlier.clauses);
        if let Some(covering) = earlier.clone().find(covers) {
            let message = match covering.clauses.as_slice() {
                [] => {
                    format!("`{}` is never reached: `{}` above it takes every lead", rule.name, covering.name)
                }
                _ => format!(
                    "`{}` is never reached: `{}` above it takes all its leads",
                    rule.name, covering.name
                ),
            };
            problems.warn(*place, message, "put the narrower rule first");
            continue;
        }
        for earlier in earlier.rev() {
            let Some(shared) = shared_values(earlier, rule) else { continue };
            let message = format!(
                "`{}` and `{}` above it disagree about {shared}: these go by `{}`",
                rule.name, earlier.name, earlier.name
            );
            problems.warn(*place, message, "leave out of one rule what belongs to the other");
            break;
        }
    }
}

/// Whether every lead that meets all of `narrow` meets all of `wide`.
fn implies(narrow: &[Clause], wide: &[Clause]) -> bool {
    wide.iter().all(|wanted| narrow.iter().any(|given| implies_clause(given, wanted)))
}

fn implies_clause(given: &Clause, wanted: &Clause) -> bool {
    match (&given.test, &wanted.test) {
        (Test::Field { field, condition }, Test::Field { field: wanted_field, condition: wanted }) => {
            field == wanted_field && implies_condition(condition, wanted)
        }
        (Test::Received { hours, within }, Test::Received { hours: wanted_hours, within: wanted }) => {
            hours == wanted_hours && within == wanted
        }
        // All of it is given, so any part of it is.
        (Test::All(groups), _) => groups.iter().flatten().any(|given| implies_clause(given, wanted)),
        (_, Test::All(groups)) => groups.iter().flatten().all(|wanted| implies_clause(given, wanted)),
        (_, Test::Any(groups)) => groups.iter().any(|group| match group.as_slice() {
            [only] => implies_clause(given, only),
            _ => false,
        }),
        _ => false,
    }
}

fn implies_condition(given: &Condition, wanted: &Condition) -> bool {
    if given == wanted {
        return true;
    }
    match (given, wanted) {
        (Condition::AnyOf(given), _) => given.iter().all(|value| fulfils(value, wanted)),
        (Condition::Contains(given) | Condition::StartsWith(given), Condition::Contains(wanted)) => {
            given.contains(wanted.as_str())
        }
        (Condition::StartsWith(given), Condition::StartsWith(wanted)) => given.starts_with(wanted.as_str()),
        (Condition::All(given), wanted) => given.iter().any(|given| implies_condition(given, wanted)),
        (given, Condition::All(wanted)) => wanted.iter().all(|wanted| implies_condition(given, wanted)),
        (given, Condition::Any(wanted)) => wanted.iter().any(|wanted| implies_condition(given, wanted)),
        _ => match (Range::of(given), Range::of(wanted)) {
            (Some(given), Some(wanted)) => given.is_within(&wanted),
            // Whatever is asked of a value, it is there.
            (Some(_), None) => *wanted == Condition::Empty(false),
            _ => false,
        },
    }
}

/// Whether a field that equals this value meets the condition. A field may have several values: what one of them is
/// enough for, one of them fulfils.
fn fulfils(value: &Expected, wanted: &Condition) -> bool {
    match (value, wanted) {
        (value, Condition::AnyOf(wanted)) => wanted.contains(value),
        (Expected::Number(number), wanted)
            if Range::of(wanted).is_some_and(|range| range.contains(*number)) =>
        {
            true
        }
        (Expected::Text(text), Condition::Contains(part)) => text.contains(part.as_str()),
        (Expected::Text(text), Condition::StartsWith(start)) => text.starts_with(start.as_str()),
        (Expected::Text(_) | Expected::Number(_) | Expected::Flag(true), Condition::Empty(false)) => true,
        (value, Condition::All(wanted)) => wanted.iter().all(|wanted| fulfils(value, wanted)),
        (value, Condition::Any(wanted)) => wanted.iter().any(|wanted| fulfils(value, wanted)),
        _ => false,
    }
}

/// Numbers from one end to the other; each end may be left out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    low: Option<(Decimal, bool)>,
    high: Option<(Decimal, bool)>,
}

impl Range {
    fn of(condition: &Condition) -> Option<Self> {
        let (low, high) = match condition {
            Condition::Over(low) => (Some((*low, false)), None),
            Condition::AtLeast(low) => (Some((*low, true)), None),
            Condition::Under(high) => (None, Some((*high, false))),
            Condition::AtMost(high) => (None, Some((*high, true))),
            Condition::Between(low, high) => (Some((*low, true)), Some((*high, true))),
            Condition::AnyOf(_)
            | Condition::Contains(_)
            | Condition::StartsWith(_)
            | Condition::Matches(_)
            | Condition::Empty(_)
            | Condition::Not(_)
            | Condition::All(_)
            | Condition::Any(_) => return None,
        };
        Some(Self { low, high })
    }

    fn contains(&self, number: Decimal) -> bool {
        self.low.is_none_or(|(low, closed)| low < number || closed && low == number)
            && self.high.is_none_or(|(high, closed)| number < high || closed && high == number)
    }

    fn is_within(&self, other: &Self) -> bool {
        let low = other.low.is_none_or(|(outer, outer_closed)| {
            self.low.is_some_and(|(low, closed)| outer < low || outer == low && (outer_closed || !closed))
        });
        let high = other.high.is_none_or(|(outer, outer_closed)| {
            self.high.is_some_and(|(high, closed)| high < outer || outer == high && (outer_closed || !closed))
        });
        low && high
    }

    /// Whether they share more than an end.
    fn overlaps(&self, other: &Self) -> bool {
        let below = |high: Option<(Decimal, bool)>, low: Option<(Decimal, bool)>| match (high, low) {
            (Some((high, _)), Some((low, _))) => high <= low,
            _ => false,
        };
        !below(self.high, other.low) && !below(other.high, self.low)
    }
}

/// What two rules that ask about one field each, the same, have in common in part, in words; `None` when their leads go
/// to the same place, or when one is within the other: a narrow rule above a wide one is how it is done.
fn shared_values(earlier: &Rule, later: &Rule) -> Option<String> {
    let (Route::To(one), Route::To(other)) = (&earlier.route, &later.route) else { return None };
    if same_target(one, other) {
        return None;
    }
    let ([earlier], [later]) = (earlier.clauses.as_slice(), later.clauses.as_slice()) else { return None };
    let (Test::Field { field, condition: one }, Test::Field { field: other_field, condition: other }) =
        (&earlier.test, &later.test)
    else {
        return None;
    };
    if field != other_field || implies_condition(one, other) || implies_condition(other, one) {
        return None;
    }
    match (one, other) {
        (Condition::AnyOf(one), Condition::AnyOf(other)) => {
            let shared: Vec<String> = one.iter().filter(|value| other.contains(value)).map(shown).collect();
            (!shared.is_empty()).then(|| shared.join(", "))
        }
        (one, other) => {
            let (one, other) = (Range::of(one)?, Range::of(other)?);
            one.overlaps(&other).then(|| "some numbers".to_owned())
        }
    }
}

fn shown(value: &Expected) -> String {
    match value {
        Expected::Text(text) => format!("`{text}`"),
        Expected::Number(number) => number.to_string(),
        Expected::Flag(flag) => flag.to_string(),
    }
}

fn same_target(one: &Handover, other: &Handover) -> bool {
    let target = match (&one.target, &other.target) {
        (Target::Person { person: one, .. }, Target::Person { person: other, .. }) => one.user == other.user,
        (Target::Queue(one), Target::Queue(other)) => one == other,
        (Target::Person { .. }, Target::Queue(_)) | (Target::Queue(_), Target::Person { .. }) => false,
    };
    target && one.skills == other.skills && one.orders == other.orders
}

fn fallbacks_of(handover: &Handover) -> &[Fallback] {
    match &handover.target {
        Target::Person { if_nobody: Some(fallbacks), .. } => fallbacks,
        Target::Person { if_nobody: None, .. } | Target::Queue(_) => &[],
    }
}

/// People who can get nothing.
fn people(routing: &Routing, places: &Places, problems: &mut Problems) {
    let in_queues = routing.queues.iter().flat_map(|queue| queue.members.iter().chain(&queue.on_duty));
    let mut known: BTreeSet<UserId> = in_queues.map(|member| member.person.user).collect();
    known.extend(routing.handovers().iter().filter_map(|handover| match &handover.target {
        Target::Person { person, .. } => Some(person.user),
        Target::Queue(_) => None,
    }));
    // Who is told when leads wait too long gets none himself.
    let told = routing.queues.iter().filter_map(|queue| queue.hold.alarm.as_ref());
    known.extend(told.map(|alarm| alarm.escalate_to.user));
    if routing.queues.iter().any(|queue| queue.sticky.is_some()) {
        // Whoever has clients may get their leads, and so may who stands in for him.
        known.extend(routing.people().map(|person| person.user));
    }
    for rules in routing.queues.iter().filter_map(|queue| queue.answer.as_ref()) {
        known.insert(rules.escalate_to.user);
        if let Then::To(Destination::Person(person)) = &rules.then {
            known.extend(routing.person(person).map(|person| person.user));
        }
    }
    for (person, place) in places.people.entries() {
        if !known.contains(&person.user) {
            let message =
                format!("`{}` is in no queue and named by no rule, so he gets no lead", person.name);
            problems.warn(place, message, "put him into a queue, or leave him out");
        }
    }
}

/// Queues that get nothing, and skills that none of their people has.
fn queues(routing: &Routing, places: &Places, problems: &mut Problems) {
    let mut used = BTreeSet::new();
    for handover in routing.handovers() {
        if let Target::Queue(queue) = handover.target {
            used.insert(queue);
        }
        let others = fallbacks_of(handover).iter();
        used.extend(others.filter_map(|fallback| match fallback {
            Fallback::Queue(queue) => Some(*queue),
            Fallback::OnDuty | Fallback::Hold => None,
        }));
    }
    // What a used queue falls back to is used.
    let mut waiting: Vec<usize> = used.iter().copied().collect();
    while let Some(queue) = waiting.pop().and_then(|number| routing.queues.get(number)) {
        for fallback in &queue.if_nobody {
            if let Fallback::Queue(next) = fallback
                && used.insert(*next)
            {
                waiting.push(*next);
            }
        }
        if let Some(Then::To(Destination::Queue(then))) = queue.answer.as_ref().map(|rules| &rules.then)
            && let Some(next) = routing.queues.iter().position(|queue| queue.name == *then)
            && used.insert(next)
        {
            waiting.push(next);
        }
    }
    for (number, (queue, place)) in routing.queues.iter().zip(places.queues).enumerate() {
        if !used.contains(&number) {
            let message = format!("no rule and no other queue sends a lead to `{}`", queue.name);
            problems.warn(*place, message, "use it, or leave it out");
        }
    }
}

/// Substitutes and successors that are never asked, and queues that would ask a substitute whom nobody has.
fn clients(routing: &Routing, places: &Places, problems: &mut Problems) {
    let asks =
        |queue: &&Queue| queue.sticky.as_ref().is_some_and(|rules| rules.if_absent == IfAbsent::Substitute);
    if routing.people().all(|person| person.substitute.is_none()) {
        for (queue, place) in routing.queues.iter().zip(places.queues).filter(|(queue, _)| asks(queue)) {
            let message = format!(
                "`if_absent: substitute` of queue `{}` changes nothing: nobody has a substitute",
                queue.name
            );
            problems.warn(*place, message, "name them in `people`: `substitute: PERSON`");
        }
    }
    let (sticky, substituted) = (
        routing.queues.iter().any(|queue| queue.sticky.is_some()),
        routing.queues.iter().any(|queue| asks(&queue)),
    );
    for (person, place) in places.people.entries() {
        if person.substitute.is_some() && !substituted {
            let message = format!("the substitute of `{}` is never asked", person.name);
            problems.warn(place, message, "a queue asks him by `sticky: { if_absent: substitute }`");
        }
        if person.successor.is_some() && !sticky {
            let message = format!("the successor of `{}` is never asked", person.name);
            problems.warn(place, message, "a queue asks him by `sticky`");
        }
    }
}

/// A Monday from which eight weeks are looked at; holidays are not, they change each year.
const FROM: Date = date(2026, 1, 5);
const DAYS_LOOKED_AT: u16 = 56;
const MINUTES: usize = 7 * 24 * 60;

/// Queues in which nobody is at work when the leads of a rule come.
fn coverage(routing: &Routing, places: &Places, problems: &mut Problems) {
    let mut weeks = Weeks { routing, by_hours: BTreeMap::new() };
    for (rule, place) in routing.rules.iter().zip(places.rules) {
        let (Route::To(handover), Some(hours)) = (&rule.route, received_within(rule)) else { continue };
        let Target::Queue(number) = handover.target else { continue };
        let Some(queue) = routing.queues.get(number) else { continue };
        let asks_others = queue.if_nobody.iter().any(|fallback| matches!(fallback, Fallback::Queue(_)));
        let people = || queue.members.iter().chain(&queue.on_duty);
        if asks_others || people().any(|member| member.person.hours.is_none()) {
            continue;
        }
        let (come, there) = (weeks.of(hours), weeks.any_of(people()));
        if !come.iter().zip(&there).any(|(comes, there)| *comes && *there) {
            let message = format!(
                "nobody of queue `{}` is at work when leads of `{}` come, so all of them wait",
                queue.name, rule.name
            );
            problems.warn(*place, message, "name who is on duty, or another queue");
        }
    }
}

/// The schedule of a rule that takes only leads received within it.
fn received_within(rule: &Rule) -> Option<usize> {
    rule.clauses.iter().find_map(|clause| match clause.test {
        Test::Received { hours, within: true } => Some(hours),
        Test::Received { within: false, .. }
        | Test::Field { .. }
        | Test::All(_)
        | Test::Any(_)
        | Test::Not(_) => None,
    })
}

/// In which minutes of a week a schedule is on at all, in the routing's own zone.
struct Weeks<'r> {
    routing: &'r Routing,
    by_hours: BTreeMap<usize, Vec<bool>>,
}

impl Weeks<'_> {
    fn of(&mut self, hours: usize) -> Vec<bool> {
        let routing = self.routing;
        let week = self.by_hours.entry(hours).or_insert_with(|| {
            let mut week = vec![false; MINUTES];
            let Some(local) = routing.hours.get(hours) else { return week };
            let start = routing.zone.to_timestamp(FROM.at(0, 0, 0, 0)).unwrap_or_default();
            let none = crate::schedule::Holidays::new();
            for (from, to) in local.schedule.spans(&none, &local.zone, FROM, DAYS_LOOKED_AT) {
                let minute = |moment: jiff::Timestamp| moment.duration_since(start).as_mins();
                for minute in minute(from)..minute(to) {
                    let minute = usize::try_from(minute.rem_euclid(7 * 24 * 60)).unwrap_or_default();
                    if let Some(on) = week.get_mut(minute) {
                        *on = true;
                    }
                }
            }
            week
        });
        week.clone()
    }

    fn any_of<'m>(&mut self, members: impl Iterator<Item = &'m Member>) -> Vec<bool> {
        let mut any = vec![false; MINUTES];
        let hours: BTreeSet<usize> = members.filter_map(|member| member.person.hours).collect();
        for hours in hours {
            any.iter_mut().zip(self.of(hours)).for_each(|(any, on)| *any |= on);
        }
        any
    }
}
