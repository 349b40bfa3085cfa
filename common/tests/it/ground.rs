//! What tests of the broker share: a topology with a prefix of the test's own on a real RabbitMQ.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use common::broker::rabbitmq::{RabbitMq, Settings};
use common::broker::settle::{Settlement, Settler};
use common::broker::topology::Topology;
use common::broker::{Broker, Consumer, Delivery, Headers, Message};
use common::clock::{Clock as _, SystemClock};
use common::failure::{Failure, FailureClass};
use common::ids::{LeadId, PortalName};
use common::messages::{Envelope, EventSource, LeadEvent};
use common::metrics::{self, BrokerMetrics};
use jiff::Timestamp;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use uuid::Uuid;

/// What takes longer hangs, however busy the machine is.
pub const SOON: Duration = Duration::from_mins(5);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The steps of the tests' delay ladder.
pub const DELAYS: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(600)];

/// Bytes that are no text.
pub const GARBAGE: &[u8] = b"\xff\xfe{\"\xc3\x28\0";

/// A broker, and what was declared on it.
pub struct Ground {
    pub broker: Arc<RabbitMq>,
    pub topology: Arc<Topology>,
    pub settler: Settler,
    pub portal: PortalName,
    /// The work queue of the tests.
    pub queue: String,
    raw: Connection,
}

#[expect(clippy::disallowed_methods, reason = "how `with-services` tells the tests where its servers are")]
pub fn amqp_url() -> String {
    std::env::var("ROTA_TEST_AMQP_URL")
        .expect("ROTA_TEST_AMQP_URL is not set: run `make test`, which starts a private server")
}

impl Ground {
    pub async fn new() -> Self {
        let portal: PortalName = "acme".parse().unwrap();
        let prefix = format!("common-{}", Uuid::now_v7().simple());
        let topology = Arc::new(Topology::new(&prefix, &DELAYS, [portal.clone()]));
        let settings =
            Settings { url: amqp_url().into(), name: prefix, declare: true, publish_timeout: SOON };
        let metrics = BrokerMetrics::register(&metrics::registry("test").unwrap()).unwrap();
        let broker = Arc::new(RabbitMq::start(&settings, Arc::clone(&topology), metrics));
        let raw = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.unwrap();
        let ground = Self {
            settler: Settler::new(Arc::clone(&broker) as _, Arc::clone(&topology)),
            queue: topology.lead_events(&portal),
            broker,
            topology,
            portal,
            raw,
        };
        wait_for("the topology is declared", async || {
            ground.ready(&topology_end(&ground.topology)).await.is_some()
        })
        .await;
        ground
    }

    /// A channel past everything of ours.
    pub async fn raw(&self) -> Channel {
        self.raw.create_channel().await.unwrap()
    }

    /// How many messages lie in a queue, ready to be delivered; none if there is no such queue.
    pub async fn ready(&self, queue: &str) -> Option<u32> {
        self.look(queue).await.map(|queue| queue.message_count())
    }

    /// How many consumers a queue has; none if there is no such queue.
    pub async fn consumers(&self, queue: &str) -> Option<u32> {
        self.look(queue).await.map(|queue| queue.consumer_count())
    }

    async fn look(&self, queue: &str) -> Option<lapin::Queue> {
        // A channel of its own: asking for what is absent closes it.
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.raw().await.queue_declare(queue.into(), passive, FieldTable::default()).await.ok()
    }

    pub async fn publish(&self, message: Message) {
        self.broker.publish(self.topology.to_queue(self.queue.clone()), message).await.unwrap();
    }

    pub async fn done(&self, delivery: Delivery) {
        let attempt = delivery.message.attempt(jiff::Timestamp::UNIX_EPOCH);
        self.settler.settle(delivery, &Settlement::Ack, None, attempt).await.unwrap();
    }

    /// The dead letters, oldest first; there must be this many.
    pub async fn dead_letters<const COUNT: usize>(&self) -> [Message; COUNT] {
        let mut consumer = self.broker.consume(&self.topology.dead(), 10);
        let mut letters = Vec::new();
        while letters.len() < COUNT {
            let delivery = next(consumer.as_mut()).await;
            letters.push(delivery.message.clone());
            self.done(delivery).await;
        }
        letters.try_into().unwrap()
    }

    /// The queues that are there and not empty, with how many messages are ready in them.
    async fn left(&self) -> BTreeMap<String, u32> {
        let mut left = BTreeMap::new();
        for entry in self.topology.queues() {
            let ready = self.ready(&entry.name).await.filter(|ready| *ready > 0);
            left.extend(ready.map(|ready| (entry.name, ready)));
        }
        left
    }

    /// Closes the connections and checks that nothing is left in any queue, also nothing unacknowledged.
    pub async fn close_with_nothing_left(self) {
        self.close_with_left(0).await;
    }

    /// As before, but this many messages are left in the tests' work queue.
    pub async fn close_with_left(self, count: u32) {
        self.broker.close().await;
        let expected: BTreeMap<_, _> = (count > 0).then(|| (self.queue.clone(), count)).into_iter().collect();
        // What was unacknowledged comes back when the broker has noticed that the connection is gone.
        wait_for(&format!("only {expected:?} is left"), async || self.left().await == expected).await;
    }
}

/// The queue that is declared last.
fn topology_end(topology: &Topology) -> String {
    topology.queues().pop().unwrap().name
}

pub async fn wait_for(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

pub async fn next(consumer: &mut dyn Consumer) -> Delivery {
    tokio::time::timeout(SOON, consumer.next()).await.expect("a delivery comes")
}

/// When all messages of a test were first seen: just now, as one that is too old is buried. In whole milliseconds,
/// which is what a header keeps.
static FIRST_SEEN: LazyLock<Timestamp> =
    LazyLock::new(|| Timestamp::from_millisecond(SystemClock.now().as_millisecond()).unwrap());

/// A message with this body on its first way.
pub fn message(body: &[u8]) -> Message {
    Message {
        id: Uuid::now_v7().to_string(),
        kind: "lead-event".to_owned(),
        body: body.to_vec(),
        headers: Headers {
            first_seen: Some(*FIRST_SEEN),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            ..Headers::default()
        },
    }
}

/// The event of a lead of a portal.
pub fn event(portal: &PortalName, lead: u64) -> Message {
    let envelope = Envelope {
        id: Uuid::now_v7().to_string(),
        portal: portal.clone(),
        occurred_at: "2026-11-23T09:00:00Z".parse().unwrap(),
        payload: LeadEvent::of(LeadId::new(lead).unwrap(), EventSource::Webhook),
    };
    Message { id: envelope.id.clone(), ..message(&envelope.to_bytes()) }
}

/// A failure of any class.
#[derive(Debug, thiserror::Error)]
#[error("reading lead 42")]
pub struct Trouble {
    pub class: FailureClass,
    pub retry_after: Option<Duration>,
    pub source: std::io::Error,
}

impl Trouble {
    pub fn new(class: FailureClass) -> Self {
        Self { class, retry_after: None, source: std::io::Error::other("it rains") }
    }
}

impl Failure for Trouble {
    fn class(&self) -> FailureClass {
        self.class
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}
