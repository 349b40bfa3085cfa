//! The seam between who sends requests to a portal (`bitrix24`) and who counts them for all
//! replicas (`store`). The portal's limit holds per portal and source address, so one count must be
//! shared by every process that calls it; a limiter private to each process overruns it.

use std::time::Duration;

use async_trait::async_trait;

use crate::ids::PortalName;

/// The portal's intensity limit: a counter that each request raises by one and that falls by
/// `per_second` once a second; over `burst` requests are refused.
///
/// Source: "Limits" of the REST documentation: 50 and 2, on the Enterprise plan 250 and 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketLimits {
    /// The counter's threshold, in requests.
    pub burst: u32,
    /// By how much the counter falls each second, in requests.
    pub per_second: u32,
}

/// The answer to a wish for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Send one request, soon.
    Granted,
    /// Ask again after this time.
    Wait(Duration),
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

/// One count of requests per portal, shared by all processes.
#[async_trait]
pub trait RequestBudget: Send + Sync + 'static {
    /// Asks for one request.
    ///
    /// # Errors
    /// When the store cannot be reached; the caller must not send then.
    async fn take(&self, portal: &PortalName, limits: BucketLimits) -> Result<Grant, BudgetError>;

    /// The portal refused a request as too fast although it was granted: the count is set to full,
    /// so that everybody waits until the portal's own counter has fallen for sure.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn refused(&self, portal: &PortalName, limits: BucketLimits) -> Result<(), BudgetError>;
}
