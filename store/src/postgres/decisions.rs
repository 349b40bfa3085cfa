//! Decisions and the ledger.

use std::collections::BTreeMap;

use super::time::{SqlTimestamp, ToSqlx};
use async_trait::async_trait;
use common::ids::{LeadId, PortalName, UserId};
use common::messages::{AssignmentKey, Deal, Orders};
use jiff::{SignedDuration, Timestamp};
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};

use super::text::{json, text};
use super::{Postgres, answers, bigint, givings, ledgers, line, notices, timeline, user, waiting};
use crate::{
    Counting, Decide, Decided, Decisions, Given, NewDecision, Related, SavedDecision, Standing, StoreError,
    Verdict,
};

#[derive(FromRow)]
struct Row {
    outcome: String,
    from_user: Option<i64>,
    to_user: Option<i64>,
    person: Option<String>,
    queue: Option<String>,
    rule: Option<String>,
    reason: String,
    explanation: serde_json::Value,
    first_seen: SqlTimestamp,
    decided_at: SqlTimestamp,
    published_at: Option<SqlTimestamp>,
    look_again_at: Option<SqlTimestamp>,
    held_until: Option<SqlTimestamp>,
    orders: Json<Orders>,
}

impl Row {
    fn saved(self, key: &AssignmentKey) -> SavedDecision {
        let verdict = match (user(self.to_user), self.look_again_at) {
            (Some(to), _) => Verdict::Assign { to, person: self.person.unwrap_or_default() },
            (None, Some(at)) => {
                let until = self.held_until.map(SqlTimestamp::to_jiff);
                Verdict::Hold { look_again_at: at.to_jiff(), until }
            }
            (None, None) => Verdict::Skip,
        };
        debug_assert_eq!(self.outcome, outcome(&verdict));
        SavedDecision {
            key: key.clone(),
            verdict,
            from: user(self.from_user),
            queue: self.queue,
            rule: self.rule,
            reason: self.reason,
            explanation: self.explanation,
            orders: self.orders.0,
            first_seen: self.first_seen.to_jiff(),
            decided_at: self.decided_at.to_jiff(),
            published: self.published_at.is_some(),
        }
    }
}

fn outcome(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Assign { .. } => "assign",
        Verdict::Hold { .. } => "hold",
        Verdict::Skip => "skip",
    }
}

pub(super) async fn find(
    connection: &mut PgConnection,
    key: &AssignmentKey,
) -> Result<Option<SavedDecision>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT outcome, from_user, to_user, person, queue, rule, reason, explanation, first_seen,
                decided_at, published_at, look_again_at, orders,
                (SELECT held_until FROM waiting_leads WHERE portal = $1 AND lead_id = $2 AND epoch = $3) AS held_until
         FROM decisions WHERE portal = $1 AND lead_id = $2 AND epoch = $3",
    )
    .bind(key.portal.as_str())
    .bind(bigint(key.lead.get()))
    .bind(bigint(key.epoch.0.into()))
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| row.saved(key)))
}

/// Counts what these people were given.
async fn given(
    connection: &mut PgConnection,
    portal: &PortalName,
    counting: &Counting,
) -> Result<BTreeMap<UserId, Given>, sqlx::Error> {
    if counting.day_from.is_empty() {
        return Ok(BTreeMap::new());
    }
    let users: Vec<i64> = counting.day_from.keys().map(|user| bigint(user.get())).collect();
    let days: Vec<SqlTimestamp> = counting.day_from.values().map(|day| day.to_sqlx()).collect();
    let rows: Vec<(i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT to_user, count(*) FILTER (WHERE decided_at > $2), count(*) FILTER (WHERE decided_at >= day),
                count(*) FILTER (WHERE released AND decided_at > $5)
         FROM unnest($3::bigint[], $4::timestamptz[]) AS people (id, day)
         JOIN decisions ON portal = $1 AND outcome = 'assign' AND to_user = id AND decided_at >= least(day, $2)
         GROUP BY to_user",
    )
    .bind(portal.as_str())
    .bind(counting.hour_from.to_sqlx())
    .bind(&users)
    .bind(days)
    .bind(counting.released_from.map(ToSqlx::to_sqlx))
    .fetch_all(&mut *connection)
    .await?;
    let count = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
    let one = |(id, hour, day, released)| {
        let given = Given { hour: count(hour), day: count(day), reserved: 0, released: count(released) };
        Some((user(Some(id))?, given))
    };
    let mut given: BTreeMap<UserId, Given> = rows.into_iter().filter_map(one).collect();
    let Some(open_from) = counting.open_from else { return Ok(given) };
    // A command that is not carried out within that time has become a dead letter, or waits for a portal that is away.
    let recent = open_from - SignedDuration::from_mins(10);
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT decisions.to_user, count(*)
         FROM decisions LEFT JOIN assignments USING (portal, lead_id, epoch)
         WHERE portal = $1 AND decisions.outcome = 'assign' AND decisions.to_user = ANY ($2) AND decided_at >= $3
             AND (owner_set_at >= $4 OR owner_set_at IS NULL AND finished_at IS NULL)
         GROUP BY decisions.to_user",
    )
    .bind(portal.as_str())
    .bind(&users)
    .bind(recent.to_sqlx())
    .bind(open_from.to_sqlx())
    .fetch_all(connection)
    .await?;
    for (id, reserved) in rows {
        if let Some(user) = user(Some(id)) {
            given.entry(user).or_default().reserved = count(reserved);
        }
    }
    Ok(given)
}

