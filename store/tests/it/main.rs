//! The store against a real PostgreSQL. One test binary: it links once.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod assignments;
mod budget;
mod dead_letters;
mod decisions;
mod givings;
mod holds;
mod line;
mod others;
mod rosters;
mod schema;
mod timeline;
mod unseen_leads;
mod upkeep;
mod versions;

use common::ids::{LeadId, PortalName, UserId};
use common::messages::{AssignmentKey, Epoch};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use store::postgres::Postgres;
use uuid::Uuid;

/// A database of this test's own, without any schema; it goes with the temporary server.
#[expect(clippy::disallowed_methods, reason = "how `with-services` tells the tests where its servers are")]
async fn empty_database() -> SecretString {
    let maintenance = std::env::var("ROTA_TEST_DATABASE_URL")
        .expect("ROTA_TEST_DATABASE_URL is not set: run `make test`, which starts a private server");
    let name = format!("store_{}", Uuid::now_v7().simple());
    let mut connection = PgConnection::connect(&maintenance).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let (server, _) = maintenance.rsplit_once('/').unwrap();
    format!("{server}/{name}").into()
}

/// A store with its schema in a database of its own.
async fn store() -> Postgres {
    let store = Postgres::prepare(&empty_database().await, 8).unwrap();
    store.migrate().await.unwrap();
    store
}

/// A store, and a connection to its database for what the store does not do.
async fn store_and_database() -> (Postgres, PgConnection) {
    let url = empty_database().await;
    let store = Postgres::prepare(&url, 8).unwrap();
    store.migrate().await.unwrap();
    (store, PgConnection::connect(secrecy::ExposeSecret::expose_secret(&url)).await.unwrap())
}

fn portal(name: &str) -> PortalName {
    name.parse().unwrap()
}

fn lead(number: u64) -> LeadId {
    LeadId::new(number).unwrap()
}

fn user(number: u64) -> UserId {
    UserId::new(number).unwrap()
}

/// The first giving of a lead of portal `acme`.
fn key(number: u64) -> AssignmentKey {
    AssignmentKey { portal: portal("acme"), lead: lead(number), epoch: Epoch::FIRST }
}

/// This many seconds after nine o'clock.
fn at(seconds: i64) -> Timestamp {
    "2026-11-23T09:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}
