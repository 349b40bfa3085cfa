//! The two limits, as a client meets them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Portal, error, eventually};

#[tokio::test]
async fn after_a_burst_of_fifty_only_two_a_second_pass() {
    let portal = Portal::start(json!({ "burst": 50, "per_second": 2, "count_refused": false })).await;
    let start = Instant::now();
    let mut passed = 0;
    let (refused, refusal) = loop {
        let sent = Instant::now();
        let answer = portal.call("server.time", json!({})).await;
        if answer.status != 200 {
            break (sent, answer);
        }
        passed += 1;
        assert!(passed < 1000, "nothing is refused");
    };
    // Two more for each second that began meanwhile.
    let more = 2 * (start.elapsed().as_secs() + 1);
    assert!((50..=50 + more).contains(&passed), "{passed} in {:?}", start.elapsed());
    assert_eq!(refusal.error(), error(503, "QUERY_LIMIT_EXCEEDED", "Too many requests"));

    let mut later = 0;
    eventually("four more", async || {
        later += u32::from(portal.call("server.time", json!({})).await.status == 200);
        (later == 4).then_some(())
    })
    .await;
    assert!(refused.elapsed() >= Duration::from_secs(1), "four need a second second");

    let stats = portal.asked("stats").await;
    assert!(stats["refused"].as_u64().unwrap() >= 1);
    assert_eq!(stats["errors"]["QUERY_LIMIT_EXCEEDED"], stats["refused"]);
    assert_eq!(stats["bucket_max"], json!(50));
}

#[tokio::test]
async fn refused_requests_fill_the_bucket_too_if_they_count() {
    let portal = Portal::start(json!({ "burst": 5, "per_second": 0 })).await;
    for _ in 0..8 {
        portal.call("crm.lead.gett", json!({})).await;
    }
    let stats = portal.asked("stats").await;
    assert_eq!(
        (&stats["bucket_max"], &stats["refused"], &stats["requests"]),
        (&json!(8), &json!(3), &json!(8))
    );
    assert_eq!(stats["errors"]["ERROR_METHOD_NOT_FOUND"], json!(5), "the counter comes before the method");
}

#[tokio::test]
async fn a_method_that_used_up_its_time_is_blocked_alone() {
    // Spent, a call would take five minutes.
    let settings =
        json!({ "operating_limit": 400.0, "cost_ms": { "crm.lead.get": 300_000 }, "account_only": true });
    let portal = Portal::start(settings).await;
    portal.add(json!({ "count": 1 })).await;
    let start = Instant::now();
    let first = portal.success("crm.lead.get", json!({ "id": 1 })).await["time"].take();
    assert_eq!(first["operating"], json!(300.0));
    assert!(first["operating_reset_at"].as_f64() > first["start"].as_f64());
    // The call that crosses the limit still runs.
    assert_eq!(portal.success("crm.lead.get", json!({ "id": 1 })).await["time"]["operating"], json!(600.0));

    let text = "Method is blocked due to operation time limit.";
    let blocked = portal.call("crm.lead.get", json!({ "id": 1 })).await;
    assert_eq!(blocked.error(), error(429, "OPERATION_TIME_LIMIT", text));
    let result = portal.batch(json!({ "get": "crm.lead.get?id=1", "list": "crm.lead.list" })).await;
    assert_eq!(
        result["result_error"],
        json!({ "get": { "error": "OPERATION_TIME_LIMIT", "error_description": text } })
    );
    assert_eq!(result["result"]["list"].as_array().unwrap().len(), 1, "other methods go on");
    assert!(start.elapsed() < Duration::from_mins(5), "the time is accounted, not spent");

    portal.tell("settings", json!({ "operating_limit": 0 })).await;
    let time = portal.success("crm.lead.get", json!({ "id": 1 })).await["time"].take();
    assert_eq!(time.get("operating"), None, "no limit, no account");
}

#[tokio::test]
async fn a_batch_accounts_and_spends_the_time_of_its_commands() {
    let portal = Portal::start(json!({ "cost_ms": { "crm.lead.add": 150 } })).await;
    let start = Instant::now();
    let answer =
        portal.success("batch", json!({ "cmd": { "a": "crm.lead.add", "b": "crm.lead.add" } })).await;
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(answer["time"]["operating"], json!(0));
    assert_eq!(answer["result"]["result_time"]["b"]["operating"], json!(0.3));
    assert_eq!(answer["result"]["result_time"]["b"]["duration"], json!(0.15));
}

#[tokio::test]
async fn many_short_commands_of_one_request_are_counted_together() {
    let portal = Portal::start(json!({ "cost_ms": { "crm.lead.add": 30 }, "account_only": true })).await;
    let one = portal.success("crm.lead.add", json!({})).await;
    assert_eq!(one["time"]["operating"], json!(0), "up to a tenth of a second is free");
    let cmd = json!({ "a": "crm.lead.add", "b": "crm.lead.add", "c": "crm.lead.add", "d": "crm.lead.add" });
    let times = portal.batch(cmd).await["result_time"].take();
    assert_eq!(times["c"]["operating"], json!(0));
    assert!((times["d"]["operating"].as_f64().unwrap() - 0.12).abs() < 1e-6, "{times}");
}

#[tokio::test]
async fn the_front_end_gives_a_request_up_and_the_work_goes_on() {
    let portal = Portal::start(json!({ "cost_ms": { "crm.lead.list": 5_000 }, "cut_after_ms": 500 })).await;
    let cmd = json!({ "a": "crm.lead.add", "b": "crm.lead.list", "c": "crm.lead.add" });
    let cut = portal.call("batch", json!({ "cmd": cmd })).await;
    assert_eq!((cut.status, cut.kind.as_str()), (504, "text/html"));
    let there = portal.asked("leads").await.as_array().unwrap().len();
    assert!(there < 2, "{there} of two at the cut");
    eventually("both leads", async || {
        (portal.asked("leads").await.as_array().unwrap().len() == 2).then_some(())
    })
    .await;
}
