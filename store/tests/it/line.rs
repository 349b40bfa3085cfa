//! The line of a queue: who stands ahead of a lead, and who is called.

use std::collections::BTreeSet;

use distribution::{Ahead, First, Needs, Place};
use serde_json::json;
use store::postgres::Postgres;
use store::{
    Call, Counting, Decided, Decisions as _, Holds as _, InLine, Line, NewDecision, Standing, Verdict,
    Waiting as _,
};

use crate::decisions::{assign, decide, decision, hold};
use crate::{at, key, lead, portal, store, user};

fn needs(skills: &[&str]) -> Needs {
    serde_json::from_value(json!({ "queues": ["main"], "skills": skills })).unwrap()
}

/// A lead that is held in line since so many seconds after nine.
fn waits(seconds: i64, amount: Option<f64>, skills: &[&str]) -> NewDecision {
    let line = Some(Line { needs: needs(skills), call_again_at: at(seconds) });
    NewDecision { first_seen: at(seconds), amount, line, ..decision(hold(at(600))) }
}

/// How many stand ahead of a lead, by the skills they need.
async fn ahead(store: &Postgres, number: u64, in_line: InLine) -> Vec<(Needs, u32)> {
    let mut told = Vec::new();
    let counting = Counting { in_line: Some(in_line), ..Counting::default() };
    let make = |standing: &Standing| {
        told.clone_from(&standing.giving.ahead);
        decision(Verdict::Skip)
    };
    let decided = store.decide(&key(number), &counting, Box::new(make)).await.unwrap();
    assert!(matches!(decided, Decided::Now(_)));
    told.sort_by(|one, other| one.needs.cmp(&other.needs));
    told.into_iter().map(|Ahead { needs, count }| (needs, count)).collect()
}

fn new(seconds: i64, amount: Option<f64>, first: First) -> InLine {
    let most_valuable = if first == First::MostValuable { vec!["main".to_owned()] } else { Vec::new() };
    InLine { first_seen: at(seconds), amount, most_valuable }
}

#[tokio::test]
async fn those_ahead_are_counted_by_kinds_in_the_order_in_which_they_go() {
    let store = store().await;
    let standing: Vec<(u64, i64, Option<f64>)> = vec![
        (1, 30, Some(5.0)),
        (2, 10, None),
        (3, 10, Some(7.5)),
        (4, 20, Some(7.5)),
        (5, 10, Some(7.5)),
        (6, 20, Some(-3.0)),
        (7, 20, Some(0.0)),
    ];
    for (number, seconds, amount) in &standing {
        decide(&store, &key(*number), waits(*seconds, *amount, &[])).await;
    }
    decide(&store, &key(8), waits(40, Some(100.0), &["german"])).await;
    // Neither one that is held out of line, nor one that was given, nor one of another portal.
    decide(&store, &key(9), NewDecision { line: None, ..waits(1, Some(100.0), &[]) }).await;
    decide(&store, &key(10), waits(1, Some(100.0), &[])).await;
    decide(&store, &key(10), decision(assign(user(12)))).await;
    let elsewhere = common::messages::AssignmentKey { portal: portal("beta"), ..key(11) };
    decide(&store, &elsewhere, waits(1, Some(100.0), &[])).await;

    let mut number = 100;
    for first in [First::Oldest, First::MostValuable] {
        for (seconds, amount) in [(5, None), (10, Some(7.5)), (20, Some(0.0)), (25, Some(8.0)), (50, None)] {
            number += 1;
            let own = Place { since: at(seconds), amount, lead: lead(number) };
            let goes_before = |(number, seconds, amount): &&(u64, i64, Option<f64>)| {
                let place = Place { since: at(*seconds), amount: *amount, lead: lead(*number) };
                first.compare(&place, &own).is_lt()
            };
            let plain = u32::try_from(standing.iter().filter(goes_before).count()).unwrap();
            let german = Place { since: at(40), amount: Some(100.0), lead: lead(8) };
            let german = u32::from(first.compare(&german, &own).is_lt());
            let expected: Vec<(Needs, u32)> = [(needs(&[]), plain), (needs(&["german"]), german)]
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .collect();
            assert_eq!(
                ahead(&store, number, new(seconds, amount, first)).await,
                expected,
                "{first:?} {own:?}"
            );
        }
    }
    // One that waits stands where it is written, and never ahead of itself.
    let counted = ahead(&store, 3, new(999, Some(7.5), First::Oldest)).await;
    assert_eq!(counted, []);
}

