//! Notices to people beside those of assignments.

use async_trait::async_trait;
use common::ids::PortalName;
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx};
use sqlx::PgConnection;

use super::text::json;
use super::{Postgres, bigint, user};
use crate::{Matter, Notice, Notices, StoreError};

/// In the transaction that gives a reason for it.
pub(super) async fn write(
    connection: &mut PgConnection,
    portal: &PortalName,
    notice: &Notice,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    let matter = serde_json::to_value(&notice.matter).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query(
        "INSERT INTO notices (portal, tag, user_id, matter, written_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(portal.as_str())
    .bind(&notice.tag)
    .bind(bigint(notice.to.get()))
    .bind(json(matter))
    .bind(at.to_sqlx())
    .execute(connection)
    .await?;
    Ok(())
}

#[async_trait]
impl Notices for Postgres {
    async fn take_notices(
        &self,
        portal: &PortalName,
        limit: u32,
        now: Timestamp,
        lost_before: Timestamp,
    ) -> Result<Vec<Notice>, StoreError> {
        let failed = StoreError::during("taking notices");
        sqlx::query("DELETE FROM notices WHERE portal = $1 AND claimed_at < $2")
            .bind(portal.as_str())
            .bind(lost_before.to_sqlx())
            .execute(&self.pool)
            .await
            .map_err(&failed)?;
        let mut rows: Vec<(SqlTimestamp, String, i64, serde_json::Value)> = sqlx::query_as(
            "UPDATE notices SET claimed_at = $2
             WHERE (portal, tag) IN (
                 SELECT portal, tag FROM notices WHERE portal = $1 AND claimed_at IS NULL
                 ORDER BY written_at, tag LIMIT $3 FOR UPDATE SKIP LOCKED)
             RETURNING written_at, tag, user_id, matter",
        )
        .bind(portal.as_str())
        .bind(now.to_sqlx())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(&failed)?;
        rows.sort_by(|one, other| (one.0.to_jiff(), &one.1).cmp(&(other.0.to_jiff(), &other.1)));
        let notice = |(_, tag, to, matter): (SqlTimestamp, String, i64, serde_json::Value)| {
            let matter: Matter = serde_json::from_value(matter).ok()?;
            Some(Notice { tag, to: user(Some(to))?, matter })
        };
        Ok(rows.into_iter().filter_map(notice).collect())
    }

    async fn end_notices(&self, portal: &PortalName, ends: &[(String, bool)]) -> Result<(), StoreError> {
        let failed = StoreError::during("noting which notices were sent");
        let tags = |over: bool| -> Vec<&str> {
            ends.iter().filter(|end| end.1 == over).map(|end| end.0.as_str()).collect()
        };
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for (over, query) in [
            (true, "DELETE FROM notices WHERE portal = $1 AND tag = ANY ($2)"),
            (false, "UPDATE notices SET claimed_at = NULL WHERE portal = $1 AND tag = ANY ($2)"),
        ] {
            sqlx::query(query)
                .bind(portal.as_str())
                .bind(tags(over))
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }
}