/// Who is to own these leads, where that was decided and the portal could not know it.
async fn owners(
    connection: &mut PgConnection,
    portal: &PortalName,
    related: &Related,
) -> Result<BTreeMap<LeadId, UserId>, sqlx::Error> {
    if related.leads.is_empty() {
        return Ok(BTreeMap::new());
    }
    let leads: Vec<i64> = related.leads.iter().map(|lead| bigint(lead.get())).collect();
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT DISTINCT ON (lead_id) lead_id, decisions.to_user
         FROM decisions LEFT JOIN assignments USING (portal, lead_id, epoch)
         WHERE portal = $1 AND lead_id = ANY ($2) AND decisions.outcome = 'assign'
             AND (owner_set_at >= $3 OR owner_set_at IS NULL AND finished_at IS NULL)
         ORDER BY lead_id, epoch DESC",
    )
    .bind(portal.as_str())
    .bind(&leads)
    .bind(related.read_at.to_sqlx())
    .fetch_all(connection)
    .await?;
    let owner =
        |(id, owner): (i64, i64)| Some((u64::try_from(id).ok().and_then(LeadId::new)?, user(Some(owner))?));
    Ok(rows.into_iter().filter_map(owner).collect())
}

/// The decision in texts that the database can hold: titles, names of stages and what a robot names come from outside.
fn storable(new: NewDecision) -> NewDecision {
    let owned = |part: String| text(&part).into_owned();
    let verdict = match new.verdict {
        Verdict::Assign { to, person } => Verdict::Assign { to, person: owned(person) },
        Verdict::Hold { .. } | Verdict::Skip => new.verdict,
    };
    let set = new.orders.set.into_iter().map(|(field, value)| (owned(field), json(value))).collect();
    let deal = new.orders.deal.map(|deal| Deal { stage: deal.stage.map(owned), ..deal });
    NewDecision {
        verdict,
        queue: new.queue.map(owned),
        rule: new.rule.map(owned),
        reason: owned(new.reason),
        explanation: json(new.explanation),
        orders: Orders { set, deal },
        title: new.title.map(owned),
        ..new
    }
}

async fn save(
    connection: &mut PgConnection,
    key: &AssignmentKey,
    new: NewDecision,
    released: bool,
) -> Result<SavedDecision, sqlx::Error> {
    let new = storable(new);
    let (lead, epoch) = (bigint(key.lead.get()), bigint(key.epoch.0.into()));
    let (to, person, look_again_at) = match &new.verdict {
        Verdict::Assign { to, person } => (Some(bigint(to.get())), Some(person.as_str()), None),
        Verdict::Hold { look_again_at, .. } => (None, None, Some(look_again_at.to_sqlx())),
        Verdict::Skip => (None, None, None),
    };
    sqlx::query(
        "INSERT INTO decisions (portal, lead_id, epoch, outcome, from_user, to_user, person, queue, rule,
                                reason, explanation, routing_version, first_seen, decided_at, look_again_at,
                                orders, title, released)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
         ON CONFLICT (portal, lead_id, epoch) DO UPDATE SET
             outcome = excluded.outcome, from_user = excluded.from_user, to_user = excluded.to_user,
             person = excluded.person, queue = excluded.queue, rule = excluded.rule,
             reason = excluded.reason, explanation = excluded.explanation,
             routing_version = excluded.routing_version, decided_at = excluded.decided_at,
             look_again_at = excluded.look_again_at, orders = excluded.orders, title = excluded.title,
             released = excluded.released
         WHERE decisions.outcome = 'hold'",
    )
    .bind(key.portal.as_str())
    .bind(lead)
    .bind(epoch)
    .bind(outcome(&new.verdict))
    .bind(new.from.map(|user| bigint(user.get())))
    .bind(to)
    .bind(person)
    .bind(&new.queue)
    .bind(&new.rule)
    .bind(&new.reason)
    .bind(&new.explanation)
    .bind(bigint(new.routing_version))
    .bind(new.first_seen.to_sqlx())
    .bind(new.decided_at.to_sqlx())
    .bind(look_again_at)
    .bind(Json(&new.orders))
    .bind(new.title)
    .bind(released)
    .execute(&mut *connection)
    .await?;
    for entry in &new.entries {
        ledgers::book(connection, &key.portal, entry, Some(key), None, new.decided_at).await?;
    }
    Ok(SavedDecision {
        key: key.clone(),
        verdict: new.verdict,
        from: new.from,
        queue: new.queue,
        rule: new.rule,
        reason: new.reason,
        explanation: new.explanation,
        orders: new.orders,
        first_seen: new.first_seen,
        decided_at: new.decided_at,
        published: false,
    })
}

