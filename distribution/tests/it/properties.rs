//! What holds for every input: fairness, exactness, and that nothing panics.

use std::collections::BTreeMap;

use distribution::{
    Decision, Explanation, HoldReason, Language, Lead, Ledger, Reason, Role, Roster, Routing, Tie, TieBy,
    TieOf, UserId, Whereabouts, decide,
};
use jiff::ToSpan as _;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};

use crate::office;
use crate::world::{self, NOW, give_next, one_queue, roster_without, sum, user};

fn why_taken(explanation: &Explanation) -> Role {
    explanation.taken().unwrap().role
}

/// Gives `leads` leads with everybody present and counts who got how many.
fn counts(routing: &Routing, leads: u32) -> BTreeMap<UserId, f64> {
    let mut ledger = Ledger::default();
    let mut counts = BTreeMap::new();
    for _ in 0..leads {
        *counts.entry(give_next(routing, &Roster::default(), &mut ledger)).or_insert(0.0) += 1.0;
    }
    counts
}

/// Weights of 1 to 20 people, and for each of some leads who is absent (a mask).
fn office() -> impl Strategy<Value = (Vec<u32>, Vec<u32>)> {
    (vec(1..=10_000_u32, 1..20), vec(any::<u32>(), 1..200))
}

fn absent(mask: u32, people: usize) -> Vec<u64> {
    (1..=people as u64).filter(|id| mask & (1 << id) != 0).collect()
}

fn json() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| Number::from_f64(number).map_or(Value::Null, Value::Number)),
        "[0-9+.eE|-]{0,40}".prop_map(Value::String),
        ".{0,20}".prop_map(Value::String),
    ];
    scalar.prop_recursive(6, 32, 5, |inner| {
        let object = proptest::collection::btree_map(
            prop_oneof![Just("VALUE".to_owned()), ".{0,5}"],
            inner.clone(),
            0..4,
        );
        prop_oneof![
            vec(inner, 0..5).prop_map(Value::Array),
            object.prop_map(|object| Value::Object(object.into_iter().collect())),
        ]
    })
}

const ROUTING: &str = r#"
version: 1
people: { a: { user: 1 }, b: { user: 2 } }
queues: { main: { members: [a, b] } }
rules:
  - { name: R, when: { amount: { between: [-1.5, 900] }, source: [1, true, x] }, assign: a }
  - { name: S, when: { title: { contains: e }, PHONE: { not: { starts_with: "+" } } }, queue: main }
  - { name: T, when: { amount: { over: 0 } }, queue: main }
  - { name: U, when: { city: false, owner: { empty: false } }, assign: b }
default: { queue: main }
"#;

