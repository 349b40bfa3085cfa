//! `batch`: order, containers, errors, references.

use serde_json::{Map, Value, json};

use crate::harness::{Portal, send};

#[tokio::test]
async fn commands_run_in_their_order_and_use_what_came_before() {
    let portal = Portal::start(json!({})).await;
    // The keys are not in the order of the alphabet. Written by hand: a map of ours might sort them.
    let body = r#"{"CMD":{
        "z":"crm.lead.add?fields[TITLE]=John%26Martin",
        "y":"crm.lead.get?id=$result[z]",
        "x":"im.notify.personal.add?USER_ID=$result[y][ASSIGNED_BY_ID]&MESSAGE=Lead%20$result[z]%20is%20yours"}}"#;
    let request = portal.client.post(format!("{}/batch", portal.webhook));
    let answer = send(request.header("content-type", "application/json").body(body)).await;
    let result = answer.json()["result"].take();
    assert_eq!(result["result"]["y"]["TITLE"], json!("John&Martin"));
    assert_eq!(result["result_error"], json!([]));
    assert_eq!(portal.asked("notifications").await[0]["message"], json!("Lead 1 is yours"));
    assert_eq!(portal.asked("stats").await["by_method"], json!({ "batch": 1 }), "a batch is one request");
}

#[tokio::test]
async fn containers_are_lists_objects_or_an_empty_list() {
    let portal = Portal::start(json!({})).await;
    portal.add(json!({ "count": 51 })).await;
    let named =
        portal.batch(json!({ "list": "crm.lead.list?select[]=ID", "one": "crm.lead.get?id=1" })).await;
    assert_eq!(named["result"]["list"].as_array().unwrap().len(), 50);
    assert_eq!(named["result_total"], json!({ "list": 51 }));
    assert_eq!(named["result_next"], json!({ "list": 50 }));
    assert_eq!(named["result_error"], json!([]));
    assert_eq!(named["result_time"]["one"]["operating"], json!(0));

    let numbered = portal.batch(json!(["crm.lead.get?id=1", 5, "crm.lead.get?id=99"])).await;
    assert_eq!(numbered["result"][0]["ID"], json!("1"), "the key 0 alone makes a list");
    let missing = json!({ "error": "", "error_description": "Not found" });
    assert_eq!(numbered["result_error"], json!({ "2": missing }), "the key 2 alone makes an object");

    let failed = portal.batch(json!(["crm.lead.get?id=99"])).await;
    assert_eq!(failed["result_error"], json!([missing]));
    for container in ["result", "result_total", "result_next", "result_time"] {
        assert_eq!(failed[container], json!([]), "{container}");
    }
}

#[tokio::test]
async fn a_batch_stops_at_its_first_error_only_if_told_to() {
    let portal = Portal::start(json!({})).await;
    let cmd = json!({ "a": "crm.lead.add", "b": "crm.lead.get?id=99", "c": "crm.lead.add" });
    for (halt, leads) in [(json!(1), 1), (json!(0), 3), (json!(false), 5)] {
        let result = portal.result("batch", json!({ "halt": halt, "cmd": cmd })).await;
        assert_eq!(result["result_error"]["b"]["error_description"], json!("Not found"));
        assert_eq!(portal.asked("leads").await.as_array().unwrap().len(), leads, "halt={halt}");
    }
}

#[tokio::test]
async fn the_51st_command_and_a_nested_batch_fail_each_for_itself() {
    let portal = Portal::start(json!({})).await;
    let cmd: Map<String, Value> = (1..=51).map(|n| (format!("c{n:02}"), json!("crm.lead.add"))).collect();
    let result = portal.batch(Value::Object(cmd)).await;
    assert_eq!(result["result"].as_object().unwrap().len(), 50);
    assert_eq!(
        result["result_error"],
        json!({ "c51": {
            "error": "ERROR_BATCH_LENGTH_EXCEEDED", "error_description": "Max batch length exceeded" } })
    );

    let cmd = json!({ "in": "batch?cmd[0]=crm.lead.add", "no": "crm.lead.gett", "one": "crm.lead.get?id=1" });
    let result = portal.batch(cmd).await;
    assert_eq!(result["result_error"]["in"]["error"], json!("ERROR_BATCH_METHOD_NOT_ALLOWED"));
    assert_eq!(result["result_error"]["no"]["error"], json!("ERROR_METHOD_NOT_FOUND"));
    assert_eq!(result["result"]["one"]["ID"], json!("1"));
    assert_eq!(portal.asked("leads").await.as_array().unwrap().len(), 50, "the inner batch did not run");
}

#[tokio::test]
async fn a_batch_can_come_as_a_form_encoded_twice() {
    let portal = Portal::start(json!({})).await;
    let body = "halt=0&cmd%5Bnew%5D=crm.lead.add%3Ffields%5BTITLE%5D%3DJohn%2526Martin%252B1\
                &cmd[again]=crm.lead.get%3Fid%3D%24result%5Bnew%5D";
    let request = portal.client.post(format!("{}/batch", portal.webhook));
    let form = request.header("content-type", "application/x-www-form-urlencoded").body(body);
    let result = send(form).await.json()["result"].take();
    assert_eq!(result["result"]["new"], json!(1));
    assert_eq!(result["result"]["again"]["TITLE"], json!("John&Martin+1"));
}
