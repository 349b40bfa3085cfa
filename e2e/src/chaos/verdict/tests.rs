//! The verdict about runs that are written down by hand.

use serde_json::{Value, json};

use super::*;
use crate::chaos::record::Record;
use crate::chaos::schedule::Options;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A run with this log, each entry with its second, and these rows.
fn run(log: &[(i64, Value)], tables: Vec<(&'static str, Vec<Value>)>) -> Played {
    let entry = |(second, entry): &(i64, Value)| {
        let mut entry = entry.clone();
        entry["at"] = json!(at(*second));
        serde_json::from_value(entry).unwrap()
    };
    Played {
        options: Options { seed: 1, lasts: Duration::ZERO, per_second: 1.0, faults: BTreeSet::new() },
        disturbances: Vec::new(),
        faults_end: at(100),
        quiet: Some(at(100)),
        unquiet: String::new(),
        log: log.iter().map(entry).collect(),
        leads: Vec::new(),
        stats: serde_json::from_value(json!({
            "requests": 9, "by_method": {}, "led_by": {}, "commands": {}, "errors": {}, "refused": 0,
            "bucket_max": 1, "events": {}, "faults": {}
        }))
        .unwrap(),
        record: Record(tables),
        queues: String::new(),
        logs: Vec::new(),
    }
}

fn added(lead: u64) -> (i64, Value) {
    (0, json!({ "request": null, "what": "added", "lead": lead, "owner": "1" }))
}

fn owner(second: i64, request: Option<u64>, lead: u64, from: &str, to: &str) -> (i64, Value) {
    (second, json!({ "request": request, "what": "owner", "lead": lead, "from": from, "to": to }))
}

fn notice(second: i64, request: u64, leads: &[u64]) -> (i64, Value) {
    (
        second,
        json!({ "request": request, "what": "notice", "id": 1, "user": 11, "tag": null, "leads": leads }),
    )
}

fn fault(second: i64, request: u64, kind: &str, runs: bool) -> (i64, Value) {
    let fault = json!({ "request": request, "what": "fault", "method": "batch", "kind": kind,
                        "status": null, "runs": runs });
    (second, fault)
}

/// The store's rows of leads that it gave to user 11, with the ends of their assignments.
fn given(ends: &[(u64, Option<&str>)]) -> Vec<(&'static str, Vec<Value>)> {
    let decision =
        |(lead, _): &(u64, Option<&str>)| json!({ "lead_id": lead, "outcome": "assign", "to_user": 11 });
    let assignment = |(lead, end): &(u64, Option<&str>)| json!({ "lead_id": lead, "epoch": 1, "to_user": 11, "outcome": end });
    vec![
        ("decisions", ends.iter().map(decision).collect()),
        ("assignments", ends.iter().map(assignment).collect()),
    ]
}

fn broken(played: &Played) -> Vec<(Rule, Option<u64>)> {
    judge(played).violations.iter().map(|wrong| (wrong.rule, wrong.lead)).collect()
}

#[test]
fn a_run_in_which_all_is_well_passes() {
    let log = [added(1), owner(1, Some(1), 1, "1", "11"), notice(1, 1, &[1])];
    let verdict = judge(&run(&log, given(&[(1, Some("assigned"))])));
    assert!(verdict.violations.is_empty(), "{:?}", verdict.violations);
    assert_eq!((verdict.leads, verdict.lost, verdict.waits), (1, 0, vec![Duration::from_secs(1)]));
    assert!(!broken(&run(&[], Vec::new())).is_empty(), "a run without leads proves nothing");
}

#[test]
fn what_was_recorded_and_never_done_is_found() {
    let played = run(&[added(1)], given(&[(1, Some("assigned"))]));
    assert_eq!(broken(&played), [(Rule::TrueRecord, Some(1)), (Rule::ToldOnce, Some(1))]);
    let to_another = [added(1), owner(1, Some(1), 1, "1", "12"), notice(1, 1, &[1])];
    let played = run(&to_another, given(&[(1, Some("assigned"))]));
    assert_eq!(broken(&played), [(Rule::TrueRecord, Some(1))]);
    let played = run(&[added(1)], given(&[(1, Some("kept_by_person"))]));
    assert_eq!(broken(&played), [(Rule::TrueRecord, Some(1))]);
    let played = run(&[added(1)], given(&[(1, Some("deleted"))]));
    assert_eq!(broken(&played), [(Rule::TrueRecord, Some(1))]);
}

#[test]
fn a_lead_without_an_end_is_lost() {
    for tables in [Vec::new(), given(&[(1, None)])] {
        let verdict = judge(&run(&[added(1)], tables));
        assert_eq!(verdict.lost, 1);
        assert_eq!(verdict.violations[0].rule, Rule::OneOwner);
    }
    let letter = json!({ "lead_id": 1, "queue": "q", "class": "transient", "reason": "500", "attempt": 10 });
    let mut tables = given(&[(1, None)]);
    tables.push(("dead_letters", vec![letter.clone()]));
    let verdict = judge(&run(&[added(1)], tables.clone()));
    assert!(verdict.violations.is_empty(), "a row of failures explains it: {:?}", verdict.violations);
    assert_eq!((verdict.lost, verdict.dead), (0, 1));
    tables[2].1[0]["class"] = json!("permanent");
    assert_eq!(broken(&run(&[added(1)], tables)), [(Rule::DeadLetter, Some(1))]);
}

#[test]
fn a_person_loses_a_lead_only_within_the_window() {
    let log = |second: i64| {
        let ours = owner(second, Some(1), 1, "20", "11");
        [added(1), owner(1, None, 1, "1", "20"), ours, notice(second, 1, &[1])]
    };
    let verdict = judge(&run(&log(20), given(&[(1, Some("assigned"))])));
    assert!(verdict.violations.is_empty(), "{:?}", verdict.violations);
    assert_eq!(verdict.taken_back, 1);
    assert_eq!(broken(&run(&log(30), given(&[(1, Some("assigned"))]))), [(Rule::OneOwner, Some(1))]);
    let recorded_kept = run(&log(20), given(&[(1, Some("kept_by_person"))]));
    assert_eq!(broken(&recorded_kept), [(Rule::TrueRecord, Some(1))]);
    let kept = [added(1), owner(1, None, 1, "1", "20")];
    assert!(broken(&run(&kept, given(&[(1, Some("kept_by_person"))]))).is_empty());
}

#[test]
fn a_lead_is_given_once() {
    let twice =
        [added(1), owner(1, Some(1), 1, "1", "12"), owner(2, Some(2), 1, "12", "11"), notice(2, 2, &[1])];
    assert_eq!(broken(&run(&twice, given(&[(1, Some("assigned"))]))), [(Rule::OneOwner, Some(1))]);
    let repeated =
        [added(1), owner(1, Some(1), 1, "1", "11"), owner(2, Some(2), 1, "11", "11"), notice(2, 2, &[1])];
    assert!(
        broken(&run(&repeated, given(&[(1, Some("assigned"))]))).is_empty(),
        "the same again is harmless"
    );
}

#[test]
fn one_notice_of_a_lost_answer_may_be_in_doubt() {
    let ends = [(1, Some("assigned")), (2, Some("assigned"))];
    let mut log = vec![
        added(1),
        added(2),
        owner(2, Some(1), 1, "1", "11"),
        notice(2, 1, &[1]),
        owner(2, Some(1), 2, "1", "11"),
        notice(2, 1, &[2]),
        notice(62, 2, &[2]),
    ];
    assert_eq!(broken(&run(&log, given(&ends))), [(Rule::ToldOnce, Some(2))], "its answer was heard");
    log.insert(2, fault(1, 1, "answer_lost", true));
    let verdict = judge(&run(&log, given(&ends)));
    assert!(verdict.violations.is_empty(), "{:?}", verdict.violations);
    assert_eq!(verdict.doubled, BTreeMap::from([(Fault::AnswerLost, 1)]));
    log.push(notice(63, 3, &[1]));
    assert_eq!(broken(&run(&log, given(&ends))), [(Rule::ToldOnce, Some(1))], "two of one request");
}

#[test]
fn a_killed_notifier_or_a_stopped_database_may_leave_one_in_doubt() {
    let log = [added(1), owner(2, Some(1), 1, "1", "11"), notice(2, 1, &[1]), notice(62, 2, &[1])];
    let with = |fault, what: &str, second| {
        let mut played = run(&log, given(&[(1, Some("assigned"))]));
        played.disturbances =
            vec![Disturbance { fault, what: what.to_owned(), from: at(second), to: at(second + 1) }];
        broken(&played).is_empty()
    };
    assert!(with(Fault::StageKilled, "notifier-2", 3));
    assert!(with(Fault::DatabaseStopped, "", 8));
    assert!(!with(Fault::StageKilled, "router-1", 3));
    assert!(!with(Fault::StageKilled, "notifier-2", 40));
}

#[test]
fn the_ledger_sums_to_zero_and_a_lead_is_paid_once() {
    let log = [added(1), owner(1, Some(1), 1, "1", "11"), notice(1, 1, &[1])];
    let entry = |user: u64, delta: i64| json!({ "ledger": "main", "user_id": user, "delta": delta, "lead_id": 1, "epoch": 1 });
    let credit = |user: u64, credit: i64| json!({ "ledger": "main", "user_id": user, "credit": credit });
    let with = |entries: Vec<Value>, balances: Vec<Value>| {
        let mut tables = given(&[(1, Some("assigned"))]);
        tables.extend([("ledger_entries", entries), ("ledger_balances", balances)]);
        broken(&run(&log, tables))
    };
    let both = || vec![entry(11, -1), entry(12, 1)];
    assert!(with(both(), vec![credit(11, -1), credit(12, 1)]).is_empty());
    assert_eq!(with(both(), vec![credit(11, -1), credit(12, 2)]).len(), 2, "the sum, and a balance");
    let twice = [both(), both()].concat();
    assert_eq!(with(twice, vec![credit(11, -2), credit(12, 2)]), [(Rule::Ledger, Some(1))]);
}

#[test]
fn too_late_and_too_fast_are_found() {
    let late = [added(1), owner(401, Some(1), 1, "1", "11"), notice(401, 1, &[1])];
    let mut played = run(&late, given(&[(1, Some("assigned"))]));
    assert_eq!(broken(&played), [(Rule::InTime, Some(1))]);
    played.stats.refused = 1;
    played.quiet = None;
    assert_eq!(broken(&played).len(), 3);
}
