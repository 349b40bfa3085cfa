//! Finding what is overdue, and forgetting what is old.

use super::time::{SqlTimestamp, ToSqlx};
use async_trait::async_trait;
use common::ids::{LeadId, PortalName};
use common::messages::{AssignmentCommand, Epoch, Payload};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Postgres, bigint, decisions};
use crate::assignments::key as key_of;
use crate::{Forgotten, Keep, Overdue, OverdueCall, SavedDecision, StoreError, Upkeep};

/// A robot's call that is older than this is not repeated: the lead has gone other ways meanwhile.
const CALLS_OF: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Lead, epoch, who asked, queue, when.
type CallRow = (i64, i32, String, Option<String>, SqlTimestamp);

impl Overdue {
    fn unpublished_before(&self) -> Timestamp {
        self.now - self.unpublished
    }

    fn published_before(&self) -> Timestamp {
        self.now - self.on_its_way
    }
}

#[async_trait]
impl Upkeep for Postgres {
    async fn take_lease(
        &self,
        name: &str,
        holder: Uuid,
        now: Timestamp,
        lease: SignedDuration,
    ) -> Result<bool, StoreError> {
        let taken = sqlx::query(
            "INSERT INTO leases (name, holder, lease_until) VALUES ($1, $2, $4)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until
             WHERE leases.holder = excluded.holder OR leases.lease_until < $3",
        )
        .bind(name)
        .bind(holder)
        .bind(now.to_sqlx())
        .bind((now + lease).to_sqlx())
        .execute(&self.pool)
        .await
        .map_err(StoreError::during("taking the right to look after things"))?;
        Ok(taken.rows_affected() == 1)
    }

