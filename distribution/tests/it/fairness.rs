//! The ways in which distribution is unfair elsewhere, each as a small simulation.

use std::collections::BTreeMap;

use distribution::{Absence, Decision, Ledger, Presence, Roster, Routing, decide};
use jiff::{Timestamp, ToSpan as _};
use serde_json::json;

use crate::world::{self, user};

/// Counts who got how many.
type Counts = BTreeMap<u64, i64>;

fn give(routing: &Routing, roster: &Roster, ledger: &mut Ledger, source: &str, at: Timestamp) -> Option<u64> {
    let lead = world::lead(&json!({ "ID": "1", "SOURCE_ID": source }));
    match decide(&lead, roster, routing, ledger, at) {
        Decision::Assign(assignment) => {
            ledger.extend(assignment.entries);
            Some(assignment.user.get())
        }
        Decision::Hold(_) | Decision::Skip(_) => None,
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn spread(counts: &Counts, users: impl Iterator<Item = u64>) -> i64 {
    let counts: Vec<i64> = users.map(|user| counts.get(&user).copied().unwrap_or(0)).collect();
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

/// Three leads in ten are for two of five people. Credits keep the two level with each other and the three level with
/// each other; a pointer that steps over those who may not does not.
#[test]
fn leads_for_two_of_five_do_not_make_the_other_three_unequal() {
    let routing = world::routing(
        "
version: 1
people: { a: { user: 1, skills: [x] }, b: { user: 2, skills: [x] }, c: { user: 3 }, d: { user: 4 }, e: { user: 5 } }
queues: { main: { members: [a, b, c, d, e] } }
rules: [{ name: for two, when: { source: X }, queue: main, skills: [x] }]
default: { queue: main }
",
    );
    let is_for_two = |lead: i64| lead % 10 < 3;
    let (mut ledger, mut counts) = (Ledger::default(), Counts::new());
    let (mut pointer, mut by_pointer) = (0, Counts::new());
    for lead in 0..10_000 {
        let source = if is_for_two(lead) { "X" } else { "" };
        let taker = give(&routing, &Roster::default(), &mut ledger, source, world::NOW).unwrap();
        *counts.entry(taker).or_default() += 1;

        while is_for_two(lead) && pointer % 5 >= 2 {
            pointer += 1;
        }
        *by_pointer.entry(pointer % 5 + 1).or_default() += 1;
        pointer += 1;
    }
    assert!(spread(&counts, 3..=5) <= 1 && spread(&counts, 1..=2) <= 1, "{counts:?}");
    // 30 % among two, and of the rest a fifth for each.
    for (user, share) in [(1, 2900), (2, 2900), (3, 1400), (4, 1400), (5, 1400)] {
        assert!((counts[&user] - share).abs() <= 2, "{counts:?}");
    }
    assert!(spread(&by_pointer, 3..=5) > 300, "the pointer is fair after all: {by_pointer:?}");
}

/// Ten people, one of them on duty at night as well, and three of the ten away for two weeks.
#[test]
fn who_is_on_duty_gets_no_more_than_his_share_while_three_of_ten_are_away() {
    let people: Vec<String> = (1..=9).map(|id| format!("p{id}: {{ user: {id}, schedule: day }}")).collect();
    let people = people.join(", ");
    let members: Vec<String> = (1..=10).map(|id| format!("p{id}")).collect();
    let routing = world::routing(&format!(
        "version: 1\ntime_zone: UTC\nschedules: {{ day: {{ days: mon-sun, hours: \"09:00-18:00\" }} }}\npeople: {{ {people}, p10: {{ user: 10 }} }}\nqueues: {{ main: {{ members: [{}], on_duty: [p10] }} }}\ndefault: {{ queue: main }}\n",
        members.join(", ")
    ));
    let start = at("2026-11-02T00:00:00Z");
    let away = Presence { absent: vec![Absence(start, start + (14 * 24).hours())], ..Presence::default() };
    let roster: Roster = (1..=3).map(|id| (user(id), away.clone())).collect();
    let (mut ledger, mut counts, mut leads) = (Ledger::default(), Counts::new(), 0);
    // Every quarter of an hour by day, every four hours at night: fewer at night than his share of all.
    for minute in (0..14 * 24 * 60).step_by(15) {
        let moment = start + i64::from(minute).minutes();
        let by_day = (9 * 60..18 * 60).contains(&(minute % 1440));
        if by_day || minute % 240 == 0 {
            *counts.entry(give(&routing, &roster, &mut ledger, "", moment).unwrap()).or_default() += 1;
            leads += 1;
        }
    }
    let share = leads / 7;
    let duty = counts[&10];
    assert!(duty <= share + 4, "{duty} leads, his share is {share}: {counts:?}");
    assert!(spread(&counts, 4..=9) <= 1, "{counts:?}");
    assert!((1..=3).all(|id| !counts.contains_key(&id)), "{counts:?}");
}

/// A newcomer has nothing to do while the others have 40 open leads each.
#[test]
fn a_newcomer_gets_no_more_than_his_limit_in_any_hour() {
    let routing = world::routing(
        "
version: 1
people: { a: { user: 1 }, b: { user: 2 }, new: { user: 3, limits: { per_hour: 4 } } }
queues: { main: { members: [a, b, new], strategy: least_loaded } }
default: { queue: main }
",
    );
    let mut open: Counts = [(1, 40), (2, 40), (3, 0)].into();
    let (mut ledger, mut given) = (Ledger::default(), Vec::new());
    let start = at("2026-11-02T09:00:00Z");
    for minute in 0..8 * 60 {
        let now = start + i64::from(minute).minutes();
        let hour = given.iter().filter(|before| **before > now - 60.minutes()).count();
        let hour = u32::try_from(hour).unwrap();
        assert!(hour <= 4, "{hour} leads in the hour before {now}");
        let presence = |(id, open): (&u64, &i64)| {
            let hour = if *id == 3 { hour } else { 0 };
            (user(*id), Presence { open: u32::try_from(*open).unwrap(), hour, ..Presence::default() })
        };
        let roster: Roster = open.iter().map(presence).collect();
        let taker = give(&routing, &roster, &mut ledger, "", now).unwrap();
        *open.get_mut(&taker).unwrap() += 1;
        if taker == 3 {
            given.push(now);
        }
    }
    assert_eq!(given.len(), 8 * 4, "he gets what he may: {open:?}");
}

/// Ten days of leave; afterwards everybody gets the same, day by day. With a duty at night too, except that on his first
/// day the others are still owed the turns of the night before: two leads of some 160 in the five days.
#[test]
fn a_leave_of_ten_days_has_no_echo() {
    for on_duty in ["", ", on_duty: [d]"] {
        let routing = world::routing(&format!(
            "version: 1\ntime_zone: UTC\nschedules: {{ day: {{ days: mon-sun, hours: \"09:00-18:00\" }} }}\npeople: {{ a: {{ user: 1, schedule: day }}, b: {{ user: 2, schedule: day }}, c: {{ user: 3, schedule: day }}, d: {{ user: 4 }} }}\nqueues: {{ main: {{ members: [a, b, c, d]{on_duty} }} }}\ndefault: {{ queue: main }}\n",
        ));
        let start = at("2026-11-02T00:00:00Z");
        let leave =
            Presence { absent: vec![Absence(start, start + (10 * 24).hours())], ..Presence::default() };
        let roster: Roster = [(user(2), leave)].into_iter().collect();
        let mut ledger = Ledger::default();
        let mut after = Counts::new();
        for day in 0..15 {
            let mut counts = Counts::new();
            for lead in 0..48 {
                // Forty by day, eight at night; where nobody is on duty none comes at night.
                let by_day = lead < 40;
                let minute = if by_day { 9 * 60 + lead * 13 } else { 18 * 60 + 10 + (lead - 40) * 40 };
                if by_day || !on_duty.is_empty() {
                    let moment = start + (day * 24).hours() + i64::from(minute).minutes();
                    let taker = give(&routing, &roster, &mut ledger, "", moment).unwrap();
                    *counts.entry(taker).or_default() += 1;
                }
            }
            if day < 10 {
                assert!(!counts.contains_key(&2), "day {day}: {counts:?}");
                continue;
            }
            let allowed = match (on_duty, day) {
                ("", _) => 1,
                (_, 10) => 3,
                (_, _) => 2,
            };
            assert!(spread(&counts, 1..=4) <= allowed, "day {day} {on_duty}: {counts:?}");
            for (user, count) in counts {
                *after.entry(user).or_default() += count;
            }
        }
        assert!(spread(&after, 1..=4) <= 3, "in five days {on_duty}: {after:?}");
    }
}

/// A queue of three gets a fourth, then loses the first: neither has a head start or a debt.
#[test]
fn who_joins_starts_like_the_others_and_who_leaves_leaves_no_debt() {
    let routing = |members: &str| {
        world::routing(&format!(
            "version: 1\npeople: {{ a: {{ user: 1 }}, b: {{ user: 2 }}, c: {{ user: 3 }}, d: {{ user: 4 }} }}\nqueues: {{ main: {{ members: [{members}] }} }}\ndefault: {{ queue: main }}\n"
        ))
    };
    let mut ledger = Ledger::default();
    let mut run = |members: &str, leads: usize| {
        let (routing, mut counts) = (routing(members), Counts::new());
        for _ in 0..leads {
            let taker = give(&routing, &Roster::default(), &mut ledger, "", world::NOW).unwrap();
            *counts.entry(taker).or_default() += 1;
        }
        let users = (1..).zip(["a", "b", "c", "d"]).filter(|(_, name)| members.contains(name));
        assert!(spread(&counts, users.map(|(user, _)| user)) <= 1, "{members}: {counts:?}");
    };
    run("a, b, c", 100);
    run("a, b, c, d", 41);
    run("b, c, d", 20);
    // He comes back, after what he had was dealt to the others.
    run("a, b, c, d", 42);
    assert_eq!(world::sum(&ledger, 4), 0);
}
