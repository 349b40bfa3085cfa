//! The control API: what tests and demos make the portal do, and what they ask it afterwards.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /leads` | `{"count":30,"per_second":5,"fields":{…},"leads":[{…}],"events":true}` | `{"ids":[…]}`; with a rate, at once and empty. Of `leads` also `DATE_CREATE`, `DATE_MODIFY`; of all `CREATED_BY_ID` |
//! | `GET /leads` | | all leads with their fields and owners |
//! | `PATCH /leads/{id}` | fields | a person changes the lead |
//! | `DELETE /leads/{id}` | | a person deletes it |
//! | `POST /events` | `{"leads":[1,2],"times":2,"shuffle":true}` | posts events again |
//! | `GET /deals` | | all deals with their fields |
//! | `POST /deals` | `{"assignedById":12,"contactIds":[1],"companyId":5,"stageId":"NEW","updatedTime":"…"}` | `{"id":N}` |
//! | `POST /contacts`, `POST /companies` | `{"assignedById":11,"PHONE":["…"],"EMAIL":["…"],"companyId":5,"updatedTime":"…"}` | `{"id":N}` |
//! | `PATCH /contacts/{id}`, `PATCH /companies/{id}` | any of these | a person changes it |
//! | `POST /activities/{lead}` | any of its fields | `{"id":N}`: a call that the lead's owner made, or what the fields say |
//! | `PATCH /activities/{id}` | any of its fields | it is changed now, unless they say when |
//! | `GET /timeline` | | all entries of leads' timelines |
//! | `GET /notifications` | | all notices |
//! | `GET /log?from=N` | | what the portal did, in order, from the Nth entry on |
//! | `GET /stats` | | what was seen |
//! | `POST /faults`, `DELETE /faults` | a fault | adds one, clears all |
//! | `GET /settings`, `POST /settings` | any settings | the settings |
//! | `POST /users` | `{"ID":"12","ACTIVE":false}` | adds or changes an employee |
//! | `PUT /working-days/{user}` | `{"STATUS":"OPENED","TIME_START":"…"}` | what `timeman.status` answers |
//! | `PUT /absences` | `[{"user":12,"from":"…","to":"…","kind":"trip"}]` | all absences: `vacation`, `trip`, `calendar` |

mod clients;
mod leads;

use std::sync::Arc;

use axum::extract::{Path, Query, State as Extract};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;

use crate::faults::Fault;
use crate::log;
use crate::portal::{Notification, Portal, Settings, Stats, user};
use crate::presence::Absence;
use crate::timeline::Entry;

pub use leads::{NewLeads, add_all};

/// The control side.
pub fn router(portal: Arc<Portal>) -> Router {
    Router::new()
        .route("/timeline", get(timeline))
        .route("/notifications", get(notifications))
        .route("/log", get(log))
        .route("/stats", get(stats))
        .route("/faults", post(add_fault).delete(clear_faults))
        .route("/settings", get(settings).post(change_settings))
        .route("/users", post(change_user))
        .route("/working-days/{user}", put(set_working_day))
        .route("/absences", put(set_absences))
        .merge(leads::router())
        .merge(clients::router())
        .with_state(portal)
}

async fn timeline(Extract(portal): Extract<Arc<Portal>>) -> Json<Vec<Entry>> {
    Json(portal.state().timeline.clone())
}

async fn notifications(Extract(portal): Extract<Arc<Portal>>) -> Json<Vec<Notification>> {
    Json(portal.state().notifications.clone())
}

/// From which entry on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    #[serde(default)]
    from: usize,
}

async fn log(Extract(portal): Extract<Arc<Portal>>, Query(since): Query<Since>) -> Json<Vec<log::Entry>> {
    Json(portal.state().log.from(since.from))
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
