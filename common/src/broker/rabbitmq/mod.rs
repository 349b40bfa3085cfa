//! RabbitMQ behind the [`Broker`] seam, through lapin.
//!
//! Two connections per process, one for publishing and one for consuming: under a memory or disk
//! alarm the broker stops reading from connections that publish, and acks must not stop with them.
//! One channel per consumer and one for the publisher, each owned by one task, because lapin hands a
//! returned message to whatever confirm comes next on the channel. Reconnecting is ours and plain: a
//! broken channel is thrown away and built anew, topology and prefetch included.

mod connection;
mod consumer;
mod headers;
mod publisher;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::uri::AMQPUri;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{mpsc, oneshot};

use self::connection::Link;
use self::publisher::Job;
use super::topology::Topology;
use super::{Broker, BrokerStatus, Consumer, Message, PublishError, Route};
use crate::metrics::BrokerMetrics;

/// How to reach the broker.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `amqp://user:password@host:port/vhost` or `amqps://…`.
    pub url: SecretString,
    /// The connection's name in the broker's management pages: `router/host/4711`.
    pub name: String,
    /// Whether the topology is declared. Otherwise it is only looked for, which needs no right of the user's, and nothing is
    /// published before somebody has declared it.
    pub declare: bool,
    /// How long to wait for a confirm.
    pub publish_timeout: Duration,
}

impl Settings {
    /// Whether a URL can be used at all. The answer never repeats it: it holds a password.
    #[must_use]
    pub fn can_be_read(url: &SecretString) -> bool {
        url.expose_secret().parse::<AMQPUri>().is_ok()
    }
}

/// How many publishes may wait for the publisher; more make their callers wait.
const WAITING_PUBLISHES: usize = 1024;

/// A broker reached through AMQP 0.9.1.
pub struct RabbitMq {
    publish: Arc<Link>,
    consume: Arc<Link>,
    jobs: mpsc::Sender<Job>,
}

impl RabbitMq {
    /// Starts the publisher; connecting goes on in the background and is repeated for ever.
    #[must_use]
    pub fn start(settings: &Settings, topology: Arc<Topology>, metrics: BrokerMetrics) -> Self {
        let publish = Arc::new(Link::new(settings, "publish", Arc::clone(&topology), metrics.clone()));
        let consume = Arc::new(Link::new(settings, "consume", topology, metrics.clone()));
        let (jobs, waiting) = mpsc::channel(WAITING_PUBLISHES);
        tokio::spawn(publisher::run(waiting, Arc::clone(&publish), settings.publish_timeout, metrics));
        Self { publish, consume, jobs }
    }
}

#[async_trait]
impl Broker for RabbitMq {
    async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError> {
        let (answer, confirmed) = oneshot::channel();
        let job = Job { route, message, answer };
        self.jobs.send(job).await.map_err(|_| PublishError::Stopped)?;
        confirmed.await.unwrap_or(Err(PublishError::Stopped))
    }

    fn consume(&self, queue: &str, prefetch: u16) -> Box<dyn Consumer> {
        Box::new(consumer::RabbitConsumer::new(Arc::clone(&self.consume), queue.to_owned(), prefetch))
    }

    fn status(&self) -> BrokerStatus {
        match self.publish.status() {
            None => BrokerStatus::Disconnected("not connected yet".to_owned()),
            // Not every stage consumes.
            Some(BrokerStatus::Ready) => self.consume.status().unwrap_or(BrokerStatus::Ready),
            Some(other @ (BrokerStatus::Blocked(_) | BrokerStatus::Disconnected(_))) => other,
        }
    }

    async fn close(&self) {
        self.consume.close().await;
        self.publish.close().await;
    }
}
