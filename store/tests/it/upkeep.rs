//! What is overdue, what is forgotten, and who does it.

use common::failure::{Failure as _, FailureClass};
use common::messages::{AssignmentKey, Epoch};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};
use store::postgres::Postgres;
use store::{
    Assignments as _, DeadLetter, DeadLetters as _, Decisions as _, Done, Forgotten, Givings as _, Keep,
    Ledgers as _, NewDecision, NewGiving, Overdue, Sweeps as _, Upkeep as _, Verdict, Waiting as _,
};
use uuid::Uuid;

use crate::decisions::{assign, decide, decision, hold};
use crate::others::letter;
use crate::{at, key, lead, portal, store, store_and_database, user};

/// A message is on its way for 100 s; what was never published is overdue after 10 s.
fn overdue_at(seconds: i64) -> Overdue {
    Overdue {
        now: at(seconds),
        on_its_way: SignedDuration::from_secs(100),
        unpublished: SignedDuration::from_secs(10),
        longest: SignedDuration::from_secs(500),
        limit: 10,
    }
}

/// The leads whose commands are overdue then.
async fn commands(store: &Postgres, seconds: i64) -> Vec<u64> {
    let overdue = store.overdue_commands(&portal("acme"), &overdue_at(seconds)).await.unwrap();
    overdue.iter().map(|saved| saved.key.lead.get()).collect()
}

async fn finish(store: &Postgres, key: &AssignmentKey, seconds: i64) {
    let done = Done {
        key: key.clone(),
        to: user(12),
        owner_set: true,
        notified: true,
        notification: None,
        finished: Some("assigned"),
        pack_at_most: None,
    };
    store.done(None, &[done], at(seconds)).await.unwrap();
}

async fn rows(database: &mut PgConnection, from: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {from}")))
        .fetch_one(database)
        .await
        .unwrap()
}

fn dead_command(number: u64) -> DeadLetter {
    DeadLetter { lead: Some(lead(number)), ..letter(&key(number).to_string()) }
}

#[tokio::test]
async fn a_command_that_nothing_came_of_is_overdue_again_after_twice_the_time() {
    let store = store().await;
    for number in [41, 42, 43] {
        decide(&store, &key(number), decision(assign(user(12)))).await;
    }
    decide(&store, &key(44), decision(hold(at(60)))).await;
    decide(&store, &key(45), decision(Verdict::Skip)).await;
    // Of 43 nobody knows whether it was published.
    store.published(&key(41), at(3)).await.unwrap();
    store.published(&key(42), at(2)).await.unwrap();
    assert_eq!(commands(&store, 10).await, [0; 0]);
    assert_eq!(commands(&store, 11).await, [43]);
    assert_eq!(commands(&store, 101).await, [43]);
    assert_eq!(commands(&store, 103).await, [43, 42, 41], "those that wait longest first");
    finish(&store, &key(43), 104).await;

    store.published(&key(42), at(201)).await.unwrap();
    assert_eq!(commands(&store, 400).await, [41], "200 s after the first time");
    assert_eq!(commands(&store, 401).await, [41, 42]);
    store.published(&key(42), at(1001)).await.unwrap();
    assert_eq!(commands(&store, 1500).await, [41]);
    assert_eq!(commands(&store, 1501).await, [41, 42], "500 s at the longest");
    finish(&store, &key(42), 1501).await;
    assert_eq!(commands(&store, 9000).await, [41]);
    assert_eq!(store.overdue_commands(&portal("beta"), &overdue_at(9000)).await.unwrap(), []);
}

