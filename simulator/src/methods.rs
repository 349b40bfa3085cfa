//! The methods by name, and what an answer is made of.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::limits::Hit;
use crate::log::What;
use crate::php::Php;
use crate::portal::{Notification, State, portal_time};
use crate::{activities, deals, duplicates, items, leads, lists, presence, stages, timeline};

/// A method's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// `result`.
    pub result: Value,
    /// `total` of lists.
    pub total: Option<usize>,
    /// `next` of lists.
    pub next: Option<usize>,
}

impl Reply {
    /// A result that is no list.
    #[must_use]
    pub fn of(result: Value) -> Self {
        Self { result, total: None, next: None }
    }
}

/// An error of the REST API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// `error`; often empty.
    pub code: String,
    /// `error_description`.
    pub description: String,
}

impl ApiError {
    /// An error with a code.
    #[must_use]
    pub fn new(status: u16, code: &str, description: &str) -> Self {
        Self { status, code: code.to_owned(), description: description.to_owned() }
    }

    /// Most errors of the classic CRM have an empty code and status 400.
    #[must_use]
    pub fn nameless(description: &str) -> Self {
        Self::new(400, "", description)
    }

    /// As it stands in an answer or in `result_error`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "error": self.code, "error_description": self.description })
    }
}

/// What a method answers.
pub type Answer = Result<Reply, ApiError>;

/// Every method there is, in lower case; the portal looks names up in that case.
const METHODS: [&str; 24] = [
    "batch",
    "calendar.accessibility.get",
    "crm.activity.list",
    "crm.duplicate.findbycomm",
    "crm.item.add",
    "crm.item.list",
    "crm.lead.add",
    "crm.lead.delete",
    "crm.lead.get",
    "crm.lead.list",
    "crm.lead.update",
    "crm.settings.mode.get",
    "crm.stagehistory.list",
    "crm.timeline.logmessage.add",
    "im.notify.personal.add",
    "im.notify.system.add",
    "im.user.list.get",
    "method.get",
    "profile",
    "scope",
    "server.time",
    "timeman.settings",
    "timeman.status",
    "user.get",
];

/// Whether there is such a method.
#[must_use]
pub fn exists(method: &str) -> bool {
    METHODS.contains(&method)
}

/// The error for a method that does not exist; it comes before any check of who calls.
#[must_use]
pub fn not_found() -> ApiError {
    ApiError::new(404, "ERROR_METHOD_NOT_FOUND", "Method not found!")
}

/// The scope that a method belongs to; none for those that every webhook may call.
fn scope(method: &str) -> Option<&'static str> {
    match method.split('.').next() {
        Some("calendar") => Some("calendar"),
        Some("crm") => Some("crm"),
        Some("im") => Some("im"),
        Some("timeman") => Some("timeman"),
        Some("user") => Some("user_brief"),
        _ => None,
    }
}

/// Runs one method, but for `batch`, after the checks of its scope and execution time; answers what it took.
pub fn run(
    state: &mut State,
    hit: &mut Hit,
    method: &str,
    params: &Php,
    now: Timestamp,
) -> (Answer, Duration) {
    if let Err(refused) = check(state, method, now) {
        return (Err(refused), Duration::ZERO);
    }
    let answer = match method {
        "crm.activity.list" => Ok(activities::list(state, params)),
        "crm.duplicate.findbycomm" => duplicates::find(state, params),
        "crm.item.add" => deals::add(state, params, now),
        "crm.item.list" => items::list(state, params),
        "crm.lead.get" => leads::get(state, params),
        "crm.lead.list" => Ok(leads::list(state, params)),
        "crm.lead.update" => leads::update(state, params, now),
        "crm.lead.add" => Ok(leads::add_by_rest(state, params, now)),
        "crm.lead.delete" => leads::delete(state, params, now),
        "crm.settings.mode.get" => Ok(Reply::of(json!(state.settings.crm_mode))),
        "crm.stagehistory.list" => stages::list(state, params),
        "crm.timeline.logmessage.add" => timeline::add(state, params, now),
        "im.notify.personal.add" => notify(state, params, true, now),
        "im.notify.system.add" => notify(state, params, false, now),
        "user.get" => Ok(users(state, params)),
        "timeman.status" => presence::status(state, params),
        "timeman.settings" => presence::settings(state, params),
        "calendar.accessibility.get" => presence::accessibility(state, params),
        "im.user.list.get" => presence::im_users(state, params, now),
        "server.time" => Ok(Reply::of(json!(portal_time(now)))),
        "profile" => {
            let id = state.settings.webhook_user.to_string();
            Ok(Reply::of(
                json!({ "ID": id, "ADMIN": true, "NAME": "Webhook", "TIME_ZONE": "", "TIME_ZONE_OFFSET": 10800 }),
            ))
        }
        "scope" => Ok(Reply::of(json!(state.settings.scopes))),
        "method.get" => {
            let name = params.get("name").and_then(Php::text).unwrap_or_default();
            Ok(Reply::of(json!({ "isExisting": exists(&name), "isAvailable": exists(&name) })))
        }
        _ => Err(not_found()),
    };
    let took = state.settings.cost_ms.get(method).map_or(Duration::ZERO, |cost| cost.draw());
    let bucket = state.settings.operating_bucket.max(1);
    state.operating.add(hit, method, now.as_second(), bucket, took.as_secs_f64());
    if let Ok(reply) = &answer {
        leads::robots(state, method, &reply.result, now);
    }
    (answer, took)
}

