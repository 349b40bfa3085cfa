//! What every process counts, and the registry it is counted on.
//!
//! One struct for each thing that is counted; the help text of a metric says what an operator reads
//! from it. Label values come from our own words, never from input, and start at zero so that a
//! first failure is seen by `rate()`.

use std::time::Duration;

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::broker::PublishError;
use crate::broker::settle::Settlement;
use crate::failure::FailureClass;
use crate::ids::PortalName;
use crate::messages::{AssignmentCommand, LeadEvent, Payload};

/// Upper bounds in seconds for work that takes milliseconds to a minute.
const WORK_SECONDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Upper bounds in seconds for how old a message is when it is settled: milliseconds to a day.
const AGE_SECONDS: [f64; 13] =
    [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0];

/// A registry with the process's own figures (memory, CPU, file descriptors) and its version.
///
/// # Errors
/// Never in practice: the names are fixed and registered once.
pub fn registry(stage: &str) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    let version = env!("CARGO_PKG_VERSION");
    let opts = Opts::new("rota_build_info", "1; the version of this process is in the labels")
        .const_label("stage", stage)
        .const_label("version", version);
    let build = IntGauge::with_opts(opts)?;
    build.set(1);
    registry.register(Box::new(build))?;
    Ok(registry)
}

/// The text of `/metrics`.
///
/// # Errors
/// When a metric has no value at all, which the crates of this workspace avoid.
pub fn render(registry: &Registry) -> prometheus::Result<String> {
    TextEncoder::new().encode_to_string(&registry.gather())
}

/// A counter with labels, registered.
///
/// # Errors
/// When the name is taken.
pub fn counter(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

/// A gauge with labels, registered.
///
/// # Errors
/// When the name is taken.
pub fn gauge(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntGaugeVec> {
    let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

/// A histogram with labels, registered.
///
/// # Errors
/// When the name is taken.
pub fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> prometheus::Result<HistogramVec> {
    let histogram = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

/// What is counted of the way to the broker.
#[derive(Debug, Clone)]
pub struct BrokerMetrics {
    connected: IntGaugeVec,
    blocked: IntGaugeVec,
    publish_duration: HistogramVec,
    publish_failures: IntCounterVec,
}

impl BrokerMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            connected: gauge(
                registry,
                "rota_broker_connected",
                "1 while the connection to the broker stands",
                &["role"],
            )?,
            blocked: gauge(
                registry,
                "rota_broker_blocked",
                "1 while the broker takes no messages (its memory or disk alarm)",
                &["role"],
            )?,
            publish_duration: histogram(
                registry,
                "rota_publish_duration_seconds",
                "Time from publishing a message to the broker's confirm",
                &WORK_SECONDS,
                &["type"],
            )?,
            publish_failures: counter(
                registry,
                "rota_publish_failures_total",
                "Publishes that were not confirmed",
                &["reason"],
            )?,
        };
        for role in ["publish", "consume"] {
            metrics.connected(role, false);
            metrics.blocked(role, false);
        }
        for kind in KINDS {
            metrics.publish_duration.with_label_values(&[kind]);
        }
        for reason in ["not_connected", "timed_out", "refused", "unroutable", "stopped"] {
            metrics.publish_failures.with_label_values(&[reason]).inc_by(0);
        }
        Ok(metrics)
    }

    pub(crate) fn connected(&self, role: &str, connected: bool) {
        self.connected.with_label_values(&[role]).set(connected.into());
    }

    pub(crate) fn blocked(&self, role: &str, blocked: bool) {
        self.blocked.with_label_values(&[role]).set(blocked.into());
    }

    pub(crate) fn published(&self, kind: &str, result: &Result<(), PublishError>, took: Duration) {
        let reason = match result {
            Ok(()) => {
                self.publish_duration.with_label_values(&[known(kind)]).observe(took.as_secs_f64());
                return;
            }
            Err(PublishError::NotConnected(_)) => "not_connected",
            Err(PublishError::TimedOut(_)) => "timed_out",
            Err(PublishError::Refused) => "refused",
            Err(PublishError::Unroutable { .. }) => "unroutable",
            Err(PublishError::Stopped) => "stopped",
        };
        self.publish_failures.with_label_values(&[reason]).inc();
    }
}

/// The types of messages that are ours. A dead letter may have any: whoever can reach the broker writes it.
const KINDS: [&str; 3] = [LeadEvent::TYPE, AssignmentCommand::TYPE, OTHER];
const OTHER: &str = "other";

fn known(kind: &str) -> &'static str {
    KINDS.into_iter().find(|known| *known == kind).unwrap_or(OTHER)
}

