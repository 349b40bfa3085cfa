//! Timers of leads that are to be answered.

use super::time::{SqlTimestamp, ToSqlx};
use async_trait::async_trait;
use common::ids::{LeadId, PortalName};
use common::messages::AssignmentKey;
use distribution::{AnswerTimes, Name};
use jiff::{SignedDuration, Timestamp};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{Postgres, bigint, ledgers, notices, user};
use crate::{
    AnswerTimer, Answers, Manual, Notice, RunningTimer, SavedDecision, StoreError, TimerState, Verdict,
};

/// In the transaction that writes a decision whose lead is to be answered.
pub(super) async fn decided(connection: &mut PgConnection, saved: &SavedDecision) -> Result<(), sqlx::Error> {
    let (Verdict::Assign { to, .. }, Some(queue)) = (&saved.verdict, &saved.queue) else { return Ok(()) };
    sqlx::query(
        "INSERT INTO answer_timers (portal, lead_id, epoch, queue, owner) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(saved.key.portal.as_str())
    .bind(bigint(saved.key.lead.get()))
    .bind(bigint(saved.key.epoch.0.into()))
    .bind(queue)
    .bind(bigint(to.get()))
    .execute(connection)
    .await?;
    Ok(())
}

/// A timer with what became of its giving, and of the one after it.
#[derive(FromRow)]
struct Row {
    lead_id: i64,
    epoch: i32,
    queue: String,
    owner: i64,
    since: Option<SqlTimestamp>,
    is_due: bool,
    missed: bool,
    set_at: Option<SqlTimestamp>,
    next_outcome: Option<String>,
    next_person: Option<String>,
    next_reason: Option<String>,
    next_set: bool,
}

impl Row {
    fn timer(self, portal: &PortalName) -> Option<AnswerTimer> {
        let state = match (self.next_outcome.as_deref(), self.since) {
            (Some(_), _) if !self.missed => TimerState::Over,
            (Some("assign"), _) if self.next_set => TimerState::Taken(self.next_person.unwrap_or_default()),
            (Some(_), _) if self.next_reason.as_deref() == Some("nobody_else") => TimerState::NobodyElse,
            (Some(_), _) => TimerState::Over,
            (None, None) => self.set_at.map_or(TimerState::Over, |since| TimerState::Starts(since.to_jiff())),
            (None, Some(since)) if self.is_due => TimerState::Due(since.to_jiff()),
            (None, Some(since)) => TimerState::Remind(since.to_jiff()),
        };
        Some(AnswerTimer {
            key: crate::assignments::key(portal, self.lead_id, self.epoch)?,
            queue: Name::from(self.queue),
            owner: user(Some(self.owner))?,
            state,
        })
    }
}

#[async_trait]
impl Answers for Postgres {
    async fn take_answers(
        &self,
        portal: &PortalName,
        holder: Uuid,
        now: Timestamp,
        lease: SignedDuration,
    ) -> Result<bool, StoreError> {
        let taken = sqlx::query(
            "INSERT INTO answer_watches AS watch (portal, holder, lease_until) VALUES ($1, $2, $4)
             ON CONFLICT (portal) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until
             WHERE watch.holder = excluded.holder OR watch.lease_until < $3",
        )
        .bind(portal.as_str())
        .bind(holder)
        .bind(now.to_sqlx())
        .bind((now + lease).to_sqlx())
        .execute(&self.pool)
        .await
        .map_err(StoreError::during("taking the right to look after timers"))?;
        Ok(taken.rows_affected() == 1)
    }

    async fn answer_timers(
        &self,
        portal: &PortalName,
        now: Timestamp,
        retry_before: Timestamp,
        limit: u32,
    ) -> Result<Vec<AnswerTimer>, StoreError> {
        // A giving that is still carried out, or is held, is waited for.
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT timer.lead_id, timer.epoch, timer.queue, owner, since, COALESCE(due_at <= $2, false) AS is_due,
                    missed_at IS NOT NULL AS missed, mine.owner_set_at AS set_at,
                    next.outcome AS next_outcome, next.person AS next_person,
                    next.explanation -> 'outcome' ->> 'reason' AS next_reason,
                    theirs.owner_set_at IS NOT NULL AS next_set
             FROM answer_timers AS timer
             LEFT JOIN assignments AS mine USING (portal, lead_id, epoch)
             LEFT JOIN decisions AS next
                 ON next.portal = timer.portal AND next.lead_id = timer.lead_id AND next.epoch = timer.epoch + 1
             LEFT JOIN assignments AS theirs
                 ON theirs.portal = next.portal AND theirs.lead_id = next.lead_id AND theirs.epoch = next.epoch
             WHERE timer.portal = $1 AND CASE
                 WHEN next.outcome = 'hold' THEN false
                 WHEN next.outcome = 'assign' THEN
                     missed_at IS NULL OR theirs.owner_set_at IS NOT NULL OR theirs.finished_at IS NOT NULL
                 WHEN next.outcome IS NOT NULL THEN true
                 WHEN missed_at IS NOT NULL THEN missed_at < $3
                 WHEN since IS NULL THEN mine.owner_set_at IS NOT NULL OR mine.finished_at IS NOT NULL
                 ELSE due_at <= $2 OR remind_at <= $2 AND reminded_at IS NULL END
             ORDER BY due_at NULLS FIRST, timer.lead_id LIMIT $4",
        )
        .bind(portal.as_str())
        .bind(now.to_sqlx())
        .bind(retry_before.to_sqlx())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::during("looking for timers"))?;
        Ok(rows.into_iter().filter_map(|row| row.timer(portal)).collect())
    }

    async fn answers_run(&self, portal: &PortalName) -> Result<bool, StoreError> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM answer_timers WHERE portal = $1 AND since IS NOT NULL AND missed_at IS NULL)",
        )
        .bind(portal.as_str())
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::during("looking whether timers run"))
    }

    async fn running_answer_timers(
        &self,
        portal: &PortalName,
        leads: &[LeadId],
    ) -> Result<Vec<RunningTimer>, StoreError> {
        let ids: Vec<i64> = leads.iter().map(|lead| bigint(lead.get())).collect();
        let rows: Vec<(i64, i32, i64, SqlTimestamp)> = sqlx::query_as(
            "SELECT lead_id, epoch, owner, since FROM answer_timers
             WHERE portal = $1 AND lead_id = ANY ($2) AND since IS NOT NULL AND missed_at IS NULL
             ORDER BY lead_id, epoch",
        )
        .bind(portal.as_str())
        .bind(&ids)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::during("looking for the timers of leads"))?;
        let timer = |(lead, epoch, owner, since): (i64, i32, i64, SqlTimestamp)| {
            let key = crate::assignments::key(portal, lead, epoch)?;
            Some(RunningTimer { key, owner: user(Some(owner))?, since: since.to_jiff() })
        };
        Ok(rows.into_iter().filter_map(timer).collect())
    }

    async fn start_answer_timer(
        &self,
        key: &AssignmentKey,
        since: Timestamp,
        times: AnswerTimes,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE answer_timers SET since = $4, remind_at = $5, due_at = $6
             WHERE portal = $1 AND lead_id = $2 AND epoch = $3 AND since IS NULL",
        )
        .bind(key.portal.as_str())
        .bind(bigint(key.lead.get()))
        .bind(bigint(key.epoch.0.into()))
        .bind(since.to_sqlx())
        .bind(times.remind_at.map(ToSqlx::to_sqlx))
        .bind(times.due_at.to_sqlx())
        .execute(&self.pool)
        .await
        .map_err(StoreError::during("starting a timer"))?;
        Ok(())
    }

    async fn remind(&self, key: &AssignmentKey, notice: &Notice, now: Timestamp) -> Result<(), StoreError> {
        let failed = StoreError::during("reminding an owner");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let reminded = sqlx::query(
            "UPDATE answer_timers SET reminded_at = $4
             WHERE portal = $1 AND lead_id = $2 AND epoch = $3 AND reminded_at IS NULL",
        )
        .bind(key.portal.as_str())
        .bind(bigint(key.lead.get()))
        .bind(bigint(key.epoch.0.into()))
        .bind(now.to_sqlx())
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        if reminded.rows_affected() == 1 {
            notices::write(&mut transaction, &key.portal, notice, now).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn note_missed(&self, key: &AssignmentKey, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE answer_timers SET missed_at = $4 WHERE portal = $1 AND lead_id = $2 AND epoch = $3",
        )
        .bind(key.portal.as_str())
        .bind(bigint(key.lead.get()))
        .bind(bigint(key.epoch.0.into()))
        .bind(now.to_sqlx())
        .execute(&self.pool)
        .await
        .map_err(StoreError::during("noting that a lead was not answered"))?;
        Ok(())
    }

    async fn end_answer_timer(
        &self,
        key: &AssignmentKey,
        notice: Option<&Notice>,
        refund: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let failed = StoreError::during("ending a timer");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let ended =
            sqlx::query("DELETE FROM answer_timers WHERE portal = $1 AND lead_id = $2 AND epoch = $3")
                .bind(key.portal.as_str())
                .bind(bigint(key.lead.get()))
                .bind(bigint(key.epoch.0.into()))
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
        if ended.rows_affected() == 0 {
            return Ok(false);
        }
        if let Some(notice) = notice {
            notices::write(&mut transaction, &key.portal, notice, now).await.map_err(&failed)?;
        }
        if refund {
            let reason = "not answered in time".to_owned();
            let manual = Manual { author: "rota".to_owned(), reason, at: now };
            ledgers::refund(&mut transaction, key, &manual).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(true)
    }
}
