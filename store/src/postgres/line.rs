//! The line of a queue: who stands ahead of a lead, and who comes next.
//!
//! Only kinds are counted here, and not further than matters: whether a lead waits for those ahead of it is decided by who
//! asks.

use super::time::{SqlTimestamp, ToSqlx};
use common::ids::PortalName;
use common::messages::AssignmentKey;
use distribution::{Ahead, First};
use jiff::Timestamp;
use sqlx::PgConnection;

use super::bigint;
use crate::{Call, InLine, KindInLine};

/// How many leads of a kind are counted that stand ahead of one. Where people have more free places than that, it does not
/// matter who of those that were called is decided first.
const COUNTED_MAX: i64 = 100;

/// How many kinds are looked at. There are as many as rules that ask for skills; more only where robots give the same leads
/// again and again, and then what is left out holds nobody up.
const KINDS_MAX: i64 = 200;

/// The kinds of leads that wait, each found by one step into the index.
const KINDS: &str = "WITH RECURSIVE steps (kind, step) AS (
     (SELECT kind, 1 FROM waiting_leads WHERE portal = $1 AND kind IS NOT NULL ORDER BY kind LIMIT 1)
     UNION ALL
     SELECT (SELECT waiting.kind FROM waiting_leads AS waiting
             WHERE waiting.portal = $1 AND waiting.kind IS NOT NULL AND waiting.kind > steps.kind
             ORDER BY waiting.kind LIMIT 1), step + 1
     FROM steps WHERE steps.kind IS NOT NULL AND step < $2),
 kinds AS MATERIALIZED (
     SELECT steps.kind, one.needs, one.line FROM steps CROSS JOIN LATERAL (
         SELECT needs, line FROM waiting_leads
         WHERE portal = $1 AND kind = steps.kind AND kind IS NOT NULL LIMIT 1) AS one)";

/// Under the lock of a decision: the leads that wait ahead of this one, by kinds.
pub(super) async fn ahead(
    connection: &mut PgConnection,
    key: &AssignmentKey,
    first_seen: Timestamp,
    in_line: &InLine,
) -> Result<Vec<Ahead>, sqlx::Error> {
    let counted = |ahead: &str| {
        format!(
            "SELECT count(*) FROM (
                 SELECT FROM waiting_leads
                 WHERE portal = $1 AND kind = kinds.kind AND kind IS NOT NULL AND lead_id <> $5 AND {ahead}
                 LIMIT $7) AS counted"
        )
    };
    let (by_amount, by_age) = (
        counted("(amount_rank, first_seen, lead_id) < ($4, $3, $5)"),
        counted("(first_seen, amount_rank, lead_id) < ($3, $4, $5)"),
    );
    let query = format!(
        "{KINDS} SELECT needs, CASE WHEN line = ANY ($6) THEN ({by_amount}) ELSE ({by_age}) END FROM kinds"
    );
    let rows: Vec<(String, i64)> = sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(key.portal.as_str())
        .bind(KINDS_MAX)
        .bind(first_seen.to_sqlx())
        .bind(-in_line.amount.unwrap_or(f64::NEG_INFINITY))
        .bind(bigint(key.lead.get()))
        .bind(&in_line.most_valuable)
        .bind(COUNTED_MAX)
        .fetch_all(connection)
        .await?;
    let ahead = rows.into_iter().filter_map(|(needs, count)| {
        // What a newer version wrote, and this one cannot read, holds nobody up.
        let needs = serde_json::from_str(&needs).ok()?;
        Some(Ahead { needs, count: u32::try_from(count).ok()? })
    });
    Ok(ahead.filter(|ahead| ahead.count > 0).collect())
}

/// The kinds of leads that wait.
pub(super) async fn kinds(
    connection: &mut PgConnection,
    portal: &PortalName,
) -> Result<Vec<KindInLine>, sqlx::Error> {
    let query = format!("{KINDS} SELECT kind, needs FROM kinds");
    let rows: Vec<(i64, String)> = sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(portal.as_str())
        .bind(KINDS_MAX)
        .fetch_all(connection)
        .await?;
    let kind =
        |(kind, needs): (i64, String)| Some(KindInLine { kind, needs: serde_json::from_str(&needs).ok()? });
    Ok(rows.into_iter().filter_map(kind).collect())
}

/// Takes those that stand first, but for those that were called a moment ago.
pub(super) async fn call(
    connection: &mut PgConnection,
    portal: &PortalName,
    call: &Call,
) -> Result<Vec<(AssignmentKey, Timestamp)>, sqlx::Error> {
    let order = match call.first {
        First::Oldest => "first_seen, amount_rank, lead_id",
        First::MostValuable => "amount_rank, first_seen, lead_id",
    };
    let query = format!(
        "WITH foremost AS MATERIALIZED (
             SELECT portal, lead_id, epoch FROM waiting_leads
             WHERE portal = $1 AND kind = $2 AND kind IS NOT NULL ORDER BY {order} LIMIT $3),
         due AS MATERIALIZED (
             SELECT waiting.portal, waiting.lead_id, waiting.epoch
             FROM waiting_leads AS waiting JOIN foremost USING (portal, lead_id, epoch)
             WHERE waiting.call_again_at <= $4 FOR UPDATE OF waiting SKIP LOCKED),
         called AS (
             UPDATE waiting_leads AS waiting SET call_again_at = $5 FROM due
             WHERE (waiting.portal, waiting.lead_id, waiting.epoch) = (due.portal, due.lead_id, due.epoch)
             RETURNING waiting.lead_id, waiting.epoch, waiting.first_seen, waiting.amount_rank)
         SELECT lead_id, epoch, first_seen FROM called ORDER BY {order}"
    );
    let rows: Vec<(i64, i32, SqlTimestamp)> = sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(portal.as_str())
        .bind(call.kind)
        .bind(i64::from(call.limit))
        .bind(call.now.to_sqlx())
        .bind(call.again_at.to_sqlx())
        .fetch_all(connection)
        .await?;
    let called = rows.into_iter().filter_map(|(lead, epoch, seen)| {
        Some((crate::assignments::key(portal, lead, epoch)?, seen.to_jiff()))
    });
    Ok(called.collect())
}
