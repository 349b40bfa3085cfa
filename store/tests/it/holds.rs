//! The holding pool, and the notices of leads that wait in it for too long.

use std::collections::BTreeSet;

use common::ids::LeadId;
use common::messages::AssignmentKey;
use distribution::First;
use jiff::Timestamp;
use store::postgres::Postgres;
use store::{
    Counting, DueHolds, Given, HeldQueue, Holds as _, Matter, NewDecision, Notice, Notices as _, Standing,
    Waiting as _, WaitingLeads,
};
use store::{Decided, Decisions as _};

use crate::decisions::{assign, decide, decision, hold};
use crate::{at, key, lead, portal, store, user};

fn which(due: Timestamp, first: First, limit: u32) -> DueHolds {
    DueHolds { queue: Some("main".into()), due, due_in_line: due, first, limit }
}

async fn due(store: &Postgres, which: &DueHolds, next_look: Timestamp) -> Vec<u64> {
    let due = store.due_holds(&portal("acme"), which, next_look).await.unwrap();
    due.into_iter().map(|(key, _)| key.lead.get()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_due_hold_goes_to_one_of_two_that_look_at_once_and_its_next_look_is_put_off() {
    let store = store().await;
    for number in 1..=20 {
        let first_seen = at(-i64::try_from(number).unwrap());
        decide(&store, &key(number), NewDecision { first_seen, ..decision(hold(at(60))) }).await;
    }
    decide(&store, &key(21), decision(hold(at(61)))).await;
    let beta = AssignmentKey { portal: portal("beta"), ..key(22) };
    decide(&store, &beta, decision(hold(at(60)))).await;

    let acme = portal("acme");
    let longest = store.due_holds(&acme, &which(at(60), First::Oldest, 2), at(90)).await.unwrap();
    assert_eq!(longest, [(key(20), at(-20)), (key(19), at(-19))]);

    let rest = which(at(60), First::Oldest, 100);
    let (one, other) =
        tokio::join!(store.due_holds(&acme, &rest, at(90)), store.due_holds(&acme, &rest, at(90)));
    let found: Vec<_> = one.unwrap().into_iter().chain(other.unwrap()).map(|(key, _)| key.lead).collect();
    assert_eq!(found.len(), 18);
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), (1..=18).map(lead).collect());

    let later = |now| which(at(now), First::Oldest, 100);
    assert!(due(&store, &later(60), at(1000)).await.is_empty());
    assert_eq!(due(&store, &later(89), at(1000)).await, [21]);
    assert_eq!(due(&store, &later(90), at(1000)).await.len(), 20);
}

#[tokio::test]
async fn leads_go_by_age_or_by_amount() {
    let store = store().await;
    for (number, seen, amount) in
        [(1, 3, Some(100.0)), (2, 2, None), (3, 2, Some(5.0)), (4, 1, Some(100.0)), (5, 4, Some(7.5))]
    {
        let new = NewDecision { first_seen: at(seen), amount, ..decision(hold(at(10))) };
        decide(&store, &key(number), new).await;
    }
    assert_eq!(due(&store, &which(at(10), First::Oldest, 9), at(20)).await, [4, 3, 2, 1, 5]);
    assert_eq!(due(&store, &which(at(20), First::MostValuable, 9), at(30)).await, [4, 1, 5, 3, 2]);
    assert_eq!(due(&store, &which(at(30), First::MostValuable, 2), at(40)).await, [4, 1]);
}

