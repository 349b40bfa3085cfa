//! Counts what waits, from the store: the same figures whichever replica is asked.

use std::sync::Arc;
use std::time::Duration;

use common::budget::BucketLimits;
use common::clock::Clock;
use common::failure::chain;
use common::ids::PortalName;
use common::lifecycle::{Health, Stop};
use store::unseen_leads::WORD_HOLDS;
use store::{Store, StoreError};

use crate::metrics::RouterMetrics;

/// How often is counted; below the usual interval of a scrape.
const EVERY: Duration = Duration::from_secs(10);

/// Keeps the gauges.
pub(crate) struct Gauges {
    pub(crate) portals: Vec<(PortalName, BucketLimits)>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<RouterMetrics>,
    pub(crate) health: Health,
}

impl Gauges {
    pub(crate) async fn run(self, stop: Stop) {
        loop {
            match self.count().await {
                Ok(()) => self.health.pass("store"),
                Err(error) => {
                    self.health.fail("store", &chain(&error));
                    tracing::warn!(event = "store.count_failed", error = chain(&error));
                }
            }
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn count(&self) -> Result<(), StoreError> {
        for (portal, limits) in &self.portals {
            let now = self.clock.now();
            self.metrics.waiting(portal, &self.store.waiting(portal, now).await?, now);
            let hidden = self.store.hidden_leads(portal, now - WORD_HOLDS).await?;
            self.metrics.hidden_leads(portal, hidden);
            self.tell_hidden(portal, hidden);
            self.metrics.budget(portal, self.store.budget_used(portal, *limits).await?, limits.burst);
        }
        self.metrics.dead_letters(&self.store.dead_letter_counts().await?);
        Ok(())
    }

    fn tell_hidden(&self, portal: &PortalName, hidden: u64) {
        let check = format!("portal:{portal}:rights");
        if hidden == 0 {
            return self.health.pass(&check);
        }
        let why = format!(
            "the webhook's owner may not see all leads of portal {portal}: {hidden} of those that came were refused, and \
             wait; give them the right to read and edit all leads"
        );
        self.health.fail(&check, &why);
    }
}
