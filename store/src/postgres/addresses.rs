//! Where portals have moved to.

use async_trait::async_trait;
use common::address::{AddressError, PortalAddresses};
use common::ids::PortalName;

use super::Postgres;
use super::time::SqlTimestamp;
use crate::{Address, Addresses, StoreError};

fn failed(portal: &PortalName) -> impl Fn(sqlx::Error) -> AddressError {
    move |error| AddressError { portal: portal.clone(), source: error.into() }
}

#[async_trait]
impl PortalAddresses for Postgres {
    async fn moved_to(&self, portal: &PortalName, configured: &str) -> Result<Option<String>, AddressError> {
        sqlx::query_scalar("SELECT host FROM addresses WHERE portal = $1 AND configured = $2")
            .bind(portal.as_str())
            .bind(configured)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed(portal))
    }

    async fn moved(&self, portal: &PortalName, configured: &str, host: &str) -> Result<(), AddressError> {
        // Several processes find the same; the first of them says since when.
        sqlx::query(
            "INSERT INTO addresses AS known VALUES ($1, $2, $3)
             ON CONFLICT (portal, configured) DO UPDATE SET host = excluded.host, moved_at = excluded.moved_at
             WHERE known.host <> excluded.host",
        )
        .bind(portal.as_str())
        .bind(configured)
        .bind(host)
        .execute(&self.pool)
        .await
        .map_err(failed(portal))?;
        Ok(())
    }

    async fn came_back(&self, portal: &PortalName, configured: &str, host: &str) -> Result<(), AddressError> {
        sqlx::query("DELETE FROM addresses WHERE portal = $1 AND configured = $2 AND host = $3")
            .bind(portal.as_str())
            .bind(configured)
            .bind(host)
            .execute(&self.pool)
            .await
            .map_err(failed(portal))?;
        Ok(())
    }
}

#[async_trait]
impl Addresses for Postgres {
    async fn addresses(&self) -> Result<Vec<Address>, StoreError> {
        let rows: Vec<(String, String, String, SqlTimestamp)> = sqlx::query_as(
            "SELECT portal, configured, host, moved_at FROM addresses ORDER BY portal, moved_at, configured",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::during("reading the addresses of portals"))?;
        let address = |(portal, configured, host, since): (String, String, String, SqlTimestamp)| Address {
            portal,
            configured,
            host,
            since: since.to_jiff(),
        };
        Ok(rows.into_iter().map(address).collect())
    }

    async fn forget_addresses(&self, portal: &str) -> Result<u64, StoreError> {
        let deleted =
            sqlx::query("DELETE FROM addresses WHERE portal = $1").bind(portal).execute(&self.pool).await;
        let deleted = deleted.map_err(StoreError::during("forgetting the addresses of a portal"))?;
        Ok(deleted.rows_affected())
    }
}
