//! Who is at work.

use std::time::Duration;

use serde_json::json;
use store::{
    Assignments as _, Counting, Decisions as _, Done, NewReading, OwnAbsence, OwnKind, PackItem, Reading,
    RosterSource, RosterState, Rosters as _,
};
use uuid::Uuid;

use crate::assignments::item;
use crate::decisions::{assign, decide, decision};
use crate::{at, key, portal, store, user};

fn pause(from: i64, to: i64) -> OwnAbsence {
    OwnAbsence {
        user: user(11),
        kind: OwnKind::Pause,
        from: at(from),
        to: at(to),
        reason: Some("lunch".to_owned()),
        author: "olga".to_owned(),
    }
}

fn absence(from: i64, to: i64) -> OwnAbsence {
    OwnAbsence { kind: OwnKind::Absence, reason: None, ..pause(from, to) }
}

#[tokio::test]
async fn one_router_asks_and_another_takes_over_when_it_is_gone() {
    let (store, acme) = (store().await, portal("acme"));
    let (one, other, minute) = (Uuid::now_v7(), Uuid::now_v7(), Duration::from_mins(1));
    assert!(store.take_roster(&acme, one, at(0), minute).await.unwrap());
    assert!(!store.take_roster(&acme, other, at(30), minute).await.unwrap());
    assert!(store.take_roster(&acme, one, at(30), minute).await.unwrap());
    assert!(!store.take_roster(&acme, other, at(80), minute).await.unwrap());
    assert!(store.take_roster(&acme, other, at(91), minute).await.unwrap());
}

#[tokio::test]
async fn a_source_that_refuses_keeps_its_last_word() {
    let (store, acme) = (store().await, portal("acme"));
    assert_eq!(store.roster(&acme, at(0)).await.unwrap(), RosterState::default());
    let (people, days) = (RosterSource::People, RosterSource::WorkingDays);
    let said = |source, facts| NewReading { source, said: Ok(facts) };
    let refused = |source| NewReading { source, said: Err("no right".to_owned()) };
    store.save_readings(&acme, &[said(people, json!({ "11": true })), refused(days)], at(0)).await.unwrap();
    store.save_readings(&acme, &[refused(people)], at(60)).await.unwrap();
    store.save_readings(&portal("beta"), &[said(people, json!({}))], at(60)).await.unwrap();
    let mut readings = store.roster(&acme, at(60)).await.unwrap().readings;
    readings.sort_by_key(|reading| reading.source);
    let problem = Some("no right".to_owned());
    let expected = [
        Reading { source: people, facts: Some((json!({ "11": true }), at(0))), problem: problem.clone() },
        Reading { source: days, facts: None, problem },
    ];
    assert_eq!(readings, expected);
    let changes = store.roster_changes().await.unwrap();
    assert_eq!(changes, [(acme, 2), (portal("beta"), 1)].into());
}

#[tokio::test]
async fn a_pause_replaces_a_pause_and_what_is_over_is_not_shown() {
    let (store, acme) = (store().await, portal("acme"));
    for (one, now) in
        [(pause(0, 600), 0), (pause(10, 900), 10), (absence(0, 60), 10), (absence(5000, 6000), 10)]
    {
        store.note_absence(&acme, &one, at(now)).await.unwrap();
    }
    let own = async |now| store.roster(&acme, at(now)).await.unwrap().own;
    assert_eq!(own(20).await, [absence(0, 60), pause(10, 900), absence(5000, 6000)]);
    assert_eq!(own(60).await, [pause(10, 900), absence(5000, 6000)]);
    let end = async |begun| store.end_absences(&acme, user(11), begun, "ivan", at(100)).await.unwrap();
    assert_eq!([end(true).await, end(true).await], [1, 0]);
    assert_eq!(own(100).await, [absence(5000, 6000)]);
    assert_eq!(end(false).await, 1);
    assert!(own(100).await.is_empty());
    assert_eq!(store.roster_changes().await.unwrap(), [(acme, 6)].into());
}

#[tokio::test]
async fn what_the_portal_could_not_count_yet_is_reserved() {
    let store = store().await;
    for number in 1..=4 {
        decide(&store, &key(number), decision(assign(user(11)))).await;
    }
    // Not sent, set before and after the portal was asked, and kept by a person.
    for (number, owner_set, outcome, now) in
        [(2, true, "assigned", 10), (3, true, "assigned", 30), (4, false, "kept_by_person", 30)]
    {
        let key = key(number);
        let item = PackItem { from: None, to: user(11), notice_position: None, ..item(number, 0) };
        store.about_to_send(Uuid::now_v7(), &[item], at(now)).await.unwrap();
        let finished = Some(outcome);
        let done = Done { owner_set, finished, ..Done::nothing(key, user(11)) };
        store.done(None, &[done], at(now)).await.unwrap();
    }
    let counting =
        Counting { day_from: [(user(11), at(0))].into(), open_from: Some(at(20)), ..Counting::default() };
    let see = |standing: &store::Standing| {
        assert_eq!(standing.given[&user(11)].reserved, 2);
        decision(store::Verdict::Skip)
    };
    store.decide(&key(50), &counting, Box::new(see)).await.unwrap();
}

#[tokio::test]
async fn whether_a_portal_keeps_leads_is_known_to_all() {
    let (store, acme) = (store().await, portal("acme"));
    let known = async || store.roster(&acme, at(0)).await.unwrap().has_leads;
    let changes = async || store.roster_changes().await.unwrap().get(&acme).copied();
    assert_eq!((known().await, changes().await), (None, None));
    // Who has the right to ask has a row already.
    store.take_roster(&acme, Uuid::now_v7(), at(0), Duration::from_mins(1)).await.unwrap();
    assert_eq!(known().await, None);
    for (has_leads, change) in [(false, 1), (false, 1), (true, 2)] {
        store.save_has_leads(&acme, has_leads).await.unwrap();
        assert_eq!((known().await, changes().await), (Some(has_leads), Some(change)));
    }
    assert!(!store.take_roster(&acme, Uuid::now_v7(), at(1), Duration::from_mins(1)).await.unwrap());
}