#[tokio::test]
async fn more_than_matter_are_not_counted() {
    let store = store().await;
    for number in 1..=120 {
        decide(&store, &key(number), waits(0, None, &[])).await;
    }
    assert_eq!(ahead(&store, 200, new(1, None, First::Oldest)).await, [(needs(&[]), 100)]);
    assert_eq!(ahead(&store, 201, new(1, None, First::MostValuable)).await, [(needs(&[]), 100)]);
    // Number 50 takes itself out of the line by this.
    assert_eq!(ahead(&store, 50, new(1, None, First::Oldest)).await, [(needs(&[]), 49)]);
}

async fn kind(store: &Postgres, skills: &[&str]) -> i64 {
    let kinds = store.kinds_in_line(&portal("acme")).await.unwrap();
    kinds.into_iter().find(|kind| kind.needs == needs(skills)).unwrap().kind
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_whose_turn_it_is_are_called_once_in_their_order() {
    let store = store().await;
    for (number, seconds, amount) in [(1, 3, Some(1.0)), (2, 1, None), (3, 2, Some(9.0)), (4, 4, Some(9.0))] {
        decide(&store, &key(number), waits(seconds, amount, &[])).await;
    }
    decide(&store, &key(5), waits(0, Some(50.0), &["german"])).await;
    let (plain, german) = (kind(&store, &[]).await, kind(&store, &["german"]).await);
    let call = async |kind, first, limit, now| {
        let call = Call { kind, first, limit, now: at(now), again_at: at(now + 60) };
        let called = store.call(&portal("acme"), &call).await.unwrap();
        called.into_iter().map(|(key, _)| key.lead.get()).collect::<Vec<u64>>()
    };
    assert_eq!(call(plain, First::Oldest, 2, 10).await, [2, 3]);
    assert_eq!(call(plain, First::Oldest, 2, 11).await, [] as [u64; 0], "both are on their way");
    assert_eq!(call(plain, First::MostValuable, 2, 11).await, [4]);
    assert_eq!(call(german, First::Oldest, 9, 11).await, [5]);
    // The first is given: the next has its turn. Another was looked at and waits on: it may be called at once.
    decide(&store, &key(2), decision(assign(user(12)))).await;
    decide(&store, &key(3), waits(2, Some(9.0), &[])).await;
    assert_eq!(call(plain, First::Oldest, 2, 12).await, [3, 1]);
    // What was called and never decided is called again.
    assert_eq!(call(plain, First::Oldest, 9, 71).await, [4]);
    let (one, other) = tokio::join!(call(plain, First::Oldest, 9, 200), call(plain, First::Oldest, 9, 200));
    let all: Vec<u64> = one.into_iter().chain(other).collect();
    assert_eq!((all.len(), all.into_iter().collect::<BTreeSet<u64>>()), (3, [1, 3, 4].into()));
}

#[tokio::test]
async fn a_lead_that_cannot_be_looked_at_leaves_the_line_until_it_is_decided() {
    let store = store().await;
    decide(&store, &key(1), waits(0, None, &[])).await;
    store.leave_line(&key(1)).await.unwrap();
    store.leave_line(&key(7)).await.unwrap();
    assert_eq!(ahead(&store, 2, new(1, None, First::Oldest)).await, []);
    assert_eq!(store.kinds_in_line(&portal("acme")).await.unwrap(), []);
    assert_eq!(store.waiting(&portal("acme"), at(5)).await.unwrap().held, 1, "it waits all the same");
    decide(&store, &key(1), waits(0, None, &[])).await;
    assert_eq!(ahead(&store, 3, new(1, None, First::Oldest)).await, [(needs(&[]), 1)]);
}

#[tokio::test]
async fn who_stands_in_line_needs_no_look_each_minute() {
    let store = store().await;
    decide(&store, &key(1), waits(0, None, &[])).await;
    decide(&store, &key(2), NewDecision { line: None, ..waits(0, None, &[]) }).await;
    let due = async |due, due_in_line| {
        let which = store::DueHolds {
            queue: Some("main".into()),
            due: at(due),
            due_in_line: at(due_in_line),
            first: First::Oldest,
            limit: 9,
        };
        let due = store.due_holds(&portal("acme"), &which, at(2000)).await.unwrap();
        due.into_iter().map(|(key, _)| key.lead.get()).collect::<Vec<u64>>()
    };
    assert_eq!(due(599, 599).await, [] as [u64; 0]);
    assert_eq!(due(600, 599).await, [2]);
    assert_eq!(due(600, 600).await, [1]);
    // It was called by this, so it is not called beside it.
    let call = Call {
        kind: kind(&store, &[]).await,
        first: First::Oldest,
        limit: 9,
        now: at(1000),
        again_at: at(3000),
    };
    assert_eq!(store.call(&portal("acme"), &call).await.unwrap(), []);
}
