//! What is counted of the HTTP servers of a process.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::progress::Phase;
use crate::metrics::{counter, gauge};

/// Why a connection, or a request of a trusted proxy, was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// There are as many connections as there may be.
    All,
    /// Its client has as many as it may have.
    Client,
}

impl Refused {
    const ALL: [Self; 2] = [Self::All, Self::Client];

    const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Client => "client",
        }
    }
}

impl Phase {
    /// Those in which a client can be too slow.
    const OF_CLIENT: [Self; 3] = [Self::FirstByte, Self::Head, Self::Idle];

    const fn as_str(self) -> &'static str {
        match self {
            Self::FirstByte => "first_byte",
            Self::Head => "head",
            Self::Idle => "idle",
            Self::Answering => "answering",
        }
    }
}

/// The metrics of all servers of a process.
#[derive(Debug, Clone)]
pub struct ServersMetrics {
    open: IntGaugeVec,
    refused: IntCounterVec,
    too_slow: IntCounterVec,
    accept_failures: IntCounterVec,
}

impl ServersMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            open: gauge(
                registry,
                "rota_http_connections",
                "Open connections to the process; the server is `events`, where portals post to, or `admin`",
                &["server"],
            )?,
            refused: counter(
                registry,
                "rota_http_refused_total",
                "Connections, and requests of trusted proxies, that were refused: `all`, there were as many as there may be; \
                 `client`, there were as many of one client",
                &["server", "limit"],
            )?,
            too_slow: counter(
                registry,
                "rota_http_too_slow_total",
                "Connections that were closed as nothing came in time: no first byte, no complete head of a request, or no \
                 further request (idle)",
                &["server", "waited_for"],
            )?,
            accept_failures: counter(
                registry,
                "rota_http_accept_failures_total",
                "Times that no connection could be accepted, mostly because the process has no descriptor left",
                &["server"],
            )?,
        })
    }

    /// Those of one server, at zero.
    #[must_use]
    pub fn of(&self, name: &'static str) -> ServerMetrics {
        let metrics = ServerMetrics {
            name,
            open: self.open.with_label_values(&[name]),
            accept_failures: self.accept_failures.with_label_values(&[name]),
            refused: self.refused.clone(),
            too_slow: self.too_slow.clone(),
        };
        for refused in Refused::ALL {
            self.refused.with_label_values(&[name, refused.as_str()]).inc_by(0);
        }
        for phase in Phase::OF_CLIENT {
            self.too_slow.with_label_values(&[name, phase.as_str()]).inc_by(0);
        }
        metrics
    }
}

/// The metrics of one server.
#[derive(Debug)]
pub struct ServerMetrics {
    name: &'static str,
    open: IntGauge,
    accept_failures: IntCounter,
    refused: IntCounterVec,
    too_slow: IntCounterVec,
}

/// Counts a connection as open until dropped.
#[derive(Debug)]
pub(super) struct Open(IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ServerMetrics {
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn open(&self) -> Open {
        self.open.inc();
        Open(self.open.clone())
    }

    pub(super) fn accept_failed(&self) {
        self.accept_failures.inc();
    }

    pub(super) fn refused(&self, refused: Refused) {
        self.refused.with_label_values(&[self.name, refused.as_str()]).inc();
    }

    pub(super) fn too_slow(&self, phase: Phase) {
        self.too_slow.with_label_values(&[self.name, phase.as_str()]).inc();
    }
}