#[tokio::test]
async fn a_command_that_a_human_has_is_left_to_him_until_he_replays_it() {
    let (store, mut database) = store_and_database().await;
    for number in [41, 42] {
        decide(&store, &key(number), decision(assign(user(12)))).await;
        store.published(&key(number), at(2)).await.unwrap();
        store.bury(&dead_command(number)).await.unwrap();
    }
    assert_eq!(commands(&store, 9000).await, [0; 0]);
    for (number, end) in [(41, "discarded"), (42, "replayed")] {
        let settle = format!(
            "UPDATE dead_letters SET settled_at = '{}', settlement = '{end}' WHERE lead_id = {number}",
            at(9000)
        );
        sqlx::query(AssertSqlSafe(settle)).execute(&mut database).await.unwrap();
    }
    assert_eq!(commands(&store, 9099).await, [0; 0], "the replay is on its way");
    assert_eq!(commands(&store, 9100).await, [42], "its copy is lost too");
    store.bury(&DeadLetter { died_at: at(9101), ..dead_command(42) }).await.unwrap();
    assert_eq!(commands(&store, 99_000).await, [0; 0], "it died again");
}

#[tokio::test]
async fn what_was_asked_for_and_never_decided_is_overdue_until_it_is_decided() {
    let store = store().await;
    let acme = portal("acme");
    let calls = async |seconds| {
        let calls = store.overdue_calls(&acme, &overdue_at(seconds)).await.unwrap();
        calls.into_iter().map(|call| (call.lead.get(), call.asked_by, call.queue)).collect::<Vec<_>>()
    };
    decide(&store, &key(42), decision(assign(user(12)))).await;
    finish(&store, &key(42), 2).await;
    let call = NewGiving::of_robot("call-1", Some("vip"), at(5));
    assert_eq!(store.give_again(&acme, lead(42), &call).await.unwrap(), Some(Epoch(2)));
    assert_eq!(calls(104).await, []);
    let robot = [(42, "call-1".to_owned(), Some("vip".to_owned()))];
    assert_eq!(calls(106).await, robot);
    assert_eq!(calls(107).await, [], "the store knows when it was published again");
    assert_eq!(calls(207).await, robot);
    let second = AssignmentKey { epoch: Epoch(2), ..key(42) };
    decide(&store, &second, decision(assign(user(13)))).await;
    assert_eq!(calls(9000).await, []);
}

#[tokio::test]
async fn a_lead_that_was_found_is_published_again_until_something_comes_of_it() {
    let store = store().await;
    let acme = portal("acme");
    let times = (SignedDuration::from_secs(60), SignedDuration::from_secs(500));
    let overdue = async |now: i64| {
        let leads = store.take_overdue_leads(&acme, at(now), times, 10).await.unwrap();
        leads.into_iter().map(|(lead, first_seen)| (lead.get(), first_seen)).collect::<Vec<_>>()
    };
    decide(&store, &key(2), decision(Verdict::Skip)).await;
    decide(&store, &AssignmentKey { epoch: Epoch(2), ..key(3) }, decision(Verdict::Skip)).await;
    let letter = DeadLetter { kind: "lead-event".to_owned(), ..dead_command(4) };
    store.bury(&letter).await.unwrap();
    let leads = [6, 5, 4, 3, 2, 1].map(lead);
    let found = async |now: i64| store.note_found(&acme, &leads, at(now), at(now + 60)).await.unwrap();
    assert_eq!(found(100).await, [1, 5, 6].map(lead), "decided ones and dead letters are left out");
    assert_eq!(found(101).await, [], "they wait already");
    assert_eq!(store.waiting(&acme, at(101)).await.unwrap().oldest, Some(at(100)));

    assert_eq!(overdue(159).await, []);
    // One was decided, the event of another failed and comes again by itself.
    decide(&store, &key(1), decision(Verdict::Skip)).await;
    store.note_undecided(&key(5), at(99), at(400)).await.unwrap();
    assert_eq!(overdue(160).await, [(6, at(100))]);
    assert_eq!(overdue(160).await, []);
    assert_eq!(overdue(219).await, [], "the next time after a minute at the soonest");
    assert_eq!(overdue(220).await, [(6, at(100))]);
    assert_eq!(overdue(339).await, [], "and then after as long as it has waited");
    assert_eq!(overdue(340).await, [(6, at(100))]);
    assert_eq!(overdue(400).await, [(5, at(100))]);
    assert_eq!(overdue(5000).await.len(), 2);
    assert_eq!(overdue(5499).await, [], "but not later than that");
    assert_eq!(overdue(5500).await.len(), 2);
}

