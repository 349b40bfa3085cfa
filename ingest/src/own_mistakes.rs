//! Refusals that our own configuration causes.
//!
//! A stranger proves nothing. Who shows the right token and a wrong `member_id`, or the other way round, is most
//! likely the portal itself, and what we compare with is wrong. As long as nothing better comes of that portal, `/ready` warns
//! and a metric counts. It is no failure: this process must not be taken out of service by whoever knows a `member_id`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use common::ids::PortalName;
use common::lifecycle::Health;

use crate::metrics::IngestMetrics;
use crate::verify::{Entrance, Why};

/// What was refused since something was accepted.
#[derive(Debug)]
pub(crate) struct OwnMistakes {
    refused: Mutex<BTreeMap<(PortalName, Entrance), u64>>,
    health: Health,
    metrics: Arc<IngestMetrics>,
}

impl OwnMistakes {
    pub(crate) fn new(health: Health, metrics: Arc<IngestMetrics>) -> Self {
        Self { refused: Mutex::default(), health, metrics }
    }

    /// A request proved a part of what it must.
    pub(crate) fn refused(&self, portal: &PortalName, entrance: Entrance, why: Why) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let count = refused.entry((portal.clone(), entrance)).or_default();
        *count += 1;
        self.metrics.all_refused(portal, entrance, *count);
        let keys = match (entrance, why) {
            (_, Why::WrongMemberId) => "member_id",
            (Entrance::Events, Why::WrongKey) => "event_key, and ?key= in the address that the portal has",
            (Entrance::Robots, _) => "robot_key, and ?key= in the address that the portal's robot has",
            (Entrance::Events, _) => "application_token, and the token of the portal's outgoing webhook",
        };
        let warning = format!(
            "{count} requests refused since one was accepted; the last one: {why}. The rest of it was right, so compare {keys}"
        );
        self.health.warn(&check(portal, entrance), Some(warning));
    }

    /// A request proved all of it.
    pub(crate) fn accepted(&self, portal: &PortalName, entrance: Entrance) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_empty() || refused.remove(&(portal.clone(), entrance)).is_none() {
            return;
        }
        self.metrics.all_refused(portal, entrance, 0);
        self.health.warn(&check(portal, entrance), None);
    }
}

fn check(portal: &PortalName, entrance: Entrance) -> String {
    format!("portal {portal}: {}", entrance.as_str())
}
