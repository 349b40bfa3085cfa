//! `crm.item.list` for deals, contacts and companies: camel case names, numbers as numbers, and an error for a condition
//! that it does not know.

use serde_json::{Map, Value};

use crate::clients::Client;
use crate::lists::{self, Condition};
use crate::methods::{Answer, ApiError};
use crate::php::Php;
use crate::portal::State;

/// `entityTypeId` of deals.
pub const DEAL: i64 = 2;

/// `entityTypeId` of contacts.
const CONTACT: i64 = 3;

/// `entityTypeId` of companies.
const COMPANY: i64 = 4;

const DEAL_FIELDS: [&str; 17] = [
    "id",
    "title",
    "createdTime",
    "updatedTime",
    "categoryId",
    "stageId",
    "stageSemanticId",
    "assignedById",
    "leadId",
    "contactId",
    "contactIds",
    "companyId",
    "opportunity",
    "currencyId",
    "sourceId",
    "originatorId",
    "originId",
];

const CONTACT_FIELDS: [&str; 9] = [
    "id",
    "name",
    "createdTime",
    "updatedTime",
    "categoryId",
    "assignedById",
    "companyId",
    "originatorId",
    "originId",
];

const COMPANY_FIELDS: [&str; 8] =
    ["id", "title", "createdTime", "updatedTime", "categoryId", "assignedById", "originatorId", "originId"];

/// The error for a type that is not there.
#[must_use]
pub fn no_such_type() -> ApiError {
    ApiError::new(400, "NOT_FOUND", "SmartProcess not found")
}

/// `crm.item.list`: `{"items":[…]}`.
pub fn list(state: &State, params: &Php) -> Answer {
    let (known, mut rows): (&[&str], Vec<&Map<String, Value>>) =
        match params.get("entityTypeId").map(Php::int) {
            Some(DEAL) => (&DEAL_FIELDS, state.deals.values().collect()),
            Some(CONTACT) => (&CONTACT_FIELDS, state.contacts.values().map(fields).collect()),
            Some(COMPANY) => (&COMPANY_FIELDS, state.companies.values().map(fields).collect()),
            Some(_) | None => return Err(no_such_type()),
        };
    let conditions = lists::conditions(params, known)?;
    if conditions.iter().any(is_lost) {
        return Err(ApiError::new(400, "0", "Unknown field definition `CONTACT_IDS`"));
    }
    rows.retain(|row| conditions.iter().all(|condition| condition.holds(row)));
    if let Some((field, descending)) = order(params, known)? {
        rows.sort_by_key(|row| lists::sort_key(row.get(field)));
        if descending {
            rows.reverse();
        }
    }
    Ok(lists::items(params, &rows, "id"))
}

fn fields(client: &Client) -> &Map<String, Value> {
    &client.fields
}

/// `contactIds` is looked up in the bindings only with these prefixes and something to look up; all else reaches the
/// database, which has no such column.
fn is_lost(condition: &Condition<'_>) -> bool {
    condition.field() == "contactIds" && !(matches!(condition.prefix, "" | "@") && condition.value.truthy())
}

/// By which field, and whether downwards.
fn order<'a>(params: &'a Php, known: &[&str]) -> Result<Option<(&'a str, bool)>, ApiError> {
    let entries = params.get("order").map(Php::entries).unwrap_or_default();
    for (field, direction) in entries {
        if field == "contactIds" || !known.contains(&field.as_str()) {
            return Err(lists::invalid(&format!("Invalid order: field '{field}' is not allowed in order")));
        }
        let direction = direction.text().unwrap_or_default().to_uppercase();
        if direction != "ASC" && direction != "DESC" {
            let allowed = "Invalid order: allowed sort directions are ASC, DESC";
            return Err(lists::invalid(&format!("{allowed}. But got '{direction}' for field '{field}'")));
        }
    }
    let descends = |direction: &Php| direction.text().is_some_and(|text| text.eq_ignore_ascii_case("desc"));
    Ok(entries.first().map(|(field, direction)| (field.as_str(), descends(direction))))
}