#[tokio::test]
async fn a_title_is_forgotten_when_nobody_will_be_told() {
    let (store, mut database) = store_and_database().await;
    for number in [41, 42] {
        decide(&store, &key(number), decision(assign(user(12)))).await;
    }
    store.bury(&DeadLetter { kind: "lead-event".to_owned(), ..dead_command(41) }).await.unwrap();
    assert_eq!(
        rows(&mut database, "decisions WHERE title IS NOT NULL").await,
        2,
        "its command may be carried out"
    );
    store.bury(&dead_command(41)).await.unwrap();
    assert_eq!(rows(&mut database, "decisions WHERE lead_id = 41 AND title IS NULL").await, 1);
    assert_eq!(rows(&mut database, "decisions WHERE lead_id = 42 AND title IS NOT NULL").await, 1);
}

/// All that happened before this time is old.
fn keep_from(seconds: i64) -> Keep {
    let from = at(seconds);
    Keep { dead_letters: from, decisions: from, titles: from, behind_scan: 100, limit: 10 }
}

#[tokio::test]
async fn what_is_old_and_done_with_is_forgotten_and_nothing_else() {
    let (store, mut database) = store_and_database().await;
    let acme = portal("acme");
    let turn = |user, delta| store::LedgerEntry {
        ledger: "main".to_owned(),
        user,
        delta,
        kind: distribution::EntryKind::Turn,
    };
    let of = |seconds| NewDecision {
        decided_at: at(seconds),
        entries: vec![turn(user(11), 4), turn(user(12), -4)],
        ..decision(assign(user(12)))
    };
    // 1: done. 2: not carried out. 3: held. 4: given again of late. 5: a letter waits. 6: late. 700: near the scan's end.
    for (number, seconds) in [(1, 10), (2, 10), (4, 10), (5, 10), (6, 500), (700, 10)] {
        decide(&store, &key(number), of(seconds)).await;
        if number != 2 {
            finish(&store, &key(number), seconds + 1).await;
        }
    }
    decide(&store, &key(3), NewDecision { decided_at: at(10), ..decision(hold(at(60))) }).await;
    store.give_again(&acme, lead(4), &NewGiving::of_robot("call-1", None, at(300))).await.unwrap();
    store.bury(&dead_command(5)).await.unwrap();
    store.bury(&letter("settled")).await.unwrap();
    let settle = format!(
        "UPDATE dead_letters SET settled_at = '{}', settlement = 'replayed' WHERE message_id = 'settled'",
        at(50)
    );
    sqlx::query(AssertSqlSafe(settle)).execute(&mut database).await.unwrap();
    sqlx::query("INSERT INTO sweeps (portal, first_id, last_id) VALUES ('acme', 0, 750)")
        .execute(&mut database)
        .await
        .unwrap();
    let balances = store.balances(&acme).await.unwrap();

    assert_eq!(store.forget(&keep_from(5)).await.unwrap(), Forgotten::default());
    // Titles: of 2, 3; those of others went when people were told.
    let gone = store.forget(&keep_from(100)).await.unwrap();
    assert_eq!(gone, Forgotten { dead_letters: 1, leads: 1, titles: 2 });
    for table in ["decisions", "assignments", "ledger_entries"] {
        assert_eq!(rows(&mut database, &format!("{table} WHERE lead_id = 1")).await, 0, "{table}");
    }
    assert_eq!(rows(&mut database, "decisions").await, 6);
    assert_eq!(rows(&mut database, "dead_letters").await, 1);
    assert_eq!(
        store.balances(&acme).await.unwrap(),
        balances,
        "whose turn it is does not depend on old leads"
    );
    assert_eq!(store.forget(&keep_from(100)).await.unwrap(), Forgotten::default());

    // The scan has gone on, the rest is done with.
    store.swept(&acme, 5000).await.unwrap();
    assert_eq!(store.forget(&keep_from(100)).await.unwrap().leads, 1, "lead 700");
    let found = store.note_found(&acme, &[lead(1), lead(2)], at(0), at(60)).await.unwrap();
    assert_eq!(found, [lead(1)]);
}

