//! Progress in the portal.

use async_trait::async_trait;
use common::ids::PortalName;
use common::messages::AssignmentKey;
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Postgres, bigint, user};
use crate::assignments::key as key_of;
use crate::{AssignmentState, Assignments, Done, PackItem, StoreError};

type State =
    (Option<Uuid>, Option<SqlTimestamp>, bool, bool, Option<String>, Option<SqlTimestamp>, Option<String>);

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
             VALUES ($1, $2, $3, $4, CASE WHEN $5 THEN $9 END, CASE WHEN $10 THEN $9 END, $6, $7,
                     CASE WHEN $7::text IS NOT NULL THEN $9 END)
             ON CONFLICT (portal, lead_id, epoch) DO UPDATE SET
                 owner_set_at = coalesce(assignments.owner_set_at, excluded.owner_set_at),
                 notified_at = coalesce(assignments.notified_at, excluded.notified_at),
                 notification_id = coalesce(assignments.notification_id, excluded.notification_id),
                 outcome = excluded.outcome, finished_at = excluded.finished_at,
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
    .fetch_one(connection)
    .await?;
    Ok(written > 0)
}

#[async_trait]
impl Assignments for Postgres {
    async fn assignment(&self, key: &AssignmentKey) -> Result<AssignmentState, StoreError> {
        let row: State = sqlx::query_as(
            "SELECT pack, sent_at, owner_set_at IS NOT NULL, notified_at IS NOT NULL, assignments.outcome,
                    deal_sent_at, title
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
        Ok(match row {
            (_, _, _, _, Some(outcome), _, _) => AssignmentState::Finished(outcome),
            (Some(pack), Some(sent_at), _, _, None, _, _) => {
                AssignmentState::Sent { pack, sent_at: sent_at.to_jiff() }
            }
            (_, _, owner_set, notified, None, deal, title) => {
                let deal_sent_at = deal.map(SqlTimestamp::to_jiff);
                AssignmentState::Open { owner_set, notified, deal_sent_at, title }
            }
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
                 SELECT * FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::boolean[], $9::bigint[])
                      AS item (lead_id, epoch, to_user, position, sets_owner, notice_position)
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
                 INSERT INTO pack_items (pack, position, portal, lead_id, epoch, to_user, sets_owner, notice_position)
                 SELECT $2, position, $1, lead_id, epoch, to_user, sets_owner, notice_position
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
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::during("noting what is about to be sent"))?;
        Ok(rows.into_iter().filter_map(|(lead, epoch)| key_of(portal, lead, epoch)).collect())
    }

    async fn done(&self, results: &[Done], at: Timestamp) -> Result<(), StoreError> {
        let failed = StoreError::during("noting how a pack ended");
        let mut ordered: Vec<_> = results.iter().collect();
        ordered.sort_by(|a, b| a.key.cmp(&b.key));
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for result in ordered {
            write(&mut transaction, result, None, at).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn forget_pack(&self, pack: Uuid) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM pack_items WHERE pack = $1")
            .bind(pack)
            .execute(&self.pool)
            .await
            .map_err(StoreError::during("forgetting what a pack held"))?;
        Ok(())
    }

    async fn pack(&self, portal: &PortalName, pack: Uuid) -> Result<Vec<PackItem>, StoreError> {
        let rows: Vec<(i64, i32, i64, i32, bool, Option<i32>)> = sqlx::query_as(
            "SELECT lead_id, epoch, to_user, position, sets_owner, notice_position FROM pack_items
             WHERE pack = $1 AND portal = $2 ORDER BY position",
        )
        .bind(pack)
        .bind(portal.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::during("reading what a pack held"))?;
        let item =
            |(lead, epoch, to, position, sets_owner, notice): (i64, i32, i64, i32, bool, Option<i32>)| {
                let (key, to) = (key_of(portal, lead, epoch)?, user(Some(to))?);
                let notice_position = notice.and_then(|position| u32::try_from(position).ok());
                Some(PackItem {
                    key,
                    to,
                    position: u32::try_from(position).ok()?,
                    sets_owner,
                    notice_position,
                })
            };
        Ok(rows.into_iter().filter_map(item).collect())
    }

    async fn recovered(&self, pack: Uuid, result: &Done, at: Timestamp) -> Result<bool, StoreError> {
        let failed = StoreError::during("noting how a lost pack ended");
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        write(&mut connection, result, Some(pack), at).await.map_err(&failed)
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
