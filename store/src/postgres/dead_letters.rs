//! Dead letters.

use std::collections::{BTreeMap, BTreeSet};

use super::time::{SqlTimestamp, ToSqlx};
use async_trait::async_trait;
use common::failure::FailureClass;
use common::ids::{LeadId, PortalName, UserId};
use common::messages::{Epoch, LeadEvent, Payload};
use jiff::{SignedDuration, Timestamp};
use sqlx::{FromRow, PgConnection};

use super::text::text;
use super::{Postgres, bigint, notices};
use crate::{
    DeadLetter, DeadLetters, KeptLetter, LetterDecision, LetterFilter, Matter, Notice, OnCard, Refused,
    StoreError,
};

/// How many leads a notice of dead letters names.
const NAMED_MAX: usize = 5;

/// As it was put here.
#[derive(FromRow)]
pub(super) struct Row {
    message_id: String,
    portal: Option<String>,
    lead_id: Option<i64>,
    queue: Option<String>,
    r#type: String,
    class: String,
    reason: String,
    attempt: i32,
    first_seen: Option<SqlTimestamp>,
    traceparent: Option<String>,
    body: Vec<u8>,
    died_at: SqlTimestamp,
}

impl Row {
    pub(super) fn letter(self) -> DeadLetter {
        DeadLetter {
            message_id: self.message_id,
            portal: self.portal,
            lead: self.lead_id.and_then(|id| u64::try_from(id).ok()).and_then(LeadId::new),
            queue: self.queue,
            kind: self.r#type,
            class: self.class,
            reason: self.reason,
            attempt: u32::try_from(self.attempt).unwrap_or_default(),
            first_seen: self.first_seen.map(SqlTimestamp::to_jiff),
            traceparent: self.traceparent,
            body: self.body,
            died_at: self.died_at.to_jiff(),
        }
    }
}

/// With what became of it.
#[derive(FromRow)]
struct Kept {
    id: i64,
    #[sqlx(flatten)]
    row: Row,
    settled_at: Option<SqlTimestamp>,
    settlement: Option<String>,
    in_replay: Option<i64>,
    sent_by: Option<i64>,
    sent_at: Option<SqlTimestamp>,
    /// The giving that a replay or a robot opened with it.
    opened: Option<i32>,
    died_again: Option<i64>,
}

/// How a giving was decided and how it ended.
#[derive(FromRow)]
struct End {
    outcome: Option<String>,
    person: Option<String>,
    reason: Option<String>,
    ended: Option<String>,
    finished_at: Option<SqlTimestamp>,
}

pub(super) fn id(column: i64) -> u64 {
    u64::try_from(column).unwrap_or_default()
}

/// Which giving a message is about; the first where it says nothing, none where it cannot be read.
pub(super) fn epoch_of(body: &[u8]) -> Option<Epoch> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let payload = body.get("payload")?.as_object()?;
    match payload.get("epoch") {
        None | Some(serde_json::Value::Null) => Some(Epoch::FIRST),
        Some(epoch) => epoch.as_u64().and_then(|epoch| u32::try_from(epoch).ok()).map(Epoch),
    }
}

impl Kept {
    fn kept(self, end: &mut BTreeMap<i64, End>) -> KeptLetter {
        let sent = self.sent_by.zip(self.sent_at);
        let end = end.remove(&self.id);
        let (decided, ended) = match end {
            None => (None, None),
            Some(end) => (
                end.outcome.map(|outcome| LetterDecision {
                    outcome,
                    person: end.person,
                    reason: end.reason.unwrap_or_default(),
                }),
                end.ended.zip(end.finished_at.map(SqlTimestamp::to_jiff)),
            ),
        };
        KeptLetter {
            id: id(self.id),
            epoch: self.epoch(),
            settled: self.settled_at.map(|at| (at.to_jiff(), self.settlement.unwrap_or_default())),
            in_replay: self.in_replay.map(id),
            sent: sent.map(|(replay, at)| (id(replay), at.to_jiff())),
            died_again: self.died_again.map(id),
            decided,
            ended,
            letter: self.row.letter(),
        }
    }

    fn epoch(&self) -> Option<Epoch> {
        let opened = self.opened.and_then(|epoch| u32::try_from(epoch).ok()).map(Epoch);
        opened.or_else(|| self.row.lead_id.and_then(|_| epoch_of(&self.row.body)))
    }
}

