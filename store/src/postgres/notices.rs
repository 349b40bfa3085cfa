//! Notices to people beside those of assignments.

use super::time::{SqlTimestamp, ToSqlx};
use async_trait::async_trait;
use common::ids::{PortalName, UserId};
use common::messages::{AssignmentKey, Epoch};
use jiff::Timestamp;
use sqlx::PgConnection;

use super::text::json;
use super::{Postgres, bigint, user};
use crate::{Matter, Notice, Notices, SavedDecision, StoreError, Verdict};

/// As the database can hold it.
fn stored(matter: &Matter) -> Result<serde_json::Value, sqlx::Error> {
    Ok(json(serde_json::to_value(matter).map_err(|error| sqlx::Error::Encode(error.into()))?))
}

/// In the transaction that gives a reason for it.
pub(super) async fn write(
    connection: &mut PgConnection,
    portal: &PortalName,
    notice: &Notice,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    let matter = stored(&notice.matter)?;
    sqlx::query(
        "INSERT INTO notices (portal, tag, user_id, matter, written_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(portal.as_str())
    .bind(&notice.tag)
    .bind(bigint(notice.to.get()))
    .bind(matter)
    .bind(at.to_sqlx())
    .execute(connection)
    .await?;
    Ok(())
}

/// In the transaction that writes the decision of this giving: who loses the lead by it is told, once it is carried out.
/// Not where the timer of the giving before tells him: that one was not answered.
pub(super) async fn write_loss(
    connection: &mut PgConnection,
    saved: &SavedDecision,
    loser: UserId,
) -> Result<(), sqlx::Error> {
    let (key, Verdict::Assign { person, .. }) = (&saved.key, &saved.verdict) else { return Ok(()) };
    if key.epoch == Epoch::FIRST {
        return Ok(());
    }
    // Marked like the timer's, so that of the two only one can be there.
    let before = AssignmentKey { epoch: Epoch(key.epoch.0.saturating_sub(1)), ..key.clone() };
    let matter = stored(&Matter::GivenAway { lead: key.lead, person: person.clone() })?;
    sqlx::query(
        "INSERT INTO notices (portal, tag, user_id, matter, written_at, lead_id, epoch)
         SELECT $1, $2, $3, $4, $5, $6, $7 WHERE NOT EXISTS (
             SELECT FROM answer_timers
             WHERE portal = $1 AND lead_id = $6 AND epoch = $7 - 1 AND missed_at IS NOT NULL)
         ON CONFLICT DO NOTHING",
    )
    .bind(key.portal.as_str())
    .bind(format!("{before}/taken"))
    .bind(bigint(loser.get()))
    .bind(matter)
    .bind(saved.decided_at.to_sqlx())
    .bind(bigint(key.lead.get()))
    .bind(i32::try_from(key.epoch.0).unwrap_or(i32::MAX))
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
        sqlx::query(
            "DELETE FROM notices WHERE portal = $1 AND (claimed_at < $2 OR EXISTS (
                 SELECT FROM assignments AS giving
                 WHERE giving.portal = notices.portal AND giving.lead_id = notices.lead_id
                     AND giving.epoch = notices.epoch AND finished_at IS NOT NULL AND owner_set_at IS NULL))",
        )
        .bind(portal.as_str())
        .bind(lost_before.to_sqlx())
        .execute(&self.pool)
        .await
        .map_err(&failed)?;
        let mut rows: Vec<(SqlTimestamp, String, i64, serde_json::Value)> = sqlx::query_as(
            "UPDATE notices SET claimed_at = $2
             WHERE (portal, tag) IN (
                 SELECT portal, tag FROM notices WHERE portal = $1 AND claimed_at IS NULL
                     AND (lead_id IS NULL OR EXISTS (
                         SELECT FROM assignments AS giving
                         WHERE giving.portal = notices.portal AND giving.lead_id = notices.lead_id
                             AND giving.epoch = notices.epoch AND owner_set_at IS NOT NULL))
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
