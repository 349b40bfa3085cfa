//! What our side of the broker does while the broker is away, killed or full. Each test has its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::broker::rabbitmq::{RabbitMq as Client, Settings};
use common::broker::settle::{Settlement, Settler};
use common::broker::topology::Topology;
use common::broker::{Broker, BrokerStatus, Consumer, Delivery, Headers, Message, PublishError};
use common::ids::PortalName;
use common::metrics::{self, BrokerMetrics};
use common::retry::Attempt;
use e2e::services::{RabbitMq, ScratchDir};

const SOON: Duration = e2e::HANG;
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);
/// What a publish that fails may take beyond its timeout: the machine may be busy.
const SLACK: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);

struct Ground {
    client: Arc<Client>,
    settler: Settler,
    topology: Arc<Topology>,
    queue: String,
    server: RabbitMq,
    // Last: the server must have ended before its files go.
    _dir: ScratchDir,
}

impl Ground {
    async fn new() -> Self {
        let dir = ScratchDir::new().unwrap();
        let server = RabbitMq::start(dir.path()).unwrap();
        let portal: PortalName = "acme".parse().unwrap();
        let topology = Arc::new(Topology::new("rota", &[], [portal.clone()]));
        let settings = Settings {
            url: server.url().into(),
            name: "test".to_owned(),
            declare: true,
            publish_timeout: PUBLISH_TIMEOUT,
        };
        let metrics = BrokerMetrics::register(&metrics::registry("test").unwrap()).unwrap();
        let client = Arc::new(Client::start(&settings, Arc::clone(&topology), metrics));
        let ground = Self {
            settler: Settler::new(Arc::clone(&client) as _, Arc::clone(&topology)),
            queue: topology.lead_events(&portal),
            client,
            topology,
            server,
            _dir: dir,
        };
        ground.wait_for_status(|status| *status == BrokerStatus::Ready).await;
        ground
    }

    async fn wait_for_status(&self, wanted: impl Fn(&BrokerStatus) -> bool) {
        let waiting = async {
            while !wanted(&self.client.status()) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let in_time = tokio::time::timeout(SOON, waiting).await;
        in_time.unwrap_or_else(|_| panic!("it is {:?}", self.client.status()));
    }

    async fn publish(&self, id: &str) -> Result<(), PublishError> {
        let message = Message {
            id: id.to_owned(),
            kind: "lead-event".to_owned(),
            body: id.as_bytes().to_vec(),
            headers: Headers::default(),
        };
        self.client.publish(self.topology.to_queue(self.queue.clone()), message).await
    }

    /// Publishes what cannot be published; it must fail in time.
    async fn publish_in_vain(&self, id: &str) -> PublishError {
        let started = Instant::now();
        let failure = self.publish(id).await.unwrap_err();
        assert!(started.elapsed() < PUBLISH_TIMEOUT + SLACK, "{failure} after {:?}", started.elapsed());
        failure
    }

    /// Publishes as a stage does: again until it is confirmed.
    async fn publish_at_last(&self, id: &str) {
        let publishing = async {
            while self.publish(id).await.is_err() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(SOON, publishing).await.expect("it is confirmed in the end");
    }

    async fn settle(&self, delivery: Delivery) -> bool {
        let attempt = Attempt { number: 1, first_seen: jiff::Timestamp::UNIX_EPOCH, throttled_since: None };
        self.settler.settle(delivery, &Settlement::Ack, None, attempt).await.is_ok()
    }

    /// The next delivery, and the id of its message.
    async fn next(&self, consumer: &mut dyn Consumer) -> (String, Delivery) {
        let delivery = tokio::time::timeout(SOON, consumer.next()).await.expect("a delivery comes");
        (delivery.message.id.clone(), delivery)
    }

    /// Takes and acknowledges messages until all these have come; what was not confirmed may come too.
    async fn take_all(&self, consumer: &mut dyn Consumer, ids: impl IntoIterator<Item = String>) {
        let mut missing: BTreeSet<String> = ids.into_iter().collect();
        while !missing.is_empty() {
            let (id, delivery) = self.next(consumer).await;
            assert!(self.settle(delivery).await, "{id}");
            missing.remove(&id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_broker_away_fails_a_publish_in_time_and_keeps_what_it_confirmed() {
    let mut ground = Ground::new().await;
    let before: Vec<_> = (0..50).map(|number| format!("before-{number}")).collect();
    for id in &before {
        ground.publish(id).await.unwrap();
    }
    ground.server.stop().unwrap();
    for number in 0..3 {
        let failure = ground.publish_in_vain(&format!("away-{number}")).await;
        assert!(matches!(failure, PublishError::NotConnected(_)), "{failure}");
    }
    ground.wait_for_status(|status| matches!(status, BrokerStatus::Disconnected(_))).await;

    ground.server.restart().unwrap();
    ground.publish_at_last("after").await;
    ground.wait_for_status(|status| *status == BrokerStatus::Ready).await;
    let mut consumer = ground.client.consume(&ground.queue, 10);
    ground.take_all(consumer.as_mut(), before.into_iter().chain(["after".to_owned()])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_broker_killed_gives_its_consumer_again_what_was_not_acknowledged() {
    let mut ground = Ground::new().await;
    for id in ["done", "in hand", "waiting"] {
        ground.publish(id).await.unwrap();
    }
    let mut consumer = ground.client.consume(&ground.queue, 2);
    let (id, delivery) = ground.next(consumer.as_mut()).await;
    assert_eq!(id, "done");
    assert!(ground.settle(delivery).await);
    let (id, in_hand) = ground.next(consumer.as_mut()).await;
    assert_eq!(id, "in hand");
    // An ack has no answer: what comes after it on the channel shows that the broker has taken it.
    let (id, waiting) = ground.next(consumer.as_mut()).await;
    assert_eq!(id, "waiting");

    ground.server.kill();
    ground.server.restart().unwrap();
    let (id, again) = ground.next(consumer.as_mut()).await;
    assert_eq!(id, "in hand");
    for stale in [in_hand, waiting] {
        assert!(!ground.settle(stale).await, "from before the reconnect");
    }
    assert!(ground.settle(again).await);
    ground.take_all(consumer.as_mut(), ["waiting".to_owned()]).await;
    ground.publish_at_last("after").await;
    let (id, delivery) = ground.next(consumer.as_mut()).await;
    assert_eq!(id, "after");
    assert!(ground.settle(delivery).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_broker_short_of_memory_makes_a_publish_time_out_and_consuming_goes_on() {
    let ground = Ground::new().await;
    ground.publish("before").await.unwrap();
    ground.server.set_memory_alarm(true).unwrap();
    let failure = ground.publish_in_vain("full-1").await;
    assert!(matches!(failure, PublishError::TimedOut(PUBLISH_TIMEOUT)), "{failure}");
    ground.wait_for_status(|status| matches!(status, BrokerStatus::Blocked(_))).await;
    // The next one finds a new channel to be made on a connection that nobody reads.
    ground.publish_in_vain("full-2").await;
    let mut consumer = ground.client.consume(&ground.queue, 10);
    ground.take_all(consumer.as_mut(), ["before".to_owned()]).await;
    ground.wait_for_status(|status| matches!(status, BrokerStatus::Blocked(_))).await;

    ground.server.set_memory_alarm(false).unwrap();
    ground.wait_for_status(|status| *status == BrokerStatus::Ready).await;
    ground.publish_at_last("after").await;
    ground.take_all(consumer.as_mut(), ["after".to_owned()]).await;
}
