//! The leads that wait.

use super::time::{SqlTimestamp, ToSqlx};
use async_trait::async_trait;
use common::ids::PortalName;
use common::messages::AssignmentKey;
use distribution::Name;
use jiff::Timestamp;
use sqlx::PgConnection;

use super::{Postgres, bigint};
use crate::{Line, SavedDecision, StoreError, Verdict, Waiting, WaitingLeads};

/// In the transaction that writes a decision: whether its lead waits now, and for what.
pub(super) async fn decided(
    connection: &mut PgConnection,
    saved: &SavedDecision,
    deadline: Option<Timestamp>,
    amount: Option<f64>,
    line: Option<&Line>,
) -> Result<(), sqlx::Error> {
    let key = &saved.key;
    let (state, held_until) = match saved.verdict {
        Verdict::Assign { .. } => (Some("assigned"), None),
        Verdict::Hold { until, .. } => (Some("held"), until),
        Verdict::Skip => (None, None),
    };
    let query = match state {
        Some(state) => sqlx::query(
            "INSERT INTO waiting_leads (portal, lead_id, epoch, state, first_seen, held_until, held_since, deadline_at,
                                        amount, needs, line, call_again_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (portal, lead_id, epoch) DO UPDATE SET
                 state = excluded.state, held_until = excluded.held_until, amount = excluded.amount,
                 needs = excluded.needs, line = excluded.line, call_again_at = excluded.call_again_at,
                 held_since = COALESCE(waiting_leads.held_since, excluded.held_since),
                 deadline_at = COALESCE(waiting_leads.deadline_at, excluded.deadline_at)",
        )
        .bind(key.portal.as_str())
        .bind(bigint(key.lead.get()))
        .bind(bigint(key.epoch.0.into()))
        .bind(state)
        .bind(saved.first_seen.to_sqlx())
        .bind(held_until.map(ToSqlx::to_sqlx))
        .bind((state == "held").then(|| saved.decided_at.to_sqlx()))
        .bind(deadline.map(ToSqlx::to_sqlx))
        .bind(amount)
        .bind(line.map(|line| serde_json::json!(line.needs).to_string()))
        .bind(line.and_then(|line| line.needs.queue()).map(Name::as_str))
        .bind(line.map(|line| line.call_again_at.to_sqlx())),
        None => sqlx::query("DELETE FROM waiting_leads WHERE portal = $1 AND lead_id = $2 AND epoch = $3")
            .bind(key.portal.as_str())
            .bind(bigint(key.lead.get()))
            .bind(bigint(key.epoch.0.into())),
    };
    query.execute(connection).await?;
    Ok(())
}

/// Since when this giving of a lead is held, if that is known, and when it was first heard of; `None` where it is not held.
pub(super) async fn held(
    connection: &mut PgConnection,
    key: &AssignmentKey,
) -> Result<Option<(Option<Timestamp>, Timestamp)>, sqlx::Error> {
    let held: Option<(Option<SqlTimestamp>, SqlTimestamp)> = sqlx::query_as(
        "SELECT held_since, first_seen FROM waiting_leads
         WHERE portal = $1 AND lead_id = $2 AND epoch = $3 AND state = 'held'",
    )
    .bind(key.portal.as_str())
    .bind(bigint(key.lead.get()))
    .bind(bigint(key.epoch.0.into()))
    .fetch_optional(connection)
    .await?;
    Ok(held.map(|(since, seen)| (since.map(SqlTimestamp::to_jiff), seen.to_jiff())))
}

#[async_trait]
impl Waiting for Postgres {
    async fn note_undecided(
        &self,
        key: &AssignmentKey,
        first_seen: Timestamp,
        comes_again_by: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO waiting_leads (portal, lead_id, epoch, state, first_seen, publish_again_at)
             SELECT $1, $2, $3, 'undecided', $4, $5 WHERE NOT EXISTS (
                 SELECT FROM decisions WHERE portal = $1 AND lead_id = $2 AND epoch = $3)
             ON CONFLICT (portal, lead_id, epoch) DO UPDATE
                 SET publish_again_at = greatest(waiting_leads.publish_again_at, excluded.publish_again_at)
             WHERE waiting_leads.state = 'undecided'",
        )
        .bind(key.portal.as_str())
        .bind(bigint(key.lead.get()))
        .bind(bigint(key.epoch.0.into()))
        .bind(first_seen.to_sqlx())
        .bind(comes_again_by.to_sqlx())
        .execute(&self.pool)
        .await
        .map_err(StoreError::during("noting that a lead waits to be decided"))?;
        Ok(())
    }

    async fn waiting(&self, portal: &PortalName, now: Timestamp) -> Result<WaitingLeads, StoreError> {
        type Row = (i64, i64, Option<SqlTimestamp>, Option<SqlTimestamp>);
        // A lead may have been decided, and be done with, between the two looks of `note_undecided`.
        let (held, overdue, held_since, oldest): Row = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE state = 'held'),
                    count(*) FILTER (WHERE state = 'held' AND deadline_at <= $2),
                    min(held_since) FILTER (WHERE state = 'held'),
                    min(greatest(first_seen, held_until)) FILTER (WHERE held_until IS NULL OR held_until <= $2)
             FROM waiting_leads AS waiting
             WHERE portal = $1 AND NOT (state = 'undecided' AND EXISTS (
                 SELECT FROM decisions WHERE portal = waiting.portal AND lead_id = waiting.lead_id
                                             AND epoch = waiting.epoch))",
        )
        .bind(portal.as_str())
        .bind(now.to_sqlx())
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::during("counting waiting leads"))?;
        let count = |count: i64| u64::try_from(count).unwrap_or_default();
        Ok(WaitingLeads {
            held: count(held),
            overdue: count(overdue),
            held_since: held_since.map(SqlTimestamp::to_jiff),
            oldest: oldest.map(SqlTimestamp::to_jiff),
        })
    }
}
