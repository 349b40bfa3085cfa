//! The client of one portal: [`Portal`]. Each request waits for a permit, is sent once, read,
//! classified and counted. Nothing is repeated here: whether to repeat is decided where the message
//! is settled, which also knows what a repeated request would do.
//!
//! The methods of leads are in [`crate::lead`], those of notices in [`crate::notify`]; who wants to
//! close a pack only when it may be sent takes a permit first ([`Portal::permit`]).

use std::sync::Arc;
use std::time::Duration;

use common::ids::PortalName;
use serde_json::Value;
use tokio::time::Instant;

use crate::command::{Command, MAX_COMMANDS, batch_body};
use crate::envelope::{self, Envelope};
use crate::error::PortalError;
use crate::limits::{Limiter, Permit};
use crate::metrics::{PackKind, PortalMetrics, RequestOutcome};
use crate::transport::Transport;
use common::telemetry::millis;

/// What a batch brought: one outcome a command, in the order of the commands.
pub type BatchOutcomes = Vec<Result<Value, PortalError>>;

/// One portal.
pub struct Portal {
    name: PortalName,
    transport: Arc<dyn Transport>,
    limiter: Arc<Limiter>,
    metrics: Arc<PortalMetrics>,
}

impl Portal {
    /// A client that sends by `transport` what `limiter` permits. All clients of one portal in a
    /// process must share one limiter.
    #[must_use]
    pub fn new(
        name: PortalName,
        transport: Arc<dyn Transport>,
        limiter: Arc<Limiter>,
        metrics: Arc<PortalMetrics>,
    ) -> Self {
        metrics.start_at_zero(&name);
        Self { name, transport, limiter, metrics }
    }

    /// The portal's name in our configuration.
    #[must_use]
    pub fn name(&self) -> &PortalName {
        &self.name
    }

    /// Waits until one request may be sent, for the methods that end in `_with`.
    ///
    /// # Errors
    /// Throttled when the shared budget cannot be asked.
    pub async fn permit(&self) -> Result<Permit, PortalError> {
        let permit = self.limiter.acquire().await?;
        self.metrics.waited(&self.name, permit.waited());
        Ok(permit)
    }

    /// Calls `method` with the JSON object `params`.
    ///
    /// # Errors
    /// [`PortalError`], with its class; "there is no such lead" is an error here and has
    /// [`PortalError::is_not_found`]. A caller that is dropped may leave a request that runs.
    pub async fn call(&self, method: &str, params: &Value) -> Result<Envelope, PortalError> {
        self.call_with(self.permit().await?, method, params).await
    }

    /// As [`Portal::call`], with a permit taken before.
    ///
    /// # Errors
    /// As [`Portal::call`].
    pub async fn call_with(
        &self,
        permit: Permit,
        method: &str,
        params: &Value,
    ) -> Result<Envelope, PortalError> {
        // One permit, one request.
        drop(permit);
        let started = Instant::now();
        let result = match self.transport.send(method, params).await {
            Ok(answer) => envelope::read(method, &answer),
            Err(error) => Err(PortalError::from_transport(method, error)),
        };
        let took = started.elapsed();
        self.metrics.answered(&self.name, method, RequestOutcome::of(&result), took);
        match &result {
            Ok(envelope) => {
                self.metrics.told(&self.name, method, envelope.time);
                tracing::debug!(
                    portal = %self.name,
                    method,
                    duration_ms = millis(took),
                    portal_seconds = envelope.time.duration,
                    operating_seconds = envelope.time.operating,
                    "portal.answered"
                );
            }
            Err(error) if error.is_query_limit() => self.tell_refused().await,
            Err(_) => {}
        }
        result
    }

    /// Runs up to 50 commands, one after the other, in one request. A command that fails does not
    /// stop those behind it.
    ///
    /// # Errors
    /// The request as a whole; then nothing is known of any command when
    /// [`PortalError::is_ambiguous`], and none ran otherwise. Permanent for an empty batch or more
    /// than [`MAX_COMMANDS`]. Inside the outcomes: each command's own failure.
    ///
    /// Source: page "Batch requests".
    pub async fn batch(&self, commands: &[Command]) -> Result<BatchOutcomes, PortalError> {
        check_size(commands)?;
        self.batch_with(self.permit().await?, commands).await
    }

    /// As [`Portal::batch`], with a permit taken before.
    ///
    /// # Errors
    /// As [`Portal::batch`].
    pub async fn batch_with(
        &self,
        permit: Permit,
        commands: &[Command],
    ) -> Result<BatchOutcomes, PortalError> {
        check_size(commands)?;
        let (body, keys) = batch_body(commands);
        let envelope = self.call_with(permit, "batch", &body).await?;
        for (method, time) in envelope::batch_times(&envelope.result, &keys) {
            self.metrics.told(&self.name, method, time);
        }
        envelope::read_batch(envelope.result, &keys)
    }

    /// The portal's clock. Cheap; also shows whether the webhook is accepted at all.
    ///
    /// # Errors
    /// As [`Portal::call`].
    ///
    /// Source: page "Get Current Server Time", `"2024-08-05T09:02:13+00:00"`.
    pub async fn server_time(&self) -> Result<jiff::Timestamp, PortalError> {
        const METHOD: &str = "server.time";
        let envelope = self.call(METHOD, &Value::Object(serde_json::Map::new())).await?;
        envelope
            .result
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| PortalError::Unexpected { method: METHOD.to_owned(), expected: "a time" })
    }

    /// Counts a pack and the time its request took for the metrics; whoever packs calls it once a
    /// request, when it has ended.
    pub fn count_pack(&self, kind: PackKind, leads: usize, took: Duration) {
        self.metrics.packed(&self.name, kind, leads, took);
    }

    async fn tell_refused(&self) {
        if let Err(error) = self.limiter.refused().await {
            tracing::warn!(
                portal = %self.name,
                error = common::failure::chain(&error),
                "the shared budget was not told that the portal refuses requests"
            );
        }
    }
}

fn check_size(commands: &[Command]) -> Result<(), PortalError> {
    if (1..=MAX_COMMANDS).contains(&commands.len()) {
        Ok(())
    } else {
        Err(PortalError::BatchSize { count: commands.len() })
    }
}
