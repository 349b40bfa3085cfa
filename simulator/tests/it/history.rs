//! What happened to a lead: `crm.stagehistory.list`, `crm.activity.list`, and leads that are older than the test.

use serde_json::{Value, json};

use crate::harness::{Portal, error, send};

/// A list of rows in short: of each its texts and numbers under these names.
fn short(rows: &Value, names: &[&str]) -> Vec<String> {
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let row = |row: &Value| names.iter().map(|name| shown(&row[name])).collect::<Vec<_>>().join(" ");
    rows.as_array().unwrap().iter().map(row).collect()
}

async fn change(portal: &Portal, path: &str, body: Value) -> u16 {
    send(portal.client.patch(format!("{}/{path}", portal.control)).json(&body)).await.status
}

#[tokio::test]
async fn each_stage_of_a_lead_makes_a_row_but_not_the_same_stage_again() {
    let portal = Portal::start(json!({})).await;
    portal.add(json!({ "count": 1 })).await;
    let update = async |fields: Value| {
        portal.result("crm.lead.update", json!({ "id": 1, "fields": fields })).await;
    };
    update(json!({ "STATUS_ID": "IN_PROCESS" })).await;
    update(json!({ "STATUS_ID": "IN_PROCESS", "TITLE": "x" })).await;
    update(json!({ "ASSIGNED_BY_ID": 12 })).await;
    let junk = json!({ "fields": { "STATUS_ID": "JUNK" } });
    assert_eq!(portal.result("crm.lead.add", junk).await, json!(2));
    assert_eq!(change(&portal, "leads/1", json!({ "STATUS_ID": "CONVERTED" })).await, 204);
    assert_eq!(change(&portal, "leads/2", json!({ "STATUS_ID": "JUNK" })).await, 204);
    assert_eq!(change(&portal, "leads/2", json!({ "STATUS_ID": "NEW" })).await, 204);

    let rows = ["1 1 1 P NEW", "2 2 1 P IN_PROCESS", "3 1 2 F JUNK", "4 3 1 S CONVERTED", "5 2 2 P NEW"];
    let names = ["ID", "TYPE_ID", "OWNER_ID", "STATUS_SEMANTIC_ID", "STATUS_ID"];
    let long_ago = "2020-01-01T00:00:00+03:00";
    for (filter, expected) in [
        (json!({}), vec![1, 2, 3, 4, 5]),
        (json!({ ">ID": 3 }), vec![4, 5]),
        (json!({ "ID": "3" }), vec![3]),
        (json!({ "OWNER_ID": 2 }), vec![3, 5]),
        (json!({ "@OWNER_ID": [2, 9] }), vec![3, 5]),
        (json!({ "@OWNER_ID": [1, "2"], ">ID": 1, "TYPE_ID": 2 }), vec![2, 5]),
        (json!({ ">=CREATED_TIME": long_ago, "STATUS_SEMANTIC_ID": "S" }), vec![4]),
        (json!({ "<CREATED_TIME": long_ago }), vec![]),
    ] {
        let params = json!({ "entityTypeId": 1, "filter": filter, "order": { "ID": "ASC" }, "start": -1 });
        let answer = portal.success("crm.stagehistory.list", params).await;
        let expected: Vec<&str> = expected.into_iter().map(|id: usize| rows[id - 1]).collect();
        assert_eq!(short(&answer["result"]["items"], &names), expected, "{filter}");
        assert_eq!((answer.get("total"), answer.get("next")), (None, None), "{filter}");
    }
    let order = json!({ "COLOUR": "ASC", "ID": "desc" });
    let params = json!({ "entityTypeId": 1, "order": order, "select": ["STATUS_ID"] });
    let answer = portal.success("crm.stagehistory.list", params).await;
    assert_eq!(answer["result"]["items"][0], json!({ "ID": 5, "STATUS_ID": "NEW" }));
    assert_eq!(answer["total"], json!(5));

    for (params, code, text) in [
        (
            json!({ "entityTypeId": 1, "filter": { ">ID": 1, "RESPONSIBLE_ID": 11 } }),
            "INVALID_ARG_VALUE",
            "Invalid filter: field 'RESPONSIBLE_ID' is not allowed in filter",
        ),
        (json!({ "entityTypeId": 2 }), "ENTITY_TYPE_NOT_SUPPORTED", "Entity type is not supported"),
    ] {
        let answer = portal.call("crm.stagehistory.list", params).await;
        assert_eq!(answer.error(), error(400, code, text));
    }
}

#[tokio::test]
async fn who_writes_the_same_stage_has_not_moved_the_lead() {
    let portal = Portal::start(json!({})).await;
    let old = json!({ "ASSIGNED_BY_ID": 11, "DATE_CREATE": "2025-11-01T10:00:00+03:00" });
    portal.add(json!({ "leads": [old] })).await;
    for (stage, by, moved) in [("NEW", "1", false), ("IN_PROCESS", "11", true)] {
        assert_eq!(change(&portal, "leads/1", json!({ "STATUS_ID": stage })).await, 204);
        assert_eq!(portal.field(1, "MOVED_BY_ID").await, json!(by), "{stage}");
        let at = portal.field(1, "MOVED_TIME").await;
        assert_eq!(at != json!("2025-11-01T10:00:00+03:00"), moved, "{stage}");
    }
}

