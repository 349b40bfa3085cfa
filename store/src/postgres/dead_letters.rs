//! Dead letters.

use std::collections::BTreeMap;

use async_trait::async_trait;
use common::ids::LeadId;
use common::messages::{LeadEvent, Payload};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx};
use sqlx::FromRow;

use super::text::text;
use super::{Postgres, bigint};
use crate::{DeadLetter, DeadLetters, StoreError};

#[derive(FromRow)]
struct Row {
    message_id: String,
    portal: Option<String>,
    lead_id: Option<i64>,
    queue: Option<String>,
    r#type: String,
    class: String,
    reason: String,
    attempt: i32,
    first_seen: Option<SqlTimestamp>,
    traceparent: Option<String>,
    body: Vec<u8>,
    died_at: SqlTimestamp,
}

#[async_trait]
impl DeadLetters for Postgres {
    async fn bury(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        sqlx::query(
            "WITH waits_no_more AS (
                 DELETE FROM waiting_leads WHERE portal = $2 AND lead_id = $12
                    AND state = CASE WHEN $4 = $13 THEN 'undecided' ELSE 'assigned' END
             ), is_not_told AS (
                 UPDATE decisions SET title = NULL
                 WHERE portal = $2 AND lead_id = $12 AND title IS NOT NULL AND $4 <> $13
             )
             INSERT INTO dead_letters (message_id, portal, queue, type, class, reason, attempt,
                                       first_seen, traceparent, body, died_at, lead_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (message_id, coalesce(queue, ''), attempt, sha256(body)) WHERE settled_at IS NULL DO NOTHING",
        )
        .bind(text(&letter.message_id))
        .bind(letter.portal.as_deref().map(text))
        .bind(letter.queue.as_deref().map(text))
        .bind(text(&letter.kind))
        .bind(text(&letter.class))
        .bind(text(&letter.reason))
        .bind(i32::try_from(letter.attempt).unwrap_or(i32::MAX))
        .bind(letter.first_seen.map(ToSqlx::to_sqlx))
        .bind(letter.traceparent.as_deref().map(text))
        .bind(&letter.body)
        .bind(letter.died_at.to_sqlx())
        .bind(letter.lead.map(|lead| bigint(lead.get())))
        .bind(LeadEvent::TYPE)
        .execute(&self.pool)
        .await
        .map_err(StoreError::during("keeping a dead letter"))?;
        Ok(())
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT message_id, portal, lead_id, queue, type, class, reason, attempt, first_seen, traceparent,
                    body, died_at
             FROM dead_letters ORDER BY id LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::during("reading dead letters"))?;
        let letter = |row: Row| DeadLetter {
            message_id: row.message_id,
            portal: row.portal,
            lead: row.lead_id.and_then(|id| u64::try_from(id).ok()).and_then(LeadId::new),
            queue: row.queue,
            kind: row.r#type,
            class: row.class,
            reason: row.reason,
            attempt: u32::try_from(row.attempt).unwrap_or_default(),
            first_seen: row.first_seen.map(SqlTimestamp::to_jiff),
            traceparent: row.traceparent,
            body: row.body,
            died_at: row.died_at.to_jiff(),
        };
        Ok(rows.into_iter().map(letter).collect())
    }

    async fn dead_letter_counts(&self) -> Result<BTreeMap<(String, String), u64>, StoreError> {
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT coalesce(portal, ''), class, count(*) FROM dead_letters WHERE settled_at IS NULL GROUP BY 1, 2")
                .fetch_all(&self.pool)
                .await
                .map_err(StoreError::during("counting dead letters"))?;
        let count = |(portal, class, count)| ((portal, class), u64::try_from(count).unwrap_or_default());
        Ok(rows.into_iter().map(count).collect())
    }
}
