//! Faults, each as its victim sees it.

use serde_json::{Value, json};

use crate::harness::{Portal, error, eventually};

/// A portal with the lead 1 and one fault, for one update.
async fn portal_with(kind: Value) -> Portal {
    let portal = Portal::start(json!({})).await;
    portal.add(json!({ "count": 1, "fields": { "TITLE": "old" } })).await;
    portal.tell("faults", json!({ "method": "crm.lead.update", "kind": kind, "times": 1 })).await;
    portal
}

fn change() -> Value {
    json!({ "id": 1, "fields": { "TITLE": "new" } })
}

/// Sends the change to a connection that breaks; what came of the answer until then.
async fn broken(portal: &Portal) -> String {
    let request = portal.client.post(format!("{}/crm.lead.update", portal.webhook)).json(&change());
    let Ok(mut answer) = request.send().await else { return String::new() };
    let mut text = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => text.extend_from_slice(&chunk),
            Ok(None) => panic!("the answer ends as if nothing were wrong: {text:?}"),
            Err(_) => return String::from_utf8(text).unwrap(),
        }
    }
}

/// The fault is over: the change passes.
async fn works_again(portal: &Portal, kind: &str) {
    assert_eq!(portal.result("crm.lead.update", change()).await, json!(true));
    assert_eq!(portal.field(1, "TITLE").await, json!("new"));
    assert_eq!(portal.asked("stats").await["faults"], json!({ kind: 1 }));
}

#[tokio::test]
async fn an_answer_of_the_front_end_comes_instead_of_running() {
    let portal = portal_with(json!({ "answer": { "status": 502, "body": "<h1>Bad</h1>" } })).await;
    let answer = portal.call("crm.lead.update", change()).await;
    assert_eq!((answer.status, &*answer.kind, &*answer.text), (502, "text/html", "<h1>Bad</h1>"));
    assert_eq!(portal.field(1, "TITLE").await, json!("old"));
    works_again(&portal, "answer").await;
}

#[tokio::test]
async fn an_error_comes_instead_of_running() {
    let kind = json!({ "error": { "status": 500, "code": "INTERNAL_SERVER_ERROR", "description": "Oops" } });
    let portal = portal_with(kind).await;
    let answer = portal.call("crm.lead.update", change()).await;
    assert_eq!(answer.error(), error(500, "INTERNAL_SERVER_ERROR", "Oops"));
    assert_eq!(portal.field(1, "TITLE").await, json!("old"));
    works_again(&portal, "error").await;
}

#[tokio::test]
async fn a_connection_can_break_before_the_write() {
    let portal = portal_with(json!("reset_before")).await;
    assert_eq!(broken(&portal).await, "");
    assert_eq!(portal.field(1, "TITLE").await, json!("old"));
    works_again(&portal, "reset_before").await;
}

#[tokio::test]
async fn an_answer_can_be_lost_after_the_write() {
    let portal = portal_with(json!("answer_lost")).await;
    assert_eq!(broken(&portal).await, "");
    assert_eq!(portal.field(1, "TITLE").await, json!("new"));
    works_again(&portal, "answer_lost").await;
}

#[tokio::test]
async fn an_answer_can_break_off_in_the_middle_after_the_write() {
    let portal = portal_with(json!("truncated")).await;
    let text = broken(&portal).await;
    assert!(text.starts_with("{\"result\":true,\"time\":{"), "{text:?}");
    assert!(serde_json::from_str::<Value>(&text).is_err(), "{text:?}");
    assert_eq!(portal.field(1, "TITLE").await, json!("new"));
    works_again(&portal, "truncated").await;
}

#[tokio::test]
async fn php_can_warn_before_the_answer_of_what_has_run() {
    let portal = portal_with(json!("php_warning")).await;
    let answer = portal.call("crm.lead.update", change()).await;
    assert_eq!((answer.status, &*answer.kind), (200, "text/html"));
    assert!(answer.text.contains("<b>Warning</b>") && answer.text.contains("{\"result\":true"), "{answer:?}");
    assert_eq!(portal.field(1, "TITLE").await, json!("new"));
    works_again(&portal, "php_warning").await;
}

