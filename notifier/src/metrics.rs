//! What the notifier counts.

use common::ids::PortalName;
use common::metrics::{counter, histogram};
use jiff::SignedDuration;
use prometheus::{HistogramVec, IntCounterVec, Registry};

use crate::handler::{DELETED, KEPT_BY_PERSON};
use crate::writer::{ASSIGNED, ASSIGNED_NOT_TOLD, ASSIGNED_SILENTLY};

/// Upper bounds in seconds: from a lone lead in milliseconds to one that waited for hours.
const SECONDS: [f64; 16] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 28800.0];

/// The notifier's metrics.
#[derive(Debug)]
pub(crate) struct NotifierMetrics {
    /// `rota_assignments_total`
    assignments: IntCounterVec,
    /// `rota_lead_assignment_seconds`
    seconds: HistogramVec,
    /// `rota_plain_writes_total`
    plain_writes: IntCounterVec,
}

impl NotifierMetrics {
    pub(crate) fn register<'a>(
        registry: &Registry,
        portals: impl IntoIterator<Item = &'a PortalName>,
    ) -> prometheus::Result<Self> {
        let metrics = Self {
            assignments: counter(
                registry,
                "rota_assignments_total",
                "Assignments that are over, by how: assigned, assigned_silently (no notice wanted), \
                 assigned_not_told (the portal created no notice, or refuses them), kept_by_person, deleted",
                &["portal", "outcome"],
            )?,
            seconds: histogram(
                registry,
                "rota_lead_assignment_seconds",
                "Time from the first sight of a lead to its owner being set; the figure that matters",
                &SECONDS,
                &["portal"],
            )?,
            plain_writes: counter(
                registry,
                "rota_plain_writes_total",
                "Lone leads that the portal refused to write together with a look at them, and that were written the \
                 plain way; it costs a request more, and nothing else",
                &["portal"],
            )?,
        };
        for portal in portals {
            for outcome in [ASSIGNED, ASSIGNED_SILENTLY, ASSIGNED_NOT_TOLD, KEPT_BY_PERSON, DELETED] {
                metrics.assignments.with_label_values(&[portal.as_str(), outcome]).inc_by(0);
            }
            metrics.seconds.with_label_values(&[portal.as_str()]);
            metrics.plain_writes.with_label_values(&[portal.as_str()]);
        }
        Ok(metrics)
    }

    pub(crate) fn assigned(&self, portal: &PortalName, outcome: &str, after: SignedDuration) {
        self.ended(portal, outcome);
        self.seconds.with_label_values(&[portal.as_str()]).observe(after.as_secs_f64().max(0.0));
    }

    pub(crate) fn written_plainly(&self, portal: &PortalName) {
        self.plain_writes.with_label_values(&[portal.as_str()]).inc();
    }

    pub(crate) fn ended(&self, portal: &PortalName, outcome: &str) {
        self.assignments.with_label_values(&[portal.as_str(), outcome]).inc();
    }
}
