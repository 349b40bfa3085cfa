//! `crm.lead.*` as the classic API has it: texts for numbers, unknown names dropped without a word.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::duplicates::Entity;
use crate::lists::{self, Condition};
use crate::log::What;
use crate::methods::{Answer, ApiError, Reply};
use crate::php::Php;
use crate::portal::{Lead, OwnerChange, State, portal_time};
use crate::{deals, duplicates, items, stages};

/// Fields that an update may change beside `UF_*`.
const WRITABLE: [&str; 26] = [
    "TITLE",
    "NAME",
    "SECOND_NAME",
    "LAST_NAME",
    "HONORIFIC",
    "BIRTHDATE",
    "POST",
    "COMPANY_TITLE",
    "COMPANY_ID",
    "CONTACT_ID",
    "SOURCE_ID",
    "SOURCE_DESCRIPTION",
    "STATUS_ID",
    "STATUS_DESCRIPTION",
    "OPENED",
    "OPPORTUNITY",
    "IS_MANUAL_OPPORTUNITY",
    "CURRENCY_ID",
    "COMMENTS",
    "ORIGINATOR_ID",
    "ORIGIN_ID",
    "PHONE",
    "EMAIL",
    "WEB",
    "IM",
    "LINK",
];

/// The mode of the CRM without leads.
const SIMPLE_MODE: u8 = 2;

/// Fields with several values: missing when empty, and in lists only when asked for by name.
const MULTIPLE: [&str; 5] = ["PHONE", "EMAIL", "WEB", "IM", "LINK"];

/// Fields beside those that are `WRITABLE` by which a list can be filtered.
const FILTERABLE: [&str; 15] = [
    "ID",
    "ASSIGNED_BY_ID",
    "CREATED_BY_ID",
    "MODIFY_BY_ID",
    "MOVED_BY_ID",
    "STATUS_SEMANTIC_ID",
    "HAS_PHONE",
    "HAS_EMAIL",
    "HAS_IMOL",
    "IS_RETURN_CUSTOMER",
    "DATE_CREATE",
    "DATE_MODIFY",
    "DATE_CLOSED",
    "MOVED_TIME",
    "LAST_ACTIVITY_TIME",
];

/// Adds a lead, with its event if wanted; answers its id.
pub fn add(state: &mut State, fields: &Php, with_event: bool, now: Timestamp) -> u64 {
    let id = state.next_lead;
    state.next_lead += 1;
    let (created, owner) = (portal_time(now), state.settings.webhook_user.to_string());
    let mut lead = Map::new();
    for empty in [
        "HONORIFIC",
        "NAME",
        "SECOND_NAME",
        "LAST_NAME",
        "COMPANY_TITLE",
        "COMPANY_ID",
        "CONTACT_ID",
        "SOURCE_ID",
        "SOURCE_DESCRIPTION",
        "STATUS_DESCRIPTION",
        "POST",
        "COMMENTS",
        "ORIGINATOR_ID",
        "ORIGIN_ID",
        "ADDRESS",
        "ADDRESS_2",
        "ADDRESS_CITY",
        "ADDRESS_POSTAL_CODE",
        "ADDRESS_REGION",
        "ADDRESS_PROVINCE",
        "ADDRESS_COUNTRY",
        "ADDRESS_COUNTRY_CODE",
        "ADDRESS_LOC_ADDR_ID",
        "UTM_SOURCE",
        "UTM_MEDIUM",
        "UTM_CAMPAIGN",
        "UTM_CONTENT",
        "UTM_TERM",
    ] {
        lead.insert(empty.to_owned(), Value::Null);
    }
    for (name, value) in [
        ("ID", id.to_string().as_str()),
        ("TITLE", &format!("Lead #{id}")),
        ("STATUS_ID", "NEW"),
        ("STATUS_SEMANTIC_ID", "P"),
        ("CURRENCY_ID", "RUB"),
        ("OPPORTUNITY", "0.00"),
        ("IS_MANUAL_OPPORTUNITY", "N"),
        ("OPENED", "N"),
        ("HAS_PHONE", "N"),
        ("HAS_EMAIL", "N"),
        ("HAS_IMOL", "N"),
        ("IS_RETURN_CUSTOMER", "N"),
        ("BIRTHDATE", ""),
        ("DATE_CLOSED", ""),
        ("ASSIGNED_BY_ID", &owner),
        ("CREATED_BY_ID", &owner),
        ("MODIFY_BY_ID", &owner),
        ("MOVED_BY_ID", &owner),
        ("DATE_CREATE", &created),
        ("DATE_MODIFY", &created),
        ("MOVED_TIME", &created),
        ("LAST_ACTIVITY_BY", &owner),
        ("LAST_ACTIVITY_TIME", &created),
    ] {
        lead.insert(name.to_owned(), json!(value));
    }
    let mut lead = Lead { fields: lead, history: Vec::new() };
    apply(&mut lead, fields, &owner, now);
    // The first owner is no change of the owner.
    lead.history.clear();
    state.log.note(now, What::Added { lead: id, owner: owner_of(&lead) });
    state.leads.insert(id, lead);
    stages::created(state, id, now);
    if state.settings.crm_mode == SIMPLE_MODE {
        convert(state, id, now);
    }
    duplicates::index_lead(state, id);
    if with_event {
        state.outgoing.push(("ONCRMLEADADD", id));
    }
    id
}

