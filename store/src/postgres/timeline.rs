//! Entries for the timelines of leads.

use super::time::ToSqlx;
use async_trait::async_trait;
use common::ids::PortalName;
use jiff::{SignedDuration, Timestamp};
use sqlx::PgConnection;

use super::text::text as storable;
use super::{Postgres, bigint};
use crate::{EntryAbout, SavedDecision, StoreError, Timeline, TimelineEntry, Verdict};

/// The command of a lead whose owner was not set by then has become a dead letter.
const GIVEN_UP_AFTER: SignedDuration = SignedDuration::from_hours(48);

/// In the transaction that writes a decision.
pub(super) async fn decided(
    connection: &mut PgConnection,
    saved: &SavedDecision,
    text: &str,
) -> Result<(), sqlx::Error> {
    let outcome = match saved.verdict {
        Verdict::Assign { .. } => "assign",
        Verdict::Hold { .. } => "hold",
        Verdict::Skip => return Ok(()),
    };
    let key = &saved.key;
    sqlx::query(
        "INSERT INTO timeline_entries (portal, lead_id, epoch, outcome, text, written_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(key.portal.as_str())
    .bind(bigint(key.lead.get()))
    .bind(bigint(key.epoch.0.into()))
    .bind(outcome)
    .bind(storable(text))
    .bind(saved.decided_at.to_sqlx())
    .execute(connection)
    .await?;
    Ok(())
}

fn outcome(about: EntryAbout) -> &'static str {
    match about {
        EntryAbout::Assigned => "assign",
        EntryAbout::Waits => "hold",
        EntryAbout::NotGiven => "dead",
    }
}

#[async_trait]
impl Timeline for Postgres {
    async fn take_timeline_entries(
        &self,
        portal: &PortalName,
        limit: u32,
        now: Timestamp,
        lost_before: Timestamp,
    ) -> Result<Vec<TimelineEntry>, StoreError> {
        let failed = StoreError::during("taking entries for timelines");
        sqlx::query(
            "DELETE FROM timeline_entries WHERE portal = $1 AND (claimed_at < $2 OR written_at < $3 OR outcome = 'assign' AND EXISTS (
                 SELECT FROM assignments WHERE assignments.portal = $1
                     AND assignments.lead_id = timeline_entries.lead_id
                     AND assignments.epoch = timeline_entries.epoch
                     AND finished_at IS NOT NULL AND owner_set_at IS NULL))",
        )
        .bind(portal.as_str())
        .bind(lost_before.to_sqlx())
        .bind((now - GIVEN_UP_AFTER).to_sqlx())
        .execute(&self.pool)
        .await
        .map_err(&failed)?;
        let rows: Vec<(i64, i32, String, String)> = sqlx::query_as(
            "UPDATE timeline_entries SET claimed_at = $2
             WHERE (portal, lead_id, epoch, outcome) IN (
                 SELECT portal, lead_id, epoch, outcome FROM timeline_entries AS entry
                 WHERE portal = $1 AND claimed_at IS NULL AND (outcome <> 'assign' OR EXISTS (
                     SELECT FROM assignments WHERE assignments.portal = $1
                         AND assignments.lead_id = entry.lead_id AND assignments.epoch = entry.epoch
                         AND owner_set_at IS NOT NULL))
                 ORDER BY written_at, lead_id LIMIT $3 FOR UPDATE SKIP LOCKED)
             RETURNING lead_id, epoch, outcome, text",
        )
        .bind(portal.as_str())
        .bind(now.to_sqlx())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(&failed)?;
        let entry = |(lead, epoch, outcome, text): (i64, i32, String, String)| {
            let key = crate::assignments::key(portal, lead, epoch)?;
            let about = match outcome.as_str() {
                "assign" => EntryAbout::Assigned,
                "dead" => EntryAbout::NotGiven,
                _ => EntryAbout::Waits,
            };
            Some(TimelineEntry { key, about, text })
        };
        let mut entries: Vec<TimelineEntry> = rows.into_iter().filter_map(entry).collect();
        // Of one lead first that it waits.
        entries.sort_by_key(|entry| (entry.key.lead, entry.key.epoch.0, entry.about));
        Ok(entries)
    }

    async fn end_timeline_entries(&self, entries: &[(TimelineEntry, bool)]) -> Result<(), StoreError> {
        let failed = StoreError::during("noting which entries of timelines were sent");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for (entry, over) in entries {
            let query = if *over {
                "DELETE FROM timeline_entries WHERE portal = $1 AND lead_id = $2 AND epoch = $3 AND outcome = $4"
            } else {
                "UPDATE timeline_entries SET claimed_at = NULL
                 WHERE portal = $1 AND lead_id = $2 AND epoch = $3 AND outcome = $4"
            };
            sqlx::query(query)
                .bind(entry.key.portal.as_str())
                .bind(bigint(entry.key.lead.get()))
                .bind(bigint(entry.key.epoch.0.into()))
                .bind(outcome(entry.about))
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }
}
