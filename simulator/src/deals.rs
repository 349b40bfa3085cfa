//! `crm.item.*` for deals, as far as leads are added to funnels: camel case names, numbers as numbers.
//!
//! Funnel 0 and its stages are there; any funnel above has the stages of its own prefix, except 99, which does not exist.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::methods::{Answer, ApiError, Reply};
use crate::php::Php;
use crate::portal::{State, portal_time};

/// `entityTypeId` of deals; no other type is played.
const DEAL: i64 = 2;

/// The funnel that does not exist.
const NO_FUNNEL: i64 = 99;

fn check_type(params: &Php) -> Result<(), ApiError> {
    match params.get("entityTypeId").map(Php::int) {
        Some(DEAL) => Ok(()),
        _ => Err(ApiError::new(400, "NOT_FOUND", "SmartProcess not found")),
    }
}

/// `crm.item.add`: `{"item":{…}}`.
pub fn add(state: &mut State, params: &Php, now: Timestamp) -> Answer {
    check_type(params)?;
    let text = |name: &str| params.get("fields").and_then(|fields| fields.get(name)).and_then(Php::text);
    let number = |name: &str| params.get("fields").and_then(|fields| fields.get(name)).map_or(0, Php::int);
    let category = number("categoryId");
    let default = if category == 0 { "NEW".to_owned() } else { format!("C{category}:NEW") };
    let in_stage = text("stageId").unwrap_or_else(|| default.clone());
    let of_funnel =
        if category == 0 { !in_stage.contains(':') } else { in_stage.starts_with(&format!("C{category}:")) };
    if category == NO_FUNNEL || !of_funnel {
        let message = "Invalid value for field \"Stage\"";
        return Err(ApiError::new(400, "CRM_FIELD_ERROR_VALUE_NOT_VALID", message));
    }
    let id = state.next_deal;
    state.next_deal += 1;
    let mut deal = Map::new();
    deal.insert("id".to_owned(), json!(id));
    deal.insert("title".to_owned(), json!(text("title").unwrap_or_else(|| format!("Deal #{id}"))));
    deal.insert("createdTime".to_owned(), json!(portal_time(now)));
    for name in ["categoryId", "assignedById", "leadId", "contactId", "companyId"] {
        deal.insert(name.to_owned(), json!(number(name)));
    }
    deal.insert("stageId".to_owned(), json!(in_stage));
    for name in ["originatorId", "originId", "currencyId", "sourceId"] {
        deal.insert(name.to_owned(), json!(text(name)));
    }
    let opportunity = text("opportunity").and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    deal.insert("opportunity".to_owned(), json!(opportunity));
    state.deals.insert(id, deal.clone());
    Ok(Reply::of(json!({ "item": deal })))
}

/// `crm.item.list`: `{"items":[…]}`, filtered by equality, 50 a page.
pub fn list(state: &State, params: &Php) -> Answer {
    check_type(params)?;
    let filter: &[(String, Php)] = params.get("filter").map_or(&[], Php::entries);
    let fits = |deal: &&Map<String, Value>| {
        filter.iter().all(|(name, expected)| {
            let held = deal.get(name.trim_start_matches('=')).cloned().unwrap_or_default();
            let held = held.as_str().map_or_else(|| held.to_string(), str::to_owned);
            expected.text().is_some_and(|expected| expected == held)
        })
    };
    let items: Vec<&Map<String, Value>> = state.deals.values().filter(fits).take(50).collect();
    Ok(Reply::of(json!({ "items": items })))
}
