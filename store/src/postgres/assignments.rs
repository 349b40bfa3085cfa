//! Progress in the portal.

use super::time::{SqlTimestamp, ToSqlx};
use async_trait::async_trait;
use common::ids::PortalName;
use common::messages::AssignmentKey;
use jiff::Timestamp;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{Postgres, bigint, lost_packs};
use crate::assignments::key as key_of;
use crate::{AssignmentState, Assignments, Done, PackItem, StoreError};

#[derive(FromRow)]
struct State {
    pack: Option<Uuid>,
    sent_at: Option<SqlTimestamp>,
    owner_set: bool,
    notified: bool,
    outcome: Option<String>,
    deal_sent_at: Option<SqlTimestamp>,
    title: Option<String>,
    pack_at_most: Option<i32>,
}

/// Writes down the end of one assignment; with `pack`, only if it is still in that pack.
async fn write(
    connection: &mut PgConnection,
    result: &Done,
    pack: Option<Uuid>,
    at: Timestamp,
) -> Result<bool, sqlx::Error> {
    let key = &result.key;
    let written: i64 = sqlx::query_scalar(
        "WITH written AS (
             INSERT INTO assignments (portal, lead_id, epoch, to_user, owner_set_at, notified_at,
                                      notification_id, outcome, finished_at)
             SELECT $1, $2, $3, $4, CASE WHEN $5 THEN $9 END, CASE WHEN $10 THEN $9 END, $6, $7,
                     CASE WHEN $7::text IS NOT NULL THEN $9 END
             -- A pack speaks only of what it had.
             WHERE $8::uuid IS NULL OR EXISTS (
                 SELECT 1 FROM assignments WHERE portal = $1 AND lead_id = $2 AND epoch = $3 AND pack = $8)
             ON CONFLICT (portal, lead_id, epoch) DO UPDATE SET
                 owner_set_at = coalesce(assignments.owner_set_at, excluded.owner_set_at),
                 notified_at = coalesce(assignments.notified_at, excluded.notified_at),
                 notification_id = coalesce(assignments.notification_id, excluded.notification_id),
                 outcome = excluded.outcome, finished_at = excluded.finished_at,
                 pack_at_most = coalesce($11, assignments.pack_at_most),
                 sent_at = CASE WHEN excluded.finished_at IS NULL THEN NULL ELSE assignments.sent_at END
             WHERE assignments.finished_at IS NULL
               AND ($8::uuid IS NULL OR (assignments.pack = $8 AND assignments.sent_at IS NOT NULL))
             RETURNING finished_at
         ), waits_no_more AS (
             DELETE FROM waiting_leads USING written
             WHERE portal = $1 AND lead_id = $2 AND epoch = $3 AND written.finished_at IS NOT NULL
         ), told AS (
             UPDATE decisions SET title = NULL FROM written
             WHERE portal = $1 AND lead_id = $2 AND epoch = $3 AND written.finished_at IS NOT NULL
         ), known AS (
             DELETE FROM pack_items USING written
             WHERE pack = $8 AND portal = $1 AND lead_id = $2 AND epoch = $3
         )
         SELECT count(*) FROM written",
    )
    .bind(key.portal.as_str())
    .bind(bigint(key.lead.get()))
    .bind(bigint(key.epoch.0.into()))
    .bind(bigint(result.to.get()))
    .bind(result.owner_set)
    .bind(result.notification)
    .bind(result.finished)
    .bind(pack)
    .bind(at.to_sqlx())
    .bind(result.notified)
    .bind(result.pack_at_most.map(|at_most| i32::try_from(at_most).unwrap_or(i32::MAX)))
    .fetch_one(connection)
    .await?;
    Ok(written > 0)
}

