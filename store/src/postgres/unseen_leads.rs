//! Leads that the portal does not show.

use super::time::{SqlTimestamp, ToSqlx};
use async_trait::async_trait;
use common::ids::{LeadId, PortalName};
use jiff::{SignedDuration, Timestamp};

use super::{Postgres, bigint};
use crate::unseen_leads::WORD_HOLDS;
use crate::{StoreError, Unseen, UnseenLeads};

/// Whose lead became a dead letter, or was never asked for again, leaves a row behind.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

#[async_trait]
impl UnseenLeads for Postgres {
    async fn note_unseen(
        &self,
        portal: &PortalName,
        lead: LeadId,
        unseen: Unseen,
        now: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let since: SqlTimestamp = sqlx::query_scalar(
            "WITH old AS (DELETE FROM unseen_leads WHERE portal = $1 AND lead_id <> $2 AND last_at < $6)
             INSERT INTO unseen_leads AS known (portal, lead_id, kind, since, last_at) VALUES ($1, $2, $3, $4, $4)
             ON CONFLICT (portal, lead_id) DO UPDATE SET
                 kind = excluded.kind,
                 since = CASE WHEN known.kind = excluded.kind AND known.last_at >= $5
                              THEN known.since ELSE excluded.since END,
                 last_at = greatest(known.last_at, excluded.last_at)
             RETURNING since",
        )
        .bind(portal.as_str())
        .bind(bigint(lead.get()))
        .bind(unseen.as_str())
        .bind(now.to_sqlx())
        .bind((now - WORD_HOLDS).to_sqlx())
        .bind((now - KEPT_FOR).to_sqlx())
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::during("noting that the portal does not show a lead"))?;
        Ok(since.to_jiff())
    }

    async fn forget_unseen(&self, portal: &PortalName, lead: LeadId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM unseen_leads WHERE portal = $1 AND lead_id = $2")
            .bind(portal.as_str())
            .bind(bigint(lead.get()))
            .execute(&self.pool)
            .await
            .map_err(StoreError::during("forgetting that a lead was not seen"))?;
        Ok(())
    }

    async fn hidden_leads(&self, portal: &PortalName, since: Timestamp) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM unseen_leads WHERE portal = $1 AND kind = 'hidden' AND last_at >= $2",
        )
        .bind(portal.as_str())
        .bind(since.to_sqlx())
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::during("counting hidden leads"))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }
}
