//! The store in PostgreSQL 15 or newer, through sqlx.

mod addresses;
mod answers;
mod assignments;
mod budget;
mod dead_letters;
mod decisions;
mod givings;
mod holds;
mod ledgers;
mod line;
mod lost_packs;
mod notices;
mod replays;
mod rosters;
mod schema;
mod stories;
mod sweeps;
mod text;
mod time;
mod timeline;
mod unseen_leads;
mod upkeep;
mod versions;
mod waiting;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use common::budget::BucketLimits;
use common::failure::FailureClass;
use common::ids::{PortalName, UserId};
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{Store, StoreError};

/// A query that waits longer than this for a connection fails; its message is tried again.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(20);

/// The store.
#[derive(Clone)]
pub struct Postgres {
    pool: PgPool,
    options: PgConnectOptions,
}

/// Without the options of the driver, which show the password.
impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = (self.options.get_host(), self.options.get_port());
        f.debug_struct("Postgres").field("address", &address).finish_non_exhaustive()
    }
}

impl Postgres {
    /// Prepares connections; the database need not be there yet.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn prepare(url: &SecretString, connections: u32) -> Result<Self, StoreError> {
        let options: PgConnectOptions =
            url.expose_secret().parse().map_err(StoreError::during::<sqlx::Error>("reading database.url"))?;
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options.clone().application_name("rota"));
        Ok(Self { pool, options })
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// The class of a failure, by the database's code (SQLSTATE).
///
/// | code | means | class |
/// |---|---|---|
/// | 22… | a value that a column cannot hold: the character zero, a number out of range | permanent |
/// | 23… | a value that a constraint forbids | permanent |
/// | 54… | a value that is too large for an index or a row | permanent |
/// | 42… | no such table or column: another version of the schema, which passes with the end of an update | throttled |
/// | others, none | the database is away, stops, is full, or gave up a transaction | throttled |
///
/// Source: PostgreSQL's manual, appendix "Error Codes".
pub(crate) fn class_of(error: &(dyn std::error::Error + Send + Sync + 'static)) -> FailureClass {
    let database = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    let code = database.and_then(sqlx::error::DatabaseError::code);
    let by_value = |code: &str| ["22", "23", "54"].iter().any(|class| code.starts_with(class));
    if code.as_deref().is_some_and(by_value) { FailureClass::Permanent } else { FailureClass::Throttled }
}

#[async_trait]
impl Store for Postgres {
    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map_err(StoreError::during("asking the store"))?;
        Ok(())
    }

    async fn budget_used(&self, portal: &PortalName, limits: BucketLimits) -> Result<u32, StoreError> {
        budget::used(&self.pool, portal, limits).await
    }
}

/// The portal's ids and our counts are far below 2⁶³, which is what the column holds.
fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn user(column: Option<i64>) -> Option<UserId> {
    column.and_then(|id| u64::try_from(id).ok()).and_then(UserId::new)
}
