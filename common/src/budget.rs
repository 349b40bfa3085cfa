//! The seam between who sends requests to a portal (`bitrix24`) and who counts them for all
//! replicas (`store`). The portal's limits hold per portal and source address, and per webhook and
//! method, so one account must be shared by every process that calls it; a limiter private to each
//! process overruns them.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::ids::PortalName;

/// The portal's intensity limit: a counter that each request raises by one and that falls by
/// `per_second` once a second; over `burst` requests are refused.
///
/// Source: "Limits" of the REST documentation: 50 and 2, on the Enterprise plan 250 and 5. Both are
/// smaller here where other applications send from our address too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BucketLimits {
    /// The counter's threshold, in requests; at least 1.
    pub burst: u32,
    /// By how much the counter falls each second, in requests; above 0.
    pub per_second: f64,
}

/// What a request is for. The order is that of their importance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// A lead that has just come, and whatever is done to hand it over.
    Fresh,
    /// A held lead that is looked at again.
    Held,
    /// What can wait: scans for lost events, counters.
    Background,
}

impl Purpose {
    /// How many requests of the burst are left to those who are more important.
    ///
    /// The last five are for fresh leads; what can wait leaves as many to held ones. Where the burst is
    /// small, they are its quarter and its half.
    #[must_use]
    pub fn leaves(self, limits: BucketLimits) -> u32 {
        let step = (limits.burst / 4).min(5);
        match self {
            Self::Fresh => 0,
            Self::Held => step,
            Self::Background => 2 * step,
        }
    }
}

/// What the portal said about the time a method has used.
///
/// **Shape**: `crm.lead.update`, 300 s used within the last ten minutes, the oldest of it leaves the
/// window at 12:10, not blocked; as of 12:03.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodTime {
    /// Which method.
    pub method: String,
    /// Seconds used within the portal's window: a running total, the last one told.
    pub used: f64,
    /// When the oldest part of it leaves the window, by our clock.
    pub resets_at: Option<Timestamp>,
    /// Until when the portal refuses the method, by our clock.
    pub blocked_until: Option<Timestamp>,
    /// When the portal said so, by our clock.
    pub told_at: Timestamp,
}

/// A wish for one request.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// To which portal.
    pub portal: &'a PortalName,
    /// That portal's limits.
    pub limits: BucketLimits,
    /// What for.
    pub purpose: Purpose,
    /// What the portal has said since the last wish, for all others to know.
    pub news: &'a [MethodTime],
}

/// The answer to a wish.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// Whether the request is counted already and may be sent; otherwise ask again after `wait`.
    pub granted: bool,
    /// How long to wait before that.
    pub wait: Duration,
    /// How high the count stands, this request included; above the burst while requests are booked.
    pub level: f64,
    /// What the portal has told anybody about its methods.
    pub methods: Vec<MethodTime>,
}

/// The budget could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("asking for a request of portal {portal}'s budget")]
pub struct BudgetError {
    /// Whose budget.
    pub portal: PortalName,
    /// What the store answered.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// One account of requests per portal, shared by all processes.
#[async_trait]
pub trait RequestBudget: Send + Sync + 'static {
    /// Asks for one request. A fresh lead's is always granted, for the moment when its turn comes:
    /// that makes the processes take turns in the order they asked. Others get what is left over.
    ///
    /// # Errors
    /// When the store cannot be reached; the caller must not send then.
    async fn take(&self, wish: Wish<'_>) -> Result<Grant, BudgetError>;

    /// The portal refused a request as too fast although it was granted, so the count was wrong, or
    /// somebody else sends from our address: the count is set to full, so that everybody waits until the
    /// portal's own counter has fallen for sure, and requests are granted more slowly for some minutes.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn refused(&self, portal: &PortalName, limits: BucketLimits) -> Result<(), BudgetError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_the_burst_are_for_fresh_leads() {
        let leaves = |burst| {
            let limits = BucketLimits { burst, per_second: 2.0 };
            [Purpose::Fresh, Purpose::Held, Purpose::Background].map(|purpose| purpose.leaves(limits))
        };
        assert_eq!(leaves(50), [0, 5, 10]);
        assert_eq!(leaves(8), [0, 2, 4]);
        assert_eq!(leaves(1), [0, 0, 0]);
    }
}
