//! Calls, mails, chats and the like: `crm.activity.list`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::lists::{self, Condition};
use crate::methods::Reply;
use crate::php::Php;
use crate::portal::{State, portal_time};

/// Fields by which a list can be filtered, beside `BINDINGS`.
const FILTERABLE: [&str; 9] = [
    "ID",
    "OWNER_ID",
    "OWNER_TYPE_ID",
    "PROVIDER_ID",
    "DIRECTION",
    "COMPLETED",
    "CREATED",
    "LAST_UPDATED",
    "RESPONSIBLE_ID",
];

/// An activity.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Activity {
    /// Its fields as the portal shows them.
    pub fields: Map<String, Value>,
    /// The leads that it is bound to. Its first binding, which `OWNER_TYPE_ID` and `OWNER_ID` show, may be something else.
    pub leads: Vec<u64>,
}

/// Adds an activity that is bound to a lead, and answers its id; what is not told of it is as for a call that the
/// lead's owner made now.
pub fn add(state: &mut State, lead: u64, told: Map<String, Value>, now: Timestamp) -> u64 {
    let owner = state.leads.get(&lead).and_then(|lead| lead.fields.get("ASSIGNED_BY_ID")).cloned();
    let owner = owner.unwrap_or_else(|| json!("1"));
    let fields = json!({
        "OWNER_TYPE_ID": "1", "OWNER_ID": lead.to_string(),
        "TYPE_ID": "2", "PROVIDER_ID": "VOXIMPLANT_CALL", "DIRECTION": "2", "COMPLETED": "Y", "STATUS": "2",
        "RESULT_STATUS": "0", "RESULT_STREAM": "2", "AUTHOR_ID": owner, "RESPONSIBLE_ID": owner,
        "CREATED": portal_time(now), "LAST_UPDATED": portal_time(now),
    });
    let mut fields = fields.as_object().cloned().unwrap_or_default();
    fields.extend(told);
    let id = u64::try_from(state.activities.len()).unwrap_or_default() + 1;
    fields.insert("ID".to_owned(), json!(id.to_string()));
    state.activities.push(Activity { fields, leads: vec![lead] });
    id
}

/// Changes what is told of an activity, but for its id and what it is bound to beside its first binding; whether there
/// is such an activity.
pub fn change(state: &mut State, id: u64, told: Map<String, Value>, now: Timestamp) -> bool {
    let id = json!(id.to_string());
    let activity = state.activities.iter_mut().find(|activity| activity.fields.get("ID") == Some(&id));
    let Some(Activity { fields, .. }) = activity else { return false };
    fields.insert("LAST_UPDATED".to_owned(), json!(portal_time(now)));
    fields.extend(told);
    fields.insert("ID".to_owned(), id);
    true
}

/// `crm.activity.list`. Of several bindings one is enough.
pub fn list(state: &State, params: &Php) -> Reply {
    let filter = params.get("filter").map(Php::entries).unwrap_or_default();
    let bindings = filter.iter().find(|(name, _)| name == "BINDINGS").map(|(_, bindings)| bindings.entries());
    let is_bound = |activity: &Activity| {
        bindings.is_none_or(|bindings| {
            bindings.iter().any(|(_, binding)| {
                let of = |name| binding.get(name).map(Php::int);
                let lead = of("OWNER_ID").and_then(|lead| u64::try_from(lead).ok());
                of("OWNER_TYPE_ID") == Some(1) && lead.is_none_or(|lead| activity.leads.contains(&lead))
            })
        })
    };
    let conditions: Vec<Condition<'_>> = filter
        .iter()
        .map(Condition::of)
        .filter(|condition| FILTERABLE.contains(&condition.field()))
        .collect();
    let holds = |activity: &&Activity| conditions.iter().all(|condition| condition.holds(&activity.fields));
    let mut rows: Vec<&Activity> =
        state.activities.iter().filter(|activity| is_bound(activity)).filter(holds).collect();
    rows.sort_by_key(|activity| lists::sort_key(activity.fields.get("ID")));
    let order = params.get("order").and_then(|order| order.get("ID")).and_then(Php::text);
    if order.is_some_and(|order| order.eq_ignore_ascii_case("desc")) {
        rows.reverse();
    }
    lists::page(params, &rows, |activity| Value::Object(activity.fields.clone()))
}
