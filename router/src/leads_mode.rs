//! Says it where a portal turns each lead into a deal at once: there is nothing to distribute, and every lead would end as
//! converted without a word.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::ids::PortalName;
use common::lifecycle::Health;
use store::WITHOUT_LEADS;

use crate::metrics::RouterMetrics;

/// What was said of each portal.
pub(crate) struct LeadsMode {
    health: Health,
    metrics: Arc<RouterMetrics>,
    said: BTreeMap<PortalName, bool>,
}

impl LeadsMode {
    pub(crate) fn new(health: Health, metrics: Arc<RouterMetrics>) -> Self {
        Self { health, metrics, said: BTreeMap::new() }
    }

    /// What is known of a portal; `None` where it did not tell, which is no reason for anything.
    pub(crate) fn is_known(&mut self, portal: &PortalName, has_leads: Option<bool>) {
        let without = has_leads == Some(false);
        let before = self.said.insert(portal.clone(), without).unwrap_or_default();
        self.metrics.without_leads(portal, without);
        let check = format!("crm_mode.{portal}");
        if without {
            self.health.fail(&check, WITHOUT_LEADS);
        } else {
            self.health.pass(&check);
        }
        match (before, without) {
            (false, true) => tracing::error!(
                event = "portal.without_leads", %portal,
                hint = "switch leads on in the settings of the portal's CRM (classic mode)",
                "{WITHOUT_LEADS}",
            ),
            (true, false) => tracing::info!(event = "portal.has_leads", %portal),
            (false, false) | (true, true) => {}
        }
    }
}
