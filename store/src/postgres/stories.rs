//! All that is known of one lead, from one reading.

use super::time::SqlTimestamp;
use async_trait::async_trait;
use common::ids::{LeadId, PortalName};
use jiff::Timestamp;
use serde_json::Value;
use sqlx::{FromRow, PgConnection, Postgres as Database};

use super::{Postgres, bigint, user};
use crate::{
    LeadStory, Matter, StoreError, Stories, ToldAssignment, ToldDecision, ToldGiving, ToldTimer, ToldWait,
};

fn epoch(column: i32) -> u32 {
    u32::try_from(column).unwrap_or_default()
}

fn moment(column: Option<SqlTimestamp>) -> Option<Timestamp> {
    column.map(SqlTimestamp::to_jiff)
}

async fn rows<Row>(
    connection: &mut PgConnection,
    query: &'static str,
    (portal, lead): (&PortalName, LeadId),
) -> Result<Vec<Row>, sqlx::Error>
where
    Row: for<'r> FromRow<'r, <Database as sqlx::Database>::Row> + Send + Unpin,
{
    sqlx::query_as(query).bind(portal.as_str()).bind(bigint(lead.get())).fetch_all(connection).await
}

#[derive(FromRow)]
struct Decision {
    epoch: i32,
    outcome: String,
    person: Option<String>,
    reason: String,
    explanation: Value,
    routing_version: i64,
    first_seen: SqlTimestamp,
    decided_at: SqlTimestamp,
    published_at: Option<SqlTimestamp>,
}

impl From<Decision> for ToldDecision {
    fn from(row: Decision) -> Self {
        Self {
            epoch: epoch(row.epoch),
            outcome: row.outcome,
            person: row.person,
            reason: row.reason,
            explanation: row.explanation,
            routing_version: u64::try_from(row.routing_version).unwrap_or_default(),
            first_seen: row.first_seen.to_jiff(),
            decided_at: row.decided_at.to_jiff(),
            published_at: moment(row.published_at),
        }
    }
}

#[derive(FromRow)]
struct Assignment {
    epoch: i32,
    to_user: i64,
    sent_at: Option<SqlTimestamp>,
    owner_set_at: Option<SqlTimestamp>,
    notified_at: Option<SqlTimestamp>,
    deal_sent_at: Option<SqlTimestamp>,
    deal_id: Option<i64>,
    outcome: Option<String>,
    finished_at: Option<SqlTimestamp>,
}

impl From<Assignment> for ToldAssignment {
    fn from(row: Assignment) -> Self {
        Self {
            epoch: epoch(row.epoch),
            to: user(Some(row.to_user)),
            sent_at: moment(row.sent_at),
            owner_set_at: moment(row.owner_set_at),
            notified_at: moment(row.notified_at),
            deal_sent_at: moment(row.deal_sent_at),
            deal: row.deal_id.and_then(|deal| u64::try_from(deal).ok()),
            finished: moment(row.finished_at).zip(row.outcome),
        }
    }
}

#[derive(FromRow)]
struct Wait {
    epoch: i32,
    state: String,
    first_seen: SqlTimestamp,
    held_since: Option<SqlTimestamp>,
    held_until: Option<SqlTimestamp>,
    deadline_at: Option<SqlTimestamp>,
    alarmed_at: Option<SqlTimestamp>,
}

impl From<Wait> for ToldWait {
    fn from(row: Wait) -> Self {
        Self {
            epoch: epoch(row.epoch),
            state: row.state,
            first_seen: row.first_seen.to_jiff(),
            held_since: moment(row.held_since),
            held_until: moment(row.held_until),
            deadline_at: moment(row.deadline_at),
            alarmed_at: moment(row.alarmed_at),
        }
    }
}

type Giving = (i32, String, String, Option<String>, Option<String>, SqlTimestamp);

type Timer =
    (i32, i64, Option<SqlTimestamp>, Option<SqlTimestamp>, Option<SqlTimestamp>, Option<SqlTimestamp>);

