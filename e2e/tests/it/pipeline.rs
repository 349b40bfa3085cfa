//! The main job: leads go from the portal's webhook to their managers.

use std::collections::BTreeMap;

use crate::common_parts::{
    SOON, assert_each_once, assert_nothing_left, mixed_leads, plan, start, wait_for_notices,
};

const LEADS: usize = 200;

/// By rule: 40 to each of two people; by turn: 120 as 1 : 2 : 1.
fn expected_shares() -> BTreeMap<String, usize> {
    [("11", 40 + 30), ("12", 40 + 60), ("13", 30)].map(|(user, leads)| (user.to_owned(), leads)).into()
}

#[tokio::test]
async fn two_hundred_leads_are_each_assigned_once_and_told_once_in_exact_shares() {
    let pipeline = start(&plan()).await;
    pipeline.portal.add_leads(&mixed_leads(LEADS)).await.unwrap();
    wait_for_notices(&pipeline, LEADS).await;

    assert_eq!(assert_each_once(&pipeline).await, expected_shares());
    let stats = pipeline.portal.stats().await.unwrap();
    assert_eq!(stats.refused, 0, "{stats:?}");
    assert_eq!(stats.events.get("200"), Some(&200), "{stats:?}");
    assert_nothing_left(&pipeline).await;

    let assigned = ["portal=\"acme\"", "outcome=\"assigned\""];
    assert_eq!(pipeline.metric("notifier", "rota_assignments_total", &assigned).await.unwrap(), 200.0);
    let seconds = pipeline.metric("notifier", "rota_lead_assignment_seconds_count", &[]).await.unwrap();
    assert_eq!(seconds, 200.0);
    let accepted = ["portal=\"acme\"", "outcome=\"accepted\""];
    assert_eq!(pipeline.metric("ingest", "rota_events_received_total", &accepted).await.unwrap(), 200.0);
}

#[tokio::test]
async fn two_routers_and_two_notifiers_share_events_that_come_twice_in_random_order() {
    let mut plan = plan();
    (plan.routers, plan.notifiers) = (2, 2);
    plan.portal = serde_json::json!({ "event_copies": 2, "event_delay_ms": [0, 2000] });
    let mut pipeline = start(&plan).await;
    pipeline.portal.add_leads(&mixed_leads(LEADS)).await.unwrap();
    wait_for_notices(&pipeline, LEADS).await;
    pipeline
        .wait_for("all 400 events are handled", SOON, async || {
            let stats = pipeline.portal.stats().await?;
            let handled =
                pipeline.metric("router", "rota_messages_processed_total", &["settled=\"ack\""]).await?;
            Ok(stats.events.get("200") == Some(&400) && handled >= 400.0)
        })
        .await
        .unwrap();

    assert_eq!(assert_each_once(&pipeline).await, expected_shares());
    let stats = pipeline.portal.stats().await.unwrap();
    assert_eq!(stats.refused, 0, "{stats:?}");
    assert_nothing_left(&pipeline).await;
    let decided = pipeline.metric("router", "rota_decisions_total", &["outcome=\"assign\""]).await.unwrap();
    assert_eq!(decided, 200.0, "each lead is decided once, whatever the replicas");
    pipeline.stop_all().unwrap();
}