#[async_trait]
impl Decisions for Postgres {
    async fn decision(&self, key: &AssignmentKey) -> Result<Option<SavedDecision>, StoreError> {
        let failed = StoreError::during("reading a decision");
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        find(&mut connection, key).await.map_err(&failed)
    }

    async fn decide<'a>(
        &self,
        key: &AssignmentKey,
        counting: &Counting,
        decide: Decide<'a>,
    ) -> Result<Decided, StoreError> {
        let failed = StoreError::during("saving a decision");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        ledgers::lock(&mut transaction, &key.portal).await.map_err(&failed)?;
        let before = find(&mut transaction, key).await.map_err(&failed)?;
        if let Some(before) = before.as_ref().filter(|before| !matches!(before.verdict, Verdict::Hold { .. }))
        {
            return Ok(Decided::Before(before.clone()));
        }
        if givings::under_way(&mut transaction, key).await.map_err(&failed)? {
            return Ok(Decided::TooEarly);
        }
        let mut giving = givings::find(&mut transaction, key).await.map_err(&failed)?;
        let held = waiting::held(&mut transaction, key).await.map_err(&failed)?;
        if let Some(before) = &before {
            giving.held_since = held.and_then(|(since, _)| since).or(Some(before.decided_at));
        }
        if let Some(in_line) = &counting.in_line {
            let first_seen = held.map_or(in_line.first_seen, |(_, seen)| seen);
            giving.ahead = line::ahead(&mut transaction, key, first_seen, in_line).await.map_err(&failed)?;
        }
        let balances = ledgers::balances(&mut transaction, &key.portal).await.map_err(&failed)?;
        let given = given(&mut transaction, &key.portal, counting).await.map_err(&failed)?;
        let owners = owners(&mut transaction, &key.portal, &counting.related).await.map_err(&failed)?;
        let mut new = decide(&Standing { balances, given, owners, giving });
        // A lead that still waits has said so before.
        let (was_held, is_held) = (before.is_some(), matches!(new.verdict, Verdict::Hold { .. }));
        let entry = new.timeline.take().filter(|_| !(was_held && is_held));
        let (deadline, amount, to_be_answered) = (new.deadline, new.amount, new.to_be_answered);
        let loser = new.loser;
        let line = new.line.take();
        let saved = save(&mut transaction, key, new, was_held && !is_held).await.map_err(&failed)?;
        waiting::decided(&mut transaction, &saved, deadline, amount, line.as_ref()).await.map_err(&failed)?;
        if to_be_answered {
            answers::decided(&mut transaction, &saved).await.map_err(&failed)?;
        }
        if let Some(loser) = loser {
            notices::write_loss(&mut transaction, &saved, loser).await.map_err(&failed)?;
        }
        if let Some(text) = entry {
            timeline::decided(&mut transaction, &saved, &text).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(Decided::Now(saved))
    }

    async fn given(
        &self,
        portal: &PortalName,
        counting: &Counting,
    ) -> Result<BTreeMap<UserId, Given>, StoreError> {
        let failed = StoreError::during("counting what people were given");
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        given(&mut connection, portal, counting).await.map_err(&failed)
    }

    async fn published(&self, key: &AssignmentKey, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE decisions SET published_at = $4 WHERE portal = $1 AND lead_id = $2 AND epoch = $3",
        )
        .bind(key.portal.as_str())
        .bind(bigint(key.lead.get()))
        .bind(bigint(key.epoch.0.into()))
        .bind(at.to_sqlx())
        .execute(&self.pool)
        .await
        .map_err(StoreError::during("noting that a command is published"))?;
        Ok(())
    }
}
