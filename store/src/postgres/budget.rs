//! Requests to a portal, granted to all processes from one row, and what the portal said about its methods.

use std::time::Duration;

use super::time::{SqlTimestamp, ToSqlx};
use async_trait::async_trait;
use common::budget::{BucketLimits, BudgetError, Grant, MethodTime, Purpose, RequestBudget, Wish};
use common::ids::PortalName;
use jiff::Timestamp;
use sqlx::PgPool;
use sqlx::types::Json;

use super::Postgres;
use crate::StoreError;

/// A method's name, seconds used, and three times in milliseconds: reset, end of the block, when told.
type Told = (String, f64, Option<i64>, Option<i64>, i64);

#[async_trait]
impl RequestBudget for Postgres {
    async fn take(&self, wish: Wish<'_>) -> Result<Grant, BudgetError> {
        let news = wish.news;
        let at = |at: Option<Timestamp>| at.map(ToSqlx::to_sqlx);
        let (granted, wait, level, Json(told)): (bool, i64, f64, Json<Vec<Told>>) = sqlx::query_as(
            "WITH news AS (
                 INSERT INTO method_times (portal, method, used, resets_at, blocked_until, told_at)
                 SELECT $1, method, used, resets_at, blocked_until, told_at
                 FROM unnest($6::text[], $7::float8[], $8::timestamptz[], $9::timestamptz[], $10::timestamptz[])
                      AS news (method, used, resets_at, blocked_until, told_at)
                 ORDER BY method -- the same order everywhere, or two processes can wait for each other
                 ON CONFLICT (portal, method) DO UPDATE SET
                     used = excluded.used, resets_at = excluded.resets_at,
                     blocked_until = excluded.blocked_until, told_at = excluded.told_at
                 WHERE method_times.told_at <= excluded.told_at
             )
             SELECT granted, wait_micros, level_now, (
                 SELECT coalesce(json_agg(json_build_array(
                     method, used, floor(extract(epoch FROM resets_at) * 1000)::bigint,
                     floor(extract(epoch FROM blocked_until) * 1000)::bigint,
                     floor(extract(epoch FROM told_at) * 1000)::bigint)), '[]')
                 FROM method_times WHERE portal = $1)
             FROM take_request($1, $2, $3, $4, $5)",
        )
        .bind(wish.portal.as_str())
        .bind(f64::from(wish.limits.burst))
        .bind(wish.limits.per_second)
        .bind(f64::from(wish.purpose.leaves(wish.limits)))
        .bind(wish.purpose == Purpose::Fresh)
        .bind(news.iter().map(|news| news.method.as_str()).collect::<Vec<_>>())
        .bind(news.iter().map(|news| news.used).collect::<Vec<_>>())
        .bind(news.iter().map(|news| at(news.resets_at)).collect::<Vec<_>>())
        .bind(news.iter().map(|news| at(news.blocked_until)).collect::<Vec<_>>())
        .bind(news.iter().map(|news| news.told_at.to_sqlx()).collect::<Vec<SqlTimestamp>>())
        .fetch_one(&self.pool)
        .await
        .map_err(|error| BudgetError { portal: wish.portal.clone(), source: error.into() })?;
        Ok(Grant {
            granted,
            wait: Duration::from_micros(u64::try_from(wait).unwrap_or_default()),
            level,
            methods: told.into_iter().filter_map(method_time).collect(),
        })
    }

    async fn refused(&self, portal: &PortalName, limits: BucketLimits) -> Result<(), BudgetError> {
        sqlx::query("SELECT slow_down($1, $2)")
            .bind(portal.as_str())
            .bind(f64::from(limits.burst))
            .execute(&self.pool)
            .await
            .map_err(|error| BudgetError { portal: portal.clone(), source: error.into() })?;
        Ok(())
    }
}

fn method_time((method, used, resets_at, blocked_until, told_at): Told) -> Option<MethodTime> {
    let at = |millis: i64| Timestamp::from_millisecond(millis).ok();
    Some(MethodTime {
        method,
        used,
        resets_at: resets_at.and_then(at),
        blocked_until: blocked_until.and_then(at),
        told_at: at(told_at)?,
    })
}

/// The level as `take_request` would find it.
pub(super) async fn used(
    pool: &PgPool,
    portal: &PortalName,
    limits: BucketLimits,
) -> Result<u32, StoreError> {
    let level: Option<i64> = sqlx::query_scalar(
        "SELECT least($3, greatest(0, level - $2 * pace_now(pace, slowed_at)
                      * greatest(0, floor(extract(epoch FROM clock_timestamp() - ticked_at)))))::bigint
         FROM budgets WHERE portal = $1",
    )
    .bind(portal.as_str())
    .bind(limits.per_second)
    .bind(f64::from(limits.burst))
    .fetch_optional(pool)
    .await
    .map_err(StoreError::during("reading the level of a budget"))?;
    Ok(level.and_then(|level| u32::try_from(level).ok()).unwrap_or_default())
}
