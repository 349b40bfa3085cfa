//! What the store says at the end: the rows that tell of leads, read past the store's own code.

use std::collections::BTreeSet;

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

/// A table and its rows as JSON. An explanation is long, and says nothing that is compared here.
const TABLES: [(&str, &str); 8] = [
    ("decisions", "SELECT (to_jsonb(t) - 'explanation')::text FROM decisions t ORDER BY lead_id, epoch"),
    ("assignments", "SELECT to_jsonb(t)::text FROM assignments t ORDER BY lead_id, epoch"),
    ("pack_items", "SELECT to_jsonb(t)::text FROM pack_items t ORDER BY pack, position"),
    ("givings", "SELECT to_jsonb(t)::text FROM givings t ORDER BY lead_id, epoch"),
    ("waiting_leads", "SELECT to_jsonb(t)::text FROM waiting_leads t ORDER BY lead_id, epoch"),
    (
        "dead_letters",
        "SELECT (to_jsonb(t) || jsonb_build_object('body', encode(body, 'escape')))::text FROM dead_letters t ORDER BY id",
    ),
    ("ledger_entries", "SELECT to_jsonb(t)::text FROM ledger_entries t ORDER BY id"),
    ("ledger_balances", "SELECT to_jsonb(t)::text FROM ledger_balances t ORDER BY ledger, user_id"),
];

/// All rows, by table.
#[derive(Debug, Clone, Default)]
pub struct Record(pub(crate) Vec<(&'static str, Vec<Value>)>);

/// A row of `decisions`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Decision {
    pub(crate) lead_id: u64,
    pub(crate) outcome: String,
    pub(crate) to_user: Option<u64>,
}

/// A row of `assignments`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) lead_id: u64,
    pub(crate) epoch: u32,
    pub(crate) to_user: u64,
    pub(crate) outcome: Option<String>,
}

/// A row of `dead_letters`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dead {
    pub(crate) lead_id: Option<u64>,
    pub(crate) queue: Option<String>,
    pub(crate) class: String,
    pub(crate) reason: String,
    pub(crate) attempt: usize,
}

/// A row of `ledger_entries`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Entry {
    pub(crate) ledger: String,
    pub(crate) user_id: u64,
    pub(crate) delta: i64,
    pub(crate) lead_id: Option<u64>,
    pub(crate) epoch: Option<u32>,
}

/// A row of `ledger_balances`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Balance {
    pub(crate) ledger: String,
    pub(crate) user_id: u64,
    pub(crate) credit: i64,
}

impl Record {
    /// Reads all of it in one transaction.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn read(database_url: &str) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(database_url).await?;
        let mut transaction =
            connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let mut tables = Vec::new();
        for (table, query) in TABLES {
            let rows: Vec<String> =
                sqlx::query_scalar(query).fetch_all(&mut *transaction).await.context(table)?;
            let rows = rows.iter().map(|row| serde_json::from_str(row)).collect::<Result<_, _>>();
            tables.push((table, rows.context(table)?));
        }
        transaction.rollback().await?;
        Ok(Self(tables))
    }

    /// The leads that are over by the store's word: carried out, held, left alone, or a dead letter.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn over(database_url: &str) -> anyhow::Result<BTreeSet<u64>> {
        let mut connection = PgConnection::connect(database_url).await?;
        let query = "SELECT lead_id FROM decisions LEFT JOIN assignments USING (portal, lead_id, epoch)
                      WHERE decisions.outcome <> 'assign' OR finished_at IS NOT NULL
                     UNION SELECT lead_id FROM dead_letters WHERE lead_id IS NOT NULL";
        let leads: Vec<i64> = sqlx::query_scalar(query).fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok(leads.into_iter().filter_map(|lead| u64::try_from(lead).ok()).collect())
    }

    /// The rows of a table.
    pub(crate) fn rows(&self, table: &str) -> &[Value] {
        self.0.iter().find(|(name, _)| *name == table).map(|(_, rows)| rows.as_slice()).unwrap_or_default()
    }

    /// The rows of a table, as far as they are understood here.
    ///
    /// # Errors
    /// When a column is missing.
    pub(crate) fn all<T: DeserializeOwned>(&self, table: &str) -> anyhow::Result<Vec<T>> {
        let row =
            |row: &Value| serde_json::from_value(row.clone()).with_context(|| format!("{table}: {row}"));
        self.rows(table).iter().map(row).collect()
    }

    /// Every row about a lead, as text.
    pub(crate) fn about(&self, lead: u64) -> Vec<String> {
        let of = |row: &&Value| row.get("lead_id").and_then(Value::as_u64) == Some(lead);
        let lines = self
            .0
            .iter()
            .flat_map(|(table, rows)| rows.iter().filter(of).map(move |row| format!("{table} {row}")));
        lines.collect()
    }
}
