//! The same client again: `crm.duplicate.findbycomm`, and `crm.item.list` of deals, contacts and companies.

use serde_json::{Value, json};

use crate::harness::{Portal, error, send};

/// The id of what was added.
async fn added(portal: &Portal, path: &str, body: Value) -> u64 {
    let answer = portal.tell(path, body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_u64().unwrap()
}

async fn changed(portal: &Portal, path: &str, body: Value) -> u16 {
    send(portal.client.patch(format!("{}/{path}", portal.control)).json(&body)).await.status
}

async fn found(portal: &Portal, params: &Value) -> Value {
    portal.result("crm.duplicate.findbycomm", params.clone()).await
}

fn ids(answer: &Value) -> Vec<u64> {
    answer["result"]["items"].as_array().unwrap().iter().map(|item| item["id"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_client_is_found_by_phone_or_mail_in_the_spellings_that_the_portal_knows() {
    let portal = Portal::start(json!({})).await;
    let leads = json!([
        { "PHONE": ["+7 (916) 123-45-67"], "EMAIL": ["Olga@Example.com "] },
        { "PHONE": [{ "VALUE": "8 916 123 45 67" }, { "VALUE": "9161234567" }], "STATUS_ID": "JUNK" },
        { "PHONE": ["+7 916 1234567;101"], "STATUS_ID": "CONVERTED" },
        { "EMAIL": ["8 916 123 45 67"], "IM": ["+7 916 123 45 67"] },
    ]);
    portal.add(json!({ "leads": leads })).await;
    let contact = json!({ "PHONE": ["+79161234567", "80 29 123 45 67"], "EMAIL": ["olga@example.com"] });
    assert_eq!(added(&portal, "contacts", contact).await, 1);
    let company = json!({ "PHONE": ["007 916 123 45 67", "+8 916 123 45 67"] });
    assert_eq!(added(&portal, "companies", company).await, 1);

    let everybody = json!({ "LEAD": [1, 2, 3], "CONTACT": [1], "COMPANY": [1] });
    let (phone, again) = (json!("+7 916 123-45-67"), json!("8(916)1234567"));
    for (params, expected) in [
        (json!({ "type": "PHONE", "values": [phone] }), everybody.clone()),
        (json!({ "TYPE": "phone", "VALUES": [again] }), everybody.clone()),
        (json!({ "type": "PHONE", "values": ["007 916 123 45 67", again, phone] }), everybody.clone()),
        (json!({ "type": "PHONE", "values": ["9161234567"] }), json!({ "LEAD": [2] })),
        (json!({ "type": "PHONE", "values": ["80 29 123 45 67"] }), json!({ "CONTACT": [1] })),
        (json!({ "type": "PHONE", "values": ["375 29 123 45 67"] }), json!([])),
        (json!({ "type": "PHONE", "values": ["+8 916 123 45 67"] }), json!({ "COMPANY": [1] })),
        (json!({ "type": "PHONE", "values": ["80 29 123 45 67", phone] }), everybody.clone()),
        // A number is no text, and what is no phone is nobody's.
        (json!({ "type": "PHONE", "values": [79_161_234_567_u64] }), json!([])),
        (json!({ "type": "PHONE", "values": [79_161_234_567_u64, "9161234567"] }), json!({ "LEAD": [2] })),
        (json!({ "type": "PHONE", "values": ["", "none"] }), json!([])),
        (json!({ "type": "EMAIL", "values": [" OLGA@example.COM"] }), json!({ "LEAD": [1], "CONTACT": [1] })),
        (json!({ "type": "EMAIL", "values": [phone] }), json!([])),
        // Three names of one parameter; under any other it is not seen.
        (json!({ "type": "PHONE", "values": [phone], "entity_type": "LEAD" }), json!({ "LEAD": [1, 2, 3] })),
        (json!({ "type": "PHONE", "values": [phone], "ENTITY_TYPE": "contact" }), json!({ "CONTACT": [1] })),
        (json!({ "type": "PHONE", "values": [phone], "EntityType": "COMPANY" }), json!({ "COMPANY": [1] })),
        (json!({ "type": "PHONE", "values": [phone], "entityType": "LEAD" }), everybody.clone()),
        (json!({ "type": "PHONE", "values": [phone], "entitytype": "DEAL" }), everybody.clone()),
        (json!({ "type": "EMAIL", "values": ["olga@example.com"], "entity_type": "COMPANY" }), json!([])),
    ] {
        assert_eq!(found(&portal, &params).await, expected, "{params}");
    }

    // In a batch it is one of many, and a phone of a form is a text.
    let phones = "crm.duplicate.findbycomm?type=PHONE&entity_type=CONTACT&values[]=%2B79161234567";
    let none = "crm.duplicate.findbycomm?type=EMAIL&values[]=nobody@example.com";
    let batch = portal.batch(json!({ "a": phones, "b": none })).await;
    assert_eq!(batch["result"], json!({ "a": { "CONTACT": [1] }, "b": [] }));
}

#[tokio::test]
async fn who_is_changed_or_deleted_is_found_as_he_is() {
    let portal = Portal::start(json!({})).await;
    portal.add(json!({ "count": 2, "fields": { "PHONE": ["111"], "EMAIL": ["a@b.c"] } })).await;
    added(&portal, "contacts", json!({ "PHONE": ["111"], "EMAIL": ["a@b.c"] })).await;
    added(&portal, "companies", json!({ "PHONE": ["222"] })).await;
    let phone = |phone: &str| json!({ "type": "PHONE", "values": [phone] });

    portal.result("crm.lead.update", json!({ "id": 1, "fields": { "PHONE": ["333", "222"] } })).await;
    portal.result("crm.lead.update", json!({ "id": 1, "fields": { "TITLE": "x" } })).await;
    assert_eq!(found(&portal, &phone("111")).await, json!({ "LEAD": [2], "CONTACT": [1] }));
    assert_eq!(found(&portal, &phone("333")).await, json!({ "LEAD": [1] }));

    assert_eq!(changed(&portal, "contacts/1", json!({ "PHONE": ["222"] })).await, 204);
    assert_eq!(changed(&portal, "companies/1", json!({ "PHONE": [] })).await, 204);
    assert_eq!(found(&portal, &phone("111")).await, json!({ "LEAD": [2] }));
    assert_eq!(found(&portal, &phone("222")).await, json!({ "LEAD": [1], "CONTACT": [1] }));

    portal.result("crm.lead.delete", json!({ "id": 1 })).await;
    assert_eq!(send(portal.client.delete(format!("{}/leads/2", portal.control))).await.status, 204);
    assert_eq!(found(&portal, &phone("222")).await, json!({ "CONTACT": [1] }));
    let mail = json!({ "type": "EMAIL", "values": ["a@b.c"] });
    assert_eq!(found(&portal, &mail).await, json!({ "CONTACT": [1] }), "his e-mail was not told of");

    for path in ["contacts/2", "companies/2"] {
        assert_eq!(changed(&portal, path, json!({ "PHONE": ["444"] })).await, 404, "{path}");
    }
    assert_eq!(found(&portal, &phone("444")).await, json!([]));
}

#[tokio::test]
async fn twenty_old_leads_hide_the_new_ones_and_the_contact() {
    let portal = Portal::start(json!({})).await;
    portal.add(json!({ "count": 19, "fields": { "PHONE": ["111"] } })).await;
    added(&portal, "contacts", json!({ "PHONE": ["111", "222"] })).await;
    let params = json!({ "type": "PHONE", "values": ["111"] });
    let oldest: Vec<u64> = (1..=19).collect();
    assert_eq!(found(&portal, &params).await, json!({ "LEAD": oldest, "CONTACT": [1] }));

    portal.add(json!({ "count": 6, "fields": { "PHONE": ["111"] } })).await;
    let oldest: Vec<u64> = (1..=20).collect();
    assert_eq!(found(&portal, &params).await, json!({ "LEAD": oldest }));
    let two = json!({ "type": "PHONE", "values": ["111", "222"] });
    assert_eq!(
        found(&portal, &two).await,
        json!({ "LEAD": oldest, "CONTACT": [1] }),
        "twenty for each value"
    );
    let contacts = json!({ "type": "PHONE", "values": ["111"], "entity_type": "CONTACT" });
    assert_eq!(found(&portal, &contacts).await, json!({ "CONTACT": [1] }));

    // Of many values the first twenty that differ are looked up; what is skipped or said twice does not count.
    let mut values: Vec<Value> = (1..=19).map(|number| json!(format!("9{number}"))).collect();
    values.splice(0..0, [json!(5), json!("9 1"), json!("")]);
    values.push(json!("222"));
    let last = json!({ "type": "PHONE", "values": values });
    assert_eq!(found(&portal, &last).await, json!({ "CONTACT": [1] }));
    values.insert(0, json!("920"));
    let too_many = json!({ "type": "PHONE", "values": values });
    assert_eq!(found(&portal, &too_many).await, json!([]));
}

#[tokio::test]
async fn contacts_and_companies_have_owners_and_come_by_id_and_by_time() {
    let portal = Portal::start(json!({})).await;
    added(&portal, "companies", json!({ "assignedById": 12, "title": "Works" })).await;
    let old = json!({ "assignedById": 11, "companyId": 1, "name": "Olga", "updatedTime": "2025-11-01T10:00:00+03:00" });
    added(&portal, "contacts", old).await;
    added(&portal, "contacts", json!({})).await;

    let list = async |params: Value| portal.success("crm.item.list", params).await;
    let all = list(json!({ "entityTypeId": 3, "filter": { "id": 1 } })).await;
    let item = json!({
        "id": 1, "name": "Olga", "assignedById": 11, "companyId": 1, "categoryId": 0, "originatorId": null,
        "originId": null, "createdTime": "2025-11-01T10:00:00+03:00", "updatedTime": "2025-11-01T10:00:00+03:00",
    });
    assert_eq!((&all["result"]["items"], &all["total"], all.get("next")), (&json!([item]), &json!(1), None));
    let company = list(json!({ "entityTypeId": 4, "select": ["title", "companyId", "assignedById"] })).await;
    let expected = json!([{ "id": 1, "title": "Works", "assignedById": 12 }]);
    assert_eq!(company["result"]["items"], expected);

    for (filter, expected) in [
        (json!({}), vec![1, 2]),
        (json!({ "@id": [2, "1", 84] }), vec![1, 2]),
        (json!({ "@id": [] }), vec![]),
        (json!({ "assignedById": "11" }), vec![1]),
        (json!({ "!assignedById": 11 }), vec![2]),
        (json!({ ">id": 1, "companyId": 0 }), vec![2]),
        // The same moment in another zone.
        (json!({ ">=updatedTime": "2025-11-01T08:00:00+01:00" }), vec![1, 2]),
        (json!({ ">updatedTime": "2025-11-01T07:00:00Z" }), vec![2]),
        (json!({ "<createdTime": "2025-11-01T23:00:00+23:00" }), vec![]),
    ] {
        let answer = list(json!({ "entityTypeId": 3, "filter": filter, "start": -1 })).await;
        assert_eq!(ids(&answer), expected, "{filter}");
        assert_eq!((answer.get("total"), answer.get("next")), (None, None), "nothing is counted");
    }

    assert_eq!(changed(&portal, "contacts/1", json!({ "assignedById": 14 })).await, 204);
    let later = json!({ "entityTypeId": 3, "filter": { ">updatedTime": "2025-11-01T10:00:00+03:00" } });
    let item = list(later).await["result"]["items"][0].take();
    assert_eq!(
        (&item["assignedById"], &item["name"], &item["createdTime"]),
        (&json!(14), &json!("Olga"), &json!("2025-11-01T10:00:00+03:00")),
        "{item}"
    );
    let given = json!({ "companyId": 0, "updatedTime": "2026-01-01T00:00:00Z" });
    assert_eq!(changed(&portal, "contacts/1", given).await, 204);
    let item = list(json!({ "entityTypeId": 3 })).await["result"]["items"][0].take();
    assert_eq!((&item["companyId"], &item["updatedTime"]), (&json!(0), &json!("2026-01-01T03:00:00+03:00")));
}

#[tokio::test]
async fn the_open_deals_of_a_client_come_with_their_owners() {
    let portal = Portal::start(json!({})).await;
    for deal in [
        json!({ "assignedById": 11, "contactIds": [1, 2], "companyId": 5 }),
        json!({ "assignedById": 12, "contactIds": [2], "stageId": "C9:NEW" }),
        json!({ "assignedById": 13, "contactIds": [2], "stageId": "C9:WON" }),
        json!({ "contactIds": [2], "stageId": "LOSE", "updatedTime": "2025-11-01T10:00:00+03:00" }),
        json!({ "contactIds": [2], "stageId": "APOLOGY" }),
    ] {
        added(&portal, "deals", deal).await;
    }
    let fields = json!({ "contactId": "3", "stageId": "C9:WON", "categoryId": 9, "assignedById": 14 });
    let by_rest = json!({ "entityTypeId": 2, "fields": fields });
    let item = portal.result("crm.item.add", by_rest).await["item"].take();
    assert_eq!(
        (&item["id"], &item["contactIds"], &item["stageSemanticId"], &item["updatedTime"]),
        (&json!(6), &json!([3]), &json!("S"), &item["createdTime"])
    );
    let several = json!({ "entityTypeId": 2, "fields": { "contactIds": ["4", 2], "originId": "x" } });
    let item = portal.result("crm.item.add", several).await["item"].take();
    assert_eq!((&item["contactId"], &item["contactIds"]), (&json!(4), &json!([4, 2])));

    for (filter, expected) in [
        (json!({ "contactIds": [2], "stageSemanticId": "P" }), vec![1, 2, 7]),
        (json!({ "contactIds": 2, "stageSemanticId": "P" }), vec![1, 2, 7]),
        (json!({ "@contactIds": [1, 3, 84] }), vec![1, 6]),
        (json!({ "contactIds": ["84"] }), vec![]),
        (json!({ "contactId": 2 }), vec![2, 3, 4, 5]),
        (json!({ "stageSemanticId": "S" }), vec![3, 6]),
        (json!({ "@stageSemanticId": ["S", "F"], "!@categoryId": [9] }), vec![4, 5]),
        (json!({ "companyId": 5 }), vec![1]),
        (json!({ "<updatedTime": "2025-11-01T08:00:01Z" }), vec![4]),
        (json!({ "=originatorId": "", "=originId": "x" }), vec![7]),
    ] {
        let order = json!({ "id": "ASC" });
        let params = json!({ "entityTypeId": 2, "filter": filter, "order": order, "start": -1 });
        assert_eq!(ids(&portal.success("crm.item.list", params).await), expected, "{filter}");
    }
    let select = json!(["assignedById", "categoryId", "noSuchField"]);
    let filter = json!({ "contactIds": [2], "stageSemanticId": "P" });
    let last = json!({ "entityTypeId": 2, "filter": filter, "order": { "id": "desc" }, "select": select });
    assert_eq!(
        portal.result("crm.item.list", last).await["items"],
        json!([
            { "id": 7, "assignedById": 0, "categoryId": 0 },
            { "id": 2, "assignedById": 12, "categoryId": 9 },
            { "id": 1, "assignedById": 11, "categoryId": 0 },
        ])
    );
    assert_eq!(
        portal.asked("deals").await[3]["assignedById"],
        json!(1),
        "the webhook's owner has what is nobody's"
    );
}

#[tokio::test]
async fn items_come_in_pages_of_fifty() {
    let portal = Portal::start(json!({})).await;
    for _ in 0..51 {
        added(&portal, "contacts", json!({})).await;
    }
    for (start, rows, next, total) in [
        (json!(0), 50, json!(50), json!(51)),
        (json!(50), 1, Value::Null, json!(51)),
        (json!(-1), 50, Value::Null, Value::Null),
    ] {
        let params = json!({ "entityTypeId": 3, "start": start, "select": ["*"] });
        let answer = portal.success("crm.item.list", params).await;
        assert_eq!((ids(&answer).len(), &answer["next"], &answer["total"]), (rows, &next, &total), "{start}");
    }
}

#[tokio::test]
async fn what_a_search_cannot_answer_it_refuses() {
    let portal = Portal::start(json!({})).await;
    let (find, list) = ("crm.duplicate.findbycomm", "crm.item.list");
    let invalid = "INVALID_ARG_VALUE";
    for (method, params, code, text) in [
        (find, json!({ "values": ["1"] }), "", "Communication type is not defined."),
        (
            find,
            json!({ "type": "im", "values": ["1"] }),
            "",
            "Communication type 'IM' is not supported in current context.",
        ),
        (find, json!({ "type": "PHONE" }), "", "Communication values is not defined."),
        (find, json!({ "type": "PHONE", "values": [] }), "", "Communication values is not defined."),
        (find, json!({ "type": "PHONE", "values": "1" }), "", "Communication values is not defined."),
        (
            find,
            json!({ "type": "PHONE", "values": ["1"], "entity_type": "DEAL" }),
            "",
            "Deal is not supported in current context.",
        ),
        (list, json!({ "entityTypeId": 1 }), "NOT_FOUND", "SmartProcess not found"),
        (list, json!({ "entityTypeId": 31 }), "NOT_FOUND", "SmartProcess not found"),
        (list, json!({}), "NOT_FOUND", "SmartProcess not found"),
        (
            list,
            json!({ "entityTypeId": 2, "filter": { "id": 1, "=asignedById": 11 } }),
            invalid,
            "Invalid filter: field '=asignedById' is not allowed in filter",
        ),
        (
            list,
            json!({ "entityTypeId": 3, "filter": { "ID": 1 } }),
            invalid,
            "Invalid filter: field 'ID' is not allowed in filter",
        ),
        (
            list,
            json!({ "entityTypeId": 3, "filter": { "contactIds": [1] } }),
            invalid,
            "Invalid filter: field 'contactIds' is not allowed in filter",
        ),
        (
            list,
            json!({ "entityTypeId": 4, "filter": { ">id": [1] } }),
            invalid,
            "Invalid filter: field '>id' has invalid value",
        ),
        // An empty list of contacts, or a prefix that bindings do not have.
        (
            list,
            json!({ "entityTypeId": 2, "filter": { "contactIds": [] } }),
            "0",
            "Unknown field definition `CONTACT_IDS`",
        ),
        (
            list,
            json!({ "entityTypeId": 2, "filter": { "=contactIds": 1 } }),
            "0",
            "Unknown field definition `CONTACT_IDS`",
        ),
        (
            list,
            json!({ "entityTypeId": 2, "order": { "contactIds": "ASC" } }),
            invalid,
            "Invalid order: field 'contactIds' is not allowed in order",
        ),
        (
            list,
            json!({ "entityTypeId": 2, "order": { "id": "up" } }),
            invalid,
            "Invalid order: allowed sort directions are ASC, DESC. But got 'UP' for field 'id'",
        ),
    ] {
        let answer = portal.call(method, params.clone()).await;
        assert_eq!(answer.error(), error(400, code, text), "{method} {params}");
    }
    let without = Portal::start(json!({ "scopes": ["im"] })).await;
    let answer = without.call(find, json!({ "type": "PHONE", "values": ["1"] })).await;
    assert_eq!((answer.status, answer.json()["error"].take()), (401, json!("insufficient_scope")));
}
