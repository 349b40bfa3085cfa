//! What the router counts.

use std::collections::{BTreeMap, BTreeSet};

use common::failure::FailureClass;
use common::ids::PortalName;
use common::metrics::{counter, gauge};
use prometheus::{IntCounterVec, IntGaugeVec, Registry};
use store::Verdict;

use crate::handler::word;

/// The router's metrics.
#[derive(Debug)]
pub(crate) struct RouterMetrics {
    /// `rota_decisions_total`
    decisions: IntCounterVec,
    /// `rota_held_leads`
    held: IntGaugeVec,
    /// `rota_oldest_unassigned_lead_age_seconds`
    oldest: IntGaugeVec,
    /// `rota_dead_letters`
    dead: IntGaugeVec,
    portals: Vec<PortalName>,
}

impl RouterMetrics {
    pub(crate) fn register(registry: &Registry, portals: &[PortalName]) -> prometheus::Result<Self> {
        let metrics = Self {
            decisions: counter(
                registry,
                "rota_decisions_total",
                "Decisions made: assign, hold (nobody can take it now), skip (it needs nobody)",
                &["portal", "outcome"],
            )?,
            held: gauge(
                registry,
                "rota_held_leads",
                "Leads that wait because nobody can take them now",
                &["portal"],
            )?,
            oldest: gauge(
                registry,
                "rota_oldest_unassigned_lead_age_seconds",
                "Age of the decided or held lead that has waited longest for its owner to be set; 0 when none waits",
                &["portal"],
            )?,
            dead: gauge(
                registry,
                "rota_dead_letters",
                "Messages that wait for a human; the portal is empty where it cannot be told",
                &["portal", "class"],
            )?,
            portals: portals.to_vec(),
        };
        for portal in portals {
            let portal = portal.as_str();
            for outcome in ["assign", "hold", "skip"] {
                metrics.decisions.with_label_values(&[portal, outcome]).inc_by(0);
            }
            metrics.held.with_label_values(&[portal]).set(0);
            metrics.oldest.with_label_values(&[portal]).set(0);
        }
        metrics.dead_letters(&BTreeMap::new());
        Ok(metrics)
    }

    pub(crate) fn decided(&self, portal: &PortalName, verdict: &Verdict) {
        self.decisions.with_label_values(&[portal.as_str(), word(verdict)]).inc();
    }

    pub(crate) fn waiting(&self, portal: &PortalName, held: u64, oldest_seconds: i64) {
        let held = i64::try_from(held).unwrap_or(i64::MAX);
        self.held.with_label_values(&[portal.as_str()]).set(held);
        self.oldest.with_label_values(&[portal.as_str()]).set(oldest_seconds);
    }

    /// Sets the counts; a pair that is not there (any more) is zero.
    pub(crate) fn dead_letters(&self, counts: &BTreeMap<(String, String), u64>) {
        let known = self.portals.iter().map(PortalName::as_str);
        let portals: BTreeSet<&str> = counts.keys().map(|(portal, _)| portal.as_str()).chain(known).collect();
        for portal in portals {
            for class in FailureClass::ALL.map(FailureClass::as_str) {
                let count = counts.get(&(portal.to_owned(), class.to_owned())).copied().unwrap_or_default();
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                self.dead.with_label_values(&[portal, class]).set(count);
            }
        }
    }
}
