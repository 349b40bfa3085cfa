//! Dead letters, scans, addresses of portals.

use std::time::Duration;

use common::address::PortalAddresses;
use common::ids::LeadId;
use store::{Addresses, DeadLetter, DeadLetters, Seen, SweepLease, Sweeps};
use uuid::Uuid;

use crate::{at, portal, store, store_and_database};

fn known() -> DeadLetter {
    DeadLetter {
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
    }
}

#[tokio::test]
async fn dead_letters_keep_every_byte_and_are_counted_by_portal_and_class() {
    let store = store().await;
    let known = known();
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
    let later = DeadLetter { message_id: "0198-2".to_owned(), ..known.clone() };
    for letter in [&known, &garbage, &later] {
        store.bury(letter).await.unwrap();
    }
    let readable = DeadLetter { reason: "a zero \u{fffd} in words".to_owned(), ..garbage };
    assert_eq!(store.dead_letters(10).await.unwrap(), [known.clone(), readable.clone(), later]);
    assert_eq!(store.dead_letters(2).await.unwrap(), [known, readable]);
    let count = |portal: &str, class: &str, count| ((portal.to_owned(), class.to_owned()), count);
    assert_eq!(
        store.dead_letter_counts().await.unwrap(),
        [count("", "poison", 1), count("acme", "transient", 2)].into()
    );
}

/// Nothing in it but what makes it one of its own.
pub fn letter(message_id: &str) -> DeadLetter {
    DeadLetter {
        message_id: message_id.to_owned(),
        portal: Some("acme".to_owned()),
        lead: LeadId::new(42),
        queue: Some("rota.acme.assignments".to_owned()),
        kind: "assignment-command".to_owned(),
        class: "permanent".to_owned(),
        reason: "refused".to_owned(),
        attempt: 1,
        first_seen: None,
        traceparent: None,
        body: b"{}".to_vec(),
        died_at: at(0),
    }
}

#[tokio::test]
async fn a_letter_that_comes_twice_is_kept_once_until_it_is_settled() {
    let (store, mut database) = store_and_database().await;
    let first = letter("acme/42/1");
    let others = [
        DeadLetter { message_id: "acme/42/2".to_owned(), ..first.clone() },
        DeadLetter { queue: None, ..first.clone() },
        DeadLetter { attempt: 2, ..first.clone() },
        DeadLetter { body: b"{ }".to_vec(), ..first.clone() },
    ];
    for letter in others.iter().chain([&first, &first]) {
        store.bury(letter).await.unwrap();
    }
    store
        .bury(&DeadLetter { died_at: at(9), reason: "refused again".to_owned(), ..first.clone() })
        .await
        .unwrap();
    assert_eq!(store.dead_letters(10).await.unwrap(), [&others[..], std::slice::from_ref(&first)].concat());

    sqlx::query("UPDATE dead_letters SET settled_at = died_at, settlement = 'replayed'")
        .execute(&mut database)
        .await
        .unwrap();
    assert!(store.dead_letter_counts().await.unwrap().is_empty(), "settled ones do not wait");
    let again = DeadLetter { died_at: at(60), ..first };
    store.bury(&again).await.unwrap();
    assert_eq!(store.dead_letters(10).await.unwrap().last(), Some(&again), "it died again after a replay");
    assert_eq!(store.dead_letter_counts().await.unwrap().into_values().sum::<u64>(), 1);
}

#[tokio::test]
async fn the_character_zero_in_any_part_of_a_letter_does_not_keep_it_out() {
    let store = store().await;
    let zero = DeadLetter {
        portal: Some("ac\0me".to_owned()),
        queue: Some("q\0".to_owned()),
        kind: "k\0".to_owned(),
        class: "c\0".to_owned(),
        traceparent: Some("\0".to_owned()),
        ..letter("i\0d")
    };
    store.bury(&zero).await.unwrap();
    let [kept] = &store.dead_letters(10).await.unwrap()[..] else { panic!("one letter") };
    assert_eq!((kept.message_id.as_str(), kept.portal.as_deref()), ("i\u{fffd}d", Some("ac\u{fffd}me")));
    assert_eq!(kept.body, zero.body);
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

#[tokio::test]
async fn the_address_of_a_portal_is_kept_for_the_host_that_moved_there_and_forgotten() {
    let store = store().await;
    let (acme, old, new) = (portal("acme"), "acme.bitrix24.com", "acme2.bitrix24.com");
    assert_eq!(store.moved_to(&acme, old).await.unwrap(), None);
    store.moved(&acme, old, new).await.unwrap();
    let first = store.addresses().await.unwrap();
    store.moved(&acme, old, new).await.unwrap();
    assert_eq!(store.addresses().await.unwrap(), first, "another process found the same later");
    assert_eq!(store.moved_to(&acme, old).await.unwrap().as_deref(), Some(new));
    assert_eq!(store.moved_to(&acme, new).await.unwrap(), None, "the configuration was changed");
    // What one process found out late does not take away what another one found since.
    store.moved(&acme, old, "acme3.bitrix24.com").await.unwrap();
    store.came_back(&acme, old, new).await.unwrap();
    assert_eq!(store.moved_to(&acme, old).await.unwrap().as_deref(), Some("acme3.bitrix24.com"));
    store.came_back(&acme, old, "acme3.bitrix24.com").await.unwrap();
    assert_eq!(store.addresses().await.unwrap(), []);

    let other = "other".parse().unwrap();
    for (name, from) in [(&acme, old), (&acme, "acme.bitrix24.de"), (&other, "other.bitrix24.com")] {
        store.moved(name, from, new).await.unwrap();
    }
    assert_eq!(store.forget_addresses("acme").await.unwrap(), 2);
    assert_eq!(store.forget_addresses("acme").await.unwrap(), 0);
    let left = store.addresses().await.unwrap();
    assert_eq!(left.iter().map(|address| address.portal.as_str()).collect::<Vec<_>>(), ["other"]);
}
