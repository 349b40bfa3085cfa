//! Dead letters that are sent again.

use std::collections::BTreeMap;

use super::time::{SqlTimestamp, ToSqlx};
use async_trait::async_trait;
use common::messages::{AssignmentCommand, AssignmentKey, Epoch, Payload};
use distribution::Cause;
use jiff::{SignedDuration, Timestamp};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::dead_letters::{self, id};
use super::{Postgres, bigint, givings, ledgers};
use crate::{Manual, NewGiving, NewReplay, NextLetter, Refused, Replay, ReplayState, Replays, StoreError};

/// How an assignment ends whose lead is decided anew.
const GIVEN_AGAIN: &str = "given_again";

#[derive(FromRow)]
struct Row {
    id: i64,
    what: String,
    author: String,
    per_second: f64,
    decide_again: bool,
    state: String,
    created_at: SqlTimestamp,
    ended_at: Option<SqlTimestamp>,
    ended_by: Option<String>,
    letters: i64,
    sent: i64,
}

impl Row {
    fn replay(self, problems: Vec<(u64, String)>) -> Replay {
        Replay {
            id: id(self.id),
            what: self.what,
            author: self.author,
            per_second: self.per_second,
            decide_again: self.decide_again,
            state: match self.state.as_str() {
                "running" => ReplayState::Running,
                "cancelled" => ReplayState::Cancelled,
                _ => ReplayState::Done,
            },
            created_at: self.created_at.to_jiff(),
            ended_at: self.ended_at.map(SqlTimestamp::to_jiff),
            ended_by: self.ended_by,
            letters: id(self.letters),
            sent: id(self.sent),
            problems,
        }
    }
}

/// The last replays, or this one.
async fn read(
    connection: &mut PgConnection,
    which: Option<i64>,
    limit: u32,
) -> Result<Vec<Replay>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, what, author, per_second, decide_again, state, created_at, ended_at, ended_by,
                (SELECT count(*) FROM replay_items WHERE replay = replays.id) AS letters,
                (SELECT count(*) FROM replay_items WHERE replay = replays.id AND sent_at IS NOT NULL) AS sent
         FROM replays WHERE $1::bigint IS NULL OR id = $1 ORDER BY id DESC LIMIT $2",
    )
    .bind(which)
    .bind(i64::from(limit))
    .fetch_all(&mut *connection)
    .await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let problems: Vec<(i64, i64, String)> = sqlx::query_as(
        "SELECT replay, letter, problem FROM replay_items
         WHERE replay = ANY ($1) AND problem IS NOT NULL ORDER BY replay, letter",
    )
    .bind(&ids)
    .fetch_all(connection)
    .await?;
    let mut by_replay: BTreeMap<i64, Vec<(u64, String)>> = BTreeMap::new();
    for (replay, letter, problem) in problems {
        by_replay.entry(replay).or_default().push((id(letter), problem));
    }
    let with_problems = |row: Row| {
        let problems = by_replay.remove(&row.id).unwrap_or_default();
        row.replay(problems)
    };
    Ok(rows.into_iter().map(with_problems).collect())
}

/// A command that was not carried out waits again, from now on: its earlier wait ended as a dead letter.
async fn wait_again(
    connection: &mut PgConnection,
    letter: i64,
    kind: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    if kind != AssignmentCommand::TYPE {
        return Ok(());
    }
    let Some(epoch) = dead_letters::epoch_of(body) else { return Ok(()) };
    sqlx::query(
        "INSERT INTO waiting_leads (portal, lead_id, epoch, state, first_seen)
         SELECT portal, lead_id, $2, 'assigned', $3 FROM dead_letters AS letter
         WHERE id = $1 AND portal IS NOT NULL AND lead_id IS NOT NULL
           AND EXISTS (SELECT FROM decisions
                       WHERE (decisions.portal, decisions.lead_id, epoch) = (letter.portal, letter.lead_id, $2)
                         AND outcome = 'assign')
           AND NOT EXISTS (SELECT FROM assignments
                           WHERE (assignments.portal, assignments.lead_id, epoch) = (letter.portal, letter.lead_id, $2)
                             AND finished_at IS NOT NULL)
         ON CONFLICT DO NOTHING",
    )
    .bind(letter)
    .bind(i32::try_from(epoch.0).unwrap_or(i32::MAX))
    .bind(now.to_sqlx())
    .execute(connection)
    .await?;
    Ok(())
}

