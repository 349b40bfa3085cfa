//! Held leads whose time has come go back into the queue of lead events, longest waiting first.

use std::sync::Arc;
use std::time::Duration;

use common::broker::topology::Topology;
use common::broker::{Broker, Message};
use common::clock::Clock;
use common::failure::{HandlerError, chain};
use common::ids::PortalName;
use common::lifecycle::Stop;
use common::messages::{EventSource, LeadEvent};
use store::Store;

use crate::handler::LOOK_AGAIN_AFTER;

/// How often is looked; a held lead waits at most this long beyond its time.
const EVERY: Duration = Duration::from_secs(5);

/// How many leads of a portal are brought back at once; the rest follows at the next look.
const AT_ONCE: u32 = 500;

/// Brings held leads back.
pub(crate) struct Due {
    pub(crate) portals: Vec<PortalName>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Due {
    pub(crate) async fn run(self, stop: Stop) {
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            for portal in &self.portals {
                if let Err(error) = self.bring_back(portal).await {
                    tracing::warn!(event = "hold.look_failed", portal = %portal, error = chain(&*error));
                }
            }
        }
    }

    /// A lead whose publish fails is looked at again a minute later: its next look is in the store.
    async fn bring_back(&self, portal: &PortalName) -> Result<(), HandlerError> {
        let now = self.clock.now();
        for (key, first_seen) in self.store.due_holds(portal, now, now + LOOK_AGAIN_AFTER, AT_ONCE).await? {
            let event = LeadEvent { epoch: Some(key.epoch), ..LeadEvent::of(key.lead, EventSource::Hold) };
            let message = Message::lead_event(portal, event, first_seen, now);
            let route = self.topology.to_queue(self.topology.lead_events(portal));
            self.broker.publish(route, message).await?;
        }
        Ok(())
    }
}
