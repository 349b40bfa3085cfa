//! The shape of an explanation, which other programs read, and what it costs.

use distribution::{
    Credit, Decision, EntryKind, Explanation, Ledger, NOT_MATCHED_LISTED_MAX, Presence, Roster, decide,
};
use serde_json::{Value, json};

use crate::world::{self, NOW};

const ROUTING: &str = "
version: 1
people: { petrov: { user: 12 }, sidorov: { user: 13 }, duty: { user: 20 } }
queues: { cold_calls: { members: [petrov, sidorov, duty] } }
rules:
  - { name: Moscow website, when: { source: SITE_MOSCOW }, assign: petrov }
  - { name: Cold calls, when: { source: [COLD_CALL, CALL] }, queue: cold_calls }
default: { assign: petrov }
";

fn decision() -> Decision {
    let routing = world::routing(ROUTING).with_version(7);
    let lead = world::lead(&json!({"ID": "42", "SOURCE_ID": "CALL", "NAME": "Olga"}));
    let mut ledger = Ledger::default();
    ledger.extend([entry("cold_calls", 12, -0.5), entry("cold_calls", 13, 0.5)]);
    let paused =
        Presence { paused_until: Some("2026-11-18T12:00:00Z".parse().unwrap()), ..Presence::default() };
    decide(&lead, &Roster::from_iter([(world::user(20), paused)]), &routing, &ledger, NOW)
}

fn entry(ledger: &str, user: u64, amount: f64) -> distribution::LedgerEntry {
    distribution::LedgerEntry {
        ledger: ledger.into(),
        user: world::user(user),
        delta: world::turns(amount),
        kind: EntryKind::Turn,
    }
}

#[test]
fn its_json_is_as_documented_and_reads_back() {
    let decision = decision();
    let documented = include_str!("../explanation.json");
    let written = serde_json::to_string_pretty(decision.explanation()).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(documented).unwrap(),
        serde_json::from_str::<Value>(&written).unwrap(),
        "\n{written}"
    );
    assert_eq!(&serde_json::from_str::<Explanation>(documented).unwrap(), decision.explanation());
    assert_eq!(
        decision.explanation().summary(),
        "rule \"Cold calls\" → queue cold_calls → sidorov (credit +1.00 → 0.00)"
    );
}

#[test]
fn the_decision_says_the_same_as_its_explanation() {
    let Decision::Assign(assignment) = decision() else { panic!("petrov and sidorov are there") };
    assert_eq!(assignment.person, "sidorov");
    assert_eq!(assignment.user, world::user(13));
    assert_eq!(assignment.queue.as_deref(), Some("cold_calls"));
    assert_eq!(assignment.rule.as_deref(), Some("Cold calls"));
    assert_eq!(assignment.entries, [entry("cold_calls", 12, 0.5), entry("cold_calls", 13, -0.5)]);
    let taken = assignment.explanation.taken().unwrap();
    assert_eq!(taken.credit.unwrap().after, Credit::ZERO);
    assert_eq!(assignment.explanation.routing_version, 7);
    assert_eq!(assignment.explanation.decided_at, NOW);
}

#[test]
fn rules_that_did_not_match_are_listed_up_to_a_limit_and_counted() {
    let rule = |number| format!("- {{ name: R{number}, when: {{ source: S{number} }}, assign: a }}\n");
    let rules = (0..1000).map(rule).collect::<Vec<_>>().concat();
    let text =
        format!("version: 1\npeople: {{ a: {{ user: 1 }} }}\nrules:\n{rules}default: {{ assign: a }}\n");
    let decision =
        decide(&world::any_lead(), &Roster::default(), &world::routing(&text), &Ledger::default(), NOW);
    let why = decision.explanation();
    assert_eq!(why.not_matched.len(), NOT_MATCHED_LISTED_MAX);
    assert_eq!(why.not_matched_total, 1000);
    assert_eq!(why.not_matched.last().unwrap().condition, "source: S31");
}

#[test]
fn a_long_condition_is_shortened() {
    let values: Vec<String> = (0..100).map(|number| format!("ИСТОЧНИК_{number}")).collect();
    let text = format!(
        "version: 1\npeople: {{ a: {{ user: 1 }} }}\nrules: [{{ name: R, when: {{ source: [{}] }}, assign: a }}]\ndefault: {{ assign: a }}\n",
        values.join(", ")
    );
    let decision =
        decide(&world::any_lead(), &Roster::default(), &world::routing(&text), &Ledger::default(), NOW);
    let condition = &decision.explanation().not_matched[0].condition;
    assert!(
        condition.starts_with("source: [ИСТОЧНИК_0, ИСТОЧНИК_1, ") && condition.ends_with('…'),
        "{condition}"
    );
    assert_eq!(condition.chars().count(), 101);
}