/// How the lead of a letter can be decided anew.
enum Anew {
    /// It cannot.
    Not,
    /// It is held: in the giving that waits.
    Held,
    /// In another giving.
    Opened,
}

/// Ends what was decided for this giving and not begun.
async fn take_back(
    connection: &mut PgConnection,
    key: &AssignmentKey,
    manual: &Manual,
) -> Result<Anew, sqlx::Error> {
    let (lead, epoch) = (bigint(key.lead.get()), bigint(key.epoch.0.into()));
    let decided: Option<(String, Option<i64>)> = sqlx::query_as(
        "SELECT outcome, to_user FROM decisions WHERE portal = $1 AND lead_id = $2 AND epoch = $3
           AND NOT EXISTS (SELECT FROM decisions AS later
                           WHERE later.portal = $1 AND later.lead_id = $2 AND later.epoch > $3)",
    )
    .bind(key.portal.as_str())
    .bind(lead)
    .bind(epoch)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((outcome, to)) = decided else { return Ok(Anew::Not) };
    if outcome == "hold" {
        return Ok(Anew::Held);
    }
    // One that was left alone cost nothing.
    let Some(to) = to else { return Ok(Anew::Opened) };
    let ended: Option<i64> = sqlx::query_scalar(
        "INSERT INTO assignments (portal, lead_id, epoch, to_user, outcome, finished_at)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (portal, lead_id, epoch) DO UPDATE SET
             outcome = excluded.outcome, finished_at = excluded.finished_at
         WHERE assignments.finished_at IS NULL AND assignments.sent_at IS NULL AND assignments.owner_set_at IS NULL
         RETURNING lead_id",
    )
    .bind(key.portal.as_str())
    .bind(lead)
    .bind(epoch)
    .bind(to)
    .bind(GIVEN_AGAIN)
    .bind(manual.at.to_sqlx())
    .fetch_optional(&mut *connection)
    .await?;
    if ended.is_none() {
        return Ok(Anew::Not);
    }
    for query in [
        "DELETE FROM waiting_leads WHERE portal = $1 AND lead_id = $2 AND epoch = $3",
        "UPDATE decisions SET title = NULL WHERE portal = $1 AND lead_id = $2 AND epoch = $3",
    ] {
        sqlx::query(query).bind(key.portal.as_str()).bind(lead).bind(epoch).execute(&mut *connection).await?;
    }
    ledgers::refund(connection, key, manual).await?;
    Ok(Anew::Opened)
}

#[async_trait]
impl Replays for Postgres {
    async fn start_replay(&self, new: &NewReplay) -> Result<Result<u64, Refused>, StoreError> {
        let failed = StoreError::during("beginning a replay");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        // Another that is begun at the same time is waited for here.
        let replay: Option<i64> = sqlx::query_scalar(
            "INSERT INTO replays (what, author, per_second, decide_again, state, created_at)
             VALUES ($1, $2, $3, $4, 'running', $5) ON CONFLICT DO NOTHING RETURNING id",
        )
        .bind(new.what.replace('\0', "\u{fffd}"))
        .bind(&new.author)
        .bind(new.per_second)
        .bind(new.decide_again)
        .bind(new.at.to_sqlx())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(&failed)?;
        let Some(replay) = replay else {
            let running: Option<(i64, String)> =
                sqlx::query_as("SELECT id, author FROM replays WHERE state = 'running'")
                    .fetch_optional(&mut *transaction)
                    .await
                    .map_err(&failed)?;
            // It may have ended in this moment; whoever asks again is not refused.
            let (replay, author) = running.unwrap_or_default();
            return Ok(Err(Refused::Runs { replay: id(replay), author }));
        };
        if let Err(refused) =
            dead_letters::lock(&mut transaction, &new.letters, true).await.map_err(&failed)?
        {
            return Ok(Err(refused));
        }
        let letters: Vec<i64> = new.letters.iter().map(|letter| bigint(*letter)).collect();
        sqlx::query(
            "INSERT INTO replay_items (replay, letter) SELECT $1, letter FROM unnest($2::bigint[]) AS letter
             ON CONFLICT DO NOTHING",
        )
        .bind(replay)
        .bind(&letters)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(Ok(id(replay)))
    }

