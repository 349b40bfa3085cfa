//! One request on its way: to which host it goes, and what is noted of its answer.
//!
//! A request is sent again only where it surely did not run: at the host to which the first one points, or at the
//! portal's other address where it is not at the first. Each time is counted against the limit.

use std::sync::Arc;
use std::time::Duration;

use common::failure::chain;
use common::telemetry::millis;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::Portal;
use crate::address::{Of, Plan, is_not_there};
use crate::connect::CONNECT_TIMEOUT;
use crate::envelope::{self, Envelope};
use crate::error::PortalError;
use crate::metrics::RequestOutcome;
use crate::moves::Verdict;
use crate::transport::TransportError;

/// A portal that was renamed twice may point on once more. Each host is asked once, so a circle ends.
const HOSTS_MAX: usize = 3;

/// A request is sent again no later than this after it was asked for: enough for a connection that is not made and for the
/// next turn in the budget. Who has noted that they send it counts on that ([`ON_ITS_WAY_WITHIN`]).
const AGAIN_WITHIN: Duration = Duration::from_secs(7);

/// A request is on its way to the portal within this time after it was asked for with a permit, or never: the last time it is
/// sent again, and the connection for that.
pub const ON_ITS_WAY_WITHIN: Duration =
    Duration::from_secs(AGAIN_WITHIN.as_secs() + CONNECT_TIMEOUT.as_secs());

impl Portal {
    /// Sends a request where the portal is, and reads the answer.
    pub(super) async fn request(&self, method: &str, params: &Value) -> Result<Envelope, PortalError> {
        let started = Instant::now();
        let result = self.ask(method, params, started + AGAIN_WITHIN).await;
        self.answered(method, &result, started.elapsed());
        if result.as_ref().is_err_and(PortalError::is_query_limit) {
            self.tell_refused().await;
        }
        result
    }

    async fn ask(&self, method: &str, params: &Value, until: Instant) -> Result<Envelope, PortalError> {
        let plan = self.shared.address.plan(&self.transport.configured());
        let first = self.ask_at(&plan, &plan.first, (method, params), until).await;
        let (Err(error), Some(second)) = (&first, &plan.second) else { return first };
        if !is_not_there(error) {
            return first;
        }
        if !self.may_send_again(until).await {
            self.shared.address.doubt();
            return first;
        }
        self.shared.address.asks_again();
        match self.ask_at(&plan, second, (method, params), until).await {
            // Whatever the first said tells more.
            Err(PortalError::NotSent { .. }) => first,
            second => second,
        }
    }

    /// Whether the same request may be sent once more: it is counted, and it is not too late.
    async fn may_send_again(&self, until: Instant) -> bool {
        let counted = timeout_at(until, self.limiter.acquire(self.purpose)).await;
        counted.is_ok_and(|permit| permit.is_ok()) && Instant::now() < until
    }

    /// Asks at this host, and where it points to.
    async fn ask_at(
        &self,
        plan: &Plan,
        host: &str,
        (method, params): (&str, &Value),
        until: Instant,
    ) -> Result<Envelope, PortalError> {
        let mut asked = vec![host.to_owned()];
        let mut at = host.to_owned();
        let result = loop {
            match self.transport.send(&at, method, params).await {
                Ok(answer) => match &answer.verdict {
                    Verdict::Follow(next) if asked.len() < HOSTS_MAX && !asked.contains(next) => {
                        if !self.may_send_again(until).await {
                            let why = "the portal points to another address, but there was no time left to ask there";
                            let source = Arc::new(TransportError::NotSent(why.into()));
                            break Err(PortalError::NotSent { method: method.to_owned(), source });
                        }
                        at.clone_from(next);
                        asked.push(at.clone());
                    }
                    Verdict::Follow(_) | Verdict::Elsewhere(_) | Verdict::Stay => {
                        break envelope::read(method, &answer).await;
                    }
                },
                Err(error) => break Err(PortalError::from_transport(method, error)),
            }
        };
        self.shared.address.heard(self.of(), plan, &at, &result).await;
        result
    }

    fn answered(&self, method: &str, result: &Result<Envelope, PortalError>, took: Duration) {
        self.shared.readability.heard(result);
        self.metrics.unreadable(&self.name, self.shared.readability.unreadable().is_some());
        self.metrics.answered(&self.name, method, RequestOutcome::of(result), took);
        if let Ok(envelope) = result {
            tracing::debug!(
                portal = %self.name,
                method,
                duration_ms = millis(took),
                portal_seconds = envelope.time.duration,
                operating_seconds = envelope.time.operating,
                "portal.answered"
            );
        }
    }

    async fn tell_refused(&self) {
        if let Err(error) = self.limiter.refused().await {
            tracing::warn!(
                portal = %self.name,
                error = chain(&error),
                "the shared budget was not told that the portal refuses requests"
            );
        }
    }

    pub(super) fn of(&self) -> Of<'_> {
        Of { portal: &self.name, transport: &*self.transport, metrics: &self.metrics }
    }
}
