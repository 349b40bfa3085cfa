//! Leads that are given again.

use std::collections::BTreeSet;

use common::ids::UserId;
use common::messages::{AssignmentKey, Epoch};
use distribution::{Cause, Destination, Giving};
use store::postgres::Postgres;
use store::{Counting, Decided, Decisions as _, Givings as _, NewDecision, NewGiving, Sweeps as _, Verdict};

use crate::decisions::{assign, decide, decision};
use crate::{at, key, portal, store, user};

fn asks(asked_by: &str, cause: Cause) -> NewGiving {
    NewGiving {
        asked_by: asked_by.to_owned(),
        cause,
        to: None,
        from: None,
        rounds: 1,
        after: None,
        at: at(5),
    }
}

fn of(lead: u64, epoch: u32) -> AssignmentKey {
    AssignmentKey { epoch: Epoch(epoch), ..key(lead) }
}

async fn give_again(store: &Postgres, lead: u64, new: &NewGiving) -> Option<u32> {
    let key = key(lead);
    store.give_again(&key.portal, key.lead, new).await.unwrap().map(|epoch| epoch.0)
}

/// What a decision about this giving is told; it is not made.
async fn told(store: &Postgres, key: &AssignmentKey) -> Giving {
    let mut told = None;
    let make = |standing: &store::Standing| {
        told = Some(standing.giving.clone());
        NewDecision { timeline: None, ..decision(Verdict::Hold { look_again_at: at(60), until: None }) }
    };
    let decided = store.decide(key, &Counting::default(), Box::new(make)).await.unwrap();
    assert!(matches!(decided, Decided::Now(_)), "{decided:?}");
    told.unwrap()
}

async fn finish(store: &Postgres, key: &AssignmentKey) {
    use store::{Assignments as _, Done};
    let done = Done {
        key: key.clone(),
        to: user(12),
        owner_set: true,
        notified: true,
        notification: None,
        pack_at_most: None,
        finished: Some("assigned"),
    };
    store.done(None, &[done], at(2)).await.unwrap();
}

#[tokio::test]
async fn a_request_opens_the_next_giving_once() {
    let store = store().await;
    // Before anything was decided it is the first.
    let to = Some(Destination::Queue("vip".into()));
    assert_eq!(
        give_again(&store, 1, &NewGiving { to: to.clone(), ..asks("a", Cause::Robot) }).await,
        Some(1)
    );
    assert_eq!(told(&store, &of(1, 1)).await, Giving { cause: Cause::Robot, to, ..Giving::default() });
    // It is held now: the next request takes its place.
    assert_eq!(give_again(&store, 1, &asks("b", Cause::Robot)).await, Some(1));
    let held = Giving { cause: Cause::Robot, held_since: Some(at(1)), ..Giving::default() };
    assert_eq!(told(&store, &of(1, 1)).await, held);
    // A repeated request is the same one, also when others came after it.
    decide(&store, &of(1, 1), decision(assign(user(11)))).await;
    finish(&store, &of(1, 1)).await;
    assert_eq!(give_again(&store, 1, &asks("c", Cause::Robot)).await, Some(2));
    decide(&store, &of(1, 2), decision(assign(user(12)))).await;
    assert_eq!(give_again(&store, 1, &asks("d", Cause::Robot)).await, Some(3));
    assert_eq!(give_again(&store, 1, &asks("c", Cause::Robot)).await, Some(2));
    // Nobody asked for this one.
    assert_eq!(told(&store, &of(2, 1)).await, Giving::default());
}

#[tokio::test]
async fn an_earlier_giving_is_carried_out_first() {
    let store = store().await;
    decide(&store, &key(1), decision(assign(user(11)))).await;
    assert_eq!(give_again(&store, 1, &asks("a", Cause::Robot)).await, Some(2));
    let later = of(1, 2);
    assert!(store.is_too_early(&later).await.unwrap() && !store.is_too_early(&key(1)).await.unwrap());
    let too_early =
        store.decide(&later, &Counting::default(), Box::new(|_| panic!("it is not decided"))).await.unwrap();
    assert_eq!(too_early, Decided::TooEarly);
    finish(&store, &key(1)).await;
    assert!(!store.is_too_early(&later).await.unwrap());
    decide(&store, &later, decision(assign(user(12)))).await;
    assert_eq!(store.decision(&key(1)).await.unwrap().unwrap().verdict, assign(user(11)));
}

