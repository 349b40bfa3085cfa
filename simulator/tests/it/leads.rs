//! `crm.lead.get`, `add`, `update`, `delete`: the shapes and the texts.

use serde_json::{Value, json};

use crate::harness::{Portal, error};

#[tokio::test]
async fn a_lead_has_texts_for_numbers_and_no_key_for_missing_phones() {
    let portal = Portal::start(json!({})).await;
    let fields = json!({ "TITLE": "Flat", "OPPORTUNITY": "1 500,5", "UF_CRM_1": 7 });
    let id = portal.result("crm.lead.add", json!({ "fields": fields })).await;
    assert_eq!(id, json!(1), "an added lead's id is a number");

    let lead = portal.result("crm.lead.get", json!({ "ID": "1" })).await;
    for (field, expected) in [
        ("ID", json!("1")),
        ("TITLE", json!("Flat")),
        ("ASSIGNED_BY_ID", json!("1")),
        ("STATUS_ID", json!("NEW")),
        ("STATUS_SEMANTIC_ID", json!("P")),
        ("OPPORTUNITY", json!("1500.50")),
        ("OPENED", json!("N")),
        ("HAS_PHONE", json!("N")),
        ("DATE_CLOSED", json!("")),
        ("NAME", Value::Null),
        ("UF_CRM_1", json!("7")),
    ] {
        assert_eq!(lead.get(field), Some(&expected), "{field}");
    }
    assert!(lead.get("PHONE").is_none());
    let created = lead["DATE_CREATE"].as_str().unwrap();
    assert!(created.ends_with("+03:00") && created.len() == 25, "{created}");

    let phones = json!({ "PHONE": [{ "VALUE": "+7 900", "VALUE_TYPE": "MOBILE" }, { "VALUE": "" }] });
    assert_eq!(portal.result("crm.lead.update", json!({ "id": 1, "fields": phones })).await, json!(true));
    assert_eq!(
        portal.field(1, "PHONE").await,
        json!([{ "ID": "1", "VALUE_TYPE": "MOBILE", "VALUE": "+7 900", "TYPE_ID": "PHONE" }])
    );
    assert_eq!(portal.field(1, "HAS_PHONE").await, json!("Y"));
}

#[tokio::test]
async fn an_update_drops_what_it_does_not_know_and_is_content_with_nothing() {
    let portal = Portal::start(json!({})).await;
    portal.add(json!({ "count": 1, "fields": { "TITLE": "Flat" } })).await;
    let before = portal.result("crm.lead.get", json!({ "id": 1 })).await;
    for params in [
        json!({ "id": 1, "fields": { "TITEL": "x", "ID": 9, "DATE_CREATE": "x", "STATUS_SEMANTIC_ID": "F" } }),
        json!({ "id": 1, "fields": { "ASSIGNED_BY_ID": 0 } }),
        json!({ "id": 1, "ASSIGNED_BY_ID": 12 }),
    ] {
        assert_eq!(portal.result("crm.lead.update", params.clone()).await, json!(true), "{params}");
        let mut after = portal.result("crm.lead.get", json!({ "id": 1 })).await;
        after["DATE_MODIFY"] = before["DATE_MODIFY"].clone();
        assert_eq!(after, before, "{params}");
    }
    for (status, semantics) in [("IN_PROCESS", "P"), ("CONVERTED", "S"), ("JUNK", "F")] {
        portal.result("crm.lead.update", json!({ "id": 1, "fields": { "STATUS_ID": status } })).await;
        assert_eq!(portal.field(1, "STATUS_SEMANTIC_ID").await, json!(semantics));
    }
}

#[tokio::test]
async fn errors_have_an_empty_code_the_portals_text_and_no_time() {
    let portal = Portal::start(json!({})).await;
    portal.add(json!({ "count": 1 })).await;
    for (method, params, text) in [
        ("crm.lead.get", json!({}), "ID is not defined or invalid."),
        ("crm.lead.get", json!({ "id": "abc" }), "ID is not defined or invalid."),
        ("crm.lead.get", json!({ "id": 2 }), "Not found"),
        ("crm.lead.update", json!({ "id": 0 }), "ID is not defined or invalid."),
        ("crm.lead.update", json!({ "id": 2, "fields": {} }), "Lead is not found"),
        ("crm.lead.update", json!({ "id": 1, "fields": "x" }), "Parameter 'fields' must be array."),
        ("crm.lead.delete", json!({ "id": 2 }), "Lead is not found"),
    ] {
        assert_eq!(portal.call(method, params).await.error(), error(400, "", text), "{method}");
    }
    assert_eq!(portal.result("crm.lead.delete", json!({ "id": 1 })).await, json!(true));
    assert_eq!(portal.call("crm.lead.get", json!({ "id": 1 })).await.error(), error(400, "", "Not found"));
    let next = portal.result("crm.lead.add", json!({ "fields": {} })).await;
    assert_eq!(next, json!(2), "the id of a deleted lead is not used again");
}

#[tokio::test]
async fn the_text_of_an_answer_is_escaped_as_the_portal_does() {
    let portal = Portal::start(json!({})).await;
    portal.add(json!({ "leads": [{ "TITLE": "<b>Дом & \"сад\"</b>", "COMMENTS": "https://a.b/c" }] })).await;
    let answer = portal.call("crm.lead.get", json!({ "id": 1 })).await;
    assert_eq!(answer.kind, "application/json; charset=utf-8");
    for part in [
        r#""TITLE":"\u003Cb\u003EДом \u0026 \u0022сад\u0022\u003C\/b\u003E""#,
        r#""COMMENTS":"https:\/\/a.b\/c""#,
    ] {
        assert!(answer.text.contains(part), "{part} in {}", answer.text);
    }

    let time = answer.json()["time"].take();
    for name in ["start", "finish", "duration", "processing"] {
        assert!(time[name].is_f64(), "{name}: {time}");
    }
    for name in ["date_start", "date_finish"] {
        assert!(time[name].as_str().unwrap().ends_with("+03:00"), "{name}: {time}");
    }
    assert_eq!(time["operating"], json!(0), "a cheap call is not counted");
}
