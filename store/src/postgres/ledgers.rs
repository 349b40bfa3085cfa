//! The ledgers of turns.

use std::collections::BTreeMap;

use super::time::ToSqlx;
use async_trait::async_trait;
use common::ids::PortalName;
use common::messages::AssignmentKey;
use distribution::EntryKind;
use jiff::Timestamp;
use sqlx::PgConnection;

use super::{Postgres, bigint, user};
use crate::{Balances, LedgerEntry, Ledgers, Manual, StoreError};

/// The word in the column.
pub(super) fn word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Turn => "turn",
        EntryKind::Duty => "duty",
        EntryKind::Left => "left",
        EntryKind::Correction => "correction",
        EntryKind::Refund => "refund",
    }
}

/// One decision of a portal at a time, and no correction beside it: two at once would read the same balances and give
/// one person two turns.
pub(super) async fn lock(connection: &mut PgConnection, portal: &PortalName) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO deciding VALUES ($1) ON CONFLICT (portal) DO UPDATE SET portal = excluded.portal",
    )
    .bind(portal.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn balances(
    connection: &mut PgConnection,
    portal: &PortalName,
) -> Result<Balances, sqlx::Error> {
    let rows: Vec<(String, i64, i64)> =
        sqlx::query_as("SELECT ledger, user_id, credit FROM ledger_balances WHERE portal = $1")
            .bind(portal.as_str())
            .fetch_all(connection)
            .await?;
    let mut balances = Balances::new();
    for (ledger, user_id, credit) in rows {
        if let Some(user) = user(Some(user_id)) {
            balances.entry(ledger).or_default().insert(user, credit);
        }
    }
    Ok(balances)
}

/// Books an entry, of a decision or by hand.
pub(super) async fn book(
    connection: &mut PgConnection,
    portal: &PortalName,
    entry: &LedgerEntry,
    decision: Option<&AssignmentKey>,
    manual: Option<&Manual>,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH entry AS (
             INSERT INTO ledger_entries (portal, ledger, user_id, delta, kind, lead_id, epoch, author, reason,
                                         written_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         )
         INSERT INTO ledger_balances (portal, ledger, user_id, credit) VALUES ($1, $2, $3, $4)
         ON CONFLICT (portal, ledger, user_id)
         DO UPDATE SET credit = ledger_balances.credit + excluded.credit",
    )
    .bind(portal.as_str())
    .bind(&entry.ledger)
    .bind(bigint(entry.user.get()))
    .bind(entry.delta)
    .bind(word(entry.kind))
    .bind(decision.map(|key| bigint(key.lead.get())))
    .bind(decision.map(|key| bigint(key.epoch.0.into())))
    .bind(manual.map(|manual| manual.author.as_str()))
    .bind(manual.map(|manual| manual.reason.as_str()))
    .bind(at.to_sqlx())
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives the turn back that a decision cost, unless that was done before; answers whether it was done now.
pub(super) async fn refund(
    connection: &mut PgConnection,
    key: &AssignmentKey,
    manual: &Manual,
) -> Result<bool, sqlx::Error> {
    lock(connection, &key.portal).await?;
    let booked: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT ledger, user_id, sum(delta)::bigint FROM ledger_entries AS entry
         WHERE portal = $1 AND lead_id = $2 AND epoch = $3 AND kind IN ('turn', 'duty')
         AND NOT EXISTS (SELECT FROM ledger_entries WHERE portal = $1 AND lead_id = $2 AND epoch = $3
                                                          AND kind = 'refund')
         GROUP BY ledger, user_id ORDER BY ledger, user_id",
    )
    .bind(key.portal.as_str())
    .bind(bigint(key.lead.get()))
    .bind(bigint(key.epoch.0.into()))
    .fetch_all(&mut *connection)
    .await?;
    for (ledger, user_id, delta) in &booked {
        let Some(user) = user(Some(*user_id)) else { continue };
        let entry = LedgerEntry { ledger: ledger.clone(), user, delta: -delta, kind: EntryKind::Refund };
        book(connection, &key.portal, &entry, Some(key), Some(manual), manual.at).await?;
    }
    Ok(!booked.is_empty())
}

#[derive(Debug, thiserror::Error)]
#[error("the entries of ledger {ledger} sum to {sum} units instead of zero")]
struct Unbalanced {
    ledger: String,
    sum: i64,
}

fn check_balance(entries: &[LedgerEntry]) -> Result<(), Unbalanced> {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for entry in entries {
        let sum = sums.entry(&entry.ledger).or_default();
        *sum = sum.saturating_add(entry.delta);
    }
    match sums.into_iter().find(|(_, sum)| *sum != 0) {
        Some((ledger, sum)) => Err(Unbalanced { ledger: ledger.to_owned(), sum }),
        None => Ok(()),
    }
}

#[async_trait]
impl Ledgers for Postgres {
    async fn balances(&self, portal: &PortalName) -> Result<Balances, StoreError> {
        let failed = StoreError::during("reading credits");
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        balances(&mut connection, portal).await.map_err(&failed)
    }

    async fn correct(
        &self,
        portal: &PortalName,
        entries: &[LedgerEntry],
        manual: &Manual,
    ) -> Result<(), StoreError> {
        check_balance(entries).map_err(StoreError::during("correcting credits"))?;
        let failed = StoreError::during("correcting credits");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        lock(&mut transaction, portal).await.map_err(&failed)?;
        for entry in entries {
            book(&mut transaction, portal, entry, None, Some(manual), manual.at).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn refund(&self, key: &AssignmentKey, manual: &Manual) -> Result<bool, StoreError> {
        let failed = StoreError::during("giving a turn back");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let refunded = refund(&mut transaction, key, manual).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(refunded)
    }
}

#[cfg(test)]
mod tests {
    use common::ids::UserId;

    use super::*;

    #[test]
    fn what_is_added_to_one_is_taken_from_others() {
        let entry = |ledger: &str, user, delta| LedgerEntry {
            ledger: ledger.to_owned(),
            user: UserId::new(user).unwrap(),
            delta,
            kind: EntryKind::Correction,
        };
        assert!(
            check_balance(&[entry("a", 1, 4), entry("b", 1, 2), entry("a", 2, -4), entry("b", 2, -2)])
                .is_ok()
        );
        let error = check_balance(&[entry("a", 1, 4), entry("b", 1, -4)]).unwrap_err();
        assert_eq!(error.to_string(), "the entries of ledger a sum to 4 units instead of zero");
    }
}
