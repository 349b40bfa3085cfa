//! The control API where no other module of these tests has used it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Portal, error, eventually, send};

#[tokio::test]
async fn leads_come_at_the_rate_that_is_asked_for() {
    let portal = Portal::start(json!({})).await;
    let start = Instant::now();
    let new =
        json!({ "count": 4, "per_second": 50, "fields": { "TITLE": "x" }, "leads": [{ "TITLE": "y" }] });
    assert_eq!(portal.add(new).await, Vec::<u64>::new());
    let leads = eventually("five leads", async || {
        let leads = portal.asked("leads").await;
        (leads.as_array().unwrap().len() == 5).then_some(leads)
    });
    assert_eq!(leads.await[0]["fields"]["TITLE"], json!("y"));
    assert!(
        start.elapsed() >= Duration::from_millis(75),
        "four twentieths of a second lie between five leads"
    );
}

#[tokio::test]
async fn a_person_changes_the_owner_and_deletes_the_lead() {
    let portal = Portal::start(json!({})).await;
    portal.add(json!({ "count": 1, "fields": { "ASSIGNED_BY_ID": 11 } })).await;
    let lead = |id: u64| format!("{}/leads/{id}", portal.control);
    let change =
        |id: u64, owner: u64| portal.client.patch(lead(id)).json(&json!({ "ASSIGNED_BY_ID": owner }));
    assert_eq!(send(change(1, 12)).await.status, 204);
    assert_eq!(send(change(1, 12)).await.status, 204);
    portal.result("crm.lead.update", json!({ "id": 1, "fields": { "ASSIGNED_BY_ID": "13" } })).await;
    assert_eq!(portal.field(1, "ASSIGNED_BY_ID").await, json!("13"));

    let history = portal.asked("leads").await[0]["history"].take();
    let changes: Vec<(&Value, &Value)> =
        history.as_array().unwrap().iter().map(|change| (&change["from"], &change["to"])).collect();
    assert_eq!(changes, [(&json!("11"), &json!("12")), (&json!("12"), &json!("13"))]);

    assert_eq!(send(change(2, 12)).await.status, 404);
    assert_eq!(send(portal.client.delete(lead(1))).await.status, 204);
    assert_eq!(send(portal.client.delete(lead(1))).await.status, 404);
    assert_eq!(portal.call("crm.lead.get", json!({ "id": 1 })).await.error(), error(400, "", "Not found"));
}

#[tokio::test]
async fn what_the_control_api_does_not_know_it_refuses() {
    let portal = Portal::start(json!({})).await;
    let before = portal.asked("settings").await;
    for (path, body) in [
        ("settings", json!({ "per_second": 5, "per_secnod": 5 })),
        ("settings", json!({ "per_second": "many" })),
        ("leads", json!({ "count": 1, "colour": "red" })),
        ("leads", json!({ "leads": [{}, { "DATE_MODIFY": "yesterday" }] })),
        ("contacts", json!({ "assignedByID": 11 })),
        ("contacts", json!({ "PHONE": [79_161_234_567_u64] })),
        ("contacts", json!({ "updatedTime": "2026-11-01" })),
        ("companies", json!({ "companyId": 5 })),
        ("deals", json!({ "contactId": 1 })),
        ("events", json!({ "leads": [1], "copies": 2 })),
        ("faults", json!({ "method": "*", "kind": "explode" })),
        ("faults", json!({ "method": "*", "kind": "reset_before", "often": 2 })),
        ("faults", json!({ "method": "*", "kind": { "answer": { "status": 1, "body": "", "x": 1 } } })),
        ("users", json!({ "ID": 12 })),
    ] {
        let answer = portal.told(path, &body).await;
        assert!((400..500).contains(&answer.status), "{path} {body}: {answer:?}");
    }
    assert_eq!(portal.asked("settings").await, before);
    for path in ["leads", "deals"] {
        assert_eq!(portal.asked(path).await, json!([]), "{path}");
    }
    for kind in [3, 4] {
        let there = portal.result("crm.item.list", json!({ "entityTypeId": kind })).await;
        assert_eq!(there["items"], json!([]), "{kind}");
    }

    let after = portal.tell("settings", json!({ "per_second": 5, "muted": [11] })).await.json();
    assert_eq!((&after["per_second"], &after["muted"]), (&json!(5), &json!([11])));
    assert_eq!(after["member_id"], before["member_id"], "what is not named stays");
}

#[tokio::test]
async fn an_employee_keeps_what_a_change_does_not_name() {
    let portal = Portal::start(json!({})).await;
    portal.tell("users", json!({ "ID": "12", "ACTIVE": false })).await;
    portal.tell("users", json!({ "ID": "12", "NAME": "Olga" })).await;
    let user = portal.result("user.get", json!({ "ID": 12 })).await[0].take();
    assert_eq!(
        (&user["NAME"], &user["ACTIVE"], &user["USER_TYPE"]),
        (&json!("Olga"), &json!(false), &json!("employee"))
    );
}
