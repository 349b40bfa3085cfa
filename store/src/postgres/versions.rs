//! The published versions of routings.

use std::collections::BTreeMap;

use super::time::{SqlTimestamp, ToSqlx};
use async_trait::async_trait;
use common::ids::PortalName;
use jiff::Timestamp;
use sqlx::{FromRow, PgConnection};

use super::{Postgres, bigint};
use crate::{NewVersion, PublishedVersion, StoreError, VersionInfo, Versions};

/// The current version of portal `$1`.
const CURRENT: &str = "(SELECT version FROM routing_activations WHERE portal = $1 ORDER BY id DESC LIMIT 1)";

#[derive(FromRow)]
struct Row {
    version: i64,
    text: String,
    author: String,
    note: Option<String>,
    published_at: SqlTimestamp,
}

impl From<Row> for PublishedVersion {
    fn from(row: Row) -> Self {
        Self {
            version: number(row.version),
            text: row.text,
            author: row.author,
            note: row.note,
            published_at: row.published_at.to_jiff(),
        }
    }
}

fn number(column: i64) -> u64 {
    u64::try_from(column).unwrap_or_default()
}

/// One publisher at a time for each portal, so that the numbers have no gap and none comes twice.
async fn lock(connection: &mut PgConnection, portal: &PortalName) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('routing ' || $1, 0))")
        .bind(portal.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

async fn current(
    connection: &mut PgConnection,
    portal: &PortalName,
) -> Result<Option<PublishedVersion>, sqlx::Error> {
    let query = format!(
        "SELECT version, text, author, note, published_at FROM routing_versions
         WHERE portal = $1 AND version = {CURRENT}"
    );
    let row: Option<Row> =
        sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(portal.as_str()).fetch_optional(connection).await?;
    Ok(row.map(PublishedVersion::from))
}

async fn insert(
    connection: &mut PgConnection,
    portal: &PortalName,
    new: &NewVersion,
    at: Timestamp,
) -> Result<u64, sqlx::Error> {
    let (version,): (i64,) = sqlx::query_as(
        "INSERT INTO routing_versions (portal, version, text, author, note, published_at)
         SELECT $1, coalesce(max(version), 0) + 1, $2, $3, $4, $5 FROM routing_versions WHERE portal = $1
         RETURNING version",
    )
    .bind(portal.as_str())
    .bind(&new.text)
    .bind(&new.author)
    .bind(&new.note)
    .bind(at.to_sqlx())
    .fetch_one(&mut *connection)
    .await?;
    activate(connection, portal, version, &new.author, at).await?;
    Ok(number(version))
}

/// Whether there is such a version.
async fn activate(
    connection: &mut PgConnection,
    portal: &PortalName,
    version: i64,
    author: &str,
    at: Timestamp,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO routing_activations (portal, version, author, activated_at)
         SELECT portal, version, $3, $4 FROM routing_versions WHERE portal = $1 AND version = $2",
    )
    .bind(portal.as_str())
    .bind(version)
    .bind(author)
    .bind(at.to_sqlx())
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

#[async_trait]
impl Versions for Postgres {
    async fn publish(&self, portal: &PortalName, new: &NewVersion, at: Timestamp) -> Result<u64, StoreError> {
        let failed = StoreError::during("publishing a routing");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        lock(&mut transaction, portal).await.map_err(&failed)?;
        let version = insert(&mut transaction, portal, new, at).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(version)
    }

    async fn current_or_first(
        &self,
        portal: &PortalName,
        first: &NewVersion,
        at: Timestamp,
    ) -> Result<PublishedVersion, StoreError> {
        let failed = StoreError::during("reading the current routing");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        lock(&mut transaction, portal).await.map_err(&failed)?;
        if let Some(current) = current(&mut transaction, portal).await.map_err(&failed)? {
            return Ok(current);
        }
        let version = insert(&mut transaction, portal, first, at).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        let NewVersion { text, author, note } = first.clone();
        Ok(PublishedVersion { version, text, author, note, published_at: at })
    }

    async fn activate(
        &self,
        portal: &PortalName,
        version: u64,
        author: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let failed = StoreError::during("making a version the current one");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        lock(&mut transaction, portal).await.map_err(&failed)?;
        let found = activate(&mut transaction, portal, bigint(version), author, at).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(found)
    }

    async fn versions(&self, portal: &PortalName, limit: u32) -> Result<Vec<VersionInfo>, StoreError> {
        let query = format!(
            "SELECT version, author, note, published_at, coalesce(version = {CURRENT}, false)
             FROM routing_versions WHERE portal = $1 ORDER BY version DESC LIMIT $2"
        );
        let rows: Vec<(i64, String, Option<String>, SqlTimestamp, bool)> =
            sqlx::query_as(sqlx::AssertSqlSafe(query))
                .bind(portal.as_str())
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await
                .map_err(StoreError::during("listing the versions of a routing"))?;
        let info =
            |(version, author, note, published_at, current): (i64, _, _, SqlTimestamp, _)| VersionInfo {
                version: number(version),
                author,
                note,
                published_at: published_at.to_jiff(),
                current,
            };
        Ok(rows.into_iter().map(info).collect())
    }

    async fn version(
        &self,
        portal: &PortalName,
        version: u64,
    ) -> Result<Option<PublishedVersion>, StoreError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT version, text, author, note, published_at FROM routing_versions
             WHERE portal = $1 AND version = $2",
        )
        .bind(portal.as_str())
        .bind(bigint(version))
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::during("reading a version of a routing"))?;
        Ok(row.map(PublishedVersion::from))
    }

    async fn current_versions(&self) -> Result<BTreeMap<PortalName, u64>, StoreError> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT DISTINCT ON (portal) portal, version FROM routing_activations ORDER BY portal, id DESC",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::during("asking which routings are current"))?;
        // What is not named as a portal can be is none of ours.
        Ok(rows
            .into_iter()
            .filter_map(|(portal, version)| Some((portal.parse().ok()?, number(version))))
            .collect())
    }
}
