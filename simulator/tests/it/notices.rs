//! `im.notify.*`.

use serde_json::json;

use crate::harness::{Portal, error};

#[tokio::test]
async fn an_employee_gets_a_notice_unless_muted_or_dismissed() {
    let portal = Portal::start(json!({ "muted": [13] })).await;
    portal.tell("users", json!({ "ID": "14", "ACTIVE": false })).await;
    let notify = |method: &'static str, user: u64| {
        portal.result(method, json!({ "USER_ID": user, "MESSAGE": " [B]Lead[/B] ", "TAG": "lead-1" }))
    };
    assert_eq!(notify("im.notify.personal.add", 11).await, json!(1));
    assert_eq!(notify("im.notify.system.add", 12).await, json!(2));
    assert_eq!(notify("im.notify.personal.add", 11).await, json!(3), "a tag replaces nothing");
    assert_eq!(notify("im.notify.personal.add", 14).await, json!(false));
    assert_eq!(notify("im.notify.personal.add", 99).await, json!(false));
    let muted = notify("im.notify.personal.add", 13).await;
    assert!(muted.as_i64().unwrap() > 1_700_000_000, "a time instead of an id: {muted}");

    let notices = portal.asked("notifications").await;
    let seen: Vec<_> =
        notices.as_array().unwrap().iter().map(|n| (&n["id"], &n["user"], &n["personal"])).collect();
    assert_eq!(
        seen,
        [
            (&json!(1), &json!(11), &json!(true)),
            (&json!(2), &json!(12), &json!(false)),
            (&json!(3), &json!(11), &json!(true)),
        ]
    );
    assert_eq!((&notices[0]["message"], &notices[0]["tag"]), (&json!("[B]Lead[/B]"), &json!("lead-1")));
}

#[tokio::test]
async fn a_notice_needs_somebody_and_something() {
    let portal = Portal::start(json!({})).await;
    for (params, code, text) in [
        (json!({ "MESSAGE": "x" }), "USER_ID_EMPTY", "User ID can't be empty"),
        (json!({ "TO": 11, "MESSAGE": " " }), "MESSAGE_EMPTY", "Message can't be empty"),
    ] {
        let answer = portal.call("im.notify.personal.add", params).await;
        assert_eq!(answer.error(), error(400, code, text));
    }
}