/// Writes down the ends of several, always in the same order, or two transactions can wait for each other.
pub(super) async fn conclude(
    connection: &mut PgConnection,
    pack: Option<Uuid>,
    results: &[Done],
    at: Timestamp,
) -> Result<Vec<AssignmentKey>, sqlx::Error> {
    let mut ordered: Vec<_> = results.iter().collect();
    ordered.sort_by(|a, b| a.key.cmp(&b.key));
    let mut written = Vec::new();
    for result in ordered {
        if write(connection, result, pack, at).await? {
            written.push(result.key.clone());
        }
    }
    Ok(written)
}

#[async_trait]
impl Assignments for Postgres {
    async fn assignment(&self, key: &AssignmentKey) -> Result<AssignmentState, StoreError> {
        let row: State = sqlx::query_as(
            "SELECT pack, sent_at, owner_set_at IS NOT NULL AS owner_set, notified_at IS NOT NULL AS notified,
                    assignments.outcome, deal_sent_at, title, pack_at_most
             FROM (SELECT $1::text, $2::bigint, $3::integer) AS wanted (portal, lead_id, epoch)
             LEFT JOIN assignments USING (portal, lead_id, epoch)
             LEFT JOIN decisions USING (portal, lead_id, epoch)",
        )
        .bind(key.portal.as_str())
        .bind(bigint(key.lead.get()))
        .bind(i32::try_from(key.epoch.0).unwrap_or(i32::MAX))
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::during("reading how far an assignment has come"))?;
        if let Some(outcome) = row.outcome {
            return Ok(AssignmentState::Finished(outcome));
        }
        Ok(match (row.pack, row.sent_at) {
            (Some(pack), Some(sent_at)) => AssignmentState::Sent { pack, sent_at: sent_at.to_jiff() },
            _ => AssignmentState::Open {
                owner_set: row.owner_set,
                notified: row.notified,
                deal_sent_at: row.deal_sent_at.map(SqlTimestamp::to_jiff),
                title: row.title,
                pack_at_most: row.pack_at_most.and_then(|at_most| u32::try_from(at_most).ok()),
            },
        })
    }

    async fn about_to_send(
        &self,
        pack: Uuid,
        items: &[PackItem],
        at: Timestamp,
    ) -> Result<Vec<AssignmentKey>, StoreError> {
        let Some(first) = items.first() else { return Ok(Vec::new()) };
        let portal = &first.key.portal;
        let column =
            |value: fn(&PackItem) -> u64| items.iter().map(|item| bigint(value(item))).collect::<Vec<_>>();
        let rows: Vec<(i64, i32)> = sqlx::query_as(
            "WITH item AS (
                 SELECT * FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::boolean[], $9::bigint[],
                                      $10::bigint[], $11::boolean[])
                      AS item (lead_id, epoch, to_user, position, sets_owner, notice_position, from_user, more_to_do)
             ), claimed AS (
                 INSERT INTO assignments (portal, lead_id, epoch, to_user, pack, sent_at)
                 SELECT $1, lead_id, epoch, to_user, $2, $3 FROM item
                 WHERE NOT EXISTS (
                     -- two packs at once with one lead could be carried out in either order
                     SELECT 1 FROM assignments AS other
                     WHERE other.portal = $1 AND other.lead_id = item.lead_id AND other.epoch <> item.epoch
                       AND other.sent_at IS NOT NULL AND other.finished_at IS NULL)
                 ORDER BY lead_id, epoch -- the same order everywhere, or two packs can wait for each other
                 ON CONFLICT (portal, lead_id, epoch) DO UPDATE SET
                     pack = excluded.pack, sent_at = excluded.sent_at
                 WHERE assignments.sent_at IS NULL AND assignments.finished_at IS NULL
                 RETURNING lead_id, epoch
             ), listed AS (
                 INSERT INTO pack_items (pack, position, portal, lead_id, epoch, to_user, sets_owner, notice_position,
                                         from_user, more_to_do)
                 SELECT $2, position, $1, lead_id, epoch, to_user, sets_owner, notice_position, from_user, more_to_do
                 FROM item JOIN claimed USING (lead_id, epoch)
             )
             SELECT lead_id, epoch FROM claimed",
        )
        .bind(portal.as_str())
        .bind(pack)
        .bind(at.to_sqlx())
        .bind(column(|item| item.key.lead.get()))
        .bind(column(|item| item.key.epoch.0.into()))
        .bind(column(|item| item.to.get()))
        .bind(column(|item| item.position.into()))
        .bind(items.iter().map(|item| item.sets_owner).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.notice_position.map(i64::from)).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.from.map(|user| bigint(user.get()))).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.more_to_do).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::during("noting what is about to be sent"))?;
        Ok(rows.into_iter().filter_map(|(lead, epoch)| key_of(portal, lead, epoch)).collect())
    }

    async fn done(
        &self,
        pack: Option<Uuid>,
        results: &[Done],
        at: Timestamp,
    ) -> Result<Vec<AssignmentKey>, StoreError> {
        let failed = StoreError::during("noting how a pack ended");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        if let Some(pack) = pack
            && lost_packs::is_held(&mut transaction, pack).await.map_err(&failed)?
        {
            return Ok(Vec::new());
        }
        let written = conclude(&mut transaction, pack, results, at).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(written)
    }

    async fn about_to_create_deal(&self, key: &AssignmentKey, at: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE assignments SET deal_sent_at = $4
             WHERE portal = $1 AND lead_id = $2 AND epoch = $3 AND deal_sent_at IS NULL AND finished_at IS NULL",
        )
        .bind(key.portal.as_str())
        .bind(bigint(key.lead.get()))
        .bind(bigint(key.epoch.0.into()))
        .bind(at.to_sqlx())
        .execute(&self.pool)
        .await
        .map_err(StoreError::during("noting that a deal is about to be created"))?;
        Ok(done.rows_affected() == 1)
    }

    async fn deal_not_created(&self, key: &AssignmentKey) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE assignments SET deal_sent_at = NULL
             WHERE portal = $1 AND lead_id = $2 AND epoch = $3 AND deal_id IS NULL",
        )
        .bind(key.portal.as_str())
        .bind(bigint(key.lead.get()))
        .bind(bigint(key.epoch.0.into()))
        .execute(&self.pool)
        .await
        .map_err(StoreError::during("noting that a deal was not created"))?;
        Ok(())
    }

    async fn deal_created(
        &self,
        key: &AssignmentKey,
        deal: u64,
        outcome: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "WITH finished AS (
                 UPDATE assignments SET deal_id = $4, outcome = $5, finished_at = $6
                 WHERE portal = $1 AND lead_id = $2 AND epoch = $3 AND finished_at IS NULL
             ), told AS (
                 UPDATE decisions SET title = NULL WHERE portal = $1 AND lead_id = $2 AND epoch = $3
             )
             DELETE FROM waiting_leads WHERE portal = $1 AND lead_id = $2 AND epoch = $3",
        )
        .bind(key.portal.as_str())
        .bind(bigint(key.lead.get()))
        .bind(bigint(key.epoch.0.into()))
        .bind(bigint(deal))
        .bind(outcome)
        .bind(at.to_sqlx())
        .execute(&self.pool)
        .await
        .map_err(StoreError::during("noting the deal of a lead"))?;
        Ok(())
    }

    async fn outcomes(
        &self,
        portal: &PortalName,
    ) -> Result<Vec<(AssignmentKey, Option<String>)>, StoreError> {
        let rows: Vec<(i64, i32, Option<String>)> = sqlx::query_as(
            "SELECT lead_id, epoch, outcome FROM assignments WHERE portal = $1 ORDER BY lead_id, epoch",
        )
        .bind(portal.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::during("reading outcomes"))?;
        let item = |(lead, epoch, outcome)| Some((key_of(portal, lead, epoch)?, outcome));
        Ok(rows.into_iter().filter_map(item).collect())
    }
}