fn check(state: &mut State, method: &str, now: Timestamp) -> Result<(), ApiError> {
    if let Some(scope) = scope(method)
        && !state.settings.scopes.iter().any(|granted| granted == scope)
    {
        let status = state.settings.missing_scope_status;
        let text = "The request requires higher privileges than provided by the webhook token";
        return Err(ApiError::new(status, "insufficient_scope", text));
    }
    let (limit, bucket) = (state.settings.operating_limit, state.settings.operating_bucket.max(1));
    if limit > 0.0 && state.operating.spent(method, now.as_second(), bucket) > limit {
        return Err(ApiError::new(
            429,
            "OPERATION_TIME_LIMIT",
            "Method is blocked due to operation time limit.",
        ));
    }
    Ok(())
}

fn notify(state: &mut State, params: &Php, personal: bool, now: Timestamp) -> Answer {
    let user = params.get("USER_ID").or_else(|| params.get("TO")).map(Php::int).unwrap_or_default();
    let Some(user) = u64::try_from(user).ok().filter(|user| *user > 0) else {
        return Err(ApiError::new(400, "USER_ID_EMPTY", "User ID can't be empty"));
    };
    let message = params.get("MESSAGE").and_then(Php::text).unwrap_or_default().trim().to_owned();
    if message.is_empty() {
        return Err(ApiError::new(400, "MESSAGE_EMPTY", "Message can't be empty"));
    }
    let active = state.users.get(&user).is_some_and(|user| user.get("ACTIVE") == Some(&json!(true)));
    if !active {
        return Ok(Reply::of(json!(false)));
    }
    if state.settings.muted.contains(&user) {
        return Ok(Reply::of(json!(now.as_second())));
    }
    let id = u64::try_from(state.notifications.len()).unwrap_or_default() + 1;
    let tag = params.get("TAG").and_then(Php::text);
    let leads = crate::log::linked(&message);
    state.log.note(now, What::Notice { id, user, tag: tag.clone(), leads });
    state.notifications.push(Notification { id, user, message, tag, personal, at: now });
    Ok(Reply::of(json!(id)))
}

/// `user.get`: conditions on `ID` and `ACTIVE`; others are dropped.
fn users(state: &State, params: &Php) -> Reply {
    let filter = params.get("FILTER").unwrap_or(params);
    let ids = filter.get("ID").map(|ids| match ids {
        Php::Array(entries) => entries.iter().filter_map(|(_, id)| id.text()).collect(),
        Php::Null | Php::Bool(_) | Php::Number(_) | Php::Text(_) => vec![ids.text().unwrap_or_default()],
    });
    let active = filter.get("ACTIVE").map(|active| active.truthy() && active.text().as_deref() != Some("N"));
    let matches = |user: &&serde_json::Map<String, Value>| {
        let id = user.get("ID").and_then(Value::as_str).unwrap_or_default();
        ids.as_ref().is_none_or(|ids| ids.iter().any(|wanted| wanted == id))
            && active.is_none_or(|active| user.get("ACTIVE") == Some(&json!(active)))
    };
    let found: Vec<_> = state.users.values().filter(matches).collect();
    let reply = lists::page(params, &found, |user| Value::Object((*user).clone()));
    Reply { total: reply.total.filter(|_| !found.is_empty()), ..reply }
}
