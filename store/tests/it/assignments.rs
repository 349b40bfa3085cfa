//! Progress in the portal.

use std::collections::BTreeSet;

use common::messages::{AssignmentKey, Epoch};
use store::postgres::Postgres;
use store::{AssignmentState, Assignments, Done, PackItem};
use uuid::Uuid;

use crate::{at, key, portal, store, user};

fn item(number: u64, position: u32) -> PackItem {
    PackItem { key: key(number), to: user(12), position, sets_owner: true, notice_position: Some(7) }
}

fn open(owner_set: bool) -> AssignmentState {
    AssignmentState::Open { owner_set, notified: false, deal_sent_at: None, title: None }
}

fn finished(outcome: &str) -> AssignmentState {
    AssignmentState::Finished(outcome.to_owned())
}

fn done(number: u64, owner_set: bool, finished: Option<&'static str>) -> Done {
    Done { key: key(number), to: user(12), owner_set, notified: false, notification: None, finished }
}

async fn state(store: &Postgres, number: u64) -> AssignmentState {
    store.assignment(&key(number)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_packs_at_once_each_assignment_goes_into_one() {
    let store = store().await;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    // Against each other's order, and overlapping.
    let forth: Vec<_> = (1..=30).zip(0..).map(|(number, position)| item(number, position)).collect();
    let back: Vec<_> = (11..=40).rev().zip(0..).map(|(number, position)| item(number, position)).collect();
    let (first, second) =
        tokio::join!(store.about_to_send(one, &forth, at(0)), store.about_to_send(other, &back, at(0)));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.len() + second.len(), 40);
    let claimed: BTreeSet<_> = first.iter().chain(&second).cloned().collect();
    assert_eq!(claimed, (1..=40).map(key).collect());
    for (pack, keys) in [(one, first), (other, second)] {
        for key in keys {
            let sent = AssignmentState::Sent { pack, sent_at: at(0) };
            assert_eq!(store.assignment(&key).await.unwrap(), sent, "{key}");
        }
    }
    assert!(store.about_to_send(Uuid::now_v7(), &forth, at(1)).await.unwrap().is_empty());
    assert!(store.about_to_send(Uuid::now_v7(), &[], at(1)).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_pack_did_not_finish_can_be_sent_again_and_what_is_finished_stays_so() {
    let store = store().await;
    assert_eq!(state(&store, 1).await, open(false));
    let items = [(1, 0), (2, 1), (3, 2)].map(|(number, position)| item(number, position));
    assert_eq!(store.about_to_send(Uuid::now_v7(), &items, at(0)).await.unwrap().len(), 3);
    let results = [done(1, false, None), done(2, true, None), done(3, true, Some("assigned"))];
    store.done(&results, at(1)).await.unwrap();
    assert_eq!(state(&store, 1).await, open(false));
    assert_eq!(state(&store, 2).await, open(true));
    assert_eq!(state(&store, 3).await, finished("assigned"));

    // A late word of another process changes neither the outcome nor that the owner is set.
    store
        .done(&[done(3, false, None), done(3, true, Some("vanished")), done(2, false, None)], at(2))
        .await
        .unwrap();
    assert_eq!(state(&store, 3).await, finished("assigned"));
    assert_eq!(state(&store, 2).await, open(true));

    let pack = Uuid::now_v7();
    assert_eq!(store.about_to_send(pack, &items, at(3)).await.unwrap(), [key(1), key(2)]);
    assert_eq!(state(&store, 1).await, AssignmentState::Sent { pack, sent_at: at(3) });
    assert_eq!(state(&store, 3).await, finished("assigned"));

    // It needed nothing from us: finished without ever having been sent.
    store.done(&[done(4, false, Some("taken"))], at(4)).await.unwrap();
    assert_eq!(state(&store, 4).await, finished("taken"));
    let outcomes = store.outcomes(&portal("acme")).await.unwrap();
    let text = |outcome: &str| Some(outcome.to_owned());
    assert_eq!(
        outcomes,
        [(key(1), None), (key(2), None), (key(3), text("assigned")), (key(4), text("taken"))]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_pack_is_recovered_by_one_process_and_only_while_it_is_the_latest() {
    let store = store().await;
    let (lost, unknown) = (Uuid::now_v7(), Uuid::now_v7());
    store.about_to_send(lost, &[item(1, 0), item(2, 1)], at(0)).await.unwrap();
    let recover = |pack, result: Done| {
        let store = &store;
        async move { store.recovered(pack, &result, at(9)).await.unwrap() }
    };
    assert!(!recover(unknown, done(1, true, Some("assigned"))).await);
    assert_eq!(state(&store, 1).await, AssignmentState::Sent { pack: lost, sent_at: at(0) });
    let both = tokio::join!(
        recover(lost, done(1, true, Some("assigned"))),
        recover(lost, done(1, true, Some("assigned"))),
    );
    assert!(both.0 != both.1, "{both:?}");
    assert_eq!(state(&store, 1).await, finished("assigned"));
    assert!(!recover(lost, done(1, false, None)).await);
    assert_eq!(state(&store, 1).await, finished("assigned"));

    // The pack did not arrive: open, sent again, and nobody may judge it by the first pack any more.
    assert!(recover(lost, done(2, false, None)).await);
    assert!(!recover(lost, done(2, false, None)).await);
    let again = Uuid::now_v7();
    assert_eq!(store.about_to_send(again, &[item(2, 0)], at(10)).await.unwrap(), [key(2)]);
    assert!(!recover(lost, done(2, false, None)).await);
    assert_eq!(state(&store, 2).await, AssignmentState::Sent { pack: again, sent_at: at(10) });
}

#[tokio::test]
async fn a_pack_is_found_again_with_its_positions_and_what_it_was_to_do() {
    let store = store().await;
    let pack = Uuid::now_v7();
    let second_giving = AssignmentKey { epoch: Epoch(2), ..key(7) };
    let items = [
        PackItem { key: key(9), to: user(12), position: 0, sets_owner: true, notice_position: Some(7) },
        PackItem { key: second_giving, to: user(13), position: 1, sets_owner: false, notice_position: None },
        PackItem { key: key(7), to: user(11), position: 2, sets_owner: true, notice_position: Some(7) },
    ];
    assert_eq!(store.about_to_send(pack, &items, at(0)).await.unwrap().len(), 3);
    assert_eq!(store.pack(&portal("acme"), pack).await.unwrap(), items);
    assert!(store.pack(&portal("beta"), pack).await.unwrap().is_empty());
    assert!(store.pack(&portal("acme"), Uuid::now_v7()).await.unwrap().is_empty());

    // What is sent again is in the newer pack, and still known of the older one, whose end may depend on it.
    store.done(&[done(9, true, None)], at(1)).await.unwrap();
    let newer = Uuid::now_v7();
    let notice_only = PackItem { sets_owner: false, ..item(9, 0) };
    store.about_to_send(newer, std::slice::from_ref(&notice_only), at(2)).await.unwrap();
    assert_eq!(store.pack(&portal("acme"), newer).await.unwrap(), [notice_only]);
    assert_eq!(store.pack(&portal("acme"), pack).await.unwrap(), items);
    store.forget_pack(pack).await.unwrap();
    assert!(store.pack(&portal("acme"), pack).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_deal_is_tried_by_one_and_finishes_its_assignment() {
    let store = store().await;
    let pack = Uuid::now_v7();
    store.about_to_send(pack, &[item(1, 0)], at(1)).await.unwrap();
    let done = Done {
        key: key(1),
        to: user(12),
        owner_set: true,
        notified: true,
        notification: Some(5),
        finished: None,
    };
    store.done(&[done], at(2)).await.unwrap();
    let state = async || store.assignment(&key(1)).await.unwrap();
    let open =
        |deal_sent_at| AssignmentState::Open { owner_set: true, notified: true, deal_sent_at, title: None };
    assert_eq!(state().await, open(None));
    assert!(store.about_to_create_deal(&key(1), at(3)).await.unwrap());
    assert!(!store.about_to_create_deal(&key(1), at(4)).await.unwrap(), "somebody is at it");
    assert_eq!(state().await, open(Some(at(3))));
    store.deal_not_created(&key(1)).await.unwrap();
    assert_eq!(state().await, open(None));
    assert!(store.about_to_create_deal(&key(1), at(5)).await.unwrap());
    store.deal_created(&key(1), 77, "assigned", at(6)).await.unwrap();
    assert_eq!(state().await, AssignmentState::Finished("assigned".to_owned()));
    assert!(!store.about_to_create_deal(&key(1), at(7)).await.unwrap());
}

#[tokio::test]
async fn a_lead_is_in_one_pack_at_a_time_whichever_giving_it_is() {
    let store = store().await;
    let second = PackItem { key: AssignmentKey { epoch: Epoch(2), ..key(1) }, ..item(1, 0) };
    let send = async |item: &PackItem| {
        store.about_to_send(Uuid::now_v7(), std::slice::from_ref(item), at(0)).await.unwrap().len()
    };
    assert_eq!(send(&item(1, 0)).await, 1);
    assert_eq!(send(&second).await, 0, "the first is under way");
    store.done(&[done(1, true, Some("assigned"))], at(1)).await.unwrap();
    assert_eq!(send(&second).await, 1);
}
