//! `crm.lead.list` and `user.get`: pages, filters, masks.

use serde_json::{Value, json};

use crate::harness::{Portal, error};

fn ids(rows: &Value) -> Vec<&str> {
    rows.as_array().unwrap().iter().map(|row| row["ID"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_comes_in_pages_of_fifty() {
    let portal = Portal::start(json!({})).await;
    portal.add(json!({ "count": 101 })).await;
    for (start, rows, next, total) in [
        (json!(0), 50, json!(50), 101),
        (json!("60"), 50, json!(100), 101),
        (json!(100), 1, Value::Null, 101),
        (json!(150), 0, Value::Null, 101),
        (json!(-1), 50, Value::Null, 0),
    ] {
        let params = json!({ "order": { "ID": "ASC" }, "start": start });
        let answer = portal.success("crm.lead.list", params).await;
        assert_eq!(answer["result"].as_array().unwrap().len(), rows, "start={start}");
        assert_eq!((&answer["next"], &answer["total"]), (&next, &json!(total)), "start={start}");
    }
    let last = json!({ "order": { "ID": "DESC" }, "filter": { "<ID": 101 }, "start": -1 });
    assert_eq!(ids(&portal.result("crm.lead.list", last).await)[..3], ["100", "99", "98"]);
}

#[tokio::test]
async fn a_filter_holds_what_it_knows_and_drops_the_rest() {
    let portal = Portal::start(json!({})).await;
    let leads = json!([
        { "TITLE": "Old flat", "ASSIGNED_BY_ID": 11, "PHONE": [{ "VALUE": "555888" }] },
        { "TITLE": "New flat", "ASSIGNED_BY_ID": 12, "STATUS_ID": "JUNK", "OPPORTUNITY": "70" },
        { "TITLE": "House", "ASSIGNED_BY_ID": 12, "UF_CRM_1": "x", "OPPORTUNITY": "500" },
    ]);
    portal.add(json!({ "leads": leads })).await;
    for (filter, expected) in [
        (json!({}), vec!["1", "2", "3"]),
        (json!({ "ASIGNED_BY_ID": 12 }), vec!["1", "2", "3"]),
        (json!({ "ASIGNED_BY_ID": 12, "ID": 1 }), vec!["1"]),
        (json!({ "@ID": [1, "3", 9] }), vec!["1", "3"]),
        (json!({ "!@ID": [1, "3"] }), vec!["2"]),
        (json!({ ">ID": 1 }), vec!["2", "3"]),
        (json!({ ">=ID": 2, "<=ID": "2" }), vec!["2"]),
        (json!({ "=ASSIGNED_BY_ID": 12, "STATUS_SEMANTIC_ID": "P" }), vec!["3"]),
        (json!({ "!STATUS_ID": "JUNK" }), vec!["1", "3"]),
        (json!({ "%TITLE": "FLAT" }), vec!["1", "2"]),
        (json!({ "UF_CRM_1": "x" }), vec!["3"]),
        (json!({ "PHONE": "555888" }), vec!["1"]),
        (json!({ ">OPPORTUNITY": "99.5" }), vec!["3"]),
        // The same moment in another zone, long ago.
        (json!({ ">DATE_CREATE": "2020-01-01T00:00:00-08:00" }), vec!["1", "2", "3"]),
        (json!({ "<DATE_CREATE": "2020-01-01T00:00:00-08:00" }), vec![]),
    ] {
        let answer = portal.success("crm.lead.list", json!({ "filter": filter })).await;
        assert_eq!(ids(&answer["result"]), expected, "{filter}");
        assert_eq!(answer["total"], json!(expected.len()), "{filter}");
    }
}

#[tokio::test]
async fn a_row_has_what_its_mask_selects() {
    let portal = Portal::start(json!({})).await;
    let lead = json!({ "PHONE": [{ "VALUE": "1" }], "EMAIL": [{ "VALUE": "a@b.c" }], "UF_CRM_1": "x" });
    portal.add(json!({ "leads": [lead] })).await;
    for (select, title, phone, custom) in [
        (json!([]), true, false, false),
        (json!(["*"]), true, false, false),
        (json!(["*", "UF_*"]), true, false, true),
        (json!(["*", "UF_*", "PHONE"]), true, true, true),
        (json!(["PHONE", "UF_CRM_1"]), false, true, true),
        (json!(["TITLE"]), true, false, false),
    ] {
        let rows = portal.result("crm.lead.list", json!({ "select": select })).await;
        let has = |name: &str| rows[0].get(name).is_some();
        let found = (has("ID"), has("TITLE"), has("PHONE"), has("UF_CRM_1"), has("EMAIL"));
        assert_eq!(found, (true, title, phone, custom, false), "{select}");
    }
}

#[tokio::test]
async fn a_hidden_lead_is_left_out_and_refused_by_itself_and_a_text_can_spoil_the_whole_answer() {
    let portal = Portal::start(json!({ "hidden_leads": [2], "not_found_code": "NOT_FOUND" })).await;
    portal.add(json!({ "count": 2 })).await;
    portal.add(json!({ "fields": { "TITLE": "fine", "COMMENTS": "\u{ffff}" }, "count": 1 })).await;
    let list = |select: Value| json!({ "filter": { "@ID": [1, 2, 3] }, "select": select });
    let rows = portal.result("crm.lead.list", list(json!(["ID", "TITLE"]))).await;
    assert_eq!(ids(&rows), ["1", "3"]);
    for (method, params) in [("crm.lead.get", json!({ "id": 2 })), ("crm.lead.update", json!({ "id": 2 }))] {
        let refused = portal.call(method, params).await;
        assert_eq!(refused.error(), error(400, "", "Access denied."));
    }
    let missing = portal.call("crm.lead.get", json!({ "id": 99 })).await;
    assert_eq!(missing.error(), error(400, "NOT_FOUND", "Not found"));
    for (method, params) in [
        ("crm.lead.get", json!({ "id": 3 })),
        ("crm.lead.list", list(json!(["*"]))),
        ("batch", json!({ "cmd": { "a": "crm.lead.get?id=1", "b": "crm.lead.get?id=3" } })),
    ] {
        let spoilt = portal.call(method, params).await;
        assert_eq!(spoilt.error().1, "WRONG_ENCODING", "{method}");
        assert_eq!(spoilt.status, 200);
    }
    portal.tell("settings", json!({ "hidden_leads": [] })).await;
    assert_eq!(portal.field(2, "ID").await, json!("2"), "the right was given");
}

#[tokio::test]
async fn employees_come_by_id_and_by_whether_they_are_active() {
    let portal = Portal::start(json!({})).await;
    portal.tell("users", json!({ "ID": "12", "ACTIVE": false })).await;
    for (params, expected) in [
        (json!({ "FILTER": { "ID": ["11", 12, 99] } }), vec!["11", "12"]),
        (json!({ "FILTER": { "ID": ["11", 12], "ACTIVE": true, "COLOUR": "red" } }), vec!["11"]),
        (json!({ "ID": 12, "ACTIVE": "N" }), vec!["12"]),
    ] {
        let answer = portal.success("user.get", params.clone()).await;
        assert_eq!(ids(&answer["result"]), expected, "{params}");
        assert_eq!(answer["total"], json!(expected.len()), "{params}");
        assert!(answer["result"][0]["ACTIVE"].is_boolean());
    }
    let nobody = portal.success("user.get", json!({ "ID": 99 })).await;
    assert_eq!((&nobody["result"], nobody.get("total")), (&json!([]), None));

    for id in 101..=150 {
        portal.tell("users", json!({ "ID": id.to_string() })).await;
    }
    let first = portal.success("user.get", json!({})).await;
    assert_eq!((ids(&first["result"]).len(), &first["next"], &first["total"]), (50, &json!(50), &json!(61)));
    let second = portal.success("user.get", json!({ "start": 50 })).await;
    assert_eq!((ids(&second["result"]).len(), second.get("next")), (11, None));
}
