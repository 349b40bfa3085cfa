//! Who is at work.

use std::collections::BTreeMap;
use std::time::Duration;

use super::time::{SqlTimestamp, ToSqlx};
use async_trait::async_trait;
use common::ids::{PortalName, UserId};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::text::{json, text};
use super::{Postgres, bigint, user};
use crate::{NewReading, OwnAbsence, OwnKind, Reading, RosterSource, RosterState, Rosters, StoreError};

#[derive(FromRow)]
struct ReadingRow {
    source: String,
    facts: Option<Value>,
    read_at: Option<SqlTimestamp>,
    problem: Option<String>,
}

impl ReadingRow {
    fn reading(self) -> Option<Reading> {
        Some(Reading {
            source: RosterSource::ALL.into_iter().find(|source| source.as_str() == self.source)?,
            facts: self.facts.zip(self.read_at.map(SqlTimestamp::to_jiff)),
            problem: self.problem,
        })
    }
}

#[derive(FromRow)]
struct OwnRow {
    user_id: i64,
    kind: String,
    from_at: SqlTimestamp,
    to_at: SqlTimestamp,
    reason: Option<String>,
    author: String,
}

impl OwnRow {
    fn absence(self) -> Option<OwnAbsence> {
        let kinds = [OwnKind::Pause, OwnKind::Absence];
        Some(OwnAbsence {
            user: user(Some(self.user_id))?,
            kind: kinds.into_iter().find(|kind| kind.as_str() == self.kind)?,
            from: self.from_at.to_jiff(),
            to: self.to_at.to_jiff(),
            reason: self.reason,
            author: self.author,
        })
    }
}

