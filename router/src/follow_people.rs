//! Follows what is known of people, whoever found it out: another router, or somebody who paused himself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::clock::Clock;
use common::failure::chain;
use common::ids::PortalName;
use common::lifecycle::Stop;
use store::{Intervals, KnownPeople, Store, StoreError};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::leads_mode::LeadsMode;
use crate::metrics::RouterMetrics;

/// How often is looked for a change.
const EVERY: Duration = Duration::from_secs(1);

/// How long the first leads after a start wait for the portal to tell who is there.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// Waits until the portal has told who is there not long ago, but not for a portal that does not answer.
pub(crate) async fn heard_of(
    mut known: watch::Receiver<Arc<KnownPeople>>,
    intervals: Intervals,
    clock: &dyn Clock,
) {
    let fresh = |known: &Arc<KnownPeople>| known.is_heard_of(clock.now() - intervals.every * 2);
    // Nothing to be done about either end: leads are decided by what is known.
    drop(timeout(FIRST_WORD, known.wait_for(fresh)).await);
}

/// Follows the people of all portals.
pub(crate) struct FollowPeople {
    pub(crate) portals: BTreeMap<PortalName, FollowedPeople>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<RouterMetrics>,
    pub(crate) leads_mode: LeadsMode,
}

/// What is known of one portal's people.
#[derive(Default)]
pub(crate) struct FollowedPeople {
    known: watch::Sender<Arc<KnownPeople>>,
    /// The change that was looked at last.
    seen: u64,
}

impl FollowedPeople {
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<KnownPeople>> {
        self.known.subscribe()
    }
}

impl FollowPeople {
    pub(crate) async fn run(mut self, stop: Stop) {
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(event = "roster.look_failed", error = chain(&error));
            }
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let changes = self.store.roster_changes().await?;
        for (portal, followed) in &mut self.portals {
            let Some(change) = changes.get(portal).copied().filter(|change| *change != followed.seen) else {
                continue;
            };
            let state = self.store.roster(portal, self.clock.now()).await?;
            let known = KnownPeople::from_store(state);
            self.leads_mode.is_known(portal, known.has_leads());
            let first = followed.seen == 0;
            followed.seen = change;
            let before = followed.known.send_replace(Arc::new(known.clone()));
            self.metrics.roster_followed(portal, change);
            // Who is back may take what waits.
            if !first && known.lets_more_than(&before) {
                self.store.look_at_holds(portal).await?;
            }
        }
        Ok(())
    }
}