/// Locks letters, and answers why they cannot be worked with. Those that were `sent` once may be where `again`.
pub(super) async fn lock(
    connection: &mut PgConnection,
    ids: &[u64],
    again: bool,
) -> Result<Result<(), Refused>, sqlx::Error> {
    let wanted: Vec<i64> = ids.iter().map(|id| bigint(*id)).collect();
    let rows: Vec<(i64, Option<String>)> = sqlx::query_as(
        "SELECT id, CASE WHEN settled_at IS NOT NULL THEN coalesce(settlement, '') END
         FROM dead_letters WHERE id = ANY ($1) ORDER BY id FOR UPDATE",
    )
    .bind(&wanted)
    .fetch_all(&mut *connection)
    .await?;
    // After the locks: a replay that was begun meanwhile is seen.
    let rest: Vec<(i64, Option<i64>, bool)> = sqlx::query_as(
        "SELECT letter, max(replay) FILTER (WHERE sent_at IS NULL AND problem IS NULL
                                             AND (state = 'running' OR after_letter IS NOT NULL)),
                bool_or(sent_at IS NOT NULL)
         FROM replay_items JOIN replays ON replays.id = replay WHERE letter = ANY ($1) GROUP BY letter",
    )
    .bind(&wanted)
    .fetch_all(connection)
    .await?;
    let settled: BTreeMap<u64, Option<String>> =
        rows.into_iter().map(|(letter, settlement)| (id(letter), settlement)).collect();
    let replayed: BTreeMap<u64, (Option<i64>, bool)> =
        rest.into_iter().map(|(letter, running, sent)| (id(letter), (running, sent))).collect();
    for letter in ids.iter().copied() {
        let Some(settlement) = settled.get(&letter) else { return Ok(Err(Refused::Unknown(letter))) };
        let (running, sent) = replayed.get(&letter).copied().unwrap_or_default();
        if let Some(replay) = running.map(id) {
            return Ok(Err(Refused::InReplay { letter, replay }));
        }
        if let Some(settlement) = settlement.clone().filter(|_| !(again && sent)) {
            return Ok(Err(Refused::Settled { letter, settlement }));
        }
    }
    Ok(Ok(()))
}

/// How the givings ended that letters are about.
async fn ends(connection: &mut PgConnection, rows: &[Kept]) -> Result<BTreeMap<i64, End>, sqlx::Error> {
    let mut letters = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let (Some(portal), Some(lead), Some(epoch)) =
            (row.row.portal.as_deref(), row.row.lead_id, row.epoch())
        else {
            continue;
        };
        letters.0.push(row.id);
        letters.1.push(portal);
        letters.2.push(lead);
        letters.3.push(i32::try_from(epoch.0).unwrap_or(i32::MAX));
    }
    let rows: Vec<EndOf> = sqlx::query_as(
        "SELECT id, decisions.outcome, person, reason, assignments.outcome AS ended, finished_at
         FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::integer[]) AS letter (id, portal, lead_id, epoch)
         LEFT JOIN decisions USING (portal, lead_id, epoch)
         LEFT JOIN assignments USING (portal, lead_id, epoch)",
    )
    .bind(&letters.0)
    .bind(&letters.1)
    .bind(&letters.2)
    .bind(&letters.3)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.end)).collect())
}

#[derive(FromRow)]
struct EndOf {
    id: i64,
    #[sqlx(flatten)]
    end: End,
}

#[async_trait]
impl DeadLetters for Postgres {
    async fn bury(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        sqlx::query(
            "WITH waits_no_more AS (
                 DELETE FROM waiting_leads WHERE portal = $2 AND lead_id = $12
                    AND state = CASE WHEN $4 = $13 THEN 'undecided' ELSE 'assigned' END
             ), is_not_told AS (
                 UPDATE decisions SET title = NULL
                 WHERE portal = $2 AND lead_id = $12 AND title IS NOT NULL AND $4 <> $13
             )
             INSERT INTO dead_letters (message_id, portal, queue, type, class, reason, attempt,
                                       first_seen, traceparent, body, died_at, lead_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (message_id, coalesce(queue, ''), attempt, sha256(body)) WHERE settled_at IS NULL DO NOTHING",
        )
        .bind(text(&letter.message_id))
        .bind(letter.portal.as_deref().map(text))
        .bind(letter.queue.as_deref().map(text))
        .bind(text(&letter.kind))
        .bind(text(&letter.class))
        .bind(text(&letter.reason))
        .bind(i32::try_from(letter.attempt).unwrap_or(i32::MAX))
        .bind(letter.first_seen.map(ToSqlx::to_sqlx))
        .bind(letter.traceparent.as_deref().map(text))
        .bind(&letter.body)
        .bind(letter.died_at.to_sqlx())
        .bind(letter.lead.map(|lead| bigint(lead.get())))
        .bind(LeadEvent::TYPE)
        .execute(&self.pool)
        .await
        .map_err(StoreError::during("keeping a dead letter"))?;
        Ok(())
    }

