//! Bringing the schema up to date.

use store::Store;
use store::postgres::Postgres;
use tokio::task::JoinSet;

use crate::empty_database;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_that_start_at_once_on_an_empty_database_all_come_up() {
    let url = empty_database().await;
    let mut starts = JoinSet::new();
    for _ in 0..4 {
        let url = url.clone();
        starts.spawn(async move {
            let store = Postgres::prepare(&url, 2).unwrap();
            store.migrate().await.unwrap();
            store.ping().await.unwrap();
            // A later start finds nothing to do.
            store.migrate().await.unwrap();
        });
    }
    assert_eq!(starts.join_all().await.len(), 4);
}

#[tokio::test]
async fn a_database_that_refuses_us_ends_the_start() {
    let wrong: secrecy::SecretString =
        secrecy::ExposeSecret::expose_secret(&empty_database().await).replace("/store_", "/absent_").into();
    let refused = Postgres::prepare(&wrong, 1).unwrap().migrate().await.unwrap_err();
    assert_eq!(refused.operation, "connecting to the database");
}
