//! Clears up a pack whose end nobody saw: once, as a whole, by one who holds it.
//!
//! Each message of the pack comes here by itself. It waits until the request can run no longer; the first one then
//! holds the pack, reads the owners of all its leads by one request, and writes all verdicts ([`crate::recovery`]) in
//! one transaction. The others find their assignments finished or open. Until then nothing of the pack is sent again.

use std::sync::Arc;
use std::time::Duration;

use bitrix24::client::ON_ITS_WAY_WITHIN;
use bitrix24::{Portal, PortalError};
use common::clock::Clock;
use common::failure::chain;
use common::ids::{LeadId, UserId};
use common::lifecycle::Stop;
use common::messages::AssignmentKey;
use jiff::{SignedDuration, Timestamp};
use store::{Done, PackItem, Store, StoreError};
use uuid::Uuid;

use crate::metrics::NotifierMetrics;
use crate::recovery::{Verdict, verdicts};
use crate::writer::CLAIM_HOLDS;

/// A request whose answer was lost may go on in the portal for this long: its own limit for one request.
///
/// Source: "Limits" of the REST documentation: a request is interrupted after 60 s.
const REQUEST_MAY_RUN: SignedDuration = SignedDuration::from_secs(60);

/// How long nothing is concluded about a pack, from the moment at which it was noted.
///
/// | the pack is asked for | the request is on its way | the portal has ended it | |
/// |---|---|---|---|
/// | 3 s | 12 s | 60 s | 75 s |
pub(crate) const PACK_MAY_RUN: SignedDuration = SignedDuration::from_secs(
    REQUEST_MAY_RUN.as_secs() + (CLAIM_HOLDS.as_secs() + ON_ITS_WAY_WITHIN.as_secs()).cast_signed(),
);

/// How often a message that waits looks whether its sender has told the end meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often it looks while somebody else holds the pack.
const LOOK_AT_HOLDER_EVERY: Duration = Duration::from_secs(1);

/// How long a pack is held at the most: longer than a request and a transaction take. Who takes longer has lost it.
const HELD_FOR: SignedDuration = SignedDuration::from_mins(2);

/// Why a message could not wait for the end of its pack.
#[derive(Debug)]
pub(crate) enum NotCleared {
    /// The process stops.
    Stopping,
    /// The leads could not be read.
    Portal(PortalError),
    /// The store is away.
    Store(StoreError),
}

impl From<StoreError> for NotCleared {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The lost packs of one portal.
pub(crate) struct LostPacks {
    pub(crate) portal: Portal,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<NotifierMetrics>,
    pub(crate) stop: Stop,
    /// Whether people are told by us.
    pub(crate) tells: bool,
}

impl LostPacks {
    /// Waits a while, or clears the pack up; afterwards the caller looks again how far its assignment has come, which is to
    /// be given to `to`.
    pub(crate) async fn look(
        &self,
        key: &AssignmentKey,
        to: UserId,
        pack: Uuid,
        sent_at: Timestamp,
    ) -> Result<(), NotCleared> {
        let now = self.clock.now();
        let left = PACK_MAY_RUN - now.duration_since(sent_at);
        if left.is_positive() {
            return self.wait(Duration::try_from(left).unwrap_or_default().min(LOOK_EVERY)).await;
        }
        let holder = Uuid::now_v7();
        let Some(items) = self.store.hold_lost_pack(pack, holder, now, now + HELD_FOR).await? else {
            return self.wait(LOOK_AT_HOLDER_EVERY).await;
        };
        let mut judged = self.judge(key, &items).await;
        // A pack without commands for it has done nothing about it.
        let is_known = items.iter().any(|item| item.key == *key);
        if let Some(done) = judged.as_mut().ok().filter(|_| !is_known) {
            done.push(Done::nothing(key.clone(), to));
        }
        // What could not be judged is let go, for the next who looks.
        let done = judged.as_deref().unwrap_or_default();
        let ours = self.store.lost_pack_ended(pack, holder, done, self.clock.now()).await?;
        let done = judged.map_err(NotCleared::Portal)?;
        if ours {
            for outcome in done.iter().filter_map(|done| done.finished) {
                self.metrics.ended(self.portal.name(), outcome);
            }
        }
        let count = |found: fn(&Done) -> bool| done.iter().filter(|done| found(done)).count();
        tracing::warn!(
            event = "pack.cleared_up", portal = %self.portal.name(), pack = %pack, ours, leads = done.len(),
            finished = count(|done| done.finished.is_some()),
            owner_set = count(|done| done.finished.is_none() && done.owner_set),
            open = count(|done| done.finished.is_none() && !done.owner_set),
        );
        Ok(())
    }

    async fn wait(&self, wait: Duration) -> Result<(), NotCleared> {
        tokio::select! {
            () = self.stop.requested() => Err(NotCleared::Stopping),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    /// What the pack did, from one reading of its leads.
    async fn judge(&self, key: &AssignmentKey, items: &[PackItem]) -> Result<Vec<Done>, PortalError> {
        let leads: Vec<LeadId> = items.iter().map(|item| item.key.lead).collect();
        let owners = self.portal.owners_of(&leads).await.inspect_err(|error| {
            tracing::warn!(event = "pack.not_cleared_up", portal = %key.portal, error = chain(error));
        })?;
        let pack_at_most = at_most_after(items.len());
        let judged = items.iter().zip(verdicts(items, &owners));
        let done = |(item, verdict): (_, Verdict)| verdict.done(item, self.tells);
        Ok(judged.map(done).map(|done| Done { pack_at_most: Some(pack_at_most), ..done }).collect())
    }
}

/// How many leads the next pack may have with one of a pack of `leads` that failed as a whole: one of them may be to
/// blame, and must not keep the others from their owners for ever.
pub(crate) fn at_most_after(leads: usize) -> u32 {
    u32::try_from(leads / 2).unwrap_or(u32::MAX).max(1)
}