    async fn tell_on_card(&self, letter: &DeadLetter, says: &OnCard) -> Result<bool, StoreError> {
        let Some(epoch) = epoch_of(&letter.body) else { return Ok(false) };
        let written: i64 = sqlx::query_scalar(
            "WITH letter AS (
                 UPDATE dead_letters SET on_card = true
                 WHERE message_id = $1 AND coalesce(queue, '') = coalesce($2, '') AND attempt = $3 AND body = $4
                   AND settled_at IS NULL AND NOT on_card AND portal IS NOT NULL AND lead_id IS NOT NULL
                 RETURNING id, portal, lead_id, reason,
                     coalesce((SELECT epoch FROM givings
                               WHERE givings.portal = dead_letters.portal AND asked_by = message_id), $5) AS epoch
             ), written AS (
                 INSERT INTO timeline_entries (portal, lead_id, epoch, outcome, text, written_at)
                 SELECT portal, lead_id, epoch, 'dead', CASE WHEN EXISTS (
                            SELECT FROM assignments
                            WHERE (assignments.portal, assignments.lead_id, assignments.epoch)
                                  = (letter.portal, letter.lead_id, letter.epoch) AND owner_set_at IS NOT NULL)
                        THEN $6 ELSE $7 END, $8
                 FROM letter WHERE NOT EXISTS (
                     SELECT FROM dead_letters AS earlier
                     WHERE earlier.portal = letter.portal AND earlier.lead_id = letter.lead_id
                       AND earlier.id < letter.id AND earlier.reason = letter.reason)
                 ON CONFLICT DO NOTHING RETURNING lead_id
             )
             SELECT count(*) FROM written",
        )
        .bind(&letter.message_id)
        .bind(&letter.queue)
        .bind(i32::try_from(letter.attempt).unwrap_or(i32::MAX))
        .bind(&letter.body)
        .bind(i32::try_from(epoch.0).unwrap_or(i32::MAX))
        .bind(says.given.replace('\0', "\u{fffd}"))
        .bind(says.not_given.replace('\0', "\u{fffd}"))
        .bind(letter.died_at.to_sqlx())
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::during("telling on a lead's card that it was not given"))?;
        Ok(written > 0)
    }

    async fn tell_of_letters(
        &self,
        portal: &PortalName,
        to: UserId,
        now: Timestamp,
        every: SignedDuration,
    ) -> Result<usize, StoreError> {
        let failed = StoreError::during("telling of dead letters");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let rows: Vec<(i64, Option<i64>)> = sqlx::query_as(
            "WITH telling AS (
                 INSERT INTO dead_letter_tellings (portal, told_at)
                 SELECT $1, $2 WHERE EXISTS (
                     SELECT FROM dead_letters WHERE portal = $1 AND settled_at IS NULL AND told_at IS NULL)
                 ON CONFLICT (portal) DO UPDATE SET told_at = excluded.told_at
                 WHERE dead_letter_tellings.told_at <= $3
                 RETURNING portal
             )
             UPDATE dead_letters SET told_at = $2
             WHERE portal = (SELECT portal FROM telling) AND settled_at IS NULL AND dead_letters.told_at IS NULL
             RETURNING id, lead_id",
        )
        .bind(portal.as_str())
        .bind(now.to_sqlx())
        .bind((now - every).to_sqlx())
        .fetch_all(&mut *transaction)
        .await
        .map_err(&failed)?;
        let Some(last) = rows.iter().map(|(letter, _)| *letter).max() else { return Ok(0) };
        let leads: BTreeSet<u64> =
            rows.iter().filter_map(|(_, lead)| lead.and_then(|lead| u64::try_from(lead).ok())).collect();
        let count = leads.len() + rows.iter().filter(|(_, lead)| lead.is_none()).count();
        let notice = Notice {
            tag: format!("{portal}/dead/{last}"),
            to,
            matter: Matter::DeadLetters {
                leads: leads.into_iter().filter_map(LeadId::new).take(NAMED_MAX).collect(),
                count,
            },
        };
        notices::write(&mut transaction, portal, &notice, now).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(count)
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT message_id, portal, lead_id, queue, type, class, reason, attempt, first_seen, traceparent,
                    body, died_at
             FROM dead_letters ORDER BY id LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::during("reading dead letters"))?;
        Ok(rows.into_iter().map(Row::letter).collect())
    }

    async fn find_letters(&self, filter: &LetterFilter) -> Result<Vec<KeptLetter>, StoreError> {
        let failed = StoreError::during("looking for dead letters");
        let ids = filter.ids.as_ref().map(|ids| ids.iter().map(|id| bigint(*id)).collect::<Vec<_>>());
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        let rows: Vec<Kept> = sqlx::query_as(
            "SELECT letter.id, message_id, letter.portal, letter.lead_id, letter.queue, type, class, reason, attempt,
                    first_seen, traceparent, body, died_at, settled_at, settlement,
                    (SELECT replay FROM replay_items JOIN replays ON replays.id = replay
                     WHERE replay_items.letter = letter.id AND sent_at IS NULL AND problem IS NULL
                       AND (state = 'running' OR after_letter IS NOT NULL) LIMIT 1
                    ) AS in_replay,
                    sent.replay AS sent_by, sent.sent_at, coalesce(sent.epoch, givings.epoch) AS opened,
                    (SELECT min(again.id) FROM dead_letters AS again
                     WHERE again.message_id = sent.sent_as AND again.id > sent.after_letter) AS died_again
             FROM dead_letters AS letter
             LEFT JOIN LATERAL (
                 SELECT replay, sent_at, sent_as, epoch, after_letter FROM replay_items
                 WHERE replay_items.letter = letter.id AND sent_at IS NOT NULL ORDER BY replay DESC LIMIT 1
             ) AS sent ON true
             LEFT JOIN givings ON givings.portal = letter.portal AND givings.asked_by = letter.message_id
             WHERE ($1::bigint[] IS NULL OR letter.id = ANY ($1)) AND ($2::text IS NULL OR letter.portal = $2)
               AND ($3::text IS NULL OR class = $3) AND ($4::text[] IS NULL OR letter.queue = ANY ($4))
               AND ($5::timestamptz IS NULL OR died_at < $5) AND ($6::timestamptz IS NULL OR died_at > $6)
               AND ($7::text IS NULL OR position(lower($7) IN lower(reason)) > 0)
               AND ($8 OR settled_at IS NULL) AND ($9::bigint IS NULL OR letter.lead_id = $9)
             ORDER BY letter.id",
        )
        .bind(ids)
        .bind(filter.portal.as_ref().map(PortalName::as_str))
        .bind(filter.class.map(FailureClass::as_str))
        .bind(&filter.queues)
        .bind(filter.died_before.map(ToSqlx::to_sqlx))
        .bind(filter.died_after.map(ToSqlx::to_sqlx))
        .bind(&filter.reason)
        .bind(filter.settled)
        .bind(filter.lead.map(|lead| bigint(lead.get())))
        .fetch_all(&mut *connection)
        .await
        .map_err(&failed)?;
        let mut ends = ends(&mut connection, &rows).await.map_err(&failed)?;
        Ok(rows.into_iter().map(|row| row.kept(&mut ends)).collect())
    }

    async fn settle_letters(
        &self,
        ids: &[u64],
        settlement: &str,
        at: Timestamp,
    ) -> Result<Result<(), Refused>, StoreError> {
        let failed = StoreError::during("settling dead letters");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        if let Err(refused) = lock(&mut transaction, ids, false).await.map_err(&failed)? {
            return Ok(Err(refused));
        }
        let ids: Vec<i64> = ids.iter().map(|id| bigint(*id)).collect();
        sqlx::query("UPDATE dead_letters SET settled_at = $2, settlement = $3 WHERE id = ANY ($1)")
            .bind(&ids)
            .bind(at.to_sqlx())
            .bind(settlement.replace('\0', "\u{fffd}"))
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(Ok(()))
    }

    async fn dead_letter_counts(&self) -> Result<BTreeMap<(String, String), u64>, StoreError> {
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT coalesce(portal, ''), class, count(*) FROM dead_letters WHERE settled_at IS NULL GROUP BY 1, 2")
                .fetch_all(&self.pool)
                .await
                .map_err(StoreError::during("counting dead letters"))?;
        let count = |(portal, class, count)| ((portal, class), u64::try_from(count).unwrap_or_default());
        Ok(rows.into_iter().map(count).collect())
    }
}
