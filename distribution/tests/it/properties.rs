//! What holds for every input: fairness, exactness, and that nothing panics.

use std::collections::BTreeMap;

use distribution::{Decision, Lead, Ledger, Roster, Routing, UserId, decide};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use serde_json::{Map, Number, Value};

use crate::world::{self, NOW, give_next, one_queue, roster_without, sum, user};

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
