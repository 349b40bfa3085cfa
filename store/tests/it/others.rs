//! Dead letters and scans.

use std::time::Duration;

use common::ids::LeadId;
use store::{DeadLetter, DeadLetters, Seen, SweepLease, Sweeps};
use uuid::Uuid;

use crate::{at, portal, store};

#[tokio::test]
async fn dead_letters_keep_every_byte_and_are_counted_by_portal_and_class() {
    let store = store().await;
    let known = DeadLetter {
        message_id: "0198-1".to_owned(),
        portal: Some("acme".to_owned()),
        lead: LeadId::new(42),
        queue: Some("rota.acme.assignments".to_owned()),
        kind: "assignment-command".to_owned(),
        class: "transient".to_owned(),
        reason: "reading lead 42: timed out".to_owned(),
        attempt: 6,
        first_seen: Some(at(0)),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        body: br#"{"type":"assignment-command"}"#.to_vec(),
        died_at: at(5),
    };
    let garbage = DeadLetter {
        message_id: String::new(),
        portal: None,
        lead: None,
        queue: None,
        kind: String::new(),
        class: "poison".to_owned(),
        reason: "a zero \0 in words".to_owned(),
        attempt: 1,
        first_seen: None,
        traceparent: None,
        body: (0..=u8::MAX).chain([0xc3, 0x28, 0, 0xff]).collect(),
        died_at: at(6),
    };
    for letter in [&known, &garbage, &known] {
        store.bury(letter).await.unwrap();
    }
    let readable = DeadLetter { reason: "a zero \u{fffd} in words".to_owned(), ..garbage };
    assert_eq!(store.dead_letters(10).await.unwrap(), [known.clone(), readable.clone()]);
    assert_eq!(store.dead_letters(2).await.unwrap(), [known, readable]);
    let count = |portal: &str, class: &str, count| ((portal.to_owned(), class.to_owned()), count);
    assert_eq!(
        store.dead_letter_counts().await.unwrap(),
        [count("", "poison", 1), count("acme", "transient", 1)].into()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_scans_until_its_lease_runs_out_and_no_scan_goes_back() {
    let store = store().await;
    let acme = portal("acme");
    let holders = [Uuid::now_v7(), Uuid::now_v7()];
    let take = |holder, now| store.take_sweep(&acme, holder, at(now), Duration::from_mins(1));

    let (one, other) = tokio::join!(take(holders[0], 0), take(holders[1], 0));
    let taken = [one.unwrap(), other.unwrap()];
    let never_scanned = Some(SweepLease { seen: None });
    let first = taken.iter().position(|lease| *lease == never_scanned).unwrap();
    assert_eq!(taken[1 - first], None, "only one may scan");
    let (first, second) = (holders[first], holders[1 - first]);

    let seen = |last_id| Some(SweepLease { seen: Some(Seen { first_id: 7, last_id }) });
    store.swept(&acme, 7).await.unwrap();
    assert_eq!(take(first, 30).await.unwrap(), seen(7), "kept until 90");
    store.swept(&acme, 500).await.unwrap();
    store.swept(&acme, 400).await.unwrap();
    assert_eq!(take(second, 90).await.unwrap(), None);
    assert_eq!(take(second, 91).await.unwrap(), seen(500));
    assert_eq!(take(first, 92).await.unwrap(), None);

    let beta = store.take_sweep(&portal("beta"), second, at(92), Duration::from_mins(1)).await.unwrap();
    assert_eq!(beta, never_scanned);
}
