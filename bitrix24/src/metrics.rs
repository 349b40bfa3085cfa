//! What an operator sees of the portal's requests. Label values come from the enums and the list
//! here, and every series of a portal starts at 0 when its client is made, so that a rate or an alert
//! works before the first failure.

use std::time::Duration;

use common::failure::{Failure, FailureClass};
use common::ids::PortalName;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::envelope::Timing;
use crate::error::PortalError;
use crate::operating::OperatingTimes;

/// The methods with a label of their own; any other is `other`.
const METHODS: [&str; 10] = [
    "batch",
    "crm.item.add",
    "crm.item.list",
    "crm.lead.get",
    "crm.lead.list",
    "crm.lead.update",
    "im.notify.personal.add",
    "im.notify.system.add",
    "server.time",
    "other",
];

/// In seconds. An answer usually takes 0.05 to 3 s; the cloud cuts a request at 60 s.
const REQUEST_BUCKETS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// In seconds. A free budget answers in milliseconds; a full one of 50 empties in 25 s.
const WAIT_BUCKETS: [f64; 9] = [0.005, 0.05, 0.25, 0.5, 1.0, 5.0, 15.0, 30.0, 120.0];

/// In leads. 1 is a lone lead, up to 50 fit into one list, 1000 into one request.
const PACK_BUCKETS: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 250.0, 1000.0];

/// The weight of the newest value: with 0.2, the last ten make up nine tenths of the average.
const SMOOTHING: f64 = 0.2;

/// How one request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Answered; also "there is no such lead".
    Ok,
    /// Refused as too fast.
    Throttled,
    /// Failed for this moment, and surely did not run.
    Transient,
    /// The portal refuses everybody.
    Blocked,
    /// These parameters are refused for good.
    Permanent,
    /// Ended without an answer; it may have run.
    Ambiguous,
}

impl RequestOutcome {
    const ALL: [Self; 6] =
        [Self::Ok, Self::Throttled, Self::Transient, Self::Blocked, Self::Permanent, Self::Ambiguous];

