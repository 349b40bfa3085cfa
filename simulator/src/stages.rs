//! `crm.stagehistory.list` of leads: which stage each of them was in, and since when. It does not tell who moved it.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::lists;
use crate::methods::{Answer, ApiError};
use crate::php::Php;
use crate::portal::{State, portal_time};

/// `entityTypeId` of leads; the stages of nothing else are kept.
const LEAD: i64 = 1;

const FIELDS: [&str; 6] = ["ID", "TYPE_ID", "OWNER_ID", "CREATED_TIME", "STATUS_SEMANTIC_ID", "STATUS_ID"];

/// A lead was added.
pub fn created(state: &mut State, lead: u64, now: Timestamp) {
    note(state, lead, true, now);
}

/// A lead came to another stage.
pub fn moved(state: &mut State, lead: u64, now: Timestamp) {
    note(state, lead, false, now);
}

fn note(state: &mut State, id: u64, new: bool, now: Timestamp) {
    let Some(lead) = state.leads.get(&id) else { return };
    let field = |name: &str| lead.fields.get(name).cloned().unwrap_or_default();
    let semantics = field("STATUS_SEMANTIC_ID");
    let kind = match semantics.as_str() {
        _ if new => 1,
        Some("S" | "F") => 3,
        Some(_) | None => 2,
    };
    let row = json!({
        "ID": state.stages.len() + 1, "TYPE_ID": kind, "OWNER_ID": id, "CREATED_TIME": portal_time(now),
        "STATUS_SEMANTIC_ID": semantics, "STATUS_ID": field("STATUS_ID"),
    });
    state.stages.extend(row.as_object().cloned());
}

/// `crm.stagehistory.list`: `{"items":[…]}`. An order that it does not know is ignored.
pub fn list(state: &State, params: &Php) -> Answer {
    if params.get("entityTypeId").map(Php::int) != Some(LEAD) {
        return Err(ApiError::new(400, "ENTITY_TYPE_NOT_SUPPORTED", "Entity type is not supported"));
    }
    let conditions = lists::conditions(params, &FIELDS)?;
    let holds = |row: &&Map<String, Value>| conditions.iter().all(|condition| condition.holds(row));
    let mut rows: Vec<&Map<String, Value>> = state.stages.iter().filter(holds).collect();
    let order = params.get("order").map(Php::entries).unwrap_or_default();
    if let Some((field, direction)) = order.iter().find(|(field, _)| FIELDS.contains(&field.as_str())) {
        rows.sort_by_key(|row| lists::sort_key(row.get(field)));
        if direction.text().is_some_and(|text| text.eq_ignore_ascii_case("desc")) {
            rows.reverse();
        }
    }
    Ok(lists::items(params, &rows, "ID"))
}
