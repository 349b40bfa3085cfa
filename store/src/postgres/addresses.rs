//! Where portals have moved to.

use async_trait::async_trait;
use common::address::{AddressError, PortalAddresses};
use common::ids::PortalName;

use super::Postgres;

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
        sqlx::query(
            "INSERT INTO addresses VALUES ($1, $2, $3)
             ON CONFLICT (portal, configured) DO UPDATE SET host = excluded.host, moved_at = excluded.moved_at",
        )
        .bind(portal.as_str())
        .bind(configured)
        .bind(host)
        .execute(&self.pool)
        .await
        .map_err(failed(portal))?;
        Ok(())
    }
}
