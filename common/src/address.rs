//! The seam between who follows a portal to its new address (`bitrix24`) and who remembers it (`store`).
//!
//! A renamed portal answers at its old address with its new one, for a time. Nobody says for how long, and
//! afterwards the old name may be somebody else's, so the new address outlives the process that was told.

use async_trait::async_trait;

use crate::ids::PortalName;

/// The address could not be read or kept.
#[derive(Debug, thiserror::Error)]
#[error("the address of portal {portal}")]
pub struct AddressError {
    /// Whose.
    pub portal: PortalName,
    /// What the store answered.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Where portals have moved to.
#[async_trait]
pub trait PortalAddresses: Send + Sync + 'static {
    /// The host that a portal has moved to from the one that is `configured`; none where the configuration
    /// is right, or was changed since.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn moved_to(&self, portal: &PortalName, configured: &str) -> Result<Option<String>, AddressError>;

    /// Remembers a host at which the portal has given a good answer.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn moved(&self, portal: &PortalName, configured: &str, host: &str) -> Result<(), AddressError>;

    /// Forgets that host, unless another one is remembered by now: the portal is where it is configured.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn came_back(&self, portal: &PortalName, configured: &str, host: &str) -> Result<(), AddressError>;
}
