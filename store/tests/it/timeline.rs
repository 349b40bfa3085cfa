//! Entries for the timelines of leads.

use jiff::{SignedDuration, Timestamp};
use store::postgres::Postgres;
use store::{
    Assignments as _, Done, EntryAbout, NewDecision, PackItem, Timeline as _, TimelineEntry, Verdict,
};
use uuid::Uuid;

use crate::assignments::item;
use crate::decisions::{assign, decide, decision};
use crate::{at, key, portal, store, user};

async fn written(store: &Postgres, number: u64, verdict: Verdict) {
    let new = NewDecision { timeline: Some("because".to_owned()), ..decision(verdict) };
    decide(store, &key(number), new).await;
}

async fn ended(store: &Postgres, number: u64, owner_set: bool, outcome: &'static str) {
    let key = key(number);
    let item = PackItem { from: None, to: user(11), notice_position: None, ..item(number, 0) };
    store.about_to_send(Uuid::now_v7(), &[item], at(2)).await.unwrap();
    let finished = Some(outcome);
    let done = Done { owner_set, finished, ..Done::nothing(key, user(11)) };
    store.done(None, &[done], at(2)).await.unwrap();
}

async fn take(store: &Postgres, now: Timestamp) -> Vec<TimelineEntry> {
    let lost_before = now - SignedDuration::from_mins(15);
    store.take_timeline_entries(&portal("acme"), 50, now, lost_before).await.unwrap()
}

fn hold() -> Verdict {
    Verdict::Hold { look_again_at: at(60), until: None }
}

fn entry(number: u64, assigned: bool) -> TimelineEntry {
    let about = if assigned { EntryAbout::Assigned } else { EntryAbout::Waits };
    TimelineEntry { key: key(number), about, text: "because".to_owned() }
}

#[tokio::test]
async fn a_lead_that_waits_says_so_once_and_one_that_is_given_when_it_is() {
    let store = store().await;
    written(&store, 1, hold()).await;
    written(&store, 2, assign(user(11))).await;
    written(&store, 3, assign(user(11))).await;
    written(&store, 4, Verdict::Skip).await;
    assert_eq!(take(&store, at(3)).await, [entry(1, false)]);
    assert!(take(&store, at(3)).await.is_empty(), "somebody has it");
    store.end_timeline_entries(&[(entry(1, false), true)]).await.unwrap();
    written(&store, 1, hold()).await;
    ended(&store, 2, true, "assigned").await;
    ended(&store, 3, false, "kept_by_person").await;
    assert_eq!(take(&store, at(4)).await, [entry(2, true)]);
    // It was not sent.
    store.end_timeline_entries(&[(entry(2, true), false)]).await.unwrap();
    written(&store, 1, assign(user(11))).await;
    ended(&store, 1, true, "assigned").await;
    assert_eq!(take(&store, at(5)).await, [entry(1, true), entry(2, true)]);
}

#[tokio::test]
async fn what_nobody_ended_is_not_sent_again() {
    let store = store().await;
    written(&store, 1, hold()).await;
    written(&store, 2, assign(user(11))).await;
    assert_eq!(take(&store, at(3)).await.len(), 1);
    assert!(take(&store, at(3 + 16 * 60)).await.is_empty());
    store.end_timeline_entries(&[(entry(1, false), false)]).await.unwrap();
    ended(&store, 2, true, "assigned").await;
    let two_days = 49 * 3600;
    assert!(take(&store, at(two_days)).await.is_empty(), "too late to be told");
}
