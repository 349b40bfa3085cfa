//! Published versions of routings.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, PgConnection};
use store::postgres::Postgres;
use store::{NewVersion, PublishedVersion, VersionInfo, Versions};
use tokio::task::JoinSet;

use crate::{at, empty_database, portal, store};

fn new(text: &str) -> NewVersion {
    NewVersion { text: text.to_owned(), author: "olga".to_owned(), note: Some("new people".to_owned()) }
}

#[tokio::test]
async fn versions_are_numbered_in_each_portal_and_the_last_activated_is_current() {
    let store = store().await;
    let (acme, beta) = (portal("acme"), portal("beta"));
    assert_eq!(store.current_versions().await.unwrap(), BTreeMap::new());
    assert_eq!(store.publish(&acme, &new("a"), at(1)).await.unwrap(), 1);
    assert_eq!(store.publish(&acme, &new("b"), at(2)).await.unwrap(), 2);
    assert_eq!(store.publish(&beta, &new("c"), at(3)).await.unwrap(), 1);
    assert_eq!(store.current_versions().await.unwrap(), [(acme.clone(), 2), (beta.clone(), 1)].into());

    assert!(store.activate(&acme, 1, "ivan", at(4)).await.unwrap());
    assert!(!store.activate(&acme, 3, "ivan", at(4)).await.unwrap());
    assert_eq!(store.current_versions().await.unwrap(), [(acme.clone(), 1), (beta.clone(), 1)].into());

    let info = |version, seconds, current| VersionInfo {
        version,
        author: "olga".to_owned(),
        note: Some("new people".to_owned()),
        published_at: at(seconds),
        current,
    };
    assert_eq!(store.versions(&acme, 10).await.unwrap(), [info(2, 2, false), info(1, 1, true)]);
    assert_eq!(store.versions(&acme, 1).await.unwrap(), [info(2, 2, false)]);
    let version = store.version(&acme, 2).await.unwrap().unwrap();
    assert_eq!((version.text.as_str(), version.published_at), ("b", at(2)));
    assert_eq!(store.version(&acme, 3).await.unwrap(), None);
    // The next one goes on from the last number, not from the current one.
    assert_eq!(store.publish(&acme, &new("d"), at(5)).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_version_is_published_once_and_later_ones_get_numbers_of_their_own() {
    let store = Arc::new(store().await);
    let mut starts = JoinSet::new();
    for number in 0..8 {
        let store = Arc::clone(&store);
        starts.spawn(async move {
            store.current_or_first(&portal("acme"), &new(&format!("text {number}")), at(1)).await.unwrap()
        });
    }
    let firsts: Vec<PublishedVersion> = starts.join_all().await;
    assert!(firsts.iter().all(|first| first == &firsts[0] && first.version == 1), "{firsts:?}");

    let mut publishers = JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        publishers.spawn(async move { store.publish(&portal("acme"), &new("x"), at(2)).await.unwrap() });
    }
    let mut numbers = publishers.join_all().await;
    numbers.sort_unstable();
    assert_eq!(numbers, (2..=9).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_published_version_never_changes() {
    let url = empty_database().await;
    let store = Postgres::prepare(&url, 2).unwrap();
    store.migrate().await.unwrap();
    store.publish(&portal("acme"), &new("a"), at(1)).await.unwrap();
    let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
    for change in ["UPDATE routing_versions SET text = 'b'", "DELETE FROM routing_versions"] {
        let error = sqlx::query(change).execute(&mut connection).await.unwrap_err().to_string();
        assert!(error.contains("rows of routing_versions never change"), "{error}");
    }
}