async fn read(connection: &mut PgConnection, whose: (&PortalName, LeadId)) -> Result<LeadStory, sqlx::Error> {
    let decisions: Vec<Decision> = rows(
        connection,
        "SELECT epoch, outcome, person, reason, explanation, routing_version, first_seen, decided_at, published_at
         FROM decisions WHERE portal = $1 AND lead_id = $2 ORDER BY epoch",
        whose,
    )
    .await?;
    let assignments: Vec<Assignment> = rows(
        connection,
        "SELECT epoch, to_user, sent_at, owner_set_at, notified_at, deal_sent_at, deal_id, outcome, finished_at
         FROM assignments WHERE portal = $1 AND lead_id = $2 ORDER BY epoch",
        whose,
    )
    .await?;
    let waiting: Vec<Wait> = rows(
        connection,
        "SELECT epoch, state, first_seen, held_since, held_until, deadline_at, alarmed_at
         FROM waiting_leads WHERE portal = $1 AND lead_id = $2 ORDER BY epoch",
        whose,
    )
    .await?;
    let givings: Vec<Giving> = rows(
        connection,
        "SELECT epoch, cause, asked_by, queue, person, asked_at
         FROM givings WHERE portal = $1 AND lead_id = $2 ORDER BY epoch",
        whose,
    )
    .await?;
    let timers: Vec<Timer> = rows(
        connection,
        "SELECT epoch, owner, since, due_at, reminded_at, missed_at
         FROM answer_timers WHERE portal = $1 AND lead_id = $2 ORDER BY epoch",
        whose,
    )
    .await?;
    let refunds: Vec<(i64, SqlTimestamp, Option<String>)> = rows(
        connection,
        "SELECT user_id, written_at, reason FROM ledger_entries
         WHERE portal = $1 AND lead_id = $2 AND kind = 'refund' AND delta > 0 ORDER BY id",
        whose,
    )
    .await?;
    let notices: Vec<(i64, SqlTimestamp, Value)> = rows(
        connection,
        "SELECT user_id, written_at, matter FROM notices
         WHERE portal = $1 AND (matter->'lead' = to_jsonb($2::bigint) OR matter->'leads' @> to_jsonb($2::bigint))
         ORDER BY written_at, tag",
        whose,
    )
    .await?;
    let entries: Vec<(SqlTimestamp, String)> = rows(
        connection,
        "SELECT written_at, text FROM timeline_entries WHERE portal = $1 AND lead_id = $2 ORDER BY written_at",
        whose,
    )
    .await?;
    let notice = |(to, at, matter): (i64, SqlTimestamp, Value)| {
        Some((user(Some(to))?, at.to_jiff(), serde_json::from_value::<Matter>(matter).ok()?))
    };
    Ok(LeadStory {
        decisions: decisions.into_iter().map(Into::into).collect(),
        assignments: assignments.into_iter().map(Into::into).collect(),
        waiting: waiting.into_iter().map(Into::into).collect(),
        givings: givings
            .into_iter()
            .map(|(number, cause, asked_by, queue, person, at)| ToldGiving {
                epoch: epoch(number),
                cause,
                asked_by,
                queue,
                person,
                asked_at: at.to_jiff(),
            })
            .collect(),
        timers: timers
            .into_iter()
            .map(|(number, owner, since, due, reminded, missed)| ToldTimer {
                epoch: epoch(number),
                owner: user(Some(owner)),
                since: moment(since),
                due_at: moment(due),
                reminded_at: moment(reminded),
                missed_at: moment(missed),
            })
            .collect(),
        refunds: refunds
            .into_iter()
            .filter_map(|(who, at, reason)| Some((user(Some(who))?, at.to_jiff(), reason)))
            .collect(),
        notices: notices.into_iter().filter_map(notice).collect(),
        entries: entries.into_iter().map(|(at, text)| (at.to_jiff(), text)).collect(),
    })
}

#[async_trait]
impl Stories for Postgres {
    async fn lead_story(&self, portal: &PortalName, lead: LeadId) -> Result<LeadStory, StoreError> {
        let failed = StoreError::during("reading the story of a lead");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        let story = read(&mut transaction, (portal, lead)).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(story)
    }
}
