//! One connection that is there whenever the broker is.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, Event, ExchangeKind};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::Settings;
use crate::broker::BrokerStatus;
use crate::broker::topology::{QueueEntry, Topology};
use crate::metrics::BrokerMetrics;
use crate::telemetry::millis;

/// A handshake slower than this is given up; a broker on the same network needs milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A good-bye that is not answered within this time is not waited for.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// First and longest wait between tries to connect. Each wait is drawn from its upper half, so that
/// replicas do not come back in step after a restart of the broker.
const RECONNECT_WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A connection, made when first needed and again whenever it broke.
pub(super) struct Link {
    url: SecretString,
    name: String,
    role: &'static str,
    declare: bool,
    topology: Arc<Topology>,
    metrics: BrokerMetrics,
    connection: Mutex<Option<Arc<Connection>>>,
    state: Arc<StdMutex<State>>,
}

/// What is known of the newest connection.
struct State {
    /// Which connection it is; news of an older one is ignored.
    connection: u64,
    /// None until somebody needed a connection.
    status: Option<BrokerStatus>,
    /// Why the topology is not there, which makes a connection useless.
    without_topology: Option<String>,
}

impl State {
    fn news(state: &StdMutex<Self>, connection: u64, status: BrokerStatus) -> bool {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = state.connection == connection;
        if newest {
            state.status = Some(status);
        }
        newest
    }
}

impl Link {
    pub(super) fn new(
        settings: &Settings,
        role: &'static str,
        topology: Arc<Topology>,
        metrics: BrokerMetrics,
    ) -> Self {
        Self {
            url: settings.url.clone(),
            name: format!("{}/{role}", settings.name),
            role,
            declare: settings.declare,
            topology,
            metrics,
            connection: Mutex::new(None),
            state: Arc::new(StdMutex::new(State { connection: 0, status: None, without_topology: None })),
        }
    }

    /// How the connection is; none where nobody has needed one yet.
    pub(super) fn status(&self) -> Option<BrokerStatus> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (&state.status, &state.without_topology) {
            (Some(BrokerStatus::Ready), Some(why)) => Some(BrokerStatus::Disconnected(why.clone())),
            (status, _) => status.clone(),
        }
    }

    /// A new channel on this connection, with everything of the topology there. One try.
    pub(super) async fn channel(&self) -> Result<Channel, lapin::Error> {
        let mut slot = self.connection.lock().await;
        let live = slot.as_ref().filter(|connection| connection.status().connected());
        let connection = if let Some(connection) = live {
            Arc::clone(connection)
        } else {
            let connection = self.connect().await.inspect_err(|error| self.lost(&error.to_string()))?;
            *slot = Some(Arc::clone(&connection));
            connection
        };
        drop(slot);
        let channel = connection.create_channel().await?;
        let there = declare(&channel, &self.topology, !self.declare).await;
        if let Err(error) = &there {
            tracing::error!(event = "broker.declare_failed", role = self.role, error = %error);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.without_topology = there.as_ref().err().map(ToString::to_string);
        drop(state);
        there.map(|()| channel)
    }

    /// A new channel, however long it takes.
    pub(super) async fn channel_at_last(&self) -> Channel {
        let (mut wait, longest) = RECONNECT_WAITS;
        loop {
            match self.channel().await {
                Ok(channel) => return channel,
                Err(error) => {
                    tracing::warn!(
                        event = "broker.unreachable", role = self.role, error = %error,
                        retry_in_ms = millis(wait),
                    );
                    let share = 0.5 + rand::random::<f64>() / 2.0;
                    tokio::time::sleep(wait.mul_f64(share)).await;
                    wait = (wait * 2).min(longest);
                }
            }
        }
    }

    /// Says good-bye. Whoever hears no answer leaves without: nothing is under way on it any more, and a
    /// connection that broke at this very moment never answers.
    pub(super) async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            let closing = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, "bye".into()));
            match closing.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(event = "broker.close_failed", role = self.role, error = %error);
                }
                Err(_) => tracing::warn!(event = "broker.close_unanswered", role = self.role),
            }
        }
        self.lost("closed");
    }

    async fn connect(&self) -> Result<Arc<Connection>, lapin::Error> {
        // Waiting and trying again is done above, where it can be stopped and seen.
        let properties = ConnectionProperties::default()
            .with_connection_name(self.name.clone().into())
            .configure_backoff(|backoff| backoff.with_max_times(0));
        let connecting = Connection::connect(self.url.expose_secret(), properties);
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| {
            std::io::Error::new(std::io::ErrorKind::TimedOut, "the broker did not finish the handshake")
        })??;
        let number = self.set(BrokerStatus::Ready, Some("queues and exchanges are not there yet".to_owned()));
        self.metrics.connected(self.role, true);
        tracing::info!(event = "broker.connected", role = self.role);
        let (events, state) = (connection.events_listener(), Arc::clone(&self.state));
        tokio::spawn(watch(events, state, number, self.role, self.metrics.clone()));
        Ok(Arc::new(connection))
    }

    fn lost(&self, why: &str) {
        self.set(BrokerStatus::Disconnected(why.to_owned()), None);
        self.metrics.connected(self.role, false);
    }

    /// Begins a new chapter of the connection's story; returns its number.
    fn set(&self, status: BrokerStatus, without_topology: Option<String>) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.connection += 1;
        state.status = Some(status);
        state.without_topology = without_topology;
        state.connection
    }
}