    /// The outcome a result counts as.
    #[must_use]
    pub fn of<T>(result: &Result<T, PortalError>) -> Self {
        let Err(error) = result else { return Self::Ok };
        if error.is_not_found() {
            return Self::Ok;
        }
        match error.class() {
            FailureClass::Throttled => Self::Throttled,
            FailureClass::Blocked => Self::Blocked,
            FailureClass::Permanent | FailureClass::Poison => Self::Permanent,
            FailureClass::Transient if error.is_ambiguous() => Self::Ambiguous,
            FailureClass::Transient => Self::Transient,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::Blocked => "blocked",
            Self::Permanent => "permanent",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// What the leads of a pack were taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackKind {
    /// Read from the portal.
    Read,
    /// Written to the portal.
    Write,
}

impl PackKind {
    const ALL: [Self; 2] = [Self::Read, Self::Write];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// The metrics of all portals' requests.
pub struct PortalMetrics {
    /// Requests sent to a portal; a batch is one. `ambiguous` may have run although no answer came.
    requests: IntCounterVec,
    /// Time from sending a request to its answer, in seconds, however it ended.
    duration: HistogramVec,
    /// Time a request waited for the portal's budget before it was sent, in seconds.
    wait: HistogramVec,
    /// Leads handled by one request.
    pack_leads: HistogramVec,
    /// Time of a request by its number of leads, smoothed, in seconds.
    lead_seconds: GaugeVec,
    /// Execution time that a method has used, as the portal last said.
    operating: OperatingTimes,
    /// How often a portal was found to have a new address.
    renamed: IntCounterVec,
    /// Whether a portal has another address than the configuration says, and whether it is followed there.
    moved: IntGaugeVec,
    /// Whether nothing that the portal answers can be read.
    unreadable: IntGaugeVec,
}

impl PortalMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry already has metrics of these names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)
        };
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "rota_portal_requests_total",
                    "Requests sent to a portal; a batch is one; `ambiguous` may have run although no answer came",
                ),
                &["portal", "method", "outcome"],
            )?,
            duration: histogram(
                "rota_portal_request_duration_seconds",
                "Time from sending a request to its answer, however it ended",
                &["portal", "method"],
                &REQUEST_BUCKETS,
            )?,
            wait: histogram(
                "rota_budget_wait_seconds",
                "Time a request waited for the portal's budget before it was sent",
                &["portal"],
                &WAIT_BUCKETS,
            )?,
            pack_leads: histogram(
                "rota_portal_pack_leads",
                "Leads handled by one request",
                &["portal", "kind"],
                &PACK_BUCKETS,
            )?,
            lead_seconds: GaugeVec::new(
                Opts::new(
                    "rota_portal_lead_seconds",
                    "Time of a request divided by its leads, smoothed over about the last ten requests (exponentially \
                     weighted moving average)",
                ),
                &["portal", "kind"],
            )?,
            operating: OperatingTimes::new()?,
            renamed: IntCounterVec::new(
                Opts::new(
                    "rota_portal_renames_total",
                    "Times a portal was found to have a new address that works",
                ),
                &["portal"],
            )?,
            moved: IntGaugeVec::new(
                Opts::new(
                    "rota_portal_moved",
                    "1 while a portal is asked at another address than the configured one (`followed` is `yes`), or points to \
                     one to which it is not followed (`no`); the configuration should have the new address",
                ),
                &["portal", "followed"],
            )?,
            unreadable: IntGaugeVec::new(
                Opts::new(
                    "rota_portal_unreadable",
                    "1 while none of the last answers of a portal could be read, five at least and for a minute: warnings of \
                     PHP before the JSON, a page of a proxy",
                ),
                &["portal"],
            )?,
        };
        registry.register(Box::new(metrics.renamed.clone()))?;
        registry.register(Box::new(metrics.moved.clone()))?;
        registry.register(Box::new(metrics.unreadable.clone()))?;
        registry.register(Box::new(metrics.lead_seconds.clone()))?;
        registry.register(Box::new(metrics.operating.clone()))?;
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.wait.clone()))?;
        registry.register(Box::new(metrics.pack_leads.clone()))?;
        Ok(metrics)
    }

    /// Makes every series of `portal` visible at 0.
    pub(crate) fn start_at_zero(&self, portal: &PortalName) {
        let portal = portal.as_str();
        for method in METHODS {
            self.duration.with_label_values(&[portal, method]);
            for outcome in RequestOutcome::ALL {
                self.requests.with_label_values(&[portal, method, outcome.as_str()]);
            }
        }
        self.wait.with_label_values(&[portal]);
        self.renamed.with_label_values(&[portal]);
        for followed in ["yes", "no"] {
            self.moved.with_label_values(&[portal, followed]);
        }
        self.unreadable.with_label_values(&[portal]);
        for kind in PackKind::ALL {
            self.pack_leads.with_label_values(&[portal, kind.as_str()]);
            self.lead_seconds.with_label_values(&[portal, kind.as_str()]);
        }
        for method in METHODS.into_iter().filter(|method| has_limit(method)) {
            self.operating.start_at_zero(portal, method);
        }
    }

    /// What an answer to `method`, alone or in a batch, said about the time it has used.
    pub(crate) fn told(&self, portal: &PortalName, method: &str, time: Timing) {
        let method = label(method);
        if let Some(seconds) = time.operating.filter(|_| has_limit(method)) {
            self.operating.told(portal.as_str(), method, seconds);
        }
    }

    pub(crate) fn answered(
        &self,
        portal: &PortalName,
        method: &str,
        outcome: RequestOutcome,
        took: Duration,
    ) {
        let (portal, method) = (portal.as_str(), label(method));
        self.requests.with_label_values(&[portal, method, outcome.as_str()]).inc();
        self.duration.with_label_values(&[portal, method]).observe(took.as_secs_f64());
    }

    pub(crate) fn renamed(&self, portal: &PortalName) {
        self.renamed.with_label_values(&[portal.as_str()]).inc();
    }

    pub(crate) fn moved(&self, portal: &PortalName, is_it: bool) {
        self.moved.with_label_values(&[portal.as_str(), "yes"]).set(is_it.into());
    }

    pub(crate) fn points_elsewhere(&self, portal: &PortalName, does_it: bool) {
        self.moved.with_label_values(&[portal.as_str(), "no"]).set(does_it.into());
    }

    pub(crate) fn unreadable(&self, portal: &PortalName, is_it: bool) {
        self.unreadable.with_label_values(&[portal.as_str()]).set(is_it.into());
    }

    pub(crate) fn waited(&self, portal: &PortalName, time: Duration) {
        self.wait.with_label_values(&[portal.as_str()]).observe(time.as_secs_f64());
    }

    pub(crate) fn packed(&self, portal: &PortalName, kind: PackKind, leads: usize, took: Duration) {
        let leads = f64::from(u32::try_from(leads).unwrap_or(u32::MAX));
        let labels = [portal.as_str(), kind.as_str()];
        self.pack_leads.with_label_values(&labels).observe(leads);
        // Two requests that end at the same moment may overwrite each other here: no harm to an average.
        let average = self.lead_seconds.with_label_values(&labels);
        average.set(smoothed(average.get(), took.as_secs_f64() / leads.max(1.0)));
    }
}

