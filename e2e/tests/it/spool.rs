//! Events that come while the broker is away. Each test has a broker of its own.

use e2e::harness::{Pipeline, Plan};
use e2e::services::{RabbitMq, ScratchDir};

use crate::common_parts::{SOON, assert_each_once, database_url, mixed_leads, plan, wait_for_notices};

async fn start(plan: &Plan) -> (Pipeline, RabbitMq, ScratchDir) {
    let dir = ScratchDir::new().unwrap();
    let broker = RabbitMq::start(dir.path()).unwrap();
    let pipeline = Pipeline::start(&broker.url(), &database_url(), plan).await.unwrap();
    (pipeline, broker, dir)
}

async fn answered(pipeline: &Pipeline, status: &str, events: u64) {
    pipeline
        .wait_for(&format!("{events} events are answered {status}"), SOON, async || {
            Ok(pipeline.portal.stats().await?.events.get(status) == Some(&events))
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn own_broker_away_events_wait_in_the_spool_and_their_leads_are_assigned_later() {
    let mut plan = plan();
    plan.config = plan.config.replace("ingest: {", "ingest: { spool: { directory: spool },");
    let (mut pipeline, mut broker, _dir) = start(&plan).await;
    broker.stop().unwrap();
    pipeline.portal.add_leads(&mixed_leads(20)).await.unwrap();
    answered(&pipeline, "200", 20).await;
    let (status, why) = pipeline.ready("ingest").await.unwrap();
    assert_eq!(status, 503, "{why}");
    let spooled = pipeline.metric("ingest", "rota_events_received_total", &["outcome=\"spooled\""]).await;
    assert_eq!(spooled.unwrap(), 20.0);
    assert!(pipeline.metric("ingest", "rota_spool_bytes", &[]).await.unwrap() > 0.0);

    // What is in the spool outlives the process too.
    pipeline.kill("ingest").unwrap();
    pipeline.start_again("ingest").unwrap();
    broker.restart().unwrap();
    wait_for_notices(&pipeline, 20).await;
    assert_each_once(&pipeline).await;
    pipeline
        .wait_for("the spool is empty", SOON, async || {
            Ok(pipeline.metric("ingest", "rota_spool_bytes", &[]).await? == 0.0)
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn own_broker_away_without_a_spool_the_sender_is_told_that_nothing_is_stored() {
    let (pipeline, mut broker, _dir) = start(&plan()).await;
    broker.stop().unwrap();
    pipeline.portal.add_leads(&mixed_leads(3)).await.unwrap();
    answered(&pipeline, "503", 3).await;
    let lost = pipeline.metric("ingest", "rota_events_received_total", &["outcome=\"not_stored\""]).await;
    assert_eq!(lost.unwrap(), 3.0);

    broker.restart().unwrap();
    pipeline.wait_ready().await.unwrap();
    pipeline.portal.repeat_events(&[1, 2, 3], 1).await.unwrap();
    wait_for_notices(&pipeline, 3).await;
    assert_each_once(&pipeline).await;
}