#[tokio::test]
async fn a_round_knows_who_had_the_lead() {
    let store = store().await;
    let had = async |epoch| told(&store, &of(1, epoch)).await.had;
    let give = async |epoch: u32, cause, from: u64, rounds, to: u64| {
        let new = NewGiving {
            from: Some(user(from)),
            rounds,
            after: Some(Epoch(epoch - 1)),
            ..asks(&format!("{epoch}"), cause)
        };
        assert_eq!(give_again(&store, 1, &new).await, Some(epoch));
        let had = had(epoch).await;
        decide(&store, &of(1, epoch), decision(assign(user(to)))).await;
        finish(&store, &of(1, epoch)).await;
        had
    };
    decide(&store, &key(1), decision(assign(user(11)))).await;
    finish(&store, &key(1)).await;
    let users = |users: &[u64]| users.iter().map(|id| user(*id)).collect::<BTreeSet<UserId>>();
    assert_eq!(give(2, Cause::Unanswered, 11, 1, 12).await, users(&[11]));
    assert_eq!(give(3, Cause::Unanswered, 12, 1, 13).await, users(&[11, 12]));
    // Who may have it twice has it again, only not from himself.
    assert_eq!(give(4, Cause::Unanswered, 13, 2, 11).await, users(&[13]));
    assert_eq!(give(5, Cause::Unanswered, 11, 2, 12).await, users(&[11]));
    assert_eq!(give(6, Cause::Robot, 12, 1, 12).await, users(&[]), "a robot begins a new round");
    assert_eq!(give(7, Cause::Unanswered, 12, 1, 13).await, users(&[12]));
}

#[tokio::test]
async fn what_follows_a_giving_that_another_has_followed_is_not_wanted_any_more() {
    let store = store().await;
    decide(&store, &key(1), decision(assign(user(11)))).await;
    finish(&store, &key(1)).await;
    let after =
        |asked_by: &str, epoch| NewGiving { after: Some(Epoch(epoch)), ..asks(asked_by, Cause::Unanswered) };
    assert_eq!(give_again(&store, 1, &asks("a", Cause::Robot)).await, Some(2));
    assert_eq!(give_again(&store, 1, &after("b", 2)).await, None, "it is not decided yet");
    decide(&store, &of(1, 2), decision(assign(user(12)))).await;
    assert_eq!(give_again(&store, 1, &after("b", 1)).await, None);
    assert_eq!(give_again(&store, 1, &after("b", 2)).await, Some(3));
    assert_eq!(store.note_found(&portal("acme"), &[key(1).lead], at(5), at(9)).await.unwrap(), []);
}

#[tokio::test]
async fn who_loses_a_lead_is_told_once_and_only_when_it_is_gone() {
    use store::{Assignments as _, Done, Matter, Notice, Notices as _};
    let store = store().await;
    let acme = key(1).portal;
    let tags = async || {
        let notices: Vec<Notice> = store.take_notices(&acme, 10, at(90), at(0)).await.unwrap();
        notices.into_iter().map(|notice| (notice.tag, notice.to, notice.matter)).collect::<Vec<_>>()
    };
    let loses = |to: u64| NewDecision { loser: Some(user(11)), ..decision(assign(user(to))) };
    // By the first giving nobody loses it.
    decide(&store, &of(1, 1), loses(12)).await;
    finish(&store, &of(1, 1)).await;
    assert_eq!(tags().await, []);

    give_again(&store, 1, &asks("a", Cause::Robot)).await;
    decide(&store, &of(1, 2), loses(13)).await;
    assert_eq!(tags().await, [], "it is his until the other has it");
    finish(&store, &of(1, 2)).await;
    let lead = key(1).lead;
    let away = Matter::GivenAway { lead, person: "person-13".to_owned() };
    assert_eq!(tags().await, [("acme/1/1/taken".to_owned(), user(11), away)]);
    store.end_notices(&acme, &[("acme/1/1/taken".to_owned(), true)]).await.unwrap();
    assert_eq!(tags().await, []);

    // A person kept it: nobody lost anything.
    give_again(&store, 1, &asks("b", Cause::Robot)).await;
    decide(&store, &of(1, 3), loses(14)).await;
    let kept = Done {
        key: of(1, 3),
        to: user(14),
        owner_set: false,
        notified: false,
        notification: None,
        finished: Some("kept_by_person"),
        pack_at_most: None,
    };
    store.done(None, &[kept], at(3)).await.unwrap();
    assert_eq!(tags().await, []);
}

#[tokio::test]
async fn who_lost_it_to_a_timer_is_told_by_that() {
    use store::{Answers as _, Notices as _};
    let store = store().await;
    let acme = key(1).portal;
    decide(&store, &of(1, 1), NewDecision { to_be_answered: true, ..decision(assign(user(11))) }).await;
    finish(&store, &of(1, 1)).await;
    store.note_missed(&of(1, 1), at(4)).await.unwrap();
    // A robot asks before the giving that the timer asked for is decided, and takes its place.
    give_again(&store, 1, &asks("timer", Cause::Unanswered)).await;
    give_again(&store, 1, &asks("robot", Cause::Robot)).await;
    decide(&store, &of(1, 2), NewDecision { loser: Some(user(11)), ..decision(assign(user(12))) }).await;
    finish(&store, &of(1, 2)).await;
    assert_eq!(store.take_notices(&acme, 10, at(90), at(0)).await.unwrap(), []);
    let timers = store.answer_timers(&acme, at(90), at(0), 10).await.unwrap();
    assert_eq!(timers.len(), 1, "the timer does");
    assert_eq!(timers[0].state, store::TimerState::Taken("person-12".to_owned()));
}
