//! Dead letters that people work with.

use common::failure::FailureClass;
use common::messages::{AssignmentKey, Epoch};
use jiff::SignedDuration;
use store::postgres::Postgres;
use store::{
    Assignments as _, Balances, DeadLetter, DeadLetters as _, Decisions as _, Done, KeptLetter, Ledgers as _,
    LetterFilter, NewReplay, NextLetter, Refused, Replay, ReplayState, Replays as _, Verdict, Waiting as _,
};
use uuid::Uuid;

use crate::decisions::{assign, decide, decision};
use crate::{at, key, lead, portal, store, user};

const LEASE: SignedDuration = SignedDuration::from_secs(15);

fn command(number: u64, died: i64) -> DeadLetter {
    DeadLetter {
        message_id: key(number).to_string(),
        portal: Some("acme".to_owned()),
        lead: Some(lead(number)),
        queue: Some("rota.acme.assignments".to_owned()),
        kind: "assignment-command".to_owned(),
        class: "permanent".to_owned(),
        reason: format!("lead {number}: Required field: PHONE"),
        attempt: 1,
        first_seen: Some(at(died)),
        traceparent: None,
        body: format!(r#"{{"portal":"acme","payload":{{"lead":{number},"epoch":1}}}}"#).into_bytes(),
        died_at: at(died),
    }
}

async fn find(store: &Postgres, filter: LetterFilter) -> Vec<KeptLetter> {
    store.find_letters(&filter).await.unwrap()
}

async fn one(store: &Postgres, id: u64) -> KeptLetter {
    let filter = LetterFilter { ids: Some(vec![id]), settled: true, ..LetterFilter::default() };
    find(store, filter).await.pop().unwrap()
}

fn replay_of(letters: &[u64]) -> NewReplay {
    NewReplay {
        letters: letters.to_vec(),
        what: "all".to_owned(),
        author: "olga".to_owned(),
        per_second: 5.0,
        decide_again: false,
        at: at(100),
    }
}

async fn last(store: &Postgres) -> Replay {
    store.replays(1).await.unwrap().pop().unwrap()
}

/// Sends one letter, as a router does; answers which.
async fn send(store: &Postgres, replay: u64, holder: Uuid) -> Option<u64> {
    match store.next_letter(replay, holder, at(101), LEASE).await.unwrap() {
        NextLetter::Send(id, letter) => {
            store.letter_sent(replay, id, &letter.message_id, at(101)).await.unwrap();
            Some(id)
        }
        NextLetter::Ended | NextLetter::NotOurs => None,
    }
}

async fn assigned(store: &Postgres, key: AssignmentKey, second: i64) {
    let done = Done {
        key,
        to: user(11),
        owner_set: true,
        notified: true,
        notification: None,
        finished: Some("assigned"),
        pack_at_most: None,
    };
    store.done(None, &[done], at(second)).await.unwrap();
}

#[tokio::test]
async fn letters_are_found_by_all_that_is_named() {
    let store = store().await;
    let other = DeadLetter {
        portal: None,
        lead: None,
        queue: None,
        class: "poison".to_owned(),
        reason: "100% no envelope".to_owned(),
        body: vec![0xff],
        ..command(9, 60)
    };
    for letter in [&command(1, 0), &command(2, 30), &other] {
        store.bury(letter).await.unwrap();
    }
    let ids = async |filter: LetterFilter| -> Vec<u64> {
        find(&store, filter).await.into_iter().map(|kept| kept.id).collect()
    };
    let none = LetterFilter::default();
    assert_eq!(ids(none.clone()).await, [1, 2, 3]);
    assert_eq!(ids(LetterFilter { portal: Some(portal("acme")), ..none.clone() }).await, [1, 2]);
    assert_eq!(ids(LetterFilter { class: Some(FailureClass::Poison), ..none.clone() }).await, [3]);
    let queues = Some(vec!["rota.acme.assignments".to_owned()]);
    assert_eq!(ids(LetterFilter { queues, ..none.clone() }).await, [1, 2]);
    assert_eq!(ids(LetterFilter { died_before: Some(at(30)), ..none.clone() }).await, [1]);
    assert_eq!(ids(LetterFilter { died_after: Some(at(29)), ..none.clone() }).await, [2, 3]);
    let with = |text: &str| LetterFilter { reason: Some(text.to_owned()), ..LetterFilter::default() };
    assert_eq!(ids(with("required FIELD")).await, [1, 2]);
    assert_eq!(ids(with("100% no")).await, [3], "no character of it means something else");
    assert_eq!(ids(with("100_ no")).await, Vec::<u64>::new());
    let both = LetterFilter { died_after: Some(at(29)), ..with("phone") };
    assert_eq!(ids(both).await, [2]);
    assert_eq!(ids(LetterFilter { lead: Some(lead(2)), ..none.clone() }).await, [2]);
    assert_eq!(one(&store, 3).await.letter, other, "every byte of it");
    assert_eq!(one(&store, 1).await.epoch, Some(Epoch::FIRST));

    store.settle_letters(&[1], "discarded by olga", at(70)).await.unwrap().unwrap();
    assert_eq!(ids(none.clone()).await, [2, 3]);
    assert_eq!(ids(LetterFilter { settled: true, ..none }).await, [1, 2, 3]);
    let counts = store.dead_letter_counts().await.unwrap();
    assert_eq!(counts[&("acme".to_owned(), "permanent".to_owned())], 1, "only those that wait are counted");
}

#[tokio::test]
async fn nothing_is_changed_by_half() {
    let store = store().await;
    for number in 1..=3 {
        store.bury(&command(number, 0)).await.unwrap();
    }
    let discard = async |ids: &[u64]| store.settle_letters(ids, "discarded by olga", at(5)).await.unwrap();
    assert_eq!(discard(&[1, 7]).await, Err(Refused::Unknown(7)));
    assert_eq!(find(&store, LetterFilter::default()).await.len(), 3);
    assert_eq!(discard(&[1]).await, Ok(()));
    let settled = Refused::Settled { letter: 1, settlement: "discarded by olga".to_owned() };
    assert_eq!(discard(&[2, 1]).await, Err(settled.clone()));
    assert_eq!(store.start_replay(&replay_of(&[2, 1])).await.unwrap(), Err(settled));
    assert_eq!(store.start_replay(&replay_of(&[2, 7])).await.unwrap(), Err(Refused::Unknown(7)));
    assert!(store.replays(5).await.unwrap().is_empty());
    let replay = store.start_replay(&replay_of(&[2])).await.unwrap().unwrap();
    assert_eq!(discard(&[3, 2]).await, Err(Refused::InReplay { letter: 2, replay }));
    assert_eq!(one(&store, 3).await.settled, None);
    assert_eq!(one(&store, 2).await.in_replay, Some(replay));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replay_runs_at_a_time_by_one_router_and_another_goes_on_with_it() {
    let store = store().await;
    for number in 1..=4 {
        store.bury(&command(number, 0)).await.unwrap();
    }
    let (new, other) = (replay_of(&[1, 2, 3]), replay_of(&[4]));
    let (one_began, other_began) = tokio::join!(store.start_replay(&new), store.start_replay(&other));
    let began = [one_began.unwrap(), other_began.unwrap()];
    assert_eq!(began.iter().filter(|began| began.is_ok()).count(), 1, "{began:?}");
    assert!(began.iter().any(|began| matches!(began, Err(Refused::Runs { author, .. }) if author == "olga")));
    store.cancel_replay("ivan", at(100)).await.unwrap().unwrap();

    let replay = store.start_replay(&new).await.unwrap().unwrap();
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(store.take_replay(first, at(100), LEASE).await.unwrap().unwrap().id, replay);
    assert_eq!(store.take_replay(second, at(101), LEASE).await.unwrap(), None, "one router has it");
    assert_eq!(send(&store, replay, first).await, Some(1));
    // Its router dies with the second letter in hand.
    let NextLetter::Send(2, _) = store.next_letter(replay, first, at(101), LEASE).await.unwrap() else {
        panic!("the second is next");
    };
    assert!(store.take_replay(second, at(117), LEASE).await.unwrap().is_some());
    assert_eq!(store.next_letter(replay, first, at(118), LEASE).await.unwrap(), NextLetter::NotOurs);
    assert_eq!(send(&store, replay, second).await, Some(2), "not known to be sent, so it is sent again");
    store.letter_not_sent(replay, 3, "no such queue").await.unwrap();
    assert_eq!(store.next_letter(replay, second, at(102), LEASE).await.unwrap(), NextLetter::Ended);
    let done = last(&store).await;
    assert_eq!((done.state, done.letters, done.sent), (ReplayState::Done, 3, 2));
    assert_eq!(done.problems, [(3, "no such queue".to_owned())]);
    assert_eq!(one(&store, 3).await.settled, None, "it waits as before");
    assert_eq!(one(&store, 1).await.settled.unwrap().1, "replayed by olga");

    let replay = store.start_replay(&replay_of(&[3, 4])).await.unwrap().unwrap();
    store.take_replay(first, at(200), LEASE).await.unwrap().unwrap();
    assert_eq!(send(&store, replay, first).await, Some(3));
    let cancelled = store.cancel_replay("ivan", at(201)).await.unwrap().unwrap();
    assert_eq!((cancelled.sent, cancelled.ended_by.as_deref()), (1, Some("ivan")));
    assert_eq!(store.next_letter(replay, first, at(202), LEASE).await.unwrap(), NextLetter::Ended);
    assert_eq!((one(&store, 4).await.settled, one(&store, 4).await.in_replay), (None, None));
    assert_eq!(store.cancel_replay("ivan", at(203)).await.unwrap(), None);
}

#[tokio::test]
async fn a_letter_knows_its_end_by_its_key() {
    let store = store().await;
    decide(&store, &key(1), decision(assign(user(11)))).await;
    store.bury(&command(1, 5)).await.unwrap();
    assert_eq!(store.waiting(&portal("acme"), at(50)).await.unwrap().oldest, None);
    let replay = store.start_replay(&replay_of(&[1])).await.unwrap().unwrap();
    let holder = Uuid::now_v7();
    store.take_replay(holder, at(100), LEASE).await.unwrap().unwrap();
    send(&store, replay, holder).await.unwrap();
    assert_eq!(
        store.waiting(&portal("acme"), at(110)).await.unwrap().oldest,
        Some(at(101)),
        "its lead waits again, from now on"
    );
    let kept = one(&store, 1).await;
    assert_eq!((kept.sent, kept.ended.clone()), (Some((replay, at(101))), None));
    assert_eq!(kept.decided.unwrap().outcome, "assign");
    store.bury(&DeadLetter { first_seen: Some(at(101)), ..command(1, 110) }).await.unwrap();
    assert_eq!(one(&store, 1).await.died_again, Some(2));
    assert_eq!(one(&store, 2).await.died_again, None);
    assigned(&store, key(1), 120).await;
    assert_eq!(one(&store, 2).await.ended, Some(("assigned".to_owned(), at(120))));
    assert_eq!(store.waiting(&portal("acme"), at(130)).await.unwrap().oldest, None);
    // What was sent once may be sent again.
    assert!(matches!(store.next_letter(replay, holder, at(130), LEASE).await.unwrap(), NextLetter::Ended));
    let again = store.start_replay(&replay_of(&[1])).await.unwrap().unwrap();
    store.take_replay(holder, at(140), LEASE).await.unwrap().unwrap();
    send(&store, again, holder).await.unwrap();
    assert_eq!(one(&store, 1).await.died_again, None, "of the last time it was sent");
    assert_eq!(store.waiting(&portal("acme"), at(150)).await.unwrap().oldest, None, "it is done");
}

#[tokio::test]
async fn a_lead_is_decided_anew_where_nothing_was_begun_and_its_turn_is_given_back() {
    let store = store().await;
    for number in 1..=4 {
        store.bury(&command(number, 0)).await.unwrap();
    }
    let replay = store.start_replay(&replay_of(&[1, 2, 3, 4])).await.unwrap().unwrap();
    let again = async |number: u64| {
        store.decide_letter_again(replay, number, &key(number), at(100)).await.unwrap().map(|epoch| epoch.0)
    };
    let before = store.balances(&portal("acme")).await.unwrap();
    let mut first = decision(assign(user(11)));
    first.entries = vec![turn(11, -1), turn(12, 1)];
    decide(&store, &key(1), first).await;
    assert_ne!(store.balances(&portal("acme")).await.unwrap(), before);
    assert_eq!((again(1).await, again(1).await), (Some(2), Some(2)), "asked twice, opened once");
    let zero =
        |balances: Balances| balances.values().flat_map(|ledger| ledger.values()).all(|credit| *credit == 0);
    assert!(zero(store.balances(&portal("acme")).await.unwrap()));
    let second = AssignmentKey { epoch: Epoch(2), ..key(1) };
    decide(&store, &second, decision(assign(user(12)))).await;
    assert!(store.decision(&second).await.unwrap().is_some());

    decide(&store, &key(2), decision(assign(user(11)))).await;
    assigned(&store, key(2), 50).await;
    assert_eq!(again(2).await, None, "it has its owner");
    assert_eq!(again(3).await, None, "nothing was decided: its event is sent as it is");
    decide(&store, &key(4), decision(Verdict::Hold { look_again_at: at(60), until: None })).await;
    assert_eq!(again(4).await, Some(1), "it waits in its own giving");
}

fn turn(who: u64, delta: i64) -> store::LedgerEntry {
    store::LedgerEntry {
        ledger: "main".to_owned(),
        user: user(who),
        delta,
        kind: distribution::EntryKind::Turn,
    }
}
