//! Somebody is told in the portal of leads that could not be given.

use std::sync::Arc;
use std::time::Duration;

use common::clock::Clock;
use common::failure::chain;
use common::ids::{PortalName, UserId};
use common::lifecycle::Stop;
use jiff::SignedDuration;
use store::Store;

/// How often is looked; what died meanwhile goes into one notice.
const EVERY: Duration = Duration::from_secs(5);

/// Who is told of hundreds in an hour reads none.
const TOLD_EVERY: SignedDuration = SignedDuration::from_mins(10);

/// Tells of the dead letters of one portal.
pub(crate) struct TellDeadLetters {
    pub(crate) portal: PortalName,
    pub(crate) to: UserId,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl TellDeadLetters {
    pub(crate) async fn run(self, stop: Stop) {
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            match self.store.tell_of_letters(&self.portal, self.to, self.clock.now(), TOLD_EVERY).await {
                Ok(0) => {}
                Ok(leads) => {
                    tracing::info!(event = "dead_letter.told", portal = %self.portal, leads, told = %self.to);
                }
                Err(error) => {
                    tracing::warn!(event = "dead_letter.not_told", portal = %self.portal, error = chain(&error));
                }
            }
        }
    }
}
