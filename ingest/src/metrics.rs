//! What ingest counts.

use common::ids::PortalName;
use common::metrics::{counter, gauge};
use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use crate::verify::{Entrance, Why};

/// What became of a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// Stored in the broker.
    Accepted,
    /// Stored in the spool.
    Spooled,
    /// An event that we do not act upon.
    Ignored,
    /// Not to be understood.
    Malformed,
    /// A robot's, for a queue that there is not.
    UnknownQueue,
    /// Its sender is not proved.
    Forbidden,
    /// Stored nowhere.
    NotStored,
}

impl Received {
    const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Spooled,
        Self::Ignored,
        Self::Malformed,
        Self::UnknownQueue,
        Self::Forbidden,
        Self::NotStored,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Spooled => "spooled",
            Self::Ignored => "ignored",
            Self::Malformed => "malformed",
            Self::UnknownQueue => "unknown_queue",
            Self::Forbidden => "forbidden",
            Self::NotStored => "not_stored",
        }
    }
}

/// The label of a portal that is not proved.
const NO_PORTAL: &str = "";

/// The metrics of ingest.
#[derive(Debug)]
pub(crate) struct IngestMetrics {
    /// `rota_events_received_total`
    received: IntCounterVec,
    /// `rota_events_forbidden_total`
    forbidden: IntCounterVec,
    /// `rota_portal_events_refused`
    all_refused: IntGaugeVec,
    /// `rota_sweep_found_total`
    found: IntCounterVec,
    /// `rota_spool_bytes`
    spool: IntGaugeVec,
}

impl IngestMetrics {
    pub(crate) fn register(registry: &Registry, portals: &[PortalName]) -> prometheus::Result<Self> {
        let metrics = Self {
            received: counter(
                registry,
                "rota_events_received_total",
                "POSTs of portals: accepted, spooled (the broker took none), ignored (not about a new lead), \
                 malformed, unknown_queue (a robot names one that the routing has not), forbidden, not_stored (the event is lost until the sweep finds the lead); the portal \
                 is empty where it is not proved",
                &["portal", "outcome"],
            )?,
            forbidden: counter(
                registry,
                "rota_events_forbidden_total",
                "POSTs answered 403 or 429 by what they did not prove: unknown_portal, no_robots (the portal has no \
                 robot_key), no_token, wrong_token, wrong_member_id, wrong_key; the portal is that of the address, which \
                 anybody may write, and empty where there is none of that name",
                &["portal", "reason"],
            )?,
            all_refused: gauge(
                registry,
                "rota_portal_events_refused",
                "POSTs to this process that proved a part of what they must and were refused, since one of the portal was \
                 accepted: most likely our configuration is wrong; the entrance is events or robots",
                &["portal", "entrance"],
            )?,
            found: counter(
                registry,
                "rota_sweep_found_total",
                "Leads that the sweep found undecided some seconds after their creation: their event was lost, or waits \
                 behind a backlog",
                &["portal"],
            )?,
            spool: gauge(registry, "rota_spool_bytes", "Events on disk that wait for the broker", &[])?,
        };
        for received in Received::ALL {
            metrics.received.with_label_values(&[NO_PORTAL, received.as_str()]).inc_by(0);
            for portal in portals {
                metrics.received.with_label_values(&[portal.as_str(), received.as_str()]).inc_by(0);
            }
        }
        metrics.forbidden.with_label_values(&[NO_PORTAL, Why::UnknownPortal.as_str()]).inc_by(0);
        for portal in portals {
            metrics.found.with_label_values(&[portal.as_str()]).inc_by(0);
            for why in Why::ALL.into_iter().filter(|why| *why != Why::UnknownPortal) {
                metrics.forbidden.with_label_values(&[portal.as_str(), why.as_str()]).inc_by(0);
            }
            for entrance in Entrance::ALL {
                metrics.all_refused(portal, entrance, 0);
            }
        }
        metrics.spooled_bytes(0);
        Ok(metrics)
    }

    pub(crate) fn received(&self, portal: Option<&PortalName>, received: Received) {
        let portal = portal.map_or(NO_PORTAL, PortalName::as_str);
        self.received.with_label_values(&[portal, received.as_str()]).inc();
    }

    /// One whose sender is not proved.
    pub(crate) fn forbidden(&self, portal: Option<&PortalName>, why: Why) {
        self.received(None, Received::Forbidden);
        let portal = portal.map_or(NO_PORTAL, PortalName::as_str);
        self.forbidden.with_label_values(&[portal, why.as_str()]).inc();
    }

    /// So many were refused since one was accepted.
    pub(crate) fn all_refused(&self, portal: &PortalName, entrance: Entrance, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.all_refused.with_label_values(&[portal.as_str(), entrance.as_str()]).set(count);
    }

    pub(crate) fn found(&self, portal: &PortalName) {
        self.found.with_label_values(&[portal.as_str()]).inc();
    }

    pub(crate) fn spooled_bytes(&self, bytes: u64) {
        let none: [&str; 0] = [];
        self.spool.with_label_values(&none).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
