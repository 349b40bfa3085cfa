//! Events: what is in them, when there are any, and how many.

use serde_json::json;

use crate::harness::{Inbox, Portal, eventually};

fn add(id: u64) -> (String, u64) {
    ("ONCRMLEADADD".to_owned(), id)
}

fn update(id: u64) -> (String, u64) {
    ("ONCRMLEADUPDATE".to_owned(), id)
}

#[tokio::test]
async fn a_new_lead_is_told_as_a_form_with_the_documented_keys() {
    let inbox = Inbox::start(200).await;
    let settings = json!({ "events_to": inbox.url, "member_id": "m", "application_token": "a&b" });
    let portal = Portal::start(settings).await;
    portal.result("crm.lead.add", json!({ "fields": {} })).await;
    assert_eq!(inbox.about(1).await, [add(1)]);

    let event = &inbox.events()[0];
    assert_eq!(event.kind, "application/x-www-form-urlencoded");
    assert!(event.text.contains("data%5BFIELDS%5D%5BID%5D=1&"), "{}", event.text);
    let keys: Vec<_> = event.fields.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "auth[application_token]",
            "auth[client_endpoint]",
            "auth[domain]",
            "auth[member_id]",
            "auth[server_endpoint]",
            "data[FIELDS][ID]",
            "event",
            "event_handler_id",
            "ts",
        ]
    );
    assert_eq!(
        (event.fields["auth[member_id]"].as_str(), &*event.fields["auth[application_token]"]),
        ("m", "a&b")
    );
    assert!(event.fields["ts"].parse::<i64>().unwrap() > 1_700_000_000);
}

#[tokio::test]
async fn events_can_be_copied_and_switched_off_by_the_lead() {
    let inbox = Inbox::start(500).await;
    let portal = Portal::start(json!({ "events_to": inbox.url, "event_copies": 3 })).await;
    portal.add(json!({ "count": 1, "events": false })).await;
    portal.add(json!({ "count": 2 })).await;
    assert_eq!(inbox.about(6).await, [add(2), add(2), add(2), add(3), add(3), add(3)]);
    let stats = eventually("six answers", async || {
        let events = portal.asked("stats").await["events"].take();
        (events["500"] == json!(6)).then_some(events)
    });
    assert_eq!(stats.await, json!({ "500": 6 }), "what the handler refuses is not sent again");
    assert_eq!(inbox.events().len(), 6);
}

#[tokio::test]
async fn lost_events_reach_nobody() {
    let inbox = Inbox::start(200).await;
    let portal = Portal::start(json!({ "events_to": inbox.url, "event_loss": 1.0 })).await;
    portal.add(json!({ "count": 20 })).await;
    eventually("all events are lost", async || {
        (portal.asked("stats").await["events"] == json!({ "lost": 20 })).then_some(())
    })
    .await;
    assert!(inbox.events().is_empty());
}

#[tokio::test]
async fn changes_are_told_once_a_request_and_only_if_switched_on() {
    let inbox = Inbox::start(200).await;
    let portal = Portal::start(json!({ "events_to": inbox.url, "event_delay_ms": [0, 0] })).await;
    portal.add(json!({ "count": 3, "events": false })).await;
    let change = json!({ "id": 1, "fields": { "TITLE": "x" } });
    portal.result("crm.lead.update", change.clone()).await;

    portal.tell("settings", json!({ "update_events": true })).await;
    portal.result("crm.lead.update", change).await;
    let twice = "crm.lead.update?id=2&fields[TITLE]=x";
    portal.batch(json!({ "a": twice, "b": twice })).await;
    let by_hand = portal.client.patch(format!("{}/leads/3", portal.control)).json(&json!({ "TITLE": "x" }));
    by_hand.send().await.unwrap();
    assert_eq!(inbox.about(3).await, [update(1), update(2), update(3)]);

    // An event of the first change would have been on its way long before this one.
    portal.add(json!({ "count": 1 })).await;
    assert_eq!(inbox.about(4).await, [add(4), update(1), update(2), update(3)]);
}

#[tokio::test]
async fn events_can_be_posted_again_in_any_order() {
    let inbox = Inbox::start(200).await;
    let portal = Portal::start(json!({ "events_to": inbox.url })).await;
    portal.tell("events", json!({ "leads": [7, 8], "times": 2, "shuffle": true })).await;
    assert_eq!(inbox.about(4).await, [add(7), add(7), add(8), add(8)]);
    portal.tell("events", json!({ "leads": [9] })).await;
    assert_eq!(inbox.about(5).await.last(), Some(&add(9)));
}