/// What is counted of messages.
#[derive(Debug)]
pub struct WorkerMetrics {
    processed: IntCounterVec,
    duration: HistogramVec,
    age: HistogramVec,
    in_flight: IntGaugeVec,
    blocked: IntGaugeVec,
}

/// Counts a message as in hand until dropped.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl WorkerMetrics {
    /// Registers them, at zero for these portals.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register<'a>(
        registry: &Registry,
        portals: impl IntoIterator<Item = &'a PortalName>,
    ) -> prometheus::Result<Self> {
        let by_portal = ["portal"];
        let metrics = Self {
            processed: counter(
                registry,
                "rota_messages_processed_total",
                "Messages settled: ack is done, delay comes again, dead_letter waits for a human; by class of the failure",
                &["portal", "settled", "class"],
            )?,
            duration: histogram(
                registry,
                "rota_message_duration_seconds",
                "Time from taking a message to settling it",
                &WORK_SECONDS,
                &by_portal,
            )?,
            age: histogram(
                registry,
                "rota_message_age_seconds",
                "Time from the first sight of a matter to the settling of a message about it",
                &AGE_SECONDS,
                &by_portal,
            )?,
            in_flight: gauge(registry, "rota_messages_in_flight", "Messages in hand", &by_portal)?,
            blocked: gauge(
                registry,
                "rota_portal_blocked",
                "1 while the portal refuses everything we ask and consuming is stopped",
                &by_portal,
            )?,
        };
        for portal in portals {
            let portal = portal.as_str();
            metrics.processed.with_label_values(&[portal, "ack", "none"]).inc_by(0);
            for class in FailureClass::ALL {
                for settled in ["delay", "dead_letter"] {
                    metrics.processed.with_label_values(&[portal, settled, class.as_str()]).inc_by(0);
                }
            }
            metrics.duration.with_label_values(&[portal]);
            metrics.age.with_label_values(&[portal]);
            metrics.in_flight.with_label_values(&[portal]).set(0);
            metrics.blocked.with_label_values(&[portal]).set(0);
        }
        Ok(metrics)
    }

    pub(crate) fn in_flight(&self, portal: &PortalName) -> InFlight {
        let gauge = self.in_flight.with_label_values(&[portal.as_str()]);
        gauge.inc();
        InFlight(gauge)
    }

    pub(crate) fn blocked(&self, portal: &PortalName, blocked: bool) {
        self.blocked.with_label_values(&[portal.as_str()]).set(blocked.into());
    }

    pub(crate) fn settled(
        &self,
        portal: &PortalName,
        settlement: &Settlement,
        took: Duration,
        age: Duration,
    ) {
        let portal = portal.as_str();
        let (settled, class) = match settlement {
            Settlement::Ack => ("ack", "none"),
            Settlement::Delay { class, .. } => ("delay", class.as_str()),
            Settlement::Bury(class) => ("dead_letter", class.as_str()),
        };
        self.processed.with_label_values(&[portal, settled, class]).inc();
        self.duration.with_label_values(&[portal]).observe(took.as_secs_f64());
        self.age.with_label_values(&[portal]).observe(age.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_type_makes_no_series_and_ours_are_there_from_the_start() {
        let registry = Registry::new();
        let metrics = BrokerMetrics::register(&registry).unwrap();
        metrics.published("<script>", &Ok(()), Duration::from_millis(1));
        let text = render(&registry).unwrap();
        assert!(!text.contains("script"), "{text}");
        for (kind, count) in [("lead-event", 0), ("assignment-command", 0), ("other", 1)] {
            let series = format!("rota_publish_duration_seconds_count{{type=\"{kind}\"}} {count}");
            assert!(text.contains(&series), "{series} in {text}");
        }
    }
}
