//! The client by hand: contacts, companies, deals, and what was spoken and written with him.

use std::sync::Arc;

use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::clients::{self, Kind, Told};
use crate::portal::Portal;
use crate::{activities, deals};

/// A portal in a request.
type Here = Extract<Arc<Portal>>;

/// Its requests.
pub fn router() -> Router<Arc<Portal>> {
    let add = |kind| post(async move |portal: Here, Json(told): Json<Told>| add_client(kind, &portal, told));
    let change = |kind| {
        patch(async move |portal: Here, Path(id): Path<u64>, Json(told): Json<Told>| {
            change_client(kind, &portal, id, told)
        })
    };
    Router::new()
        .route("/contacts", add(Kind::Contact))
        .route("/contacts/{id}", change(Kind::Contact))
        .route("/companies", add(Kind::Company))
        .route("/companies/{id}", change(Kind::Company))
        .route("/deals", get(all_deals).post(add_deal))
        // Of what is added it is the lead's id, of what is changed the activity's.
        .route("/activities/{id}", post(add_activity).patch(change_activity))
}

type Refused = (StatusCode, &'static str);

fn created(id: u64) -> (StatusCode, Json<Value>) {
    (StatusCode::CREATED, Json(json!({ "id": id })))
}

fn changed(was_there: bool) -> StatusCode {
    if was_there { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

fn known(kind: Kind, told: &Told) -> Result<(), Refused> {
    told.unknown(kind).map_or(Ok(()), |unknown| Err((StatusCode::UNPROCESSABLE_ENTITY, unknown)))
}

fn add_client(kind: Kind, portal: &Portal, told: Told) -> Result<(StatusCode, Json<Value>), Refused> {
    known(kind, &told)?;
    Ok(created(clients::add(&mut portal.state(), kind, told, Timestamp::now())))
}

fn change_client(kind: Kind, portal: &Portal, id: u64, told: Told) -> Result<StatusCode, Refused> {
    known(kind, &told)?;
    Ok(changed(clients::change(&mut portal.state(), kind, id, told, Timestamp::now())))
}

async fn all_deals(Extract(portal): Here) -> Json<Vec<Map<String, Value>>> {
    Json(portal.state().deals.values().cloned().collect())
}

async fn add_deal(Extract(portal): Here, Json(told): Json<deals::Told>) -> (StatusCode, Json<Value>) {
    created(deals::add_by_hand(&mut portal.state(), &told, Timestamp::now()))
}

async fn add_activity(
    Extract(portal): Here,
    Path(lead): Path<u64>,
    Json(fields): Json<Map<String, Value>>,
) -> (StatusCode, Json<Value>) {
    created(activities::add(&mut portal.state(), lead, fields, Timestamp::now()))
}

async fn change_activity(
    Extract(portal): Here,
    Path(id): Path<u64>,
    Json(fields): Json<Map<String, Value>>,
) -> StatusCode {
    changed(activities::change(&mut portal.state(), id, fields, Timestamp::now()))
}
