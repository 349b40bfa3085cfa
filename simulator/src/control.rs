//! The control API: what tests and demos make the portal do, and what they ask it afterwards.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /leads` | `{"count":30,"per_second":5,"fields":{…},"leads":[{…}],"events":true}` | `{"ids":[…]}`; with a rate, at once and empty |
//! | `GET /leads` | | all leads with their fields and owners |
//! | `PATCH /leads/{id}` | fields | a person changes the lead |
//! | `DELETE /leads/{id}` | | a person deletes it |
//! | `POST /events` | `{"leads":[1,2],"times":2,"shuffle":true}` | posts events again |
//! | `GET /deals` | | all deals with their fields |
//! | `POST /activities/{lead}` | any of its fields | a call that the lead's owner made, or what the fields say |
//! | `GET /timeline` | | all entries of leads' timelines |
//! | `GET /notifications` | | all notices |
//! | `GET /stats` | | what was seen |
//! | `POST /faults`, `DELETE /faults` | a fault | adds one, clears all |
//! | `GET /settings`, `POST /settings` | any settings | the settings |
//! | `POST /users` | `{"ID":"12","ACTIVE":false}` | adds or changes an employee |
//! | `PUT /working-days/{user}` | `{"STATUS":"OPENED","TIME_START":"…"}` | what `timeman.status` answers |
//! | `PUT /absences` | `[{"user":12,"from":"…","to":"…","kind":"trip"}]` | all absences: `vacation`, `trip`, `calendar` |

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::routing::{get, patch, post, put};
use axum::{Json, Router};
use jiff::Timestamp;
use rand::seq::SliceRandom;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::faults::Fault;
use crate::php::Php;
use crate::portal::{Lead, Notification, Portal, Settings, Stats, user};
use crate::presence::Absence;
use crate::timeline::Entry;
use crate::{activities, events, leads};

/// The control side.
pub fn router(portal: Arc<Portal>) -> Router {
    Router::new()
        .route("/leads", get(all_leads).post(add_leads))
        .route("/leads/{id}", patch(change_lead).delete(delete_lead))
        .route("/events", post(post_events))
        .route("/deals", get(all_deals))
        .route("/activities/{lead}", post(add_activity))
        .route("/timeline", get(timeline))
        .route("/notifications", get(notifications))
        .route("/stats", get(stats))
        .route("/faults", post(add_fault).delete(clear_faults))
        .route("/settings", get(settings).post(change_settings))
        .route("/users", post(change_user))
        .route("/working-days/{user}", put(set_working_day))
        .route("/absences", put(set_absences))
        .with_state(portal)
}

/// The body of `POST /leads`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewLeads {
    count: usize,
    per_second: Option<f64>,
    fields: Php,
    leads: Vec<Php>,
    events: bool,
}

impl Default for NewLeads {
    fn default() -> Self {
        Self { count: 0, per_second: None, fields: Php::empty(), leads: Vec::new(), events: true }
    }
}

async fn all_deals(Extract(portal): Extract<Arc<Portal>>) -> Json<Vec<serde_json::Map<String, Value>>> {
    Json(portal.state().deals.values().cloned().collect())
}

async fn add_leads(Extract(portal): Extract<Arc<Portal>>, Json(new): Json<NewLeads>) -> Json<Value> {
    Json(json!({ "ids": add_all(&portal, new) }))
}

/// Adds leads, or lets them come at a rate; answers the ids of those that are there at once.
pub fn add_all(portal: &Arc<Portal>, new: NewLeads) -> Vec<u64> {
    let repeated = std::iter::repeat_n(new.fields.clone(), new.count);
    let all: Vec<Php> = new.leads.into_iter().chain(repeated).collect();
    let Some(per_second) = new.per_second.filter(|rate| *rate > 0.0) else {
        return all.iter().map(|fields| add(portal, fields, new.events)).collect();
    };
    // The interval makes up for ticks that came late, so that the rate is kept.
    let mut ticks = tokio::time::interval(Duration::from_secs_f64((1.0 / per_second).clamp(1e-6, 1e6)));
    let portal = Arc::clone(portal);
    tokio::spawn(async move {
        for fields in all {
            ticks.tick().await;
            add(&portal, &fields, new.events);
        }
    });
    Vec::new()
}

fn add(portal: &Arc<Portal>, fields: &Php, with_event: bool) -> u64 {
    let (id, outgoing) = {
        let mut state = portal.state();
        let id = leads::add(&mut state, fields, with_event, Timestamp::now());
        (id, std::mem::take(&mut state.outgoing))
    };
    events::send(portal, outgoing);
    id
}

async fn all_leads(Extract(portal): Extract<Arc<Portal>>) -> Json<Vec<Lead>> {
    Json(portal.state().leads.values().cloned().collect())
}