#[tokio::test]
async fn no_more_goes_at_once_than_is_asked_for() {
    let store = store().await;
    for number in 1..=25 {
        decide(&store, &key(number), decision(Verdict::Skip)).await;
    }
    let mut portions = Vec::new();
    for _ in 0..4 {
        portions.push(store.forget(&keep_from(100)).await.unwrap().leads);
    }
    assert_eq!(portions, [10, 10, 5, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_has_a_lease_until_it_runs_out() {
    let store = store().await;
    let holders = [Uuid::now_v7(), Uuid::now_v7()];
    let minute = SignedDuration::from_mins(1);
    let take = |name: &'static str, holder, now: Timestamp| store.take_lease(name, holder, now, minute);
    let (one, other) = tokio::join!(take("a", holders[0], at(0)), take("a", holders[1], at(0)));
    let taken = [one.unwrap(), other.unwrap()];
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
    let (first, second) = if taken[0] { (holders[0], holders[1]) } else { (holders[1], holders[0]) };
    assert!(take("b", second, at(0)).await.unwrap(), "another matter");
    assert!(take("a", first, at(30)).await.unwrap(), "kept until 90");
    assert!(!take("a", second, at(90)).await.unwrap());
    assert!(take("a", second, at(91)).await.unwrap());
    assert!(!take("a", first, at(92)).await.unwrap());
}

#[tokio::test]
async fn what_the_database_refuses_because_of_a_value_never_works() {
    let (store, mut database) = store_and_database().await;
    let take =
        |name: &'static str| store.take_lease(name, Uuid::now_v7(), at(0), SignedDuration::from_mins(1));
    assert_eq!(take("zero \0").await.unwrap_err().class(), FailureClass::Permanent, "22021");
    let key = key(42);
    sqlx::query("ALTER TABLE decisions ADD CHECK (lead_id <> 42)").execute(&mut database).await.unwrap();
    let refused =
        store.decide(&key, &store::Counting::default(), Box::new(|_| decision(Verdict::Skip))).await;
    assert_eq!(refused.unwrap_err().class(), FailureClass::Permanent, "23514");
    sqlx::query("ALTER TABLE leases RENAME TO gone").execute(&mut database).await.unwrap();
    assert_eq!(
        take("name").await.unwrap_err().class(),
        FailureClass::Throttled,
        "42P01: the schema is being changed"
    );
    store.close().await;
    assert_eq!(take("name").await.unwrap_err().class(), FailureClass::Throttled, "no connection");
}

#[tokio::test]
async fn the_character_zero_in_any_part_of_a_decision_does_not_refuse_it() {
    let store = store().await;
    let zero = NewDecision {
        queue: Some("q\0".to_owned()),
        rule: Some("r\0".to_owned()),
        reason: "stage \0".to_owned(),
        explanation: json!({ "lead\0": ["\u{0}", { "a": "b\0" }] }),
        timeline: Some("t\0".to_owned()),
        title: Some("Flat \0".to_owned()),
        ..decision(Verdict::Assign { to: user(12), person: "p\0".to_owned() })
    };
    let saved = decide(&store, &key(42), zero).await;
    assert_eq!(saved.reason, "stage \u{fffd}");
    assert_eq!(saved.explanation, json!({ "lead\u{fffd}": ["\u{fffd}", { "a": "b\u{fffd}" }] }));
    assert_eq!(store.decision(&key(42)).await.unwrap(), Some(saved));
    let call = NewGiving::of_robot("id\0", Some("q\0"), at(5));
    assert_eq!(store.give_again(&portal("acme"), lead(50), &call).await.unwrap(), Some(Epoch(1)));
    assert_eq!(
        store.give_again(&portal("acme"), lead(50), &call).await.unwrap(),
        Some(Epoch(1)),
        "the same call"
    );
}