    async fn cancel_replay(&self, author: &str, at: Timestamp) -> Result<Option<Replay>, StoreError> {
        let failed = StoreError::during("cancelling a replay");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let cancelled: Option<i64> = sqlx::query_scalar(
            "UPDATE replays SET state = 'cancelled', ended_at = $2, ended_by = $1 WHERE state = 'running' RETURNING id",
        )
        .bind(author)
        .bind(at.to_sqlx())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(&failed)?;
        let Some(cancelled) = cancelled else { return Ok(None) };
        let replay = read(&mut transaction, Some(cancelled), 1).await.map_err(&failed)?.pop();
        transaction.commit().await.map_err(&failed)?;
        Ok(replay)
    }

    async fn replays(&self, limit: u32) -> Result<Vec<Replay>, StoreError> {
        let failed = StoreError::during("reading replays");
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        read(&mut connection, None, limit).await.map_err(&failed)
    }

    async fn take_replay(
        &self,
        holder: Uuid,
        now: Timestamp,
        lease: SignedDuration,
    ) -> Result<Option<Replay>, StoreError> {
        let failed = StoreError::during("taking the right to replay");
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        let taken: Option<i64> = sqlx::query_scalar(
            "UPDATE replays SET holder = $1, lease_until = $3
             WHERE (holder = $1 OR lease_until IS NULL OR lease_until < $2) AND id = (
                 SELECT id FROM replays WHERE state = 'running' OR state = 'cancelled' AND EXISTS (
                     SELECT FROM replay_items WHERE replay = id
                         AND after_letter IS NOT NULL AND sent_at IS NULL AND problem IS NULL)
                 ORDER BY id LIMIT 1)
             RETURNING id",
        )
        .bind(holder)
        .bind(now.to_sqlx())
        .bind((now + lease).to_sqlx())
        .fetch_optional(&mut *connection)
        .await
        .map_err(&failed)?;
        let Some(taken) = taken else { return Ok(None) };
        Ok(read(&mut connection, Some(taken), 1).await.map_err(&failed)?.pop())
    }

    async fn next_letter(
        &self,
        replay: u64,
        holder: Uuid,
        now: Timestamp,
        lease: SignedDuration,
    ) -> Result<NextLetter, StoreError> {
        let failed = StoreError::during("looking which dead letter is sent next");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let ours: Option<String> = sqlx::query_scalar(
            "UPDATE replays SET lease_until = $3 WHERE id = $1 AND holder = $2 AND state <> 'done' RETURNING state",
        )
        .bind(bigint(replay))
        .bind(holder)
        .bind((now + lease).to_sqlx())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(&failed)?;
        let Some(state) = ours else { return Ok(NextLetter::NotOurs) };
        let next: Option<i64> = sqlx::query_scalar(
            "UPDATE replay_items SET after_letter = coalesce(after_letter, (SELECT max(id) FROM dead_letters))
             WHERE replay = $1 AND letter = (
                 SELECT letter FROM replay_items WHERE replay = $1 AND sent_at IS NULL AND problem IS NULL
                    AND ($2 = 'running' OR after_letter IS NOT NULL)
                 ORDER BY after_letter IS NULL, letter LIMIT 1)
             RETURNING letter",
        )
        .bind(bigint(replay))
        .bind(&state)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(&failed)?;
        let Some(next) = next else {
            sqlx::query(
                "UPDATE replays SET state = 'done', ended_at = $2 WHERE id = $1 AND state = 'running'",
            )
            .bind(bigint(replay))
            .bind(now.to_sqlx())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
            transaction.commit().await.map_err(&failed)?;
            return Ok(NextLetter::Ended);
        };
        // Settled before it is sent: what dies anew must not be taken for a copy of it.
        let row: dead_letters::Row = sqlx::query_as(
            "UPDATE dead_letters SET settled_at = $2,
                 settlement = 'replayed by ' || (SELECT author FROM replays WHERE id = $3)
             WHERE id = $1
             RETURNING message_id, portal, lead_id, queue, type, class, reason, attempt, first_seen, traceparent,
                    body, died_at",
        )
        .bind(next)
        .bind(now.to_sqlx())
        .bind(bigint(replay))
        .fetch_one(&mut *transaction)
        .await
        .map_err(&failed)?;
        let letter = row.letter();
        wait_again(&mut transaction, next, &letter.kind, &letter.body, now).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(NextLetter::Send(id(next), Box::new(letter)))
    }

