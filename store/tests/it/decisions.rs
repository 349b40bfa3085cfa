//! Decisions and the ledger.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::ids::{PortalName, UserId};
use common::messages::{AssignmentKey, Deal, Orders};
use distribution::EntryKind;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use store::postgres::Postgres;
use store::{
    AssignmentState, Assignments, Balances, Counting, DeadLetter, DeadLetters, Decided, Decisions, Done,
    Given, Holds, LedgerEntry, Ledgers, Manual, NewDecision, Related, SavedDecision, Standing, Verdict,
    Waiting,
};
use tokio::task::JoinSet;

use crate::{at, key, lead, portal, store, user};

/// One turn in the tests' ledgers.
const TURN: i64 = 4;

pub fn decision(verdict: Verdict) -> NewDecision {
    NewDecision {
        verdict,
        from: Some(user(7)),
        queue: Some("main".to_owned()),
        rule: Some("Large".to_owned()),
        reason: "petrov's turn".to_owned(),
        explanation: json!({ "format": 1, "candidates": ["ivanov", "petrov"] }),
        routing_version: 3,
        title: Some("Flat \0".to_owned()),
        timeline: None,
        deadline: None,
        to_be_answered: false,
        loser: None,
        amount: None,
        line: None,
        orders: Orders::default(),
        entries: Vec::new(),
        first_seen: at(0),
        decided_at: at(1),
    }
}

pub fn assign(to: UserId) -> Verdict {
    Verdict::Assign { to, person: format!("person-{}", to.get()) }
}

pub fn hold(until: Timestamp) -> Verdict {
    Verdict::Hold { look_again_at: until, until: None }
}

fn entry(user: UserId, delta: i64) -> LedgerEntry {
    LedgerEntry { ledger: "main".to_owned(), user, delta, kind: EntryKind::Turn }
}

/// Decides anew; the decision must not be there.
pub async fn decide(store: &Postgres, key: &AssignmentKey, new: NewDecision) -> SavedDecision {
    match store.decide(key, &Counting::default(), Box::new(|_| new)).await.unwrap() {
        Decided::Now(saved) => saved,
        Decided::Before(before) => panic!("{key} had been decided: {before:?}"),
        Decided::TooEarly => panic!("{key}: an earlier giving is under way"),
    }
}

/// How many leads are held, and since when the oldest of all that wait has waited.
async fn waiting(store: &Postgres, portal: &PortalName, now: Timestamp) -> (u64, Option<Timestamp>) {
    let waiting = store.waiting(portal, now).await.unwrap();
    (waiting.held, waiting.oldest)
}

