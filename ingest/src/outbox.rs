//! Where an event goes before its sender is answered: the broker, or the spool, or nowhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::broker::{Broker, BrokerStatus, Message, PublishError, Route};
use common::failure::{Failure, FailureClass, chain};
use common::lifecycle::Stop;

use crate::metrics::IngestMetrics;
use crate::spool::{Spool, SpoolError};

/// How often the spool is looked at.
const DRAIN_EVERY: Duration = Duration::from_secs(1);

/// How often is looked for what replicas that are gone have left.
const INHERIT_EVERY: Duration = Duration::from_mins(1);

/// Where an event was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// In a queue of the broker.
    Broker,
    /// In the spool.
    Spool,
}

/// The event is stored nowhere; the sender must be told so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStored {
    #[error("the broker does not take it and no spool is configured")]
    NoSpool(#[source] PublishError),
    #[error("neither the broker nor the spool takes it")]
    Spool(#[source] SpoolError),
}

impl Failure for NotStored {
    fn class(&self) -> FailureClass {
        match self {
            Self::NoSpool(_) | Self::Spool(_) => FailureClass::Transient,
        }
    }
}

/// Puts events away.
pub(crate) struct Outbox {
    broker: Arc<dyn Broker>,
    spool: Option<Arc<Spool>>,
    metrics: Arc<IngestMetrics>,
}

impl Outbox {
    pub(crate) fn new(
        broker: Arc<dyn Broker>,
        spool: Option<Arc<Spool>>,
        metrics: Arc<IngestMetrics>,
    ) -> Self {
        Self { broker, spool, metrics }
    }

    /// Publishes and waits for the confirm. Where a spool is configured, a broker that takes nothing
    /// is not waited for.
    pub(crate) async fn put(&self, route: Route, message: Message) -> Result<Stored, NotStored> {
        let Some(spool) = &self.spool else {
            self.broker.publish(route, message).await.map_err(NotStored::NoSpool)?;
            return Ok(Stored::Broker);
        };
        if matches!(self.broker.status(), BrokerStatus::Ready | BrokerStatus::Disconnected(_)) {
            // Not connected is found out at once and makes the publisher connect.
            match self.broker.publish(route.clone(), message.clone()).await {
                Ok(()) => return Ok(Stored::Broker),
                Err(error) => tracing::warn!(event = "event.spooled", id = message.id, error = chain(&error)),
            }
        }
        let (spool, bytes) = (Arc::clone(spool), Arc::clone(&self.metrics));
        let appended = tokio::task::spawn_blocking(move || {
            let appended = spool.append(&route, &message);
            bytes.spooled_bytes(spool.bytes());
            appended
        });
        let appended = appended.await.unwrap_or(Err(SpoolError::Interrupted));
        appended.map(|()| Stored::Spool).map_err(NotStored::Spool)
    }

    /// Brings what is in the spool to the broker, until told to stop.
    pub(crate) async fn drain(self: Arc<Self>, stop: Stop) {
        let Some(spool) = self.spool.clone() else {
            stop.requested().await;
            return;
        };
        let mut inherited: Option<Instant> = None;
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(DRAIN_EVERY) => {}
            }
            if spool.bytes() > 0 {
                self.drain_logged(&spool).await;
                self.metrics.spooled_bytes(spool.bytes());
            }
            if inherited.is_none_or(|last| last.elapsed() >= INHERIT_EVERY) {
                inherited = Some(Instant::now());
                self.inherit(&spool).await;
            }
        }
    }

    /// Empties what replicas that are gone have left in the folder.
    async fn inherit(&self, spool: &Arc<Spool>) {
        let spool = Arc::clone(spool);
        match tokio::task::spawn_blocking(move || spool.left_behind()).await {
            Ok(Ok(left)) => {
                for spool in left {
                    self.drain_logged(&Arc::new(spool)).await;
                }
            }
            Ok(Err(error)) => tracing::warn!(event = "spool.drain_failed", error = %error),
            Err(error) => tracing::error!(event = "spool.drain_failed", error = %error),
        }
    }

    async fn drain_logged(&self, spool: &Arc<Spool>) {
        match self.drain_once(spool).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(event = "spool.drained", count),
            Err(error) => tracing::warn!(event = "spool.drain_failed", error = format!("{error:#}")),
        }
    }

    /// A file is deleted only when all that is in it is confirmed; what was published before a failure
    /// is published again, which is harmless.
    async fn drain_once(&self, spool: &Arc<Spool>) -> anyhow::Result<usize> {
        let reading = Arc::clone(spool);
        let files = tokio::task::spawn_blocking(move || reading.take_files()).await??;
        let mut count = 0;
        for file in files {
            for (route, message) in file.entries {
                self.broker.publish(route, message).await?;
                count += 1;
            }
            spool.remove(&file.path)?;
        }
        Ok(count)
    }
}