/// Tells those who follow the roster, with the commit of the change.
async fn changed(connection: &mut PgConnection, portal: &PortalName) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO rosters (portal, changes) VALUES ($1, 1)
         ON CONFLICT (portal) DO UPDATE SET changes = rosters.changes + 1",
    )
    .bind(portal.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

#[async_trait]
impl Rosters for Postgres {
    async fn take_roster(
        &self,
        portal: &PortalName,
        holder: Uuid,
        now: Timestamp,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let until = now + SignedDuration::try_from(lease).unwrap_or(SignedDuration::from_mins(1));
        let taken = sqlx::query(
            "INSERT INTO rosters (portal, holder, lease_until) VALUES ($1, $2, $4)
             ON CONFLICT (portal) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until
             WHERE rosters.holder = excluded.holder OR rosters.lease_until IS NULL OR rosters.lease_until < $3",
        )
        .bind(portal.as_str())
        .bind(holder)
        .bind(now.to_sqlx())
        .bind(until.to_sqlx())
        .execute(&self.pool)
        .await
        .map_err(StoreError::during("taking the right to ask about people"))?;
        Ok(taken.rows_affected() == 1)
    }

    async fn save_readings(
        &self,
        portal: &PortalName,
        readings: &[NewReading],
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let failed = StoreError::during("saving what is known of people");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for NewReading { source, said } in readings {
            sqlx::query(
                "INSERT INTO roster_readings (portal, source, facts, read_at, problem)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (portal, source) DO UPDATE SET
                     facts = coalesce(excluded.facts, roster_readings.facts),
                     read_at = coalesce(excluded.read_at, roster_readings.read_at), problem = excluded.problem",
            )
            .bind(portal.as_str())
            .bind(source.as_str())
            .bind(said.as_ref().ok().cloned().map(json))
            .bind(said.as_ref().ok().map(|_| at.to_sqlx()))
            .bind(said.as_ref().err().map(|problem| text(problem)))
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        changed(&mut transaction, portal).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)
    }

    async fn save_has_leads(&self, portal: &PortalName, has_leads: bool) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO rosters (portal, changes, has_leads) VALUES ($1, 1, $2)
             ON CONFLICT (portal) DO UPDATE SET has_leads = excluded.has_leads, changes = rosters.changes + 1
             WHERE rosters.has_leads IS DISTINCT FROM excluded.has_leads",
        )
        .bind(portal.as_str())
        .bind(has_leads)
        .execute(&self.pool)
        .await
        .map_err(StoreError::during("saving whether a portal keeps leads"))?;
        Ok(())
    }

    async fn roster_changes(&self) -> Result<BTreeMap<PortalName, u64>, StoreError> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT portal, changes FROM rosters WHERE changes > 0")
                .fetch_all(&self.pool)
                .await
                .map_err(StoreError::during("looking for changes of rosters"))?;
        let change = |(portal, changes): (String, i64)| {
            Some((portal.parse().ok()?, u64::try_from(changes).unwrap_or_default()))
        };
        Ok(rows.into_iter().filter_map(change).collect())
    }

    async fn roster(&self, portal: &PortalName, now: Timestamp) -> Result<RosterState, StoreError> {
        let failed = StoreError::during("reading what is known of people");
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        let readings: Vec<ReadingRow> =
            sqlx::query_as("SELECT source, facts, read_at, problem FROM roster_readings WHERE portal = $1")
                .bind(portal.as_str())
                .fetch_all(&mut *connection)
                .await
                .map_err(&failed)?;
        let own: Vec<OwnRow> = sqlx::query_as(
            "SELECT user_id, kind, from_at, to_at, reason, author FROM own_absences
             WHERE portal = $1 AND to_at > $2 AND ended_at IS NULL ORDER BY from_at, id",
        )
        .bind(portal.as_str())
        .bind(now.to_sqlx())
        .fetch_all(&mut *connection)
        .await
        .map_err(&failed)?;
        let has_leads: Option<Option<bool>> =
            sqlx::query_scalar("SELECT has_leads FROM rosters WHERE portal = $1")
                .bind(portal.as_str())
                .fetch_optional(&mut *connection)
                .await
                .map_err(&failed)?;
        Ok(RosterState {
            has_leads: has_leads.flatten(),
            readings: readings.into_iter().filter_map(ReadingRow::reading).collect(),
            own: own.into_iter().filter_map(OwnRow::absence).collect(),
        })
    }

    async fn note_absence(
        &self,
        portal: &PortalName,
        absence: &OwnAbsence,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let failed = StoreError::during("noting an absence");
        let OwnAbsence { user, kind, from, to, reason, author } = absence;
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        if *kind == OwnKind::Pause {
            sqlx::query(
                "UPDATE own_absences SET ended_at = $3, ended_by = $4
                 WHERE portal = $1 AND user_id = $2 AND kind = 'pause' AND to_at > $3 AND ended_at IS NULL",
            )
            .bind(portal.as_str())
            .bind(bigint(user.get()))
            .bind(now.to_sqlx())
            .bind(author)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        sqlx::query(
            "INSERT INTO own_absences (portal, user_id, kind, from_at, to_at, reason, author, written_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(portal.as_str())
        .bind(bigint(user.get()))
        .bind(kind.as_str())
        .bind(from.to_sqlx())
        .bind(to.to_sqlx())
        .bind(reason)
        .bind(author)
        .bind(now.to_sqlx())
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        changed(&mut transaction, portal).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)
    }

    async fn end_absences(
        &self,
        portal: &PortalName,
        user: UserId,
        begun: bool,
        author: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let failed = StoreError::during("ending an absence");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let ended = sqlx::query(
            "UPDATE own_absences SET ended_at = $3, ended_by = $4
             WHERE portal = $1 AND user_id = $2 AND (from_at <= $3) = $5 AND to_at > $3 AND ended_at IS NULL",
        )
        .bind(portal.as_str())
        .bind(bigint(user.get()))
        .bind(now.to_sqlx())
        .bind(author)
        .bind(begun)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?
        .rows_affected();
        if ended > 0 {
            changed(&mut transaction, portal).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(ended)
    }
}