#[tokio::test]
async fn a_lead_is_decided_once_and_kept_as_it_was_decided() {
    let store = store().await;
    let new = NewDecision {
        entries: vec![entry(user(11), TURN), entry(user(12), -TURN)],
        ..decision(assign(user(12)))
    };
    let saved = decide(&store, &key(42), new).await;
    assert_eq!(store.decision(&key(42)).await.unwrap(), Some(saved.clone()));
    let balances = store.balances(&portal("acme")).await.unwrap();
    assert_eq!(balances, Balances::from([("main".into(), [(user(11), TURN), (user(12), -TURN)].into())]));

    let again = store
        .decide(&key(42), &Counting::default(), Box::new(|_| unreachable!("it is decided")))
        .await
        .unwrap();
    assert_eq!(again, Decided::Before(saved.clone()));
    assert_eq!(store.balances(&portal("acme")).await.unwrap(), balances);

    store.published(&key(42), at(2)).await.unwrap();
    assert_eq!(store.decision(&key(42)).await.unwrap(), Some(SavedDecision { published: true, ..saved }));
    assert_eq!(store.balances(&portal("beta")).await.unwrap(), Balances::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_decisions_at_once_give_four_people_ten_turns_each() {
    let store = Arc::new(store().await);
    let people = [11, 12, 13, 14].map(user);
    let mut decisions = JoinSet::new();
    for number in 1..=40 {
        let store = Arc::clone(&store);
        decisions.spawn(async move {
            let give_to_the_largest_credit = move |standing: &Standing| {
                let credits = standing.balances.get("main").cloned().unwrap_or_default();
                let credit = |user: &UserId| credits.get(user).copied().unwrap_or_default();
                let chosen = people.into_iter().max_by_key(|user| (credit(user), *user)).unwrap();
                let mut entries = people.map(|user| entry(user, TURN / 4)).to_vec();
                entries.push(entry(chosen, -TURN));
                NewDecision { entries, ..decision(assign(chosen)) }
            };
            store
                .decide(&key(number), &Counting::default(), Box::new(give_to_the_largest_credit))
                .await
                .unwrap()
        });
    }
    let mut turns = BTreeMap::<UserId, u32>::new();
    for decided in decisions.join_all().await {
        let Decided::Now(SavedDecision { verdict: Verdict::Assign { to, .. }, .. }) = decided else {
            panic!("not assigned: {decided:?}");
        };
        *turns.entry(to).or_default() += 1;
    }
    assert_eq!(turns, people.map(|user| (user, 10)).into());
    assert_eq!(
        store.balances(&portal("acme")).await.unwrap(),
        Balances::from([("main".into(), people.map(|user| (user, 0)).into())])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_decisions_of_one_lead_at_once_one_is_made() {
    let store = store().await;
    let charged = |to: u64| NewDecision {
        entries: vec![entry(user(11), TURN), entry(user(to), -TURN)],
        ..decision(assign(user(to)))
    };
    let key = key(42);
    let counting = Counting::default();
    let (one, other) = tokio::join!(
        store.decide(&key, &counting, Box::new(|_| charged(12))),
        store.decide(&key, &counting, Box::new(|_| charged(13))),
    );
    let (one, other) = (one.unwrap(), other.unwrap());
    let ((Decided::Now(made), Decided::Before(found)) | (Decided::Before(found), Decided::Now(made))) =
        (&one, &other)
    else {
        panic!("not one of each: {one:?} {other:?}");
    };
    assert_eq!(made, found);
    let credits: Vec<i64> =
        store.balances(&portal("acme")).await.unwrap()["main"].values().copied().collect();
    assert_eq!(credits, [TURN, -TURN]);
}

#[tokio::test]
async fn a_hold_is_decided_again_and_replaced_and_keeps_its_first_sight() {
    let store = store().await;
    let held = decide(&store, &key(42), decision(hold(at(60)))).await;
    assert_eq!(store.decision(&key(42)).await.unwrap(), Some(held));

    let still_held =
        NewDecision { reason: "still nobody".to_owned(), decided_at: at(60), ..decision(hold(at(120))) };
    decide(&store, &key(42), still_held).await;
    let found = store.decision(&key(42)).await.unwrap().unwrap();
    assert_eq!((found.verdict, found.reason.as_str()), (hold(at(120)), "still nobody"));

    let assigned = NewDecision { first_seen: at(120), decided_at: at(120), ..decision(assign(user(12))) };
    decide(&store, &key(42), assigned).await;
    let found = store.decision(&key(42)).await.unwrap().unwrap();
    assert_eq!((found.verdict, found.first_seen, found.decided_at), (assign(user(12)), at(0), at(120)));
    assert!(store.held_queues(&portal("acme")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lead_waits_from_its_first_sight_until_its_command_is_carried_out() {
    let store = store().await;
    let acme = portal("acme");
    let seen = |seconds, verdict| NewDecision { first_seen: at(seconds), ..decision(verdict) };
    assert_eq!(waiting(&store, &acme, at(1000)).await, (0, None));
    decide(&store, &key(1), seen(1, Verdict::Skip)).await;
    assert_eq!(waiting(&store, &acme, at(1000)).await, (0, None));
    decide(&store, &key(2), seen(20, hold(at(100)))).await;
    decide(&store, &key(3), seen(10, assign(user(12)))).await;
    assert_eq!(waiting(&store, &acme, at(1000)).await, (1, Some(at(10))));

    let done = |finished| Done {
        key: key(3),
        to: user(12),
        owner_set: true,
        notified: true,
        notification: None,
        pack_at_most: None,
        finished,
    };
    store.done(None, &[done(None)], at(30)).await.unwrap();
    assert_eq!(waiting(&store, &acme, at(1000)).await, (1, Some(at(10))));
    store.done(None, &[done(Some("assigned"))], at(40)).await.unwrap();
    assert_eq!(waiting(&store, &acme, at(1000)).await, (1, Some(at(20))));
}

#[tokio::test]
async fn a_lead_that_cannot_be_decided_waits_until_it_is_or_is_buried() {
    let store = store().await;
    let acme = portal("acme");
    store.note_undecided(&key(1), at(5), at(9000)).await.unwrap();
    store.note_undecided(&key(1), at(6), at(9000)).await.unwrap();
    store.note_undecided(&key(2), at(7), at(9000)).await.unwrap();
    assert_eq!(waiting(&store, &acme, at(1000)).await, (0, Some(at(5))), "the first sight counts");

    decide(&store, &key(1), decision(Verdict::Skip)).await;
    assert_eq!(waiting(&store, &acme, at(1000)).await, (0, Some(at(7))));
    store.note_undecided(&key(1), at(5), at(9000)).await.unwrap();
    assert_eq!(waiting(&store, &acme, at(1000)).await, (0, Some(at(7))), "it is decided");

    let buried = |kind: &str, number| DeadLetter {
        message_id: String::new(),
        portal: Some("acme".to_owned()),
        lead: Some(lead(number)),
        queue: None,
        kind: kind.to_owned(),
        class: "transient".to_owned(),
        reason: String::new(),
        attempt: 6,
        first_seen: None,
        traceparent: None,
        body: Vec::new(),
        died_at: at(9),
    };
    decide(&store, &key(3), NewDecision { first_seen: at(8), ..decision(assign(user(12))) }).await;
    store.bury(&buried("lead-event", 2)).await.unwrap();
    store.bury(&buried("lead-event", 3)).await.unwrap();
    assert_eq!(waiting(&store, &acme, at(1000)).await, (0, Some(at(8))), "its command is still under way");
    store.bury(&buried("assignment-command", 3)).await.unwrap();
    assert_eq!(waiting(&store, &acme, at(1000)).await, (0, None));
}

#[tokio::test]
async fn a_lead_held_until_the_office_opens_waits_from_then_on() {
    let store = store().await;
    let acme = portal("acme");
    let held = Verdict::Hold { look_again_at: at(600), until: Some(at(3600)) };
    let saved = decide(&store, &key(1), decision(held)).await;
    assert_eq!(store.decision(&key(1)).await.unwrap(), Some(saved));
    assert_eq!(waiting(&store, &acme, at(3599)).await, (1, None));
    assert_eq!(waiting(&store, &acme, at(3700)).await, (1, Some(at(3600))));
    // Found that nobody is known to come: it has waited from the beginning.
    decide(&store, &key(1), decision(hold(at(60)))).await;
    assert_eq!(waiting(&store, &acme, at(10)).await, (1, Some(at(0))));
    decide(&store, &key(1), decision(assign(user(12)))).await;
    assert_eq!(waiting(&store, &acme, at(10)).await, (0, Some(at(0))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_whatever_the_number_of_those_who_decide_at_once() {
    let store = Arc::new(store().await);
    let counting =
        Counting { hour_from: at(-3600), day_from: [(user(11), at(-7200))].into(), ..Counting::default() };
    // Before the hour, before the day, and of somebody who is not counted.
    for (number, to, decided_at) in [(101, 11, at(-4000)), (102, 11, at(-7300)), (103, 12, at(0))] {
        let old = NewDecision { decided_at, ..decision(assign(user(to))) };
        decide(&store, &key(number), old).await;
    }
    let mut decisions = JoinSet::new();
    for number in 1..=20 {
        let (store, counting) = (Arc::clone(&store), counting.clone());
        decisions.spawn(async move {
            let at_most_five = |standing: &Standing| {
                let given = standing.given.get(&user(11)).copied().unwrap_or_default();
                assert_eq!((given.day, standing.given.len()), (given.hour + 1, 1));
                decision(if given.hour < 5 { assign(user(11)) } else { hold(at(60)) })
            };
            store.decide(&key(number), &counting, Box::new(at_most_five)).await.unwrap();
        });
    }
    decisions.join_all().await;
    let count = |standing: &Standing| {
        assert_eq!(standing.given, [(user(11), Given { hour: 5, day: 6, reserved: 0, released: 0 })].into());
        decision(Verdict::Skip)
    };
    store.decide(&key(50), &counting, Box::new(count)).await.unwrap();
}

#[tokio::test]
async fn the_owner_of_a_related_lead_is_known_before_the_portal_shows_it() {
    let store = store().await;
    let told = async |read_at: Timestamp| {
        let counting = Counting {
            related: Related { leads: (1..=5).map(lead).collect(), read_at },
            ..Counting::default()
        };
        let mut owners = None;
        let note = |standing: &Standing| {
            owners = Some(standing.owners.clone());
            decision(hold(at(60)))
        };
        store.decide(&key(9), &counting, Box::new(note)).await.unwrap();
        owners.unwrap()
    };
    decide(&store, &key(1), decision(assign(user(11)))).await;
    decide(&store, &key(2), decision(hold(at(60)))).await;
    decide(&store, &key(3), decision(Verdict::Skip)).await;
    assert_eq!(told(at(10)).await, [(lead(1), user(11))].into());
    // Set at the tenth second: whoever read after it has seen it, and perhaps what a person made of it since.
    let done = |number, owner_set, finished| Done {
        key: key(number),
        to: user(11),
        owner_set,
        notified: owner_set,
        notification: None,
        pack_at_most: None,
        finished: Some(finished),
    };
    store.done(None, &[done(1, true, "assigned")], at(10)).await.unwrap();
    assert_eq!(told(at(10)).await, [(lead(1), user(11))].into());
    assert_eq!(told(at(11)).await, [].into());
    // A command that was not carried out, as a person was faster.
    decide(&store, &key(4), decision(assign(user(12)))).await;
    store.done(None, &[done(4, false, "kept_by_person")], at(11)).await.unwrap();
    assert_eq!(told(at(11)).await, [].into());
}

#[tokio::test]
async fn orders_are_kept_with_the_decision() {
    let store = store().await;
    let orders = Orders {
        set: [("STATUS_ID".to_owned(), json!("IN_PROCESS"))].into(),
        deal: Some(Deal { category: 5, stage: None }),
    };
    let saved = decide(&store, &key(1), NewDecision { orders, ..decision(assign(user(12))) }).await;
    assert_eq!(saved.orders.deal, Some(Deal { category: 5, stage: None }));
    assert_eq!(store.decision(&key(1)).await.unwrap(), Some(saved));
}

#[tokio::test]
async fn corrections_and_refunds_keep_the_sum_at_zero() {
    let store = store().await;
    let acme = portal("acme");
    let manual = Manual { author: "olga".to_owned(), reason: "he was ill".to_owned(), at: at(9) };
    let correction = |user, delta| LedgerEntry { kind: EntryKind::Correction, ..entry(user, delta) };
    store.correct(&acme, &[correction(user(11), 2), correction(user(12), -2)], &manual).await.unwrap();
    let error = store.correct(&acme, &[correction(user(11), 2)], &manual).await.unwrap_err();
    assert_eq!(error.operation, "correcting credits");

    let duty = LedgerEntry { kind: EntryKind::Duty, ..entry(user(11), 1) };
    let left = LedgerEntry { kind: EntryKind::Left, ..entry(user(13), 1) };
    let entries = vec![entry(user(12), -3), entry(user(11), 2), duty, left, entry(user(14), -1)];
    decide(&store, &key(1), NewDecision { entries, ..decision(assign(user(12))) }).await;
    let balances = async || store.balances(&acme).await.unwrap().remove("main").unwrap();
    assert_eq!(balances().await, [(user(11), 5), (user(12), -5), (user(13), 1), (user(14), -1)].into());

    assert!(!store.refund(&key(2), &manual).await.unwrap(), "there is no such decision");
    assert!(store.refund(&key(1), &manual).await.unwrap());
    assert!(!store.refund(&key(1), &manual).await.unwrap(), "it was given back before");
    // Who left the queue stays at zero: that had nothing to do with the lead.
    assert_eq!(balances().await, [(user(11), 2), (user(12), -2), (user(13), 1), (user(14), 0)].into());
}

#[tokio::test]
async fn the_title_is_there_for_the_notice_and_forgotten_afterwards() {
    let database = crate::empty_database().await;
    let store = Postgres::prepare(&database, 8).unwrap();
    store.migrate().await.unwrap();
    decide(&store, &key(1), decision(assign(user(12)))).await;
    let title = async || {
        let state = store.assignment(&key(1)).await.unwrap();
        let AssignmentState::Open { title, .. } = state else { panic!("{state:?}") };
        title
    };
    assert_eq!(title().await.as_deref(), Some("Flat \u{fffd}"));
    let done = |finished| Done {
        key: key(1),
        to: user(12),
        owner_set: true,
        notified: finished,
        notification: None,
        pack_at_most: None,
        finished: finished.then_some("assigned"),
    };
    store.done(None, &[done(false)], at(1)).await.unwrap();
    assert!(title().await.is_some(), "the notice is still to be sent");
    store.done(None, &[done(true)], at(2)).await.unwrap();
    let mut connection = PgConnection::connect(database.expose_secret()).await.unwrap();
    let kept = sqlx::query_scalar("SELECT title FROM decisions").fetch_one(&mut connection).await;
    let kept: Option<String> = kept.unwrap();
    assert_eq!(kept, None);
}