/// In the simple mode a lead becomes a deal of its owner as soon as it is there.
fn convert(state: &mut State, id: u64, now: Timestamp) {
    let owner = state.leads.get(&id).and_then(|lead| lead.fields.get("ASSIGNED_BY_ID")).cloned();
    let fields = json!({ "STATUS_ID": "CONVERTED" });
    write(state, id, &serde_json::from_value(fields).unwrap_or(Php::Null), now);
    let deal = json!({ "entityTypeId": items::DEAL, "fields": { "leadId": id, "assignedById": owner } });
    // It is of the first funnel, which is always there.
    drop(deals::add(state, &serde_json::from_value(deal).unwrap_or(Php::Null), now));
}

/// Writes what may be written; whether that moved the lead to another stage. Whoever changes the owner by hand calls
/// this too.
pub fn write(state: &mut State, id: u64, fields: &Php, now: Timestamp) -> bool {
    let by = state.settings.webhook_user.to_string();
    let Some(lead) = state.leads.get_mut(&id) else { return false };
    let (before, from) = (lead.fields.get("STATUS_ID").cloned(), owner_of(lead));
    apply(lead, fields, &by, now);
    let moved = lead.fields.get("STATUS_ID") != before.as_ref();
    let writes_owner = |(name, value): &(String, Php)| name == "ASSIGNED_BY_ID" && value.int() > 0;
    if fields.entries().iter().any(writes_owner) {
        state.log.note(now, What::Owner { lead: id, from, to: owner_of(lead) });
    }
    if moved {
        stages::moved(state, id, now);
    }
    if fields.entries().iter().any(|(name, _)| matches!(name.as_str(), "PHONE" | "EMAIL")) {
        duplicates::index_lead(state, id);
    }
    moved
}

