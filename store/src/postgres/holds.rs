//! The holding pool.

use super::time::{SqlTimestamp, ToSqlx};
use async_trait::async_trait;
use common::ids::{LeadId, PortalName, UserId};
use common::messages::AssignmentKey;
use distribution::{First, Name};
use jiff::Timestamp;

use super::{Postgres, bigint, line, notices};
use crate::{Call, DueHolds, HeldQueue, Holds, KindInLine, Matter, Notice, StoreError};

/// How many leads a notice of leads that wait names.
const NAMED_MAX: usize = 5;

#[async_trait]
impl Holds for Postgres {
    async fn held_queues(&self, portal: &PortalName) -> Result<Vec<HeldQueue>, StoreError> {
        let rows: Vec<(Option<String>, SqlTimestamp)> = sqlx::query_as(
            "SELECT queue, min(look_again_at) FROM decisions WHERE portal = $1 AND outcome = 'hold'
             GROUP BY queue ORDER BY queue",
        )
        .bind(portal.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::during("looking which queues have held leads"))?;
        let held = |(queue, next_look): (Option<String>, SqlTimestamp)| HeldQueue {
            queue: queue.map(Name::from),
            next_look: next_look.to_jiff(),
        };
        Ok(rows.into_iter().map(held).collect())
    }

    async fn due_holds(
        &self,
        portal: &PortalName,
        which: &DueHolds,
        next_look: Timestamp,
    ) -> Result<Vec<(AssignmentKey, Timestamp)>, StoreError> {
        let rows: Vec<(i64, i32, SqlTimestamp)> = sqlx::query_as(
            "WITH due AS MATERIALIZED (
                 SELECT decisions.portal, lead_id, epoch, amount
                 FROM decisions LEFT JOIN waiting_leads USING (portal, lead_id, epoch)
                 WHERE decisions.portal = $1 AND outcome = 'hold' AND queue IS NOT DISTINCT FROM $3
                     AND look_again_at <= CASE WHEN kind IS NULL THEN $2 ELSE $7 END
                 ORDER BY CASE WHEN $4 THEN amount END DESC NULLS LAST, decisions.first_seen,
                     amount DESC NULLS LAST, lead_id
                 LIMIT $5 FOR UPDATE OF decisions SKIP LOCKED),
             taken AS (
                 UPDATE decisions SET look_again_at = $6 FROM due
                 WHERE (decisions.portal, decisions.lead_id, decisions.epoch) = (due.portal, due.lead_id, due.epoch)
                 RETURNING decisions.lead_id, decisions.epoch, decisions.first_seen, due.amount),
             called AS (
                 UPDATE waiting_leads AS waiting SET call_again_at = $6 FROM due
                 WHERE (waiting.portal, waiting.lead_id, waiting.epoch) = (due.portal, due.lead_id, due.epoch))
             SELECT lead_id, epoch, first_seen FROM taken
             ORDER BY CASE WHEN $4 THEN amount END DESC NULLS LAST, first_seen, amount DESC NULLS LAST, lead_id",
        )
        .bind(portal.as_str())
        .bind(which.due.to_sqlx())
        .bind(which.queue.as_deref())
        .bind(which.first == First::MostValuable)
        .bind(i64::from(which.limit))
        .bind(next_look.to_sqlx())
        .bind(which.due_in_line.to_sqlx())
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::during("looking for held leads"))?;
        let due = rows.into_iter().filter_map(|(lead, epoch, seen)| {
            Some((crate::assignments::key(portal, lead, epoch)?, seen.to_jiff()))
        });
        Ok(due.collect())
    }

    async fn kinds_in_line(&self, portal: &PortalName) -> Result<Vec<KindInLine>, StoreError> {
        let failed = StoreError::during("looking which leads stand in line");
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        line::kinds(&mut connection, portal).await.map_err(&failed)
    }

    async fn call(
        &self,
        portal: &PortalName,
        call: &Call,
    ) -> Result<Vec<(AssignmentKey, Timestamp)>, StoreError> {
        let failed = StoreError::during("calling leads that stand in line");
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        line::call(&mut connection, portal, call).await.map_err(&failed)
    }

    async fn leave_line(&self, key: &AssignmentKey) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE waiting_leads SET needs = NULL
             WHERE portal = $1 AND lead_id = $2 AND epoch = $3 AND needs IS NOT NULL",
        )
        .bind(key.portal.as_str())
        .bind(bigint(key.lead.get()))
        .bind(bigint(key.epoch.0.into()))
        .execute(&self.pool)
        .await
        .map_err(StoreError::during("letting a lead leave the line"))?;
        Ok(())
    }

    async fn look_at_holds(&self, portal: &PortalName) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE decisions SET look_again_at = 'epoch'
             WHERE portal = $1 AND outcome = 'hold' AND look_again_at > 'epoch'",
        )
        .bind(portal.as_str())
        .execute(&self.pool)
        .await
        .map_err(StoreError::during("looking at held leads at once"))?;
        Ok(())
    }

    async fn escalate_holds(
        &self,
        portal: &PortalName,
        queue: &Name,
        to: UserId,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let failed = StoreError::during("telling of leads that wait too long");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let mut rows: Vec<(i64, i32)> = sqlx::query_as(
            "UPDATE waiting_leads AS waiting SET alarmed_at = $3 FROM decisions
             WHERE waiting.portal = $1 AND state = 'held' AND deadline_at <= $3 AND alarmed_at IS NULL
                 AND (decisions.portal, decisions.lead_id, decisions.epoch)
                     = (waiting.portal, waiting.lead_id, waiting.epoch)
                 AND outcome = 'hold' AND queue = $2
             RETURNING waiting.lead_id, waiting.epoch",
        )
        .bind(portal.as_str())
        .bind(queue.as_str())
        .bind(now.to_sqlx())
        .fetch_all(&mut *transaction)
        .await
        .map_err(&failed)?;
        rows.sort_unstable();
        let Some((lead, epoch)) = rows.first().copied() else { return Ok(0) };
        let named = rows.iter().take(NAMED_MAX).filter_map(|(lead, _)| u64::try_from(*lead).ok());
        let notice = Notice {
            tag: format!("{portal}/{lead}/{epoch}/held"),
            to,
            matter: Matter::HeldTooLong {
                queue: queue.to_string(),
                leads: named.filter_map(LeadId::new).collect(),
                count: rows.len(),
            },
        };
        notices::write(&mut transaction, portal, &notice, now).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(rows.len())
    }
}
