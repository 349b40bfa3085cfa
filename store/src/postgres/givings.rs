//! Givings that were asked for.

use super::time::ToSqlx;
use async_trait::async_trait;
use common::ids::{LeadId, PortalName, UserId};
use common::messages::{AssignmentKey, Epoch};
use distribution::{Cause, Destination, Giving, Name};
use sqlx::PgConnection;

use super::text::text;
use super::{Postgres, bigint, ledgers, user};
use crate::{Givings, NewGiving, StoreError};

fn epoch(number: i32) -> Epoch {
    Epoch(u32::try_from(number).unwrap_or_default())
}

/// What was asked for this giving, and who had the lead before in its round. The default where nobody asked.
pub(super) async fn find(connection: &mut PgConnection, key: &AssignmentKey) -> Result<Giving, sqlx::Error> {
    type Row = (String, Option<String>, Option<String>, Option<i64>, Vec<i64>);
    let row: Option<Row> = sqlx::query_as(
        "SELECT cause, queue, person, from_user, ARRAY (
             SELECT to_user FROM decisions
             WHERE portal = $1 AND lead_id = $2 AND epoch >= round AND epoch < $3 AND outcome = 'assign'
             GROUP BY to_user HAVING count(*) >= rounds OR to_user = givings.from_user)
         FROM givings WHERE portal = $1 AND lead_id = $2 AND epoch = $3",
    )
    .bind(key.portal.as_str())
    .bind(bigint(key.lead.get()))
    .bind(bigint(key.epoch.0.into()))
    .fetch_optional(connection)
    .await?;
    let Some((cause, queue, person, from, had)) = row else { return Ok(Giving::default()) };
    let queue = queue.map(|queue| Destination::Queue(Name::from(queue)));
    Ok(Giving {
        // A word that this version does not know is of a newer one, which wrote the row: it was asked for.
        cause: Cause::ALL.into_iter().find(|known| known.as_str() == cause).unwrap_or(Cause::Robot),
        to: queue.or_else(|| person.map(|person| Destination::Person(Name::from(person)))),
        from: user(from),
        // The decision before tells.
        held_since: None,
        ahead: Vec::new(),
        had: had.into_iter().filter_map(|had| user(Some(had))).collect(),
    })
}

/// Whether an earlier giving of the lead is still carried out.
pub(super) async fn under_way(
    connection: &mut PgConnection,
    key: &AssignmentKey,
) -> Result<bool, sqlx::Error> {
    if key.epoch == Epoch::FIRST {
        return Ok(false);
    }
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM waiting_leads
                        WHERE portal = $1 AND lead_id = $2 AND epoch < $3 AND state = 'assigned')",
    )
    .bind(key.portal.as_str())
    .bind(bigint(key.lead.get()))
    .bind(bigint(key.epoch.0.into()))
    .fetch_one(connection)
    .await
}

/// Which giving of the lead this is to be, and which its round began with; none where it is not wanted any more.
async fn place(
    connection: &mut PgConnection,
    portal: &PortalName,
    lead: LeadId,
    new: &NewGiving,
) -> Result<Option<(i32, i32)>, sqlx::Error> {
    let last: Option<(i32, Option<String>, Option<i32>)> = sqlx::query_as(
        "SELECT epoch, outcome, round
         FROM (SELECT epoch, outcome FROM decisions WHERE portal = $1 AND lead_id = $2) AS decision
         FULL JOIN (SELECT epoch, round FROM givings WHERE portal = $1 AND lead_id = $2) AS giving USING (epoch)
         ORDER BY epoch DESC LIMIT 1",
    )
    .bind(portal.as_str())
    .bind(bigint(lead.get()))
    .fetch_optional(connection)
    .await?;
    let place = match last {
        None => (1, 1),
        Some((last, outcome, round)) => {
            let next = match outcome.as_deref() {
                None | Some("hold") => last,
                Some(_) => last + 1,
            };
            let goes_on = new.cause == Cause::Unanswered;
            (next, if goes_on { round.unwrap_or(1) } else { next })
        }
    };
    Ok(Some(place).filter(|(next, _)| new.after.is_none_or(|after| epoch(*next).0 == after.0 + 1)))
}

/// The giving that was opened for this request.
pub(super) async fn opened_by(
    connection: &mut PgConnection,
    portal: &PortalName,
    asked_by: &str,
) -> Result<Option<Epoch>, sqlx::Error> {
    let opened: Option<i32> =
        sqlx::query_scalar("SELECT epoch FROM givings WHERE portal = $1 AND asked_by = $2")
            .bind(portal.as_str())
            .bind(text(asked_by))
            .fetch_optional(connection)
            .await?;
    Ok(opened.map(epoch))
}

/// Opens a giving, under the lock of the portal's decisions; answers which it is.
pub(super) async fn open(
    connection: &mut PgConnection,
    portal: &PortalName,
    lead: LeadId,
    new: &NewGiving,
) -> Result<Option<Epoch>, sqlx::Error> {
    if let Some(before) = opened_by(connection, portal, &new.asked_by).await? {
        return Ok(Some(before));
    }
    let Some((number, round)) = place(connection, portal, lead, new).await? else { return Ok(None) };
    let (queue, person) = match &new.to {
        None => (None, None),
        Some(Destination::Queue(queue)) => (Some(text(queue)), None),
        Some(Destination::Person(person)) => (None, Some(text(person))),
    };
    sqlx::query(
        "INSERT INTO givings (portal, lead_id, epoch, asked_by, cause, queue, person, from_user, rounds, round,
                              asked_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (portal, lead_id, epoch) DO UPDATE SET
             asked_by = excluded.asked_by, cause = excluded.cause, queue = excluded.queue,
             person = excluded.person, from_user = excluded.from_user, rounds = excluded.rounds,
             round = excluded.round, asked_at = excluded.asked_at",
    )
    .bind(portal.as_str())
    .bind(bigint(lead.get()))
    .bind(number)
    .bind(text(&new.asked_by))
    .bind(new.cause.as_str())
    .bind(queue)
    .bind(person)
    .bind(new.from.map(|from: UserId| bigint(from.get())))
    .bind(i32::try_from(new.rounds).unwrap_or(i32::MAX))
    .bind(round)
    .bind(new.at.to_sqlx())
    .execute(connection)
    .await?;
    Ok(Some(epoch(number)))
}

#[async_trait]
impl Givings for Postgres {
    async fn giving(&self, key: &AssignmentKey) -> Result<Giving, StoreError> {
        let failed = StoreError::during("looking what was asked for a lead");
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        find(&mut connection, key).await.map_err(&failed)
    }

    async fn opened_by(&self, portal: &PortalName, asked_by: &str) -> Result<Option<Epoch>, StoreError> {
        let failed = StoreError::during("looking whether a giving was opened");
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        opened_by(&mut connection, portal, asked_by).await.map_err(&failed)
    }

    async fn is_too_early(&self, key: &AssignmentKey) -> Result<bool, StoreError> {
        let failed = StoreError::during("looking whether an earlier giving is carried out");
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        under_way(&mut connection, key).await.map_err(&failed)
    }

    async fn give_again(
        &self,
        portal: &PortalName,
        lead: LeadId,
        new: &NewGiving,
    ) -> Result<Option<Epoch>, StoreError> {
        let failed = StoreError::during("noting that a lead is to be given again");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        ledgers::lock(&mut transaction, portal).await.map_err(&failed)?;
        let opened = open(&mut transaction, portal, lead, new).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(opened)
    }
}
