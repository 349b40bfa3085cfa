//! Where portals have moved to, for people. Stages read and write it by [`common::address::PortalAddresses`].

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StoreError;

/// A portal that was found under another address than the configured one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The portal's name; the configuration may not have it any more.
    pub portal: String,
    /// The host that was configured then, with its port if it had one.
    pub configured: String,
    /// The host where the portal is since.
    pub host: String,
    /// When it first gave a good answer there.
    pub since: Timestamp,
}

/// What is remembered of portals' addresses.
#[async_trait]
pub trait Addresses: Send + Sync + 'static {
    /// All of them, by portal.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn addresses(&self) -> Result<Vec<Address>, StoreError>;

    /// Forgets all addresses of a portal, from whatever host it moved; how many these were.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn forget_addresses(&self, portal: &str) -> Result<u64, StoreError>;
}