#[tokio::test]
async fn a_lead_may_be_older_than_the_test_but_not_by_rest() {
    let portal = Portal::start(json!({})).await;
    let (long_ago, later) = ("2025-11-01T07:00:00Z", "2025-11-02T10:00:00+03:00");
    let leads = json!([
        { "CONTACT_ID": "3", "PHONE": ["+7 916 123-45-67"], "DATE_MODIFY": later },
        { "DATE_CREATE": long_ago },
        { "DATE_CREATE": long_ago, "DATE_MODIFY": later },
    ]);
    let same = json!({ "DATE_CREATE": long_ago });
    assert_eq!(portal.add(json!({ "leads": leads, "count": 1, "fields": same })).await, [1, 2, 3, 4]);
    portal.result("crm.lead.add", json!({ "fields": { "DATE_CREATE": long_ago } })).await;

    let select = json!(["DATE_CREATE", "DATE_MODIFY"]);
    let rows = portal.result("crm.lead.list", json!({ "select": select })).await;
    let shown = |id: usize| rows[id - 1]["DATE_CREATE"].as_str().zip(rows[id - 1]["DATE_MODIFY"].as_str());
    let long_ago = "2025-11-01T10:00:00+03:00";
    assert_eq!(shown(1), Some((later, later)), "not changed before it was there");
    assert_eq!(shown(2), Some((long_ago, long_ago)));
    assert_eq!(shown(3), Some((long_ago, later)));
    for id in [4, 5] {
        assert!(shown(id).unwrap().0 > "2026", "{id}: {rows}");
    }
    let of_contact = json!({ "filter": { "CONTACT_ID": 3 }, "order": { "ID": "DESC" }, "select": ["ID"] });
    assert_eq!(portal.result("crm.lead.list", of_contact).await, json!([{ "ID": "1" }]));
    let first = portal.result("crm.stagehistory.list", json!({ "entityTypeId": 1 })).await;
    assert_eq!(first["items"][1]["CREATED_TIME"], json!(long_ago));

    // Whatever happens to it afterwards happens at its time.
    portal.result("crm.lead.update", json!({ "id": 3, "fields": { "DATE_MODIFY": later } })).await;
    assert!(portal.field(3, "DATE_MODIFY").await.as_str().unwrap() > "2026");
}

#[tokio::test]
async fn activities_of_all_leads_come_by_id_and_by_when_they_changed() {
    let portal = Portal::start(json!({})).await;
    portal.add(json!({ "count": 2, "fields": { "ASSIGNED_BY_ID": 11 } })).await;
    let (early, late) = ("2025-11-01T10:00:00+03:00", "2025-11-01T12:00:00+03:00");
    for (lead, told) in [
        (1, json!({ "LAST_UPDATED": early, "ID": "77" })),
        // Bound to the client first.
        (2, json!({ "OWNER_TYPE_ID": "3", "OWNER_ID": "7", "LAST_UPDATED": late })),
        (2, json!({ "PROVIDER_ID": "IMOPENLINES_SESSION", "DIRECTION": "1", "LAST_UPDATED": early })),
    ] {
        let answer = portal.tell(&format!("activities/{lead}"), told).await;
        assert_eq!(answer.status, 201);
        assert!(answer.json()["id"].is_u64(), "{answer:?}");
    }
    let names = ["ID", "OWNER_TYPE_ID", "OWNER_ID", "DIRECTION", "RESPONSIBLE_ID"];
    let rows = ["1 1 1 2 11", "2 3 7 2 11", "3 1 2 1 11"];
    for (filter, expected) in [
        (json!({ "BINDINGS": [{ "OWNER_TYPE_ID": 1 }] }), vec![1, 2, 3]),
        (json!({ "BINDINGS": [{ "OWNER_TYPE_ID": "1", "OWNER_ID": "2" }] }), vec![2, 3]),
        (json!({ "BINDINGS": [{ "OWNER_TYPE_ID": 1 }], ">ID": 1 }), vec![2, 3]),
        (json!({ "BINDINGS": [{ "OWNER_TYPE_ID": 1 }], ">=LAST_UPDATED": "2025-11-01T09:00:00Z" }), vec![2]),
        (json!({ "BINDINGS": [{ "OWNER_TYPE_ID": 1 }], ">=LAST_UPDATED": early }), vec![1, 2, 3]),
        // Its first binding only.
        (json!({ "OWNER_TYPE_ID": 1 }), vec![1, 3]),
    ] {
        let params = json!({ "FILTER": filter, "ORDER": { "ID": "ASC" }, "start": -1 });
        let found = portal.result("crm.activity.list", params).await;
        let expected: Vec<&str> = expected.into_iter().map(|id: usize| rows[id - 1]).collect();
        assert_eq!(short(&found, &names), expected, "{filter}");
    }

    // A session is answered: the same row, changed now.
    assert_eq!(change(&portal, "activities/3", json!({ "RESULT_STATUS": "2", "ID": "9" })).await, 204);
    let given = json!({ "RESULT_STREAM": "4", "LAST_UPDATED": late });
    assert_eq!(change(&portal, "activities/1", given).await, 204);
    assert_eq!(change(&portal, "activities/4", json!({})).await, 404);
    let changed = json!({ "filter": { ">LAST_UPDATED": late }, "order": { "ID": "DESC" } });
    let changed = portal.result("crm.activity.list", changed).await;
    assert_eq!(short(&changed, &["ID", "RESULT_STATUS", "OWNER_ID"]), ["3 2 2"]);
    let all = portal.result("crm.activity.list", json!({ "order": { "ID": "DESC" } })).await;
    assert_eq!(short(&all, &["ID", "RESULT_STREAM"]), ["3 2", "2 2", "1 4"]);
    assert_eq!(all[2]["LAST_UPDATED"], json!(late));
}
