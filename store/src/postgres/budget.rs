//! Requests to a portal, granted to all processes from one row.

use std::time::Duration;

use async_trait::async_trait;
use common::budget::{BucketLimits, BudgetError, Grant, RequestBudget};
use common::ids::PortalName;
use sqlx::PgPool;

use super::Postgres;
use crate::StoreError;

#[async_trait]
impl RequestBudget for Postgres {
    async fn take(&self, portal: &PortalName, limits: BucketLimits) -> Result<Grant, BudgetError> {
        let wait: i64 = sqlx::query_scalar("SELECT take_request($1, $2, $3)")
            .bind(portal.as_str())
            .bind(integer(limits.burst))
            .bind(integer(limits.per_second))
            .fetch_one(&self.pool)
            .await
            .map_err(|error| BudgetError { portal: portal.clone(), source: error.into() })?;
        Ok(match u64::try_from(wait) {
            Ok(0) | Err(_) => Grant::Granted,
            Ok(micros) => Grant::Wait(Duration::from_micros(micros)),
        })
    }

    async fn refused(&self, portal: &PortalName, limits: BucketLimits) -> Result<(), BudgetError> {
        sqlx::query(
            "INSERT INTO budgets VALUES ($1, $2, clock_timestamp())
             ON CONFLICT (portal) DO UPDATE SET level = $2, ticked_at = clock_timestamp()",
        )
        .bind(portal.as_str())
        .bind(integer(limits.burst))
        .execute(&self.pool)
        .await
        .map_err(|error| BudgetError { portal: portal.clone(), source: error.into() })?;
        Ok(())
    }
}

/// The level as `take_request` would find it.
pub(super) async fn used(
    pool: &PgPool,
    portal: &PortalName,
    limits: BucketLimits,
) -> Result<u32, StoreError> {
    let level: Option<i64> = sqlx::query_scalar(
        "SELECT greatest(0, level - $2 * greatest(0, floor(extract(epoch FROM clock_timestamp() - ticked_at))))::bigint
         FROM budgets WHERE portal = $1",
    )
    .bind(portal.as_str())
    .bind(integer(limits.per_second))
    .fetch_optional(pool)
    .await
    .map_err(StoreError::during("reading the level of a budget"))?;
    Ok(level.and_then(|level| u32::try_from(level).ok()).unwrap_or_default())
}

fn integer(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
