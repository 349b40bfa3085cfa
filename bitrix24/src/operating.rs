//! The execution time that each method has used, as the portal tells it with every answer: a gauge that
//! knows when it is out of date.
//!
//! The portal adds up a method's time over ten minutes and refuses the method beyond 480 s. What it said
//! last is a running total of *its* window; ten minutes without an answer later the window is empty.
//!
//! Source: page "Limits", and "Data types" for `time.operating`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};
use tokio::time::Instant;

/// The portal's window.
const WINDOW: Duration = Duration::from_mins(10);

/// `rota_portal_operating_seconds`.
#[derive(Clone)]
pub(crate) struct OperatingTimes {
    gauge: GaugeVec,
    told: Arc<Mutex<BTreeMap<(String, &'static str), Instant>>>,
}

impl OperatingTimes {
    pub(crate) fn new() -> prometheus::Result<Self> {
        let opts = Opts::new(
            "rota_portal_operating_seconds",
            "Execution time that a method has used within the portal's ten minutes, as the portal last said; it \
             refuses the method beyond 480",
        );
        Ok(Self { gauge: GaugeVec::new(opts, &["portal", "method"])?, told: Arc::default() })
    }

    pub(crate) fn start_at_zero(&self, portal: &str, method: &str) {
        self.gauge.with_label_values(&[portal, method]).set(0.0);
    }

    pub(crate) fn told(&self, portal: &str, method: &'static str, seconds: f64) {
        self.gauge.with_label_values(&[portal, method]).set(seconds);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert((portal.to_owned(), method), Instant::now());
    }

    fn forget_what_is_over(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(portal, method), at| {
            let current = at.elapsed() < WINDOW;
            if !current {
                self.start_at_zero(portal, method);
            }
            current
        });
    }
}

impl Collector for OperatingTimes {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.forget_what_is_over();
        self.gauge.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_the_portal_said_holds_for_its_window() {
        let times = OperatingTimes::new().unwrap();
        times.start_at_zero("acme", "crm.lead.get");
        let value = || {
            let families = times.collect();
            families[0].get_metric().iter().map(|metric| metric.get_gauge().get_value()).sum::<f64>()
        };
        times.told("acme", "crm.lead.update", 300.0);
        tokio::time::advance(Duration::from_secs(599)).await;
        assert!((value() - 300.0).abs() < f64::EPSILON);
        times.told("acme", "crm.lead.update", 200.0);
        tokio::time::advance(Duration::from_secs(599)).await;
        assert!((value() - 200.0).abs() < f64::EPSILON, "the last word counts");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(value().abs() < f64::EPSILON);
    }
}