async fn change_lead(
    Extract(portal): Extract<Arc<Portal>>,
    Path(id): Path<u64>,
    Json(fields): Json<Php>,
) -> StatusCode {
    let outgoing = {
        let mut state = portal.state();
        if !state.leads.contains_key(&id) {
            return StatusCode::NOT_FOUND;
        }
        leads::write(&mut state, id, &fields, Timestamp::now());
        // Its owner does, so he moved it, if it was moved.
        if fields.get("STATUS_ID").is_some()
            && let Some(lead) = state.leads.get_mut(&id)
            && let Some(owner) = lead.fields.get("ASSIGNED_BY_ID").cloned()
        {
            lead.fields.insert("MOVED_BY_ID".to_owned(), owner);
        }
        leads::updated(&mut state, id);
        std::mem::take(&mut state.outgoing)
    };
    events::send(&portal, outgoing);
    StatusCode::NO_CONTENT
}

async fn delete_lead(Extract(portal): Extract<Arc<Portal>>, Path(id): Path<u64>) -> StatusCode {
    let removed = portal.state().leads.remove(&id);
    if removed.is_some() { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repeat {
    leads: Vec<u64>,
    #[serde(default = "once")]
    times: usize,
    #[serde(default)]
    shuffle: bool,
}

fn once() -> usize {
    1
}

async fn post_events(Extract(portal): Extract<Arc<Portal>>, Json(repeat): Json<Repeat>) -> StatusCode {
    let mut order: Vec<u64> = repeat.leads.repeat(repeat.times);
    if repeat.shuffle {
        order.shuffle(&mut rand::rng());
    }
    for lead in order {
        tokio::spawn(events::deliver(Arc::clone(&portal), "ONCRMLEADADD", lead));
    }
    StatusCode::ACCEPTED
}

async fn add_activity(
    Extract(portal): Extract<Arc<Portal>>,
    Path(lead): Path<u64>,
    Json(fields): Json<serde_json::Map<String, Value>>,
) -> StatusCode {
    activities::add(&mut portal.state(), lead, fields, Timestamp::now());
    StatusCode::CREATED
}

async fn timeline(Extract(portal): Extract<Arc<Portal>>) -> Json<Vec<Entry>> {
    Json(portal.state().timeline.clone())
}

async fn notifications(Extract(portal): Extract<Arc<Portal>>) -> Json<Vec<Notification>> {
    Json(portal.state().notifications.clone())
}

async fn stats(Extract(portal): Extract<Arc<Portal>>) -> Json<Stats> {
    Json(portal.state().stats.clone())
}

async fn add_fault(Extract(portal): Extract<Arc<Portal>>, Json(fault): Json<Fault>) -> StatusCode {
    portal.state().faults.push(fault);
    StatusCode::NO_CONTENT
}

async fn clear_faults(Extract(portal): Extract<Arc<Portal>>) -> StatusCode {
    portal.state().faults.clear();
    StatusCode::NO_CONTENT
}

async fn settings(Extract(portal): Extract<Arc<Portal>>) -> Json<Settings> {
    Json(portal.state().settings.clone())
}

/// Changes those settings that are named.
async fn change_settings(
    Extract(portal): Extract<Arc<Portal>>,
    Json(changes): Json<serde_json::Map<String, Value>>,
) -> Result<Json<Settings>, (StatusCode, String)> {
    let wrong = |error: serde_json::Error| (StatusCode::BAD_REQUEST, error.to_string());
    let mut state = portal.state();
    let mut all = serde_json::to_value(&state.settings).map_err(wrong)?;
    if let Some(all) = all.as_object_mut() {
        all.extend(changes);
    }
    state.settings = serde_json::from_value(all).map_err(wrong)?;
    Ok(Json(state.settings.clone()))
}

async fn set_working_day(
    Extract(portal): Extract<Arc<Portal>>,
    Path(user): Path<u64>,
    Json(day): Json<serde_json::Map<String, Value>>,
) -> StatusCode {
    portal.state().working_days.insert(user, day);
    StatusCode::NO_CONTENT
}

async fn set_absences(
    Extract(portal): Extract<Arc<Portal>>,
    Json(absences): Json<Vec<Absence>>,
) -> StatusCode {
    portal.state().absences = absences;
    StatusCode::NO_CONTENT
}

async fn change_user(Extract(portal): Extract<Arc<Portal>>, Json(fields): Json<Value>) -> StatusCode {
    let id = fields.get("ID").and_then(Value::as_str).and_then(|id| id.parse().ok());
    let Some(id) = id else { return StatusCode::BAD_REQUEST };
    let mut state = portal.state();
    let mut changed = state.users.remove(&id).unwrap_or_else(|| user(id));
    changed.extend(fields.as_object().cloned().unwrap_or_default());
    state.users.insert(id, changed);
    StatusCode::NO_CONTENT
}
