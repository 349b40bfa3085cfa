//! Scans for lost events.

use std::time::Duration;

use super::time::ToSqlx;
use async_trait::async_trait;
use common::ids::{LeadId, PortalName};
use common::messages::{LeadEvent, Payload as _};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Postgres, bigint};
use crate::{Seen, StoreError, SweepLease, Sweeps};

#[async_trait]
impl Sweeps for Postgres {
    async fn take_sweep(
        &self,
        portal: &PortalName,
        holder: Uuid,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<SweepLease>, StoreError> {
        let until = now + SignedDuration::try_from(lease).unwrap_or(SignedDuration::from_mins(1));
        let row: Option<(Option<i64>, Option<i64>)> = sqlx::query_as(
            "INSERT INTO sweeps (portal, holder, lease_until) VALUES ($1, $2, $4)
             ON CONFLICT (portal) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until
             WHERE sweeps.holder = excluded.holder OR sweeps.lease_until IS NULL OR sweeps.lease_until < $3
             RETURNING first_id, last_id",
        )
        .bind(portal.as_str())
        .bind(holder)
        .bind(now.to_sqlx())
        .bind(until.to_sqlx())
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::during("taking the right to scan"))?;
        let id = |id: Option<i64>| id.and_then(|id| u64::try_from(id).ok());
        let seen = |first_id, last_id| Some(Seen { first_id: id(first_id)?, last_id: id(last_id)? });
        Ok(row.map(|(first_id, last_id)| SweepLease { seen: seen(first_id, last_id) }))
    }

    async fn swept(&self, portal: &PortalName, last_id: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE sweeps SET first_id = coalesce(first_id, $2), last_id = greatest(coalesce(last_id, 0), $2)
             WHERE portal = $1",
        )
            .bind(portal.as_str())
            .bind(bigint(last_id))
            .execute(&self.pool)
            .await
            .map_err(StoreError::during("noting how far the scan has come"))?;
        Ok(())
    }

    async fn note_found(
        &self,
        portal: &PortalName,
        leads: &[LeadId],
        now: Timestamp,
        publish_again_at: Timestamp,
    ) -> Result<Vec<LeadId>, StoreError> {
        let ids: Vec<i64> = leads.iter().map(|lead| bigint(lead.get())).collect();
        let rows: Vec<i64> = sqlx::query_scalar(
            "INSERT INTO waiting_leads (portal, lead_id, epoch, state, first_seen, publish_again_at)
             SELECT $1, number, 1, 'undecided', $3, $5 FROM unnest($2::bigint[]) AS found (number)
             WHERE NOT EXISTS (SELECT FROM decisions WHERE portal = $1 AND lead_id = number)
               AND NOT EXISTS (SELECT FROM dead_letters WHERE portal = $1 AND lead_id = number AND type = $4)
             ON CONFLICT DO NOTHING
             RETURNING lead_id",
        )
        .bind(portal.as_str())
        .bind(ids)
        .bind(now.to_sqlx())
        .bind(LeadEvent::TYPE)
        .bind(publish_again_at.to_sqlx())
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::during("noting leads that were found"))?;
        let mut found: Vec<LeadId> = rows.into_iter().filter_map(lead).collect();
        found.sort_unstable();
        Ok(found)
    }
}

fn lead(id: i64) -> Option<LeadId> {
    u64::try_from(id).ok().and_then(LeadId::new)
}
