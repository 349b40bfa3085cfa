//! `POST /bitrix24/{portal}/events`, the portal's events, and `POST /bitrix24/{portal}/robot`, its robots.
//!
//! | answer | when |
//! |---|---|
//! | 200 | stored, or an event we do not act upon |
//! | 400 | not a form (or JSON of the same shape), or no valid lead id |
//! | 403 | wrong token, wrong member id, wrong key, unknown portal, or one without robots: one and the same answer |
//! | 408 | the body came too slowly |
//! | 413 | the body is too large |
//! | 415 | neither a form nor JSON |
//! | 422 | a robot names a queue that the published routing has not |
//! | 429 | as 403, again and again from the same client |
//! | 431 | the head is too large |
//! | 503 | stored nowhere; or, behind a trusted proxy, too many requests of this client at once |
//!
//! The portal never repeats an event, whatever it is answered; the status is for whoever looks at its
//! log, and for proxies and tests.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use common::broker::Message;
use common::broker::topology::Topology;
use common::clock::Clock;
use common::failure::chain;
use common::ids::PortalName;
use common::lifecycle::Stop;
use common::messages::{EventSource, LeadEvent};
use common::server::{self, Client, Limits, ServerMetrics};
use serde::Deserialize;
use store::NewGiving;
use tokio::net::TcpListener;
use tower_http::timeout::TimeoutLayer;

use crate::calls::Calls;
use crate::event::{self, PortalEvent};
use crate::form::Form;
use crate::metrics::{IngestMetrics, Received};
use crate::outbox::{Outbox, Stored};
use crate::own_mistakes::OwnMistakes;
use crate::queue_names::QueueNames;
use crate::strangers::{Answer, Strangers};
use crate::verify::{Doors, Entrance, Unproved};

/// A portal's event has some 600 bytes.
const BODY_MAX: usize = 16 * 1024;

/// What the handlers share.
pub(crate) struct App {
    pub(crate) doors: Doors,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) calls: Calls,
    pub(crate) topology: Arc<Topology>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<IngestMetrics>,
    pub(crate) queues: QueueNames,
    pub(crate) strangers: Arc<Strangers>,
    pub(crate) own_mistakes: OwnMistakes,
    pub(crate) body_timeout: Duration,
}

/// What stands in the handler's address.
#[derive(Deserialize)]
struct Parameters {
    key: Option<String>,
    /// Of robots.
    queue: Option<String>,
}

/// The longest name of a queue in the address of a robot, in bytes.
const QUEUE_MAX: usize = 200;

/// Serves until told to stop.
pub(crate) async fn serve(
    listener: TcpListener,
    app: App,
    limits: Limits,
    metrics: ServerMetrics,
    stop: Stop,
) {
    let timeout = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, app.body_timeout);
    let router = Router::new()
        .route("/bitrix24/{portal}/events", post(events))
        .route("/bitrix24/{portal}/robot", post(robot))
        // A slash too many is an easy mistake, and 404 is all that the portal would see of it.
        .route("/bitrix24/{portal}/events/", post(events))
        .route("/bitrix24/{portal}/robot/", post(robot))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(timeout)
        .with_state(Arc::new(app));
    server::serve(listener, router, limits, metrics, stop).await;
}

/// A refusal: the status and a line that says what is wrong.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, format!("{}\n", self.1)).into_response()
    }
}

async fn events(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Option<Client>>,
    Path(portal): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let form = match form(&app, &headers, body) {
        Ok(form) => form,
        Err(refusal) => return refusal,
    };
    let portal = match app.doors.verify(&portal, &form, parameters.key.as_deref()) {
        Ok(portal) => portal,
        Err(unproved) => return forbidden(&app, client, Entrance::Events, unproved),
    };
    app.own_mistakes.accepted(portal, Entrance::Events);
    match event::read(&form) {
        Ok(PortalEvent::LeadAdded { lead, ts }) => {
            accept(&app, portal, LeadEvent { ts, ..LeadEvent::of(lead, EventSource::Webhook) }).await
        }
        Ok(PortalEvent::Other) => {
            app.metrics.received(Some(portal), Received::Ignored);
            (StatusCode::OK, "ignored\n").into_response()
        }
        Err(error) => malformed(&app, portal, &error.to_string()),
    }
}

