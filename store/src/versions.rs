//! The published versions of each portal's routing.

use std::collections::BTreeMap;

use async_trait::async_trait;
use common::ids::PortalName;
use jiff::Timestamp;

use crate::StoreError;

/// A version to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// The routing file.
    pub text: String,
    /// Who publishes it.
    pub author: String,
    /// Why, in his words.
    pub note: Option<String>,
}

/// A version as it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedVersion {
    /// Its number, from 1 in each portal.
    pub version: u64,
    /// The routing file.
    pub text: String,
    /// Who published it.
    pub author: String,
    /// Why.
    pub note: Option<String>,
    /// When.
    pub published_at: Timestamp,
}

/// A version without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionInfo {
    /// Its number.
    pub version: u64,
    /// Who published it.
    pub author: String,
    /// Why.
    pub note: Option<String>,
    /// When.
    pub published_at: Timestamp,
    /// Whether it is the one that decides.
    pub current: bool,
}

/// Versions of routings.
#[async_trait]
pub trait Versions: Send + Sync + 'static {
    /// Stores a version under the portal's next number and makes it the current one.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was changed then.
    async fn publish(&self, portal: &PortalName, new: &NewVersion, at: Timestamp) -> Result<u64, StoreError>;

    /// The current version; where the portal has none, this one is published as its first.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn current_or_first(
        &self,
        portal: &PortalName,
        first: &NewVersion,
        at: Timestamp,
    ) -> Result<PublishedVersion, StoreError>;

    /// Makes an older version the current one again, or a newer one. False when there is no such version.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn activate(
        &self,
        portal: &PortalName,
        version: u64,
        author: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError>;

    /// The last `limit` versions, newest first.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn versions(&self, portal: &PortalName, limit: u32) -> Result<Vec<VersionInfo>, StoreError>;

    /// One version.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn version(
        &self,
        portal: &PortalName,
        version: u64,
    ) -> Result<Option<PublishedVersion>, StoreError>;

    /// The current version's number of every portal that has one: a small question, asked every second.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn current_versions(&self) -> Result<BTreeMap<PortalName, u64>, StoreError>;
}