    async fn overdue_commands(
        &self,
        portal: &PortalName,
        overdue: &Overdue,
    ) -> Result<Vec<SavedDecision>, StoreError> {
        let failed = StoreError::during("looking for commands that are not carried out");
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        // A dead letter's lead does not wait any more; one that was replayed is under way again.
        let rows: Vec<(i64, i32)> = sqlx::query_as(
            "WITH letter AS (
                 SELECT DISTINCT ON (message_id) message_id, lead_id, settled_at, settlement FROM dead_letters
                 WHERE portal = $1 AND type = $7 ORDER BY message_id, id DESC
             ), unfinished AS (
                 SELECT lead_id, epoch FROM waiting_leads WHERE portal = $1 AND state = 'assigned'
                 UNION
                 SELECT lead_id, epoch FROM letter JOIN decisions USING (lead_id)
                 WHERE decisions.portal = $1 AND settlement = 'replayed' AND settled_at <= $2
                     AND message_id = $1 || '/' || lead_id || '/' || epoch
             )
             SELECT lead_id, epoch
             FROM unfinished JOIN decisions USING (lead_id, epoch)
             LEFT JOIN assignments USING (portal, lead_id, epoch)
             WHERE portal = $1 AND decisions.outcome = 'assign' AND finished_at IS NULL
                 AND CASE WHEN published_at IS NULL THEN decided_at <= $3
                          ELSE published_at <= $2 AND $5 - published_at >= least(published_at - decided_at, $6 - $5) END
                 AND NOT EXISTS (
                     SELECT FROM letter WHERE message_id = $1 || '/' || decisions.lead_id || '/' || decisions.epoch
                         AND (settled_at IS NULL OR settled_at > $2 OR settlement <> 'replayed'))
             ORDER BY coalesce(published_at, decided_at), lead_id, epoch LIMIT $4",
        )
        .bind(portal.as_str())
        .bind(overdue.published_before().to_sqlx())
        .bind(overdue.unpublished_before().to_sqlx())
        .bind(i64::from(overdue.limit))
        .bind(overdue.now.to_sqlx())
        .bind((overdue.now + overdue.longest).to_sqlx())
        .bind(AssignmentCommand::TYPE)
        .fetch_all(&mut *connection)
        .await
        .map_err(&failed)?;
        let mut saved = Vec::new();
        for key in rows.into_iter().filter_map(|(lead, epoch)| key_of(portal, lead, epoch)) {
            saved.extend(decisions::find(&mut connection, &key).await.map_err(&failed)?);
        }
        Ok(saved)
    }

    async fn overdue_calls(
        &self,
        portal: &PortalName,
        overdue: &Overdue,
    ) -> Result<Vec<OverdueCall>, StoreError> {
        let failed = StoreError::during("looking for calls of which nothing came");
        let rows: Vec<CallRow> = sqlx::query_as(
            "UPDATE givings SET published_at = $3
             WHERE (portal, lead_id, epoch) IN (
                 SELECT portal, lead_id, epoch FROM givings AS asked
                 WHERE portal = $1 AND cause = 'robot' AND asked_at BETWEEN $4 AND $2
                     AND (published_at IS NULL
                          OR published_at <= $2 AND $3 - published_at >= least(published_at - asked_at, $6 - $3))
                     AND NOT EXISTS (
                         SELECT FROM decisions WHERE decisions.portal = $1 AND decisions.lead_id = asked.lead_id
                             AND decisions.epoch >= asked.epoch)
                     AND NOT EXISTS (
                         SELECT FROM dead_letters WHERE message_id = asked_by
                             AND (settled_at IS NULL OR settlement <> 'replayed'))
                 ORDER BY asked_at LIMIT $5)
             RETURNING lead_id, epoch, asked_by, queue, asked_at",
        )
        .bind(portal.as_str())
        .bind(overdue.published_before().to_sqlx())
        .bind(overdue.now.to_sqlx())
        .bind((overdue.now - CALLS_OF).to_sqlx())
        .bind(i64::from(overdue.limit))
        .bind((overdue.now + overdue.longest).to_sqlx())
        .fetch_all(&self.pool)
        .await
        .map_err(&failed)?;
        let call = |(lead, epoch, asked_by, queue, asked_at): CallRow| {
            let lead = u64::try_from(lead).ok().and_then(LeadId::new)?;
            let epoch = Epoch(u32::try_from(epoch).ok()?);
            Some(OverdueCall { lead, epoch, asked_by, queue, asked_at: asked_at.to_jiff() })
        };
        let mut calls: Vec<OverdueCall> = rows.into_iter().filter_map(call).collect();
        calls.sort_by_key(|call| (call.asked_at, call.lead, call.epoch));
        Ok(calls)
    }

    async fn take_overdue_leads(
        &self,
        portal: &PortalName,
        now: Timestamp,
        (sooner, later): (SignedDuration, SignedDuration),
        limit: u32,
    ) -> Result<Vec<(LeadId, Timestamp)>, StoreError> {
        let rows: Vec<(i64, SqlTimestamp)> = sqlx::query_as(
            "WITH due AS (
                 SELECT lead_id FROM waiting_leads AS waiting
                 WHERE portal = $1 AND state = 'undecided' AND epoch = 1 AND publish_again_at <= $2
                   -- Decided between the two looks of whoever noted it.
                   AND NOT EXISTS (SELECT FROM decisions WHERE portal = $1 AND lead_id = waiting.lead_id)
                 ORDER BY publish_again_at, lead_id LIMIT $5
             )
             UPDATE waiting_leads AS waiting
             SET publish_again_at = least(greatest($2 + ($2 - first_seen), $3), $4)
             FROM due
             WHERE waiting.portal = $1 AND waiting.lead_id = due.lead_id AND epoch = 1 AND state = 'undecided'
             RETURNING waiting.lead_id, first_seen",
        )
        .bind(portal.as_str())
        .bind(now.to_sqlx())
        .bind((now + sooner).to_sqlx())
        .bind((now + later).to_sqlx())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::during("looking for leads that nobody has decided"))?;
        let one =
            |(id, seen): (i64, SqlTimestamp)| Some((LeadId::new(u64::try_from(id).ok()?)?, seen.to_jiff()));
        let mut leads: Vec<_> = rows.into_iter().filter_map(one).collect();
        leads.sort_by_key(|(lead, first_seen)| (*first_seen, *lead));
        Ok(leads)
    }

    async fn forget(&self, keep: &Keep) -> Result<Forgotten, StoreError> {
        let failed = StoreError::during("forgetting what is old");
        let limit = i64::from(keep.limit);
        let dead_letters = sqlx::query(
            "DELETE FROM dead_letters WHERE id IN (
                 SELECT id FROM dead_letters WHERE settled_at < $1 ORDER BY settled_at LIMIT $2)",
        )
        .bind(keep.dead_letters.to_sqlx())
        .bind(limit)
        .execute(&self.pool)
        .await
        .map_err(&failed)?;
        let titles = sqlx::query(
            "UPDATE decisions SET title = NULL WHERE (portal, lead_id, epoch) IN (
                 SELECT portal, lead_id, epoch FROM decisions WHERE title IS NOT NULL AND decided_at < $1
                 ORDER BY decided_at LIMIT $2)",
        )
        .bind(keep.titles.to_sqlx())
        .bind(limit)
        .execute(&self.pool)
        .await
        .map_err(&failed)?;
        // All of a lead goes, or nothing: what is to be known of a giving stands in those before it.
        let leads: i64 = sqlx::query_scalar(
            "WITH old AS (
                 SELECT portal, lead_id FROM decisions AS one
                 WHERE decided_at < $1
                     AND lead_id < coalesce((SELECT last_id - $2 FROM sweeps WHERE sweeps.portal = one.portal),
                                            9223372036854775807)
                     AND NOT EXISTS (
                         SELECT FROM decisions AS other
                         LEFT JOIN assignments USING (portal, lead_id, epoch)
                         WHERE other.portal = one.portal AND other.lead_id = one.lead_id
                             AND (other.decided_at >= $1 OR other.outcome = 'hold'
                                  OR other.outcome = 'assign' AND finished_at IS NULL
                                  OR other.epoch > one.epoch OR finished_at >= $1))
                     AND NOT EXISTS (
                         SELECT FROM waiting_leads AS waiting
                         WHERE waiting.portal = one.portal AND waiting.lead_id = one.lead_id)
                     AND NOT EXISTS (
                         SELECT FROM answer_timers AS timer
                         WHERE timer.portal = one.portal AND timer.lead_id = one.lead_id)
                     AND NOT EXISTS (
                         SELECT FROM givings AS giving
                         WHERE giving.portal = one.portal AND giving.lead_id = one.lead_id AND giving.asked_at >= $1)
                     AND NOT EXISTS (
                         SELECT FROM dead_letters AS letter
                         WHERE letter.portal = one.portal AND letter.lead_id = one.lead_id AND settled_at IS NULL)
                 ORDER BY decided_at LIMIT $3
             ), decision AS (
                 DELETE FROM decisions USING old
                 WHERE decisions.portal = old.portal AND decisions.lead_id = old.lead_id
             ), assignment AS (
                 DELETE FROM assignments USING old
                 WHERE assignments.portal = old.portal AND assignments.lead_id = old.lead_id
             ), entry AS (
                 DELETE FROM ledger_entries USING old
                 WHERE ledger_entries.portal = old.portal AND ledger_entries.lead_id = old.lead_id
             ), giving AS (
                 DELETE FROM givings USING old WHERE givings.portal = old.portal AND givings.lead_id = old.lead_id
             ), told AS (
                 DELETE FROM timeline_entries USING old
                 WHERE timeline_entries.portal = old.portal AND timeline_entries.lead_id = old.lead_id
             )
             SELECT count(*) FROM old",
        )
        .bind(keep.decisions.to_sqlx())
        .bind(bigint(keep.behind_scan))
        .bind(limit)
        .fetch_one(&self.pool)
        .await
        .map_err(&failed)?;
        Ok(Forgotten {
            dead_letters: dead_letters.rows_affected(),
            leads: u64::try_from(leads).unwrap_or_default(),
            titles: titles.rows_affected(),
        })
    }
}