    async fn decide_letter_again(
        &self,
        replay: u64,
        letter: u64,
        key: &AssignmentKey,
        at: Timestamp,
    ) -> Result<Option<Epoch>, StoreError> {
        let failed = StoreError::during("having a lead decided anew");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        ledgers::lock(&mut transaction, &key.portal).await.map_err(&failed)?;
        let asked_by = format!("replay/{replay}/{letter}");
        let opened = givings::opened_by(&mut transaction, &key.portal, &asked_by).await.map_err(&failed)?;
        let reason = format!("decided anew by replay {replay}");
        let manual = Manual { author: "rota".to_owned(), reason, at };
        if opened.is_none() {
            match take_back(&mut transaction, key, &manual).await.map_err(&failed)? {
                Anew::Not => return Ok(None),
                Anew::Held => return Ok(Some(key.epoch)),
                Anew::Opened => {}
            }
        }
        let new = NewGiving {
            asked_by,
            // Nobody is to lose it who has it: it is decided as if it had come now.
            cause: Cause::New,
            to: None,
            from: None,
            rounds: 1,
            after: None,
            at,
        };
        let epoch = givings::open(&mut transaction, &key.portal, key.lead, &new).await.map_err(&failed)?;
        sqlx::query("UPDATE replay_items SET epoch = $3 WHERE replay = $1 AND letter = $2")
            .bind(bigint(replay))
            .bind(bigint(letter))
            .bind(epoch.map(|epoch| i32::try_from(epoch.0).unwrap_or(i32::MAX)))
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(epoch)
    }

    async fn letter_sent(
        &self,
        replay: u64,
        letter: u64,
        sent_as: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE replay_items SET sent_at = $4, sent_as = $3 WHERE replay = $1 AND letter = $2")
            .bind(bigint(replay))
            .bind(bigint(letter))
            .bind(sent_as)
            .bind(at.to_sqlx())
            .execute(&self.pool)
            .await
            .map_err(StoreError::during("noting that a dead letter was sent again"))?;
        Ok(())
    }

    async fn letter_not_sent(&self, replay: u64, letter: u64, problem: &str) -> Result<(), StoreError> {
        sqlx::query(
            "WITH not_sent AS (UPDATE replay_items SET problem = $3 WHERE replay = $1 AND letter = $2)
             UPDATE dead_letters AS letter SET settled_at = NULL, settlement = NULL
             WHERE id = $2 AND NOT EXISTS (
                 -- a copy of it that waits already
                 SELECT FROM dead_letters AS copy
                 WHERE copy.id <> letter.id AND copy.message_id = letter.message_id AND copy.settled_at IS NULL)",
        )
            .bind(bigint(replay))
            .bind(bigint(letter))
            .bind(problem.replace('\0', "\u{fffd}"))
            .execute(&self.pool)
            .await
            .map_err(StoreError::during("noting that a dead letter cannot be sent"))?;
        Ok(())
    }
}
