//! Progress in the portal.

use std::collections::BTreeSet;

use common::messages::{AssignmentKey, Epoch};
use store::postgres::Postgres;
use store::{AssignmentState, Assignments, Done, LostPacks, PackItem};
use uuid::Uuid;

use crate::{at, key, portal, store, user};

/// An owner to be set, from user 1 to user 12, with a notice.
pub fn item(number: u64, position: u32) -> PackItem {
    PackItem {
        key: key(number),
        from: Some(user(1)),
        to: user(12),
        position,
        sets_owner: true,
        notice_position: Some(7),
        more_to_do: false,
    }
}

fn open(owner_set: bool) -> AssignmentState {
    AssignmentState::Open { owner_set, notified: false, deal_sent_at: None, title: None, pack_at_most: None }
}

fn finished(outcome: &str) -> AssignmentState {
    AssignmentState::Finished(outcome.to_owned())
}

fn done(number: u64, owner_set: bool, finished: Option<&'static str>) -> Done {
    Done { owner_set, finished, ..Done::nothing(key(number), user(12)) }
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
    assert_eq!(store.done(None, &results, at(1)).await.unwrap(), [1, 2, 3].map(key));
    assert_eq!(state(&store, 1).await, open(false));
    assert_eq!(state(&store, 2).await, open(true));
    assert_eq!(state(&store, 3).await, finished("assigned"));

    // A late word of another process changes neither the outcome nor that the owner is set.
    store
        .done(None, &[done(3, false, None), done(3, true, Some("vanished")), done(2, false, None)], at(2))
        .await
        .unwrap();
    assert_eq!(state(&store, 3).await, finished("assigned"));
    assert_eq!(state(&store, 2).await, open(true));

    let pack = Uuid::now_v7();
    assert_eq!(store.about_to_send(pack, &items, at(3)).await.unwrap(), [key(1), key(2)]);
    assert_eq!(state(&store, 1).await, AssignmentState::Sent { pack, sent_at: at(3) });
    assert_eq!(state(&store, 3).await, finished("assigned"));

    // It needed nothing from us: finished without ever having been sent.
    store.done(None, &[done(4, false, Some("taken"))], at(4)).await.unwrap();
    assert_eq!(state(&store, 4).await, finished("taken"));
    let outcomes = store.outcomes(&portal("acme")).await.unwrap();
    let text = |outcome: &str| Some(outcome.to_owned());
    assert_eq!(
        outcomes,
        [(key(1), None), (key(2), None), (key(3), text("assigned")), (key(4), text("taken"))]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_pack_is_cleared_up_by_one_and_as_a_whole() {
    let store = store().await;
    let (lost, holders) = (Uuid::now_v7(), [Uuid::now_v7(), Uuid::now_v7()]);
    let items = [item(1, 0), PackItem { from: None, more_to_do: true, ..item(2, 1) }];
    store.about_to_send(lost, &items, at(0)).await.unwrap();
    let both = tokio::join!(
        store.hold_lost_pack(lost, holders[0], at(70), at(100)),
        store.hold_lost_pack(lost, holders[1], at(70), at(100)),
    );
    let held = [both.0.unwrap(), both.1.unwrap()];
    assert!(held[0].is_some() != held[1].is_some(), "{held:?}");
    let (holder, other) = if held[0].is_some() { (holders[0], holders[1]) } else { (holders[1], holders[0]) };
    assert_eq!(held.into_iter().flatten().next().unwrap(), items);

    // A verdict of somebody who does not hold it, and a late word of the sender, change nothing.
    let results = [done(1, true, Some("assigned")), done(2, false, None)];
    assert!(!store.lost_pack_ended(lost, other, &results, at(71)).await.unwrap());
    assert!(store.done(Some(lost), &results, at(71)).await.unwrap().is_empty());
    assert_eq!(state(&store, 2).await, AssignmentState::Sent { pack: lost, sent_at: at(0) });
    assert!(store.about_to_send(Uuid::now_v7(), &items, at(71)).await.unwrap().is_empty());

    assert!(store.lost_pack_ended(lost, holder, &results, at(72)).await.unwrap());
    assert_eq!(state(&store, 1).await, finished("assigned"));
    assert_eq!(state(&store, 2).await, open(false));
    assert!(!store.lost_pack_ended(lost, holder, &results, at(73)).await.unwrap());

    // It is sent again, and nobody may speak about it for the first pack any more.
    let again = Uuid::now_v7();
    assert_eq!(store.about_to_send(again, &[item(2, 0)], at(74)).await.unwrap(), [key(2)]);
    assert!(store.done(Some(lost), &[done(2, false, None)], at(75)).await.unwrap().is_empty());
    assert_eq!(store.hold_lost_pack(lost, other, at(75), at(99)).await.unwrap(), Some(Vec::new()));
    assert!(store.lost_pack_ended(lost, other, &[done(2, false, None)], at(76)).await.unwrap());
    assert_eq!(state(&store, 2).await, AssignmentState::Sent { pack: again, sent_at: at(74) });
}

#[tokio::test]
async fn whoever_held_a_lost_pack_too_long_has_lost_it() {
    let store = store().await;
    let (lost, first, second) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    store.about_to_send(lost, &[item(1, 0)], at(0)).await.unwrap();
    assert!(store.hold_lost_pack(lost, first, at(70), at(100)).await.unwrap().is_some());
    assert!(store.hold_lost_pack(lost, second, at(99), at(130)).await.unwrap().is_none());
    assert!(store.hold_lost_pack(lost, second, at(100), at(130)).await.unwrap().is_some());
    let verdict = [done(1, true, Some("assigned"))];
    assert!(!store.lost_pack_ended(lost, first, &verdict, at(101)).await.unwrap());
    // It could not be cleared up: let go, for the next.
    assert!(store.lost_pack_ended(lost, second, &[], at(102)).await.unwrap());
    assert_eq!(state(&store, 1).await, AssignmentState::Sent { pack: lost, sent_at: at(0) });
    assert_eq!(store.hold_lost_pack(lost, first, at(103), at(130)).await.unwrap().unwrap(), [item(1, 0)]);
    assert!(store.lost_pack_ended(lost, first, &verdict, at(104)).await.unwrap());
    assert_eq!(state(&store, 1).await, finished("assigned"));
}

#[tokio::test]
async fn a_pack_lists_what_is_not_known_of_it() {
    let store = store().await;
    let (pack, holder) = (Uuid::now_v7(), Uuid::now_v7());
    let second_giving = AssignmentKey { epoch: Epoch(2), ..key(7) };
    let items = [
        PackItem { notice_position: Some(7), ..item(9, 0) },
        PackItem { key: second_giving, to: user(13), sets_owner: false, notice_position: None, ..item(7, 1) },
        PackItem { to: user(11), ..item(5, 2) },
    ];
    assert_eq!(store.about_to_send(pack, &items, at(0)).await.unwrap().len(), 3);
    let smaller = Done { pack_at_most: Some(2), ..done(9, true, None) };
    assert_eq!(store.done(Some(pack), &[smaller], at(1)).await.unwrap(), [key(9)]);
    let expected = AssignmentState::Open {
        owner_set: true,
        notified: false,
        deal_sent_at: None,
        title: None,
        pack_at_most: Some(2),
    };
    assert_eq!(state(&store, 9).await, expected);
    let left = store.hold_lost_pack(pack, holder, at(2), at(3)).await.unwrap().unwrap();
    assert_eq!(left, items[1..], "what is known may have been sent again, and proves nothing");
    let never = store.hold_lost_pack(Uuid::now_v7(), holder, at(2), at(3)).await.unwrap();
    assert_eq!(never, Some(Vec::new()));
}

#[tokio::test]
async fn a_deal_is_tried_by_one_and_finishes_its_assignment() {
    let store = store().await;
    let pack = Uuid::now_v7();
    store.about_to_send(pack, &[item(1, 0)], at(1)).await.unwrap();
    let done =
        Done { owner_set: true, notified: true, notification: Some(5), ..Done::nothing(key(1), user(12)) };
    store.done(None, &[done], at(2)).await.unwrap();
    let state = async || store.assignment(&key(1)).await.unwrap();
    let open = |deal_sent_at| AssignmentState::Open {
        owner_set: true,
        notified: true,
        deal_sent_at,
        title: None,
        pack_at_most: None,
    };
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
    store.done(None, &[done(1, true, Some("assigned"))], at(1)).await.unwrap();
    assert_eq!(send(&second).await, 1);
}