async fn robot(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Option<Client>>,
    Path(portal): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let form = match form(&app, &headers, body) {
        Ok(form) => form,
        Err(refusal) => return refusal,
    };
    let portal = match app.doors.verify_robot(&portal, &form, parameters.key.as_deref()) {
        Ok(portal) => portal,
        Err(unproved) => return forbidden(&app, client, Entrance::Robots, unproved),
    };
    app.own_mistakes.accepted(portal, Entrance::Robots);
    let queue = parameters.queue.map(|queue| queue.trim().to_owned()).filter(|queue| !queue.is_empty());
    if queue.as_ref().is_some_and(|queue| queue.len() > QUEUE_MAX) {
        return malformed(&app, portal, &format!("`queue` is longer than {QUEUE_MAX} bytes"));
    }
    if queue.as_ref().is_some_and(|queue| queue.chars().any(char::is_control)) {
        let error =
            "`queue` has a control character (such as %00) in it; write the queue's name as in the routing";
        return malformed(&app, portal, error);
    }
    let lead = match event::read_robot(&form) {
        Ok(lead) => lead,
        Err(error) => return malformed(&app, portal, &error.to_string()),
    };
    if let Some(queue) = &queue
        && let Err(unknown) = app.queues.check(portal, queue).await
    {
        app.metrics.received(Some(portal), Received::UnknownQueue);
        tracing::warn!(event = "robot.unknown_queue", portal = %portal, lead.id = lead.get(), queue, error = %unknown);
        return Refused(StatusCode::UNPROCESSABLE_ENTITY, unknown.to_string()).into_response();
    }
    accept(&app, portal, LeadEvent { queue, ..LeadEvent::of(lead, EventSource::Robot) }).await
}

/// The form of a body whose sender is not proved yet.
#[expect(clippy::result_large_err, reason = "it is an answer, and sent at once")]
fn form(app: &App, headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Form, Response> {
    let form = match body {
        Ok(body) => read(headers, &body).map_err(IntoResponse::into_response),
        Err(rejection) => Err(rejection.into_response()),
    };
    form.inspect_err(|_| app.metrics.received(None, Received::Malformed))
}

fn forbidden(app: &App, client: Option<Client>, entrance: Entrance, unproved: Unproved<'_>) -> Response {
    let Unproved { portal, why, is_partly_right } = unproved;
    app.metrics.forbidden(portal, why);
    if let Some(portal) = portal.filter(|_| is_partly_right) {
        app.own_mistakes.refused(portal, entrance, why);
    }
    match app.strangers.refused(client, portal, why) {
        Answer::Forbidden => Refused(StatusCode::FORBIDDEN, "forbidden".to_owned()).into_response(),
        Answer::TooMany => {
            let text = "forbidden, again and again".to_owned();
            ([(header::RETRY_AFTER, "60")], Refused(StatusCode::TOO_MANY_REQUESTS, text)).into_response()
        }
    }
}

fn malformed(app: &App, portal: &PortalName, error: &str) -> Response {
    app.metrics.received(Some(portal), Received::Malformed);
    tracing::warn!(event = "event.malformed", portal = %portal, error);
    Refused(StatusCode::BAD_REQUEST, error.to_owned()).into_response()
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<Form, Refused> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/x-www-form-urlencoded" => {
            Form::parse(body).map_err(|error| Refused(StatusCode::BAD_REQUEST, error.to_string()))
        }
        "application/json" => {
            Form::from_json(body).map_err(|error| Refused(StatusCode::BAD_REQUEST, error.to_string()))
        }
        _ => Err(Refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send application/x-www-form-urlencoded, as the portal does, or application/json".to_owned(),
        )),
    }
}

async fn accept(app: &App, portal: &PortalName, event: LeadEvent) -> Response {
    let (lead, source, queue, now) = (event.lead, event.source, event.queue.clone(), app.clock.now());
    let message = Message::lead_event(portal, event, now, now);
    if source == EventSource::Robot {
        app.calls.note(portal, lead, &NewGiving::of_robot(&message.id, queue.as_deref(), now)).await;
    }
    let (id, traceparent) = (message.id.clone(), message.headers.traceparent.clone());
    let route = app.topology.to_queue(app.topology.lead_events(portal));
    match app.outbox.put(route, message).await {
        Ok(stored) => {
            let received = match stored {
                Stored::Broker => Received::Accepted,
                Stored::Spool => Received::Spooled,
            };
            app.metrics.received(Some(portal), received);
            tracing::info!(event = "event.accepted", portal = %portal, lead.id = lead.get(), source = source.as_str(), id, traceparent, stored = ?stored);
            (StatusCode::OK, "accepted\n").into_response()
        }
        Err(error) => {
            app.metrics.received(Some(portal), Received::NotStored);
            tracing::error!(event = "event.not_stored", portal = %portal, lead.id = lead.get(), error = chain(&error));
            Refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response()
        }
    }
}