#[tokio::test]
async fn queues_are_apart_and_all_can_be_looked_at_at_once() {
    let store = store().await;
    decide(&store, &key(1), decision(hold(at(600)))).await;
    decide(&store, &key(2), NewDecision { queue: None, ..decision(hold(at(10))) }).await;
    decide(&store, &key(3), decision(assign(user(12)))).await;
    let queues = async || store.held_queues(&portal("acme")).await.unwrap();
    let held = |queue: Option<&str>, next_look| HeldQueue { queue: queue.map(Into::into), next_look };
    assert_eq!(queues().await, [held(Some("main"), at(600)), held(None, at(10))]);
    let of_nobody = DueHolds { queue: None, ..which(at(20), First::Oldest, 9) };
    assert_eq!(due(&store, &of_nobody, at(900)).await, [2]);
    store.look_at_holds(&portal("beta")).await.unwrap();
    assert!(due(&store, &which(at(20), First::Oldest, 9), at(900)).await.is_empty());
    store.look_at_holds(&portal("acme")).await.unwrap();
    assert_eq!(due(&store, &which(at(20), First::Oldest, 9), at(900)).await, [1]);
    assert_eq!(due(&store, &of_nobody, at(900)).await, [2]);
    assert!(store.decision(&key(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn somebody_is_told_once_of_what_waits_too_long() {
    let store = store().await;
    let acme = portal("acme");
    for number in 1..=7 {
        let deadline = Some(at(if number < 7 { 50 } else { 70 }));
        decide(&store, &key(number), NewDecision { deadline, ..decision(hold(at(10))) }).await;
    }
    // The first deadline stays, whatever a later look says.
    let later = NewDecision { deadline: Some(at(90)), decided_at: at(20), ..decision(hold(at(30))) };
    decide(&store, &key(1), later).await;
    let main = "main".into();
    assert_eq!(store.escalate_holds(&acme, &main, user(20), at(49)).await.unwrap(), 0);
    let waiting = store.waiting(&acme, at(50)).await.unwrap();
    assert_eq!((waiting.held, waiting.overdue, waiting.held_since), (7, 6, Some(at(1))));
    assert_eq!(store.escalate_holds(&acme, &"other".into(), user(20), at(50)).await.unwrap(), 0);
    assert_eq!(store.escalate_holds(&acme, &main, user(20), at(50)).await.unwrap(), 6);
    assert_eq!(store.escalate_holds(&acme, &main, user(20), at(60)).await.unwrap(), 0);
    assert_eq!(store.escalate_holds(&acme, &main, user(20), at(70)).await.unwrap(), 1);
    let notices = store.take_notices(&acme, 10, at(71), at(0)).await.unwrap();
    let notice = |tag: &str, leads: &[u64], count| Notice {
        tag: tag.to_owned(),
        to: user(20),
        matter: Matter::HeldTooLong {
            queue: "main".to_owned(),
            leads: leads.iter().filter_map(|id| LeadId::new(*id)).collect(),
            count,
        },
    };
    assert_eq!(notices, [notice("acme/1/1/held", &[1, 2, 3, 4, 5], 6), notice("acme/7/1/held", &[7], 1),]);
    for number in 1..=7 {
        decide(&store, &key(number), decision(assign(user(12)))).await;
    }
    let waiting = store.waiting(&acme, at(100)).await.unwrap();
    assert_eq!(waiting, WaitingLeads { oldest: Some(at(0)), ..WaitingLeads::default() });
}

#[tokio::test]
async fn a_notice_is_sent_at_most_once() {
    let store = store().await;
    let acme = portal("acme");
    for number in 1..=3 {
        let new = NewDecision { deadline: Some(at(number)), ..decision(hold(at(10))) };
        decide(&store, &key(u64::try_from(number).unwrap()), new).await;
        store.escalate_holds(&acme, &"main".into(), user(20), at(number)).await.unwrap();
    }
    let take = async |limit, now, lost_before| {
        let notices = store.take_notices(&acme, limit, at(now), at(lost_before)).await.unwrap();
        notices.into_iter().map(|notice| notice.tag).collect::<Vec<_>>()
    };
    assert_eq!(take(2, 20, 0).await, ["acme/1/1/held", "acme/2/1/held"]);
    assert_eq!(take(2, 21, 0).await, ["acme/3/1/held"]);
    // The first was sent, the second was not, and who took the third is gone.
    let ends = [("acme/1/1/held".to_owned(), true), ("acme/2/1/held".to_owned(), false)];
    store.end_notices(&acme, &ends).await.unwrap();
    assert_eq!(take(9, 22, 0).await, ["acme/2/1/held"]);
    assert_eq!(take(9, 40, 22).await, [] as [String; 0]);
    store.end_notices(&acme, &[("acme/3/1/held".to_owned(), false)]).await.unwrap();
    assert_eq!(take(9, 41, 0).await, [] as [String; 0]);
}

#[tokio::test]
async fn a_decision_knows_that_the_lead_was_held_and_how_many_such_leads_people_got() {
    let store = store().await;
    let counting = Counting {
        hour_from: at(-3600),
        day_from: [(user(12), at(-3600))].into(),
        released_from: Some(at(30)),
        ..Counting::default()
    };
    let told = async |number, new: NewDecision| {
        let mut told = None;
        let make = |standing: &Standing| {
            told = Some((
                standing.giving.held_since.is_some(),
                standing.given.get(&user(12)).copied().unwrap_or_default(),
            ));
            new
        };
        let decided = store.decide(&key(number), &counting, Box::new(make)).await.unwrap();
        assert!(matches!(decided, Decided::Now(_)));
        told.unwrap()
    };
    let assigned = |second| NewDecision { decided_at: at(second), ..decision(assign(user(12))) };
    assert_eq!(told(1, decision(hold(at(10)))).await, (false, Given::default()));
    assert_eq!(told(2, decision(hold(at(10)))).await, (false, Given::default()));
    assert_eq!(told(1, assigned(20)).await, (true, Given::default()));
    assert_eq!(told(2, assigned(40)).await, (true, Given { hour: 1, day: 1, ..Given::default() }));
    let two = Given { hour: 2, day: 2, reserved: 0, released: 1 };
    assert_eq!(told(3, assigned(41)).await, (false, two));
    assert_eq!(told(4, assigned(41)).await, (false, Given { hour: 3, day: 3, ..two }));
}
