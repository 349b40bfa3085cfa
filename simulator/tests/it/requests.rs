//! How a request is read, and what is asked before its method runs.

use serde_json::json;

use crate::harness::{Portal, error, send};

#[tokio::test]
async fn a_missing_method_is_told_before_a_wrong_secret() {
    let portal = Portal::start(json!({})).await;
    let wrong = portal.webhook.replace("/1/secret", "/1/guess");
    let call = async |base: &str, method: &str| {
        send(portal.client.post(format!("{base}/{method}")).json(&json!({}))).await.error()
    };
    let missing = error(404, "ERROR_METHOD_NOT_FOUND", "Method not found!");
    let refused = |status| error(status, "INVALID_CREDENTIALS", "Invalid request credentials");
    assert_eq!(call(&wrong, "crm.lead.gett").await, missing);
    assert_eq!(call(&portal.webhook, "crm.lead.gett").await, missing);
    assert_eq!(call(&wrong, "crm.lead.get").await, refused(401));
    assert_eq!(call(&portal.webhook.replace("/1/", "/2/"), "crm.lead.get").await, refused(401));
    portal.tell("settings", json!({ "wrong_secret_status": 403 })).await;
    assert_eq!(call(&wrong, "crm.lead.get").await, refused(403));
}

#[tokio::test]
async fn parameters_come_as_json_form_or_query_and_broken_json_is_none() {
    let portal = Portal::start(json!({})).await;
    portal.add(json!({ "count": 2 })).await;
    let post = |path: &str| portal.client.post(format!("{}/{path}", portal.webhook));
    let form = |body: &'static str| {
        post("crm.lead.get").header("content-type", "application/x-www-form-urlencoded").body(body)
    };
    for request in [
        post("crm.lead.get?id=1").json(&json!({ "id": 2 })),
        post("CRM.Lead.Get.json?ID=2"),
        post("crm.lead.get/?id=2"),
        form("id=2"),
        portal.client.get(format!("{}/crm.lead.get?id=2", portal.webhook)),
    ] {
        let sent = format!("{request:?}");
        assert_eq!(send(request).await.json()["result"]["ID"], json!("2"), "{sent}");
    }
    let broken = post("crm.lead.get").header("content-type", "application/json").body("{\"id\": 2");
    assert_eq!(send(broken).await.error(), error(400, "", "ID is not defined or invalid."));
}

#[tokio::test]
async fn a_caller_can_ask_who_it_is_and_what_there_is() {
    let portal = Portal::start(json!({})).await;
    assert_eq!(portal.result("profile", json!({})).await["ID"], json!("1"));
    assert!(portal.result("server.time", json!({})).await.as_str().unwrap().ends_with("+03:00"));
    assert!(portal.result("scope", json!({})).await.as_array().unwrap().contains(&json!("crm")));
    for (name, there) in [("crm.lead.get", true), ("crm.deal.get", false)] {
        assert_eq!(
            portal.result("method.get", json!({ "name": name })).await,
            json!({ "isExisting": there, "isAvailable": there })
        );
    }
}

#[tokio::test]
async fn a_missing_scope_refuses_its_methods_alone_and_inside_a_batch() {
    let portal = Portal::start(json!({ "scopes": ["crm"], "missing_scope_status": 403 })).await;
    let text = "The request requires higher privileges than provided by the webhook token";
    let params = json!({ "USER_ID": 11, "MESSAGE": "hello" });
    let refused = portal.call("im.notify.personal.add", params).await;
    assert_eq!(refused.error(), error(403, "insufficient_scope", text));
    let both = json!({ "add": "crm.lead.add", "tell": "im.notify.personal.add?USER_ID=11&MESSAGE=x" });
    let result = portal.batch(both).await;
    assert_eq!(result["result"]["add"], json!(1));
    assert_eq!(result["result_error"]["tell"]["error"], json!("insufficient_scope"));
    assert_eq!(portal.result("scope", json!({})).await, json!(["crm"]));
}

#[tokio::test]
async fn a_renamed_portal_points_to_its_new_name() {
    let portal = Portal::start(json!({})).await;
    let port = portal.webhook.split([':', '/']).nth(4).unwrap().to_owned();
    portal.tell("settings", json!({ "renamed_to": format!("localhost:{port}") })).await;
    let never = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let old = never.build().unwrap().post(format!("{}/server.time", portal.webhook)).json(&json!({}));
    let moved = old.send().await.unwrap();
    assert_eq!(moved.status(), 302);
    let location = moved.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(location, format!("http://localhost:{port}/rest/1/secret/server.time"));
    assert!(moved.text().await.unwrap().starts_with("<html>"));
    let new = send(portal.client.post(location).json(&json!({}))).await;
    assert_eq!(new.status, 200, "{new:?}");
}

#[tokio::test]
async fn a_robot_changes_a_lead_right_after_it_was_shown() {
    let robot = json!({ "after": "crm.lead.get", "fields": { "ASSIGNED_BY_ID": "20" }, "every": 2 });
    let portal = Portal::start(json!({ "robots": [robot] })).await;
    portal.add(json!({ "count": 1 })).await;
    let mut owners = Vec::new();
    for _ in 0..3 {
        owners.push(portal.field(1, "ASSIGNED_BY_ID").await);
    }
    assert_eq!(owners, ["1", "1", "20"]);
    portal.tell("settings", json!({ "burst": 100 })).await;
}
