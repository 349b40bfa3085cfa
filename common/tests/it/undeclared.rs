//! A process whose user may make no queue: it looks whether others have made them.

use std::sync::Arc;
use std::time::Duration;

use common::broker::rabbitmq::{RabbitMq, Settings};
use common::broker::topology::Topology;
use common::broker::{Broker, BrokerStatus, PublishError};
use common::ids::PortalName;
use common::metrics::{self, BrokerMetrics};
use uuid::Uuid;

use crate::ground::{DELAYS, SOON, amqp_url, message, wait_for};

fn start(declare: bool, topology: &Arc<Topology>) -> RabbitMq {
    let settings =
        Settings { url: amqp_url().into(), name: "undeclared".to_owned(), declare, publish_timeout: SOON };
    let metrics = BrokerMetrics::register(&metrics::registry("test").unwrap()).unwrap();
    RabbitMq::start(&settings, Arc::clone(topology), metrics)
}

#[tokio::test]
async fn who_may_make_no_queue_is_not_ready_and_publishes_nothing_until_another_has_made_them() {
    let portal: PortalName = "acme".parse().unwrap();
    let prefix = format!("undeclared-{}", Uuid::now_v7().simple());
    let topology = Arc::new(Topology::new(&prefix, &DELAYS, [portal.clone()]));
    let route = || topology.to_queue(topology.lead_events(&portal));

    let looks = start(false, &topology);
    wait_for("it has looked", async || {
        let status = looks.status();
        assert_ne!(status, BrokerStatus::Ready, "nothing is there");
        tokio::time::sleep(Duration::from_millis(1)).await;
        matches!(status, BrokerStatus::Disconnected(why) if why.contains("NOT_FOUND"))
    })
    .await;
    let refused = looks.publish(route(), message(b"{}")).await;
    assert!(
        matches!(&refused, Err(PublishError::NotConnected(why)) if why.contains(&prefix)),
        "it names what is missing: {refused:?}"
    );

    let makes = start(true, &topology);
    wait_for("they are made", async || makes.status() == BrokerStatus::Ready).await;
    wait_for("it has seen them", async || looks.status() == BrokerStatus::Ready).await;
    looks.publish(route(), message(b"{}")).await.unwrap();
    looks.close().await;
    makes.close().await;
}