/// Follows what the broker says of a connection until the connection is gone.
async fn watch(
    mut events: impl futures_util::Stream<Item = Event> + Unpin,
    state: Arc<StdMutex<State>>,
    number: u64,
    role: &'static str,
    metrics: BrokerMetrics,
) {
    while let Some(event) = events.next().await {
        if let Event::ConnectionBlocked(why) = event {
            tracing::error!(event = "broker.blocked", role, reason = why);
            metrics.blocked(role, true);
            State::news(&state, number, BrokerStatus::Blocked(why));
        } else if matches!(event, Event::ConnectionUnblocked) {
            tracing::info!(event = "broker.unblocked", role);
            metrics.blocked(role, false);
            State::news(&state, number, BrokerStatus::Ready);
        } else if let Event::Error(error) = event
            && !error.is_amqp_soft_error()
        {
            tracing::warn!(event = "broker.disconnected", role, error = %error);
            if State::news(&state, number, BrokerStatus::Disconnected(error.to_string())) {
                metrics.blocked(role, false);
                metrics.connected(role, false);
            }
            return;
        }
    }
}

/// Declares the whole table; declaring what is already there changes nothing. Where it is only looked for (`passive`) nothing
/// is made and nothing is bound, and the broker compares names alone; its error names what is not there.
async fn declare(channel: &Channel, topology: &Topology, passive: bool) -> Result<(), lapin::Error> {
    for exchange in topology.exchanges() {
        let kind = if exchange.fanout { ExchangeKind::Fanout } else { ExchangeKind::Direct };
        let mut arguments = FieldTable::default();
        if let Some(alternate) = exchange.alternate {
            arguments.insert("alternate-exchange".into(), AMQPValue::LongString(alternate.into()));
        }
        let options = ExchangeDeclareOptions { durable: true, passive, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(exchange.name.into(), kind, options, arguments).await?;
    }
    for queue in topology.queues() {
        let options = QueueDeclareOptions { durable: true, passive, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.name.clone().into(), options, arguments_of(&queue)).await?;
        if passive {
            continue;
        }
        let (exchange, key) = queue.bound_to;
        let bind = QueueBindOptions::default();
        channel
            .queue_bind(queue.name.into(), exchange.into(), key.into(), bind, FieldTable::default())
            .await?;
    }
    Ok(())
}

fn arguments_of(queue: &QueueEntry) -> FieldTable {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(queue.delivery_limit));
    if let Some(time_to_live) = queue.time_to_live {
        let millis = i64::try_from(time_to_live.as_millis()).unwrap_or(i64::MAX);
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(millis));
    }
    if let Some(exchange) = &queue.dead_letter_exchange {
        arguments.insert("x-dead-letter-exchange".into(), text(exchange));
        // Both are needed for dead-lettering that loses nothing when the target is away.
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        arguments.insert("x-overflow".into(), text("reject-publish"));
    }
    arguments
}
