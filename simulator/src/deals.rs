//! Deals: `crm.item.add`, as far as leads are added to funnels, and those that a person adds.
//!
//! Funnel 0 and its stages are there; any funnel above has the stages of its own prefix, except 99, which does not exist.
//! Their list is in `items`.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::items::{self, DEAL};
use crate::methods::{Answer, ApiError, Reply};
use crate::php::Php;
use crate::portal::{State, portal_time};

/// The funnel that does not exist.
const NO_FUNNEL: i64 = 99;

/// What a person tells of a deal. Its funnel is that of its stage: `NEW` of 0, `C9:NEW` of 9.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Told {
    title: Option<String>,
    assigned_by_id: Option<u64>,
    contact_ids: Vec<u64>,
    company_id: u64,
    stage_id: Option<String>,
    created_time: Option<Timestamp>,
    updated_time: Option<Timestamp>,
}

/// `crm.item.add`: `{"item":{…}}`.
pub fn add(state: &mut State, params: &Php, now: Timestamp) -> Answer {
    if params.get("entityTypeId").map(Php::int) != Some(DEAL) {
        return Err(items::no_such_type());
    }
    let field = |name: &str| params.get("fields").and_then(|fields| fields.get(name));
    let text = |name: &str| field(name).and_then(Php::text);
    let number = |name: &str| field(name).map_or(0, Php::int);
    let category = number("categoryId");
    let default = if category == 0 { "NEW".to_owned() } else { format!("C{category}:NEW") };
    let in_stage = text("stageId").unwrap_or_else(|| default.clone());
    let of_funnel =
        if category == 0 { !in_stage.contains(':') } else { in_stage.starts_with(&format!("C{category}:")) };
    if category == NO_FUNNEL || !of_funnel {
        let message = "Invalid value for field \"Stage\"";
        return Err(ApiError::new(400, "CRM_FIELD_ERROR_VALUE_NOT_VALID", message));
    }
    let mut deal = blank(state, now);
    if let Some(title) = text("title") {
        put(&mut deal, "title", json!(title));
    }
    for name in ["categoryId", "assignedById", "leadId", "companyId"] {
        put(&mut deal, name, json!(number(name)));
    }
    put(&mut deal, "stageId", json!(in_stage));
    let contacts: Vec<i64> = match field("contactIds") {
        Some(contacts) => contacts.entries().iter().map(|(_, contact)| contact.int()).collect(),
        None => vec![number("contactId")],
    };
    bind(&mut deal, &contacts.into_iter().filter(|contact| *contact > 0).collect::<Vec<_>>());
    for name in ["originatorId", "originId", "currencyId", "sourceId"] {
        put(&mut deal, name, json!(text(name)));
    }
    let opportunity = text("opportunity").and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    put(&mut deal, "opportunity", json!(opportunity));
    Ok(Reply::of(json!({ "item": insert(state, deal) })))
}

/// A person adds a deal; answers its id.
pub fn add_by_hand(state: &mut State, told: &Told, now: Timestamp) -> u64 {
    let created =
        told.created_time.unwrap_or_else(|| told.updated_time.map_or(now, |updated| updated.min(now)));
    let mut deal = blank(state, created);
    let id = state.next_deal;
    let in_stage = told.stage_id.as_deref().unwrap_or("NEW");
    let category = in_stage.strip_prefix('C').and_then(|stage| stage.split_once(':'));
    let category: u64 = category.and_then(|(category, _)| category.parse().ok()).unwrap_or_default();
    put(&mut deal, "categoryId", json!(category));
    put(&mut deal, "stageId", json!(in_stage));
    put(&mut deal, "assignedById", json!(told.assigned_by_id.unwrap_or(state.settings.webhook_user)));
    put(&mut deal, "companyId", json!(told.company_id));
    bind(&mut deal, &told.contact_ids);
    if let Some(title) = &told.title {
        put(&mut deal, "title", json!(title));
    }
    if let Some(updated) = told.updated_time {
        put(&mut deal, "updatedTime", json!(portal_time(updated)));
    }
    insert(state, deal);
    id
}

/// Gives a deal that was kept by an earlier version what it lacks.
pub fn complete(deal: &mut Map<String, Value>) {
    let contact = deal.get("contactId").and_then(Value::as_i64).filter(|contact| *contact > 0);
    deal.entry("contactIds").or_insert_with(|| json!(contact.into_iter().collect::<Vec<_>>()));
    let created = deal.get("createdTime").cloned().unwrap_or_default();
    deal.entry("updatedTime").or_insert(created);
    let stage = deal.get("stageId").and_then(Value::as_str).unwrap_or_default();
    let semantics = semantics(stage);
    deal.entry("stageSemanticId").or_insert_with(|| json!(semantics));
}

/// The next deal with nothing in it.
fn blank(state: &State, now: Timestamp) -> Map<String, Value> {
    let (id, now) = (state.next_deal, portal_time(now));
    let deal = json!({
        "id": id, "title": format!("Deal #{id}"), "createdTime": now, "updatedTime": now, "leadId": 0,
        "opportunity": 0.0, "currencyId": null, "sourceId": null, "originatorId": null, "originId": null,
    });
    deal.as_object().cloned().unwrap_or_default()
}

fn put(deal: &mut Map<String, Value>, name: &str, value: Value) {
    deal.insert(name.to_owned(), value);
}

/// Binds contacts; the first is the main one.
fn bind<T: serde::Serialize>(deal: &mut Map<String, Value>, contacts: &[T]) {
    put(deal, "contactId", contacts.first().map_or(json!(0), |first| json!(first)));
    put(deal, "contactIds", json!(contacts));
}

fn insert(state: &mut State, mut deal: Map<String, Value>) -> Map<String, Value> {
    complete(&mut deal);
    state.deals.insert(state.next_deal, deal.clone());
    state.next_deal += 1;
    deal
}

/// Whether a stage is in process, won or lost.
fn semantics(stage: &str) -> &'static str {
    if stage.ends_with("WON") {
        "S"
    } else if stage.ends_with("LOSE") || stage.ends_with("APOLOGY") {
        "F"
    } else {
        "P"
    }
}
