//! Leads by hand: those that come, those that a person changes or deletes, and their events again.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use jiff::Timestamp;
use rand::seq::SliceRandom;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::php::Php;
use crate::portal::{Lead, Portal, portal_time};
use crate::{events, leads};

/// Its requests.
pub fn router() -> Router<Arc<Portal>> {
    Router::new()
        .route("/leads", get(all).post(add_leads))
        .route("/leads/{id}", patch(change).delete(delete))
        .route("/events", post(repeat_events))
}

/// The body of `POST /leads`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewLeads {
    count: usize,
    per_second: Option<f64>,
    fields: Php,
    leads: Vec<NewLead>,
    events: bool,
}

impl Default for NewLeads {
    fn default() -> Self {
        Self { count: 0, per_second: None, fields: Php::empty(), leads: Vec::new(), events: true }
    }
}

/// One lead, which may be older than it could be by the REST API.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Php")]
struct NewLead {
    fields: Php,
    created: Option<Timestamp>,
    modified: Option<Timestamp>,
    /// Who made it, where that is not the webhook.
    maker: Option<String>,
}

impl TryFrom<Php> for NewLead {
    type Error = String;

    fn try_from(fields: Php) -> Result<Self, String> {
        let time = |name: &str| {
            let text = fields.get(name).map(|value| value.text().unwrap_or_default());
            text.map(|text| text.parse().map_err(|_| format!("{name} is no time: {text:?}"))).transpose()
        };
        let maker = fields.get("CREATED_BY_ID").and_then(Php::text);
        Ok(Self { created: time("DATE_CREATE")?, modified: time("DATE_MODIFY")?, maker, fields })
    }
}

async fn add_leads(Extract(portal): Extract<Arc<Portal>>, Json(new): Json<NewLeads>) -> Json<Value> {
    Json(json!({ "ids": add_all(&portal, new) }))
}

/// Adds leads, or lets them come at a rate; answers the ids of those that are there at once.
pub fn add_all(portal: &Arc<Portal>, new: NewLeads) -> Vec<u64> {
    let maker = new.fields.get("CREATED_BY_ID").and_then(Php::text);
    let same = NewLead { fields: new.fields, created: None, modified: None, maker };
    let all: Vec<NewLead> = new.leads.into_iter().chain(std::iter::repeat_n(same, new.count)).collect();
    let Some(per_second) = new.per_second.filter(|rate| *rate > 0.0) else {
        return all.iter().map(|lead| add(portal, lead, new.events)).collect();
    };
    // The interval makes up for ticks that came late, so that the rate is kept.
    let mut ticks = tokio::time::interval(Duration::from_secs_f64((1.0 / per_second).clamp(1e-6, 1e6)));
    let portal = Arc::clone(portal);
    tokio::spawn(async move {
        for lead in all {
            ticks.tick().await;
            add(&portal, &lead, new.events);
        }
    });
    Vec::new()
}

fn add(portal: &Arc<Portal>, new: &NewLead, with_event: bool) -> u64 {
    let now = Timestamp::now();
    // It was not changed before it was there.
    let created = new.created.unwrap_or_else(|| new.modified.map_or(now, |modified| modified.min(now)));
    let (id, outgoing) = {
        let mut state = portal.state();
        let id = leads::add(&mut state, &new.fields, with_event, created);
        if let (Some(modified), Some(lead)) = (new.modified, state.leads.get_mut(&id)) {
            lead.fields.insert("DATE_MODIFY".to_owned(), json!(portal_time(modified)));
        }
        if let (Some(maker), Some(lead)) = (&new.maker, state.leads.get_mut(&id)) {
            lead.fields.insert("CREATED_BY_ID".to_owned(), json!(maker));
        }
        (id, std::mem::take(&mut state.outgoing))
    };
    events::send(portal, outgoing);
    id
}

async fn all(Extract(portal): Extract<Arc<Portal>>) -> Json<Vec<Lead>> {
    Json(portal.state().leads.values().cloned().collect())
}

async fn change(
    Extract(portal): Extract<Arc<Portal>>,
    Path(id): Path<u64>,
    Json(fields): Json<Php>,
) -> StatusCode {
    let outgoing = {
        let mut state = portal.state();
        if !state.leads.contains_key(&id) {
            return StatusCode::NOT_FOUND;
        }
        let moved = leads::write(&mut state, id, &fields, Timestamp::now());
        // Its owner does, so he moved it, if it was moved.
        if moved
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

async fn delete(Extract(portal): Extract<Arc<Portal>>, Path(id): Path<u64>) -> StatusCode {
    let removed = leads::remove(&mut portal.state(), id, Timestamp::now());
    if removed { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
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

async fn repeat_events(Extract(portal): Extract<Arc<Portal>>, Json(repeat): Json<Repeat>) -> StatusCode {
    let mut order: Vec<u64> = repeat.leads.repeat(repeat.times);
    if repeat.shuffle {
        order.shuffle(&mut rand::rng());
    }
    for lead in order {
        tokio::spawn(events::deliver(Arc::clone(&portal), "ONCRMLEADADD", lead));
    }
    StatusCode::ACCEPTED
}
