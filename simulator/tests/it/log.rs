//! The portal's own log of what it did.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Portal, eventually};

/// The entries of a kind, without their times and requests.
async fn entries(portal: &Portal, what: &str) -> Vec<Value> {
    let log = portal.asked("log").await;
    let own = log.as_array().unwrap().iter().filter(|entry| entry["what"] == what).cloned();
    let stripped = own.map(|mut entry| {
        for key in ["at", "request", "what"] {
            entry.as_object_mut().unwrap().remove(key);
        }
        entry
    });
    stripped.collect()
}

#[tokio::test]
async fn the_log_tells_in_order_what_requests_and_people_did_to_a_lead() {
    let robots = json!([{ "after": "crm.lead.get", "fields": { "ASSIGNED_BY_ID": "15" } }]);
    let portal = Portal::start(json!({ "robots": robots })).await;
    portal.add(json!({ "count": 1, "fields": { "ASSIGNED_BY_ID": "11" } })).await;
    let text = "new: [URL=http://p/crm/lead/details/1/]#1[/URL] http://p/crm/lead/details/9/";
    let text = percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
    let owner = "crm.lead.update?id=1&fields[ASSIGNED_BY_ID]=12";
    let notice = format!("im.notify.personal.add?USER_ID=12&TAG=acme/1/1&MESSAGE={text}");
    portal.batch(json!([owner, notice, owner, "crm.lead.update?id=1&fields[TITLE]=x"])).await;
    let change = portal.client.patch(format!("{}/leads/1", portal.control));
    crate::harness::send(change.json(&json!({ "ASSIGNED_BY_ID": "20" }))).await;
    portal.field(1, "TITLE").await;
    portal.result("crm.lead.delete", json!({ "id": 1 })).await;

    let log = portal.asked("log").await;
    let told: Vec<Value> =
        log.as_array().unwrap().iter().filter(|entry| entry["what"] != "event").cloned().collect();
    let expected = [
        json!({ "request": null, "what": "added", "lead": 1, "owner": "11" }),
        json!({ "request": 1, "what": "owner", "lead": 1, "from": "11", "to": "12" }),
        json!({ "request": 1, "what": "notice", "id": 1, "user": 12, "tag": "acme/1/1", "leads": [1, 9] }),
        json!({ "request": 1, "what": "owner", "lead": 1, "from": "12", "to": "12" }),
        json!({ "request": null, "what": "owner", "lead": 1, "from": "12", "to": "20" }),
        json!({ "request": null, "what": "owner", "lead": 1, "from": "20", "to": "15" }),
        json!({ "request": 3, "what": "deleted", "lead": 1 }),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (mut entry, expected) in told.into_iter().zip(expected) {
        let at = entry.as_object_mut().unwrap().remove("at").unwrap();
        assert!(at.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{at}");
        assert_eq!(entry, expected);
    }
    assert_eq!(portal.asked("log?from=5").await.as_array().unwrap().len(), log.as_array().unwrap().len() - 5);
}

#[tokio::test]
async fn the_log_tells_which_requests_met_a_fault_and_ran() {
    let portal = Portal::start(json!({ "burst": 4 })).await;
    portal.add(json!({ "count": 1 })).await;
    let update = json!({ "id": 1, "fields": { "ASSIGNED_BY_ID": "12" } });
    let after = json!({ "answer_after": { "status": 500, "body": "<h1>Oops</h1>" } });
    for kind in [json!("reset_before"), json!("answer_lost"), after] {
        portal.tell("faults", json!({ "method": "crm.lead.update", "kind": kind, "times": 1 })).await;
        let request = portal.client.post(format!("{}/crm.lead.update", portal.webhook)).json(&update);
        if kind.is_object() {
            let answer = crate::harness::send(request).await;
            assert_eq!((answer.status, &*answer.text), (500, "<h1>Oops</h1>"));
        } else {
            let answer = request.send().await;
            let text = match answer {
                Ok(answer) => answer.text().await,
                Err(error) => Err(error),
            };
            assert!(text.is_err(), "{text:?}");
        }
    }
    let fault = |kind: &str, status: Option<u16>, runs: bool| json!({ "method": "crm.lead.update", "kind": kind, "status": status, "runs": runs });
    let faults = entries(&portal, "fault").await;
    let expected = [
        fault("reset_before", None, false),
        fault("answer_lost", None, true),
        fault("answer_after", Some(500), true),
    ];
    assert_eq!(faults, expected);
    let owner = |from: &str| json!({ "lead": 1, "from": from, "to": "12" });
    assert_eq!(entries(&portal, "owner").await, [owner("1"), owner("12")]);

    // The counter falls by two each second.
    eventually("a request that is too fast", async || {
        let answers = [portal.call("profile", json!({})).await, portal.call("profile", json!({})).await];
        answers.iter().any(|answer| answer.status == 503).then_some(())
    })
    .await;
    assert_eq!(entries(&portal, "refused").await.first(), Some(&json!({ "method": "profile" })));
}

#[tokio::test]
async fn the_log_tells_of_a_caller_who_hung_up_and_of_events() {
    let portal = Portal::start(json!({ "events_to": "http://127.0.0.1:9/", "event_loss": 1.0 })).await;
    portal.add(json!({ "count": 1 })).await;
    portal.tell("faults", json!({ "method": "crm.lead.get", "kind": { "delay_ms": 300 }, "times": 1 })).await;
    let request = portal.client.post(format!("{}/crm.lead.get", portal.webhook));
    let hasty = request.timeout(Duration::from_millis(50)).json(&json!({ "id": 1 })).send().await;
    assert!(hasty.is_err(), "{hasty:?}");
    let unheard = eventually("the entry", async || entries(&portal, "unheard").await.pop()).await;
    assert_eq!(unheard, json!({ "method": "crm.lead.get" }));
    let event = eventually("the event", async || entries(&portal, "event").await.pop()).await;
    assert_eq!(event, json!({ "lead": 1, "event": "ONCRMLEADADD", "outcome": "lost" }));
}
