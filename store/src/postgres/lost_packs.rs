//! Packs whose end nobody saw.

use super::time::ToSqlx;
use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{Postgres, assignments, user};
use crate::assignments::key as key_of;
use crate::{Done, LostPacks, PackItem, StoreError};

#[derive(FromRow)]
struct Row {
    portal: String,
    lead_id: i64,
    epoch: i32,
    from_user: Option<i64>,
    to_user: i64,
    position: i32,
    sets_owner: bool,
    notice_position: Option<i32>,
    more_to_do: bool,
}

impl Row {
    fn item(self) -> Option<PackItem> {
        Some(PackItem {
            key: key_of(&self.portal.parse().ok()?, self.lead_id, self.epoch)?,
            from: user(self.from_user),
            to: user(Some(self.to_user))?,
            position: u32::try_from(self.position).ok()?,
            sets_owner: self.sets_owner,
            notice_position: self.notice_position.and_then(|position| u32::try_from(position).ok()),
            more_to_do: self.more_to_do,
        })
    }
}

/// From here to its end, this transaction is the only one that speaks about the pack: who clears it up must not go by
/// what its sender, who is late, opens meanwhile.
async fn lock(connection: &mut PgConnection, pack: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1::text, 0))")
        .bind(pack.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether somebody clears the pack up, or has begun to; until the end of the transaction nobody begins.
pub(super) async fn is_held(connection: &mut PgConnection, pack: Uuid) -> Result<bool, sqlx::Error> {
    lock(connection, pack).await?;
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM lost_packs WHERE pack = $1)")
        .bind(pack)
        .fetch_one(connection)
        .await
}

async fn items(connection: &mut PgConnection, pack: Uuid) -> Result<Vec<PackItem>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        // A notifier of an earlier version writes neither the old owner nor what is left to do.
        "SELECT portal, lead_id, epoch, coalesce(item.from_user, decisions.from_user) AS from_user, item.to_user,
                position, sets_owner, notice_position,
                more_to_do OR coalesce(orders ->> 'deal', '') <> '' AS more_to_do
         FROM pack_items AS item LEFT JOIN decisions USING (portal, lead_id, epoch)
         WHERE pack = $1 ORDER BY position",
    )
    .bind(pack)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().filter_map(Row::item).collect())
}

#[async_trait]
impl LostPacks for Postgres {
    async fn hold_lost_pack(
        &self,
        pack: Uuid,
        holder: Uuid,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Vec<PackItem>>, StoreError> {
        let failed = StoreError::during("holding a lost pack");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        lock(&mut transaction, pack).await.map_err(&failed)?;
        let held = sqlx::query(
            "INSERT INTO lost_packs (pack, holder, held_until) VALUES ($1, $2, $3)
             ON CONFLICT (pack) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
             WHERE lost_packs.held_until <= $4",
        )
        .bind(pack)
        .bind(holder)
        .bind(until.to_sqlx())
        .bind(now.to_sqlx())
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        if held.rows_affected() == 0 {
            return Ok(None);
        }
        let items = items(&mut transaction, pack).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(Some(items))
    }

    async fn lost_pack_ended(
        &self,
        pack: Uuid,
        holder: Uuid,
        results: &[Done],
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let failed = StoreError::during("noting how a lost pack ended");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        lock(&mut transaction, pack).await.map_err(&failed)?;
        let held = sqlx::query("DELETE FROM lost_packs WHERE pack = $1 AND holder = $2")
            .bind(pack)
            .bind(holder)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        if held.rows_affected() == 0 {
            return Ok(false);
        }
        assignments::conclude(&mut transaction, Some(pack), results, at).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(true)
    }
}