proptest! {
    #[test]
    fn credits_sum_to_zero_and_nobody_absent_is_chosen((weights, leads) in office()) {
        let routing = one_queue(&weights);
        let mut ledger = Ledger::default();
        for mask in leads {
            let absent = absent(mask, weights.len());
            let decision = decide(&world::any_lead(), &roster_without(absent.clone()), &routing, &ledger, NOW);
            match decision {
                Decision::Assign(assignment) => {
                    prop_assert!(!absent.contains(&assignment.user.get()));
                    prop_assert!(assignment.entries.iter().all(|entry| !absent.contains(&entry.user.get())));
                    ledger.extend(assignment.entries);
                }
                Decision::Hold(_) => prop_assert_eq!(absent.len(), weights.len()),
                Decision::Skip(_) => prop_assert!(false, "nothing says that the lead is final"),
            }
            prop_assert_eq!(sum(&ledger, weights.len()), 0);
        }
    }

    #[test]
    fn the_same_input_gives_the_same_decision((weights, leads) in office()) {
        let routing = one_queue(&weights);
        let mut ledger = Ledger::default();
        for mask in leads {
            let roster = roster_without(absent(mask, weights.len()));
            let first = decide(&world::any_lead(), &roster, &routing, &ledger, NOW);
            let second = decide(&world::any_lead(), &roster.clone(), &routing.clone(), &ledger.clone(), NOW);
            prop_assert_eq!(&first, &second);
            if let Decision::Assign(assignment) = first {
                ledger.extend(assignment.entries);
            }
        }
    }

    #[test]
    fn equal_weights_go_round_in_the_lists_order(people in 1..60_usize, weight in 1..=10_000_u32, leads in 0..300_u64) {
        let routing = one_queue(&vec![weight; people]);
        let mut ledger = Ledger::default();
        for lead in 0..leads {
            let expected = user(lead % people as u64 + 1);
            prop_assert_eq!(give_next(&routing, &Roster::default(), &mut ledger), expected);
        }
    }

    /// The bound that `strategy.rs` states, at every number of leads.
    #[test]
    fn shares_keep_the_bound_for_any_weights(weights in vec(1..=10_000_u32, 1..20), leads in 1..400_u32) {
        let routing = one_queue(&weights);
        let total: u32 = weights.iter().sum();
        let harmonic: f64 = (2..).take(weights.len() - 1).map(|n| 1.0 / f64::from(n)).sum();
        let counts = counts(&routing, leads);
        for (id, weight) in (1..).zip(&weights) {
            let share = f64::from(leads) * f64::from(*weight) / f64::from(total);
            let above = counts.get(&user(id)).unwrap_or(&0.0) - share;
            prop_assert!(above < 1.0, "{above} above the share of weight {weight}");
            prop_assert!(-above <= harmonic + 1e-6, "{above} below the share of weight {weight}, of {}", weights.len());
        }
    }

    #[test]
    fn equals_stay_within_one_lead_when_some_leads_are_for_two_only(
        people in 3..9_usize,
        restricted in vec(prop::bool::weighted(0.3), 1..400),
    ) {
        let routing = one_queue(&vec![1; people]);
        let others = roster_without(3..=people as u64);
        let mut ledger = Ledger::default();
        let mut counts = vec![0_i32; people];
        for only_two in restricted {
            let roster = if only_two { &others } else { &Roster::default() };
            let taker = give_next(&routing, roster, &mut ledger).get();
            counts[usize::try_from(taker).unwrap() - 1] += 1;
            let (two, rest) = counts.split_at(2);
            for equals in [two, rest] {
                prop_assert!(equals.iter().max().unwrap() - equals.iter().min().unwrap() <= 1, "{counts:?}");
            }
        }
    }

    /// Every key of an office at once: what is decided is what a naive second opinion allows, and every ledger sums to
    /// zero after every lead.
    #[test]
    fn whatever_the_office_nobody_gets_what_he_may_not((office, leads) in (office::office(), office::leads())) {
        let routing = office.routing();
        let (mut ledger, mut booked, mut now) = (Ledger::default(), Vec::new(), NOW);
        for (source, away, later) in leads {
            now += later;
            let number = source % office.queues.len();
            let queue = &office.queues[number];
            let mut lead = world::lead(&json!({ "ID": "1", "SOURCE_ID": format!("q{}", number + 1) }));
            // Mostly somebody's client; at times of nobody here.
            let owner = usize::try_from(away >> 20).unwrap() % (office.people.len() + 2) + 1;
            let tie = Tie { owner: user(owner as u64), by: TieBy::Phone, of: TieOf::Contact, at: NOW };
            lead.ties = Some(vec![tie]);
            let roster = office.roster(away);
            let decision = decide(&lead, &roster, &routing, &ledger, now);
            prop_assert_eq!(&decision, &decide(&lead, &roster.clone(), &routing.clone(), &ledger.clone(), now));
            let may = |people: &[usize], on_duty| {
                people.iter().any(|person| office.may_take((*person, on_duty), queue, away, now))
            };
            let asked = |user, role: Role| (office::number(user), role == Role::OnDuty);
            let why = decision.explanation();
            for candidate in &why.candidates {
                let naive = office.may_take(asked(candidate.user, candidate.role), queue, away, now);
                prop_assert_eq!(candidate.eligible, naive, "{:?}", candidate);
            }
            let json = serde_json::to_string(why).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Explanation>(&json).unwrap(), why);
            let english = why.text(Language::English);
            prop_assert!(!why.text(Language::Russian).is_empty());
            let known = owner <= office.people.len() && !queue.if_absent.is_empty();
            let may_owner = known && office.may_take((owner, false), queue, away, now);
            prop_assert_eq!(why.taken().is_some_and(|taken| taken.role == Role::Client), may_owner);
            match decision {
                Decision::Assign(assignment) => {
                    prop_assert!(!may_owner || office::number(assignment.user) == owner);
                    let role = why_taken(&assignment.explanation);
                    prop_assert!(office.may_take(asked(assignment.user, role), queue, away, now));
                    let starts = english.starts_with(&format!("The lead goes to {}.
", assignment.person));
                    prop_assert!(starts, "{}", english);
                    let taken = assignment.explanation.taken().unwrap();
                    let best = assignment.explanation.candidates.iter().filter(|other| {
                        other.eligible && other.role == taken.role && queue.strategy == "rotation"
                    });
                    let largest = best.filter_map(|other| other.credit).map(|credit| credit.compared).max();
                    prop_assert!(largest.is_none() || taken.credit.map(|credit| credit.compared) == largest);
                    booked.extend(assignment.entries.iter().cloned());
                    ledger.extend(assignment.entries);
                }
                Decision::Hold(hold) => {
                    let waits = hold.reason == HoldReason::OwnersAbsence;
                    prop_assert!(!waits || (known && !may_owner && queue.if_absent.contains("wait")));
                    prop_assert!(waits || (!may(&queue.members, false) && !may(&queue.on_duty, true)));
                    let soon = hold.until.is_none_or(|until| until <= now + 4.hours());
                    prop_assert!(!waits || soon, "{:?} {:?}", now, hold.until);
                    prop_assert!(hold.until.is_none_or(|until| until > now), "{:?} {:?}", now, hold.until);
                }
                Decision::Skip(_) => prop_assert!(false, "nothing says that the lead is final"),
            }
            prop_assert!(office::sums(&booked).values().all(|sum| *sum == 0), "{:?}", booked);
        }
    }

    /// What people are shown of who takes leads, and why others do not, is what decides about the next lead.
    #[test]
    fn the_list_of_people_says_what_is_decided((office, leads) in (office::office(), office::leads())) {
        let routing = office.routing();
        let (mut ledger, mut now) = (Ledger::default(), NOW);
        for (source, away, later) in leads {
            now += later;
            let number = source % office.queues.len() + 1;
            let roster = office.roster(away);
            let listed = routing.whereabouts(&roster, now);
            // One for the queue, and one that no rule takes, so that it goes to who is named.
            for source in [format!("q{number}"), "nothing".to_owned()] {
                let lead = world::lead(&json!({ "ID": "1", "SOURCE_ID": source }));
                let decision = decide(&lead, &roster, &routing, &ledger, now);
                for candidate in &decision.explanation().candidates {
                    let line = listed.iter().find(|line| {
                        line.user == candidate.user && line.queue == candidate.queue && line.role == candidate.role
                    });
                    prop_assert!(line.is_some(), "{:?} stands in no line", candidate);
                    let refusal = (!candidate.eligible).then_some(&candidate.reason);
                    match refusal {
                        // Of skills the list knows nothing, and what it says instead is no lie.
                        Some(Reason::LacksSkill { .. }) => {}
                        refusal => prop_assert_eq!(line.and_then(|line| line.reason.as_ref()), refusal),
                    }
                }
                if let Decision::Assign(assignment) = decision {
                    ledger.extend(assignment.entries);
                }
            }
            // Everybody has a line, and everybody who is in a queue has one for it.
            for queue in routing.queues() {
                for member in &queue.members {
                    let of_queue = |line: &&Whereabouts| line.queue.as_ref() == Some(&queue.name);
                    let mut lines = listed.iter().filter(of_queue);
                    prop_assert!(lines.any(|line| line.user == member.person.user && line.role == Role::Member));
                }
            }
            prop_assert!(routing.people().all(|person| listed.iter().any(|line| line.user == person.user)));
        }
    }

    /// Beyond the rules that an explanation lists, only those are asked that a lead can meet: that must change nothing.
    #[test]
    fn among_many_rules_the_first_that_matches_decides(
        rules in vec((0..4_usize, 0..40_u32, 0..40_u32), 33..120), source in 0..40_u32, city in 0..40_u32,
    ) {
        let rule = |(number, (kind, one, other)): (usize, &(usize, u32, u32))| {
            let when = match kind {
                0 => format!("source: [s{one}, S{other}]"),
                1 => format!("city: c{one}, source: [s{other}]"),
                2 => format!("city: {{ contains: c{one} }}"),
                _ => format!("source: [s{one}, {other}]"),
            };
            format!("- {{ name: r{number}, when: {{ {when} }}, assign: a }}\n")
        };
        let text = |rules: &[(usize, u32, u32)]| format!(
            "version: 1\npeople: {{ a: {{ user: 1 }}, b: {{ user: 2 }} }}\nrules:\n{}default: {{ assign: b }}\n",
            rules.iter().enumerate().map(rule).collect::<Vec<_>>().concat()
        );
        let lead = world::lead(&json!({ "ID": "1", "SOURCE_ID": format!("S{source}"), "ADDRESS_CITY": format!("C{city}") }));
        let one = |rules: &[(usize, u32, u32)]| {
            let routing = world::routing(&text(rules));
            decide(&lead, &Roster::default(), &routing, &Ledger::default(), NOW)
        };
        // Each rule alone is asked directly.
        let first = rules.iter().position(|rule| one(&[*rule]).explanation().rule.is_some());
        let all = one(&rules);
        prop_assert_eq!(all.explanation().rule.clone(), first.map(|place| format!("r{place}").into()));
        prop_assert_eq!(all.explanation().not_matched_total, first.unwrap_or(rules.len()));
    }

    /// People, queues and rules that have nothing to do with a lead change nothing about it.
    #[test]
    fn what_has_nothing_to_do_with_a_lead_changes_nothing((office, leads) in (office::office(), office::leads())) {
        let alone = office.routing();
        let with_others = office.yaml()
            .replace("people:\n", "people:\n  s1: { user: 901, skills: [other] }\n")
            .replace("queues:\n", "queues:\n  s1: { members: [s1], strategy: in_order }\n")
            .replace("rules:\n", "rules:\n  - { name: strange, when: { source: nothing }, queue: s1 }\n");
        let among = world::routing(&with_others);
        let (mut ledger, mut now) = (Ledger::default(), NOW);
        for (source, away, later) in leads {
            now += later;
            let number = source % office.queues.len() + 1;
            let lead = world::lead(&json!({ "ID": "1", "SOURCE_ID": format!("q{number}") }));
            let roster = office.roster(away);
            let (one, other) = (
                decide(&lead, &roster, &alone, &ledger, now), decide(&lead, &roster, &among, &ledger, now),
            );
            prop_assert_eq!(&one.explanation().outcome, &other.explanation().outcome);
            prop_assert_eq!(&one.explanation().candidates, &other.explanation().candidates);
            if let (Decision::Assign(one), Decision::Assign(other)) = (one, other) {
                prop_assert_eq!(&one.entries, &other.entries);
                ledger.extend(one.entries);
            }
        }
    }

    #[test]
    fn people_outside_the_queue_change_nothing(
        order in Just(vec!["  a: { user: 1 }\n", "  b: { user: 2 }\n", "  x: { user: 8 }\n", "  y: { user: 9 }\n"]).prop_shuffle(),
        strangers in btree_set(8..=9_u64, 0..=2),
        leads in 1..50_usize,
    ) {
        let text = |people: &str| format!(
            "version: 1\npeople:\n{people}queues: {{ main: {{ members: [a, b] }} }}\ndefault: {{ queue: main }}\n"
        );
        let alone = world::routing(&text("  a: { user: 1 }\n  b: { user: 2 }\n"));
        let among = world::routing(&text(&order.concat()));
        let roster = roster_without(strangers);
        let mut ledger = Ledger::default();
        for _ in 0..leads {
            let decision = decide(&world::any_lead(), &roster, &among, &ledger, NOW);
            prop_assert_eq!(&decision, &decide(&world::any_lead(), &Roster::default(), &alone, &ledger, NOW));
            let Decision::Assign(assignment) = decision else { panic!("everybody is there") };
            ledger.extend(assignment.entries);
        }
    }

    #[test]
    fn any_json_is_a_lead_or_an_error(
        values in vec(json(), 8),
        semantic in prop_oneof![Just("P".to_owned()), ".{0,3}"],
    ) {
        let codes = ["ASSIGNED_BY_ID", "OPPORTUNITY", "SOURCE_ID", "TITLE", "PHONE", "ADDRESS_CITY", "UF_CRM_1", "ID"];
        let mut fields: Map<String, Value> = codes.into_iter().map(str::to_owned).zip(values).collect();
        if let Err(error) = Lead::from_fields(&fields) {
            prop_assert!(error.to_string().starts_with("the lead"));
        }
        fields.insert("ID".to_owned(), "1".into());
        fields.insert("STATUS_SEMANTIC_ID".to_owned(), semantic.into());
        if let Ok(lead) = Lead::from_fields(&fields) {
            let decision = decide(&lead, &Roster::default(), &world::routing(ROUTING), &Ledger::default(), NOW);
            prop_assert!(!decision.explanation().summary().is_empty());
        }
    }

    #[test]
    fn any_text_is_a_routing_or_an_error(text in "(?s).{0,200}") {
        check_text(&text);
    }

    #[test]
    fn any_yaml_is_a_routing_or_an_error(value in json()) {
        check_text(&value.to_string());
    }

    /// A right file with a piece of it replaced is wrong in ways that a person is.
    #[test]
    fn a_damaged_routing_is_a_routing_or_an_error(at in 0..ROUTING.len(), cut in 0..30_usize, put in "[\\[\\]{}:,\n &*'\"a-c0-9~!-]{0,8}") {
        let end = (at + cut).min(ROUTING.len());
        check_text(&format!("{}{put}{}", &ROUTING[..at], &ROUTING[end..]));
    }
}

fn check_text(text: &str) {
    match Routing::from_yaml(text, "routing.yaml") {
        Ok(routing) => assert!(routing.people().next().is_some()),
        Err(errors) => {
            assert!(!errors.problems().is_empty());
            assert!(errors.problems().iter().all(|problem| problem.line >= 1 && problem.column >= 1));
            assert!(errors.to_string().starts_with("routing.yaml:"));
        }
    }
}

/// The bound for long times and changing people: over 10,000 leads with random weights, absences and restricted leads,
/// nobody is further from his share than one lead for each other person. His share is the sum over all leads he could
/// have taken of his part of the weights present.
#[test]
fn shares_over_ten_thousand_leads_stay_within_the_number_of_people() {
    let mut runner = proptest::test_runner::TestRunner::new(proptest::test_runner::Config::with_cases(16));
    let input = (vec(1..=1000_u32, 2..10), any::<u64>());
    let run = |(weights, seed): (Vec<u32>, u64)| {
        let routing = one_queue(&weights);
        let (mut ledger, mut random) = (Ledger::default(), seed | 1);
        let mut off = vec![0.0_f64; weights.len()];
        for _ in 0..10_000 {
            // Xorshift: only to vary who is there.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let away: Vec<usize> = (0..weights.len()).filter(|id| (random >> (id * 3)) % 8 == 0).collect();
            let present = |id: &usize| !away.contains(id);
            let total: f64 = (0..weights.len()).filter(present).map(|id| f64::from(weights[id])).sum();
            let users = away.iter().map(|id| *id as u64 + 1);
            let decision = decide(&world::any_lead(), &roster_without(users), &routing, &ledger, NOW);
            let Decision::Assign(assignment) = decision else { continue };
            for id in (0..weights.len()).filter(present) {
                off[id] -= f64::from(weights[id]) / total;
            }
            off[office::number(assignment.user) - 1] += 1.0;
            ledger.extend(assignment.entries);
            let furthest = off.iter().map(|off| off.abs()).fold(0.0, f64::max);
            #[expect(clippy::cast_precision_loss, reason = "at most ten people")]
            let bound = weights.len() as f64;
            prop_assert!(furthest < bound, "{furthest} leads off with {weights:?}");
        }
        Ok(())
    };
    runner.run(&input, run).unwrap();
}