#[tokio::test]
async fn another_lead_can_be_answered_than_the_one_asked_for() {
    let portal = Portal::start(json!({})).await;
    portal.add(json!({ "count": 2 })).await;
    portal.tell("faults", json!({ "method": "crm.lead.get", "kind": { "other_lead": 2 }, "times": 1 })).await;
    assert_eq!(portal.field(1, "ID").await, json!("2"));
    assert_eq!(portal.field(1, "ID").await, json!("1"));
}

#[tokio::test]
async fn an_answer_can_be_far_too_much_plain_or_packed() {
    for gzip in [false, true] {
        let swollen = json!({ "swollen": { "of": "{\"a\":0}", "bytes": 1_000_000, "gzip": gzip } });
        let portal = portal_with(swollen).await;
        let request = portal.client.post(format!("{}/crm.lead.update", portal.webhook)).json(&change());
        let answer = request.send().await.unwrap();
        let encoding = answer.headers().get("content-encoding").map(|value| value.as_bytes().to_vec());
        assert_eq!(encoding, gzip.then(|| b"gzip".to_vec()));
        let bytes = answer.bytes().await.unwrap();
        if gzip {
            assert!(bytes.len() < 10_000, "{}", bytes.len());
        } else {
            assert!((1_000_000..1_000_100).contains(&bytes.len()), "{}", bytes.len());
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(answer["result"][7], json!({ "a": 0 }));
        }
        assert_eq!(portal.field(1, "TITLE").await, json!("old"));
        works_again(&portal, "swollen").await;
    }
}

#[tokio::test]
async fn a_delayed_request_runs_even_if_its_caller_has_hung_up() {
    let portal = portal_with(json!({ "delay_ms": 1000 })).await;
    let request = portal.client.post(format!("{}/crm.lead.update", portal.webhook)).json(&change());
    let caller = tokio::spawn(request.send());
    eventually("the request's arrival", async || {
        (portal.asked("stats").await["faults"] == json!({ "delay_ms": 1 })).then_some(())
    })
    .await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled(), "there was an answer in time");
    eventually("the write", async || (portal.field(1, "TITLE").await == json!("new")).then_some(())).await;
    works_again(&portal, "delay_ms").await;
}

#[tokio::test]
async fn faults_come_as_often_as_they_say_and_do_not_hide_each_other() {
    let portal = Portal::start(json!({})).await;
    let fault = |code: &str| json!({ "error": { "status": 400, "code": code, "description": "" } });
    let code = async |method: &str| portal.call(method, json!({})).await.json()["error"].take();
    portal
        .tell("faults", json!({ "method": "server.time", "kind": fault("A"), "every": 2, "times": 2 }))
        .await;
    portal.tell("faults", json!({ "method": "*", "kind": fault("B"), "every": 3 })).await;
    let mut codes = Vec::new();
    for _ in 0..9 {
        codes.push(code("server.time").await.as_str().unwrap_or("-").to_owned());
    }
    assert_eq!(codes.concat(), "-ABA-B--B");

    assert_eq!(send_delete(&portal).await, 204);
    for _ in 0..3 {
        assert_eq!(code("server.time").await, Value::Null);
    }
}

async fn send_delete(portal: &Portal) -> u16 {
    crate::harness::send(portal.client.delete(format!("{}/faults", portal.control))).await.status
}

#[tokio::test]
async fn an_error_meets_one_command_of_a_batch() {
    let kind = json!({ "error": { "status": 400, "code": "ERROR_CORE", "description": "Oops" } });
    let portal = portal_with(kind).await;
    let update = "crm.lead.update?id=1&fields[TITLE]=new";
    let cmd = json!({ "a": "crm.lead.get?id=1", "b": update, "c": update });
    let result = portal.batch(cmd).await;
    assert_eq!(
        result["result_error"],
        json!({ "b": { "error": "ERROR_CORE", "error_description": "Oops" } })
    );
    assert_eq!((&result["result"]["a"]["TITLE"], &result["result"]["c"]), (&json!("old"), &json!(true)));
    works_again(&portal, "error").await;
}
