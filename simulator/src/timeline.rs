//! Log messages in the timelines of leads. They change nothing of the lead and fire no event.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::methods::{Answer, ApiError, Reply};
use crate::php::Php;
use crate::portal::{State, portal_time};

/// An entry of a timeline.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Which lead.
    pub lead: u64,
    /// Its heading.
    pub title: String,
    /// What it says.
    pub text: String,
}

/// `crm.timeline.logmessage.add`: `{"logMessage":{…}}`.
pub fn add(state: &mut State, params: &Php, now: Timestamp) -> Answer {
    let field = |name: &str| params.get("fields").and_then(|fields| fields.get(name));
    let text = |name: &str| field(name).and_then(Php::text).unwrap_or_default();
    let lead = field("entityId").and_then(|id| u64::try_from(id.int()).ok()).unwrap_or_default();
    if field("entityTypeId").map(Php::int) != Some(1) || !state.leads.contains_key(&lead) {
        return Err(ApiError::new(400, "NOT_FOUND", "Not found"));
    }
    for name in ["title", "text", "iconCode"] {
        if text(name).is_empty() {
            return Err(ApiError::new(400, "100", &format!("Could not find value for parameter {{{name}}}")));
        }
    }
    state.timeline.push(Entry { lead, title: text("title"), text: text("text") });
    let (id, created) = (state.timeline.len(), portal_time(now));
    let author = state.settings.webhook_user;
    Ok(Reply::of(json!({ "logMessage": { "id": id, "created": created, "authorId": author } })))
}