fn owner_of(lead: &Lead) -> String {
    lead.fields.get("ASSIGNED_BY_ID").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn apply(lead: &mut Lead, fields: &Php, by: &str, now: Timestamp) {
    for (name, value) in fields.entries() {
        match name.as_str() {
            "ASSIGNED_BY_ID" => {
                let owner = value.int();
                let before = lead.fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                if owner > 0 && before != owner.to_string() {
                    lead.history.push(OwnerChange { at: now, from: before, to: owner.to_string() });
                    lead.fields.insert(name.clone(), json!(owner.to_string()));
                }
            }
            "OPPORTUNITY" => {
                let amount = value.text().unwrap_or_default().replace(',', ".").replace(' ', "");
                let amount: f64 = amount.parse().unwrap_or_default();
                lead.fields.insert(name.clone(), json!(format!("{amount:.2}")));
            }
            multiple if MULTIPLE.contains(&multiple) => write_multiple(lead, multiple, value),
            known if WRITABLE.contains(&known) || is_written_freely(known) => {
                let value = value.text().map_or_else(|| value.to_json(), Value::String);
                let before = lead.fields.insert(name.clone(), value);
                if known == "STATUS_ID" && lead.fields.get(name) != before.as_ref() {
                    let written = lead.fields.get(name).and_then(Value::as_str);
                    let semantics = match written {
                        Some("CONVERTED") => "S",
                        Some("JUNK") => "F",
                        Some(_) | None => "P",
                    };
                    lead.fields.insert("STATUS_SEMANTIC_ID".to_owned(), json!(semantics));
                    lead.fields.insert("MOVED_TIME".to_owned(), json!(portal_time(now)));
                    lead.fields.insert("MOVED_BY_ID".to_owned(), json!(by));
                }
            }
            _ => {}
        }
    }
    lead.fields.insert("DATE_MODIFY".to_owned(), json!(portal_time(now)));
}

/// Whoever changes a lead right after this method has shown it.
pub fn robots(state: &mut State, method: &str, shown: &Value, now: Timestamp) {
    let first = shown.as_array().map_or(Some(shown), |rows| rows.first());
    let id = first.and_then(|lead| lead.get("ID")).and_then(Value::as_str).and_then(|id| id.parse().ok());
    let Some(id) = id else { return };
    let mut robots = std::mem::take(&mut state.settings.robots);
    let request = state.log.request.take();
    for robot in robots.iter_mut().filter(|robot| robot.after == method) {
        robot.seen = robot.seen.wrapping_add(1);
        if robot.seen.is_multiple_of(robot.every.max(1)) {
            let fields = serde_json::from_value(Value::Object(robot.fields.clone())).unwrap_or(Php::Null);
            write(state, id, &fields, now);
            updated(state, id);
        }
    }
    (state.settings.robots, state.log.request) = (robots, request);
}

/// Notes the event of a change; several changes of a lead in one request make one event.
pub fn updated(state: &mut State, id: u64) {
    let event = ("ONCRMLEADUPDATE", id);
    if state.settings.update_events && !state.outgoing.contains(&event) {
        state.outgoing.push(event);
    }
}

fn write_multiple(lead: &mut Lead, name: &str, value: &Php) {
    let values: Vec<Value> = (1..)
        .zip(value.entries())
        .filter_map(|(id, (_, entry))| {
            let text = entry.get("VALUE").unwrap_or(entry).text().filter(|text| !text.is_empty())?;
            let kind = entry.get("VALUE_TYPE").and_then(Php::text).unwrap_or_else(|| "WORK".to_owned());
            Some(json!({ "ID": id.to_string(), "VALUE_TYPE": kind, "VALUE": text, "TYPE_ID": name }))
        })
        .collect();
    if values.is_empty() {
        lead.fields.remove(name);
    } else {
        lead.fields.insert(name.to_owned(), Value::Array(values));
    }
    let flag = format!("HAS_{name}");
    if lead.fields.contains_key(&flag) {
        let has = if lead.fields.contains_key(name) { "Y" } else { "N" };
        lead.fields.insert(flag, json!(has));
    }
}

fn id_of(params: &Php) -> Result<u64, ApiError> {
    let id = params.get("id").map(Php::int).unwrap_or_default();
    u64::try_from(id)
        .ok()
        .filter(|id| *id > 0)
        .ok_or_else(|| ApiError::nameless("ID is not defined or invalid."))
}

/// The right to a lead is asked for before it is looked up.
fn check_right(state: &State, id: u64) -> Result<(), ApiError> {
    if state.settings.hidden_leads.contains(&id) { Err(ApiError::nameless("Access denied.")) } else { Ok(()) }
}

fn no_lead(state: &State, description: &str) -> ApiError {
    ApiError::new(400, &state.settings.not_found_code, description)
}

/// `crm.lead.get`.
pub fn get(state: &State, params: &Php) -> Answer {
    let id = id_of(params)?;
    check_right(state, id)?;
    let lead = state.leads.get(&id).ok_or_else(|| no_lead(state, "Not found"))?;
    Ok(Reply::of(Value::Object(lead.fields.clone())))
}

/// `crm.lead.update`.
pub fn update(state: &mut State, params: &Php, now: Timestamp) -> Answer {
    let id = id_of(params)?;
    check_right(state, id)?;
    if !state.leads.contains_key(&id) {
        return Err(no_lead(state, "Lead is not found"));
    }
    match params.get("fields") {
        Some(fields @ Php::Array(_)) => {
            write(state, id, fields, now);
        }
        None => {}
        Some(Php::Null | Php::Bool(_) | Php::Number(_) | Php::Text(_)) => {
            return Err(ApiError::nameless("Parameter 'fields' must be array."));
        }
    }
    updated(state, id);
    Ok(Reply::of(json!(true)))
}

/// `crm.lead.add`.
pub fn add_by_rest(state: &mut State, params: &Php, now: Timestamp) -> Reply {
    let fields = params.get("fields").cloned().unwrap_or(Php::empty());
    Reply::of(json!(add(state, &fields, true, now)))
}

/// `crm.lead.delete`.
pub fn delete(state: &mut State, params: &Php, now: Timestamp) -> Answer {
    let id = id_of(params)?;
    check_right(state, id)?;
    if !remove(state, id, now) {
        return Err(no_lead(state, "Lead is not found"));
    }
    Ok(Reply::of(json!(true)))
}

/// Takes a lead away; whether there was one.
pub fn remove(state: &mut State, id: u64, now: Timestamp) -> bool {
    state.duplicates.remove(Entity::Lead, id);
    let removed = state.leads.remove(&id).is_some();
    if removed {
        state.log.note(now, What::Deleted { lead: id });
    }
    removed
}

/// `crm.lead.list`.
pub fn list(state: &State, params: &Php) -> Reply {
    let conditions: Vec<Condition> = params
        .get("filter")
        .map(Php::entries)
        .unwrap_or_default()
        .iter()
        .map(Condition::of)
        .filter(|condition| is_known(condition.field()))
        .collect();
    let mut rows: Vec<&Lead> = state
        .leads
        .iter()
        .filter(|(id, _)| check_right(state, **id).is_ok())
        .map(|(_, lead)| lead)
        .filter(|lead| conditions.iter().all(|condition| condition.holds(&lead.fields)))
        .collect();
    if let Some((field, direction)) = params.get("order").and_then(|order| order.entries().first()) {
        rows.sort_by_key(|lead| lists::sort_key(lead.fields.get(&field.to_uppercase())));
        if direction.text().is_some_and(|text| text.eq_ignore_ascii_case("desc")) {
            rows.reverse();
        }
    }
    let select = lists::select(params);
    lists::page(params, &rows, |lead| Value::Object(selected(&lead.fields, &select)))
}

/// Whether a list can be filtered by the field; the portal drops other conditions.
fn is_known(field: &str) -> bool {
    FILTERABLE.contains(&field) || WRITABLE.contains(&field) || is_written_freely(field)
}

/// Own fields, and those of which there are many of a kind.
fn is_written_freely(field: &str) -> bool {
    ["UF_", "UTM_", "ADDRESS"].iter().any(|kind| field.starts_with(kind))
}

fn selected(fields: &Map<String, Value>, select: &[String]) -> Map<String, Value> {
    let (custom, multiple) = (|name: &str| name.starts_with("UF_"), |name: &str| MULTIPLE.contains(&name));
    let has = |wanted: &str| select.iter().any(|name| name == wanted);
    let wanted = |name: &str| {
        let base = !custom(name) && !multiple(name);
        name == "ID"
            || has(name)
            || (base && (select.is_empty() || has("*")))
            || (custom(name) && has("UF_*"))
    };
    fields
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
