//! Packs whose end nobody saw: each is cleared up once, as a whole, by one who holds it.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{Done, PackItem, StoreError};

/// Lost packs.
#[async_trait]
pub trait LostPacks: Send + Sync + 'static {
    /// Holds a pack until `until`, unless somebody else does; answers what is not known of it, by position. None of
    /// that is sent again before [`Self::lost_pack_ended`].
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn hold_lost_pack(
        &self,
        pack: Uuid,
        holder: Uuid,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Vec<PackItem>>, StoreError>;

    /// Writes down what the pack did, all in one transaction, and lets it go. Nothing is written where the holder does
    /// not hold it any more; answers whether it did. Without results the pack is only let go.
    ///
    /// # Errors
    /// [`StoreError`], throttled; nothing was written then.
    async fn lost_pack_ended(
        &self,
        pack: Uuid,
        holder: Uuid,
        results: &[Done],
        at: Timestamp,
    ) -> Result<bool, StoreError>;
}