/// The average after one more value; the first one is the average itself.
fn smoothed(average: f64, value: f64) -> f64 {
    if average > 0.0 { average + SMOOTHING * (value - average) } else { value }
}

/// The portal limits the time of methods, not of the batch around them; different methods have no time
/// in common.
fn has_limit(method: &str) -> bool {
    !matches!(method, "batch" | "other")
}

fn label(method: &str) -> &'static str {
    METHODS.into_iter().find(|known| *known == method).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, TextEncoder};

    use super::*;

    fn exposition(registry: &Registry) -> String {
        let mut out = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_series_starts_at_zero() {
        let registry = Registry::new();
        let metrics = PortalMetrics::new(&registry).unwrap();
        metrics.start_at_zero(&"acme".parse().unwrap());
        let text = exposition(&registry);
        for method in METHODS {
            for outcome in RequestOutcome::ALL {
                let series = format!(
                    "rota_portal_requests_total{{method=\"{method}\",outcome=\"{}\",portal=\"acme\"}} 0",
                    outcome.as_str()
                );
                assert!(text.contains(&series), "{series}");
            }
        }
        assert!(text.contains("rota_budget_wait_seconds_count{portal=\"acme\"} 0"), "{text}");
        assert!(text.contains("rota_portal_pack_leads_count{kind=\"write\",portal=\"acme\"} 0"), "{text}");
    }

    #[test]
    fn the_average_follows_slowly_and_starts_at_the_first_value() {
        assert!((smoothed(0.0, 3.0) - 3.0).abs() < f64::EPSILON);
        let after_ten = (0..10).fold(1.0, |average, _| smoothed(average, 2.0));
        assert!((1.88..1.90).contains(&after_ten), "{after_ten}");
    }

    #[test]
    fn the_time_of_a_method_is_seen_and_that_of_a_batch_is_not() {
        let registry = Registry::new();
        let metrics = PortalMetrics::new(&registry).unwrap();
        let acme = "acme".parse().unwrap();
        metrics.start_at_zero(&acme);
        let time = Timing { operating: Some(12.5), ..Timing::default() };
        for method in ["crm.lead.update", "batch", "crm.deal.list"] {
            metrics.told(&acme, method, time);
        }
        metrics.told(&acme, "crm.lead.get", Timing::default());
        let text = exposition(&registry);
        let series =
            |method: &str| format!("rota_portal_operating_seconds{{method=\"{method}\",portal=\"acme\"}}");
        assert!(text.contains(&format!("{} 12.5", series("crm.lead.update"))), "{text}");
        assert!(text.contains(&format!("{} 0", series("crm.lead.get"))), "{text}");
        assert!(!text.contains(&series("batch")) && !text.contains(&series("other")), "{text}");
    }

    #[test]
    fn an_unknown_method_does_not_make_a_series() {
        assert_eq!(label("crm.lead.get"), "crm.lead.get");
        assert_eq!(label("crm.deal.list"), "other");
    }
}
