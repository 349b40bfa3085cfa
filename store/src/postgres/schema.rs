//! Bringing the schema up to date, or seeing that it is.
//!
//! Two kinds of installation are served alike. Where one role owns the database and every process uses it, the first that
//! starts brings the schema up to date. Where each process has a role of its own, which may change no table, the owner's
//! `rota migrate` does that before, and grants each role what it needs
//! ([grants.sql](../../migrations/postgres/grants.sql)); a process that comes too early says so and ends.

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::{Connection as _, PgConnection};

use super::Postgres;
use crate::StoreError;
use common::telemetry::millis;

/// First and longest wait between tries to reach the database at start.
const CONNECT_WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// What each role of an installation may do, those that are there.
const GRANTS: &str = include_str!("../../migrations/postgres/grants.sql");

/// The schema is another than that of this program, and this role cannot change that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum WrongSchema {
    /// Some migrations are missing.
    #[error(
        "the database's schema is older than this program (migration {has}, needed is {needed}), and the role {role} may \
         not change it: run `rota migrate` as the role that owns the database"
    )]
    Older { has: i64, needed: i64, role: String },
    /// There are migrations that this program does not know.
    #[error(
        "the database's schema is newer than this program (migration {has}, known is {known}): update the program"
    )]
    Newer { has: i64, known: i64 },
    /// It cannot be looked at.
    #[error(
        "the role {role} may not read the version of the database's schema: run `rota migrate` as the role that owns the \
         database; it grants each role what it needs"
    )]
    Hidden { role: String },
}

impl Postgres {
    /// Waits for the database and sees that its schema is that of this program. Where this role owns it, it is brought up
    /// to date; of several processes that start at once one does it and the others wait.
    ///
    /// # Errors
    /// When the database refuses us, a migration fails, or the schema is another and this role may not change it; the text
    /// says what is to be done.
    pub async fn open(&self) -> Result<(), StoreError> {
        const LOOKING: &str = "looking at the version of the database's schema";
        self.reach().await?;
        let failed = StoreError::during(LOOKING);
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        let (role, may_change): (String, bool) = sqlx::query_as(
            "SELECT current_user::text, coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)",
        )
        .fetch_one(&mut *connection)
        .await
        .map_err(&failed)?;
        let applied = applied(&mut connection).await.map_err(&failed)?;
        drop(connection);
        let wrong = match applied {
            Applied::Hidden => WrongSchema::Hidden { role },
            Applied::Known(versions) => {
                let newest = |versions: &[i64]| versions.iter().max().copied().unwrap_or_default();
                let ours: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
                let (has, known) = (newest(&versions), newest(&ours));
                if versions.iter().any(|version| !ours.contains(version)) {
                    WrongSchema::Newer { has, known }
                } else if ours.iter().all(|version| versions.contains(version)) {
                    return Ok(());
                } else if may_change {
                    return self.migrate().await;
                } else {
                    WrongSchema::Older { has, needed: known, role }
                }
            }
        };
        Err(StoreError::during(LOOKING)(wrong))
    }

    /// Waits for the database, brings its schema up to date and grants the roles of an installation, those that are there,
    /// what each needs. Harmless when repeated, also by several at once.
    ///
    /// # Errors
    /// When the database refuses us, a migration fails, or this role does not own the tables.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.reach().await?;
        MIGRATIONS
            .run(&self.pool)
            .await
            .map_err(StoreError::during("bringing the database's schema up to date"))?;
        let failed = StoreError::during("granting the roles what they need");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        // Two that change the rights of one table at once would fail.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('rota grants', 0))")
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        sqlx::raw_sql(GRANTS).execute(&mut *transaction).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)
    }

    /// Waits until the database takes connections.
    async fn reach(&self) -> Result<(), StoreError> {
        let (mut wait, longest) = CONNECT_WAITS;
        // Not through the pool, which tries again by itself and does not say why.
        while let Err(error) = PgConnection::connect_with(&self.options).await {
            if let sqlx::Error::Database(refused) = &error
                && !starting(refused.code().as_deref())
            {
                return Err(StoreError::during("connecting to the database")(error));
            }
            tracing::warn!(event = "store.unreachable", error = %error, retry_in_ms = millis(wait));
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(longest);
        }
        Ok(())
    }
}

/// The migrations that a database has had.
enum Applied {
    /// Their numbers; none in an empty database.
    Known(Vec<i64>),
    /// This role may not read them.
    Hidden,
}

async fn applied(connection: &mut PgConnection) -> Result<Applied, sqlx::Error> {
    let versions =
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(connection).await;
    match versions {
        Ok(versions) => Ok(Applied::Known(versions)),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => {
            Ok(Applied::Known(Vec::new()))
        }
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => Ok(Applied::Hidden),
        Err(error) => Err(error),
    }
}

/// Whether the server refuses only because it starts or stops (class 57P, or too many connections).
fn starting(code: Option<&str>) -> bool {
    code.is_some_and(|code| code.starts_with("57P") || code == "53300")
}
