//! `GET /live`, `/ready` and `/metrics`, on a listener of their own that no portal reaches.
//!
//! Live looks at nothing but the process itself: a broker that is away must not make a supervisor
//! kill us. Ready answers 503 with everything that is wrong, by name, in JSON, and names what a person should look at
//! although the process works. The limits are fixed: whoever asks here is known, and mistakes are all that they guard
//! against.
//!
//! Where a token is configured, metrics and the details of `/ready` are shown to those alone who send it. Supervisors
//! need no more than a status.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{IntGauge, Registry};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use crate::broker::{Broker, BrokerStatus};
use crate::config;
use crate::lifecycle::{Health, Stop};
use crate::metrics;
use crate::server::{self, Limits, ServerMetrics, TrustedProxies, Waits};

/// Prometheus asks by one connection that it keeps, a supervisor by a new one each time, and now and then a person does.
const CONNECTIONS: usize = 128;
const CONNECTIONS_PER_CLIENT: usize = 32;
/// Longer than is usual between two questions of Prometheus (15 s), so that its connection stays.
const WAITS: Waits =
    Waits { first_byte: Duration::from_secs(5), head: Duration::from_secs(5), idle: Duration::from_secs(30) };

/// How a token begins in its header.
const BEARER: &[u8] = b"Bearer ";

/// What is shown.
#[derive(Clone)]
pub struct Admin {
    /// How the process is.
    pub health: Health,
    /// Its metrics.
    pub registry: Registry,
    /// `rota_ready`, which is set when metrics are asked for.
    pub ready_gauge: IntGauge,
    /// How the connection to the broker is.
    pub broker: Arc<dyn Broker>,
    /// What must be sent to see more than a status; nothing where it is not configured.
    pub token: Option<SecretString>,
}

/// Serves until told to stop.
pub async fn serve(listener: TcpListener, admin: Admin, server: ServerMetrics, stop: Stop) {
    let app = Router::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(render))
        .with_state(admin);
    let limits = Limits {
        connections: CONNECTIONS,
        per_client: CONNECTIONS_PER_CLIENT,
        trusted_proxies: TrustedProxies::default(),
        waits: WAITS,
    };
    server::serve(listener, app, limits, server, stop).await;
}

impl Admin {
    /// Everything that is wrong, by name.
    fn failures(&self) -> BTreeMap<String, String> {
        let mut failures = self.health.failures();
        match self.broker.status() {
            BrokerStatus::Ready => {}
            BrokerStatus::Blocked(why) => {
                failures.insert("broker".to_owned(), format!("blocked: {why}"));
            }
            BrokerStatus::Disconnected(why) => {
                failures.insert("broker".to_owned(), why);
            }
        }
        failures
    }

    /// Whether the sender of these headers may see everything.
    fn may_see(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let sent = headers.get(header::AUTHORIZATION).map(axum::http::HeaderValue::as_bytes);
        let sent = sent.and_then(|sent| sent.split_at_checked(BEARER.len()));
        // A scheme's name may be written in any case (RFC 9110, part 11.1).
        sent.is_some_and(|(scheme, sent)| {
            scheme.eq_ignore_ascii_case(BEARER)
                && bool::from(sent.trim_ascii().ct_eq(token.expose_secret().as_bytes()))
        })
    }
}

async fn ready(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let failures = admin.failures();
    let is_ready = failures.is_empty();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = if admin.may_see(&headers) {
        serde_json::json!({ "ready": is_ready, "failures": failures, "warnings": admin.health.warnings() })
    } else {
        serde_json::json!({ "ready": is_ready })
    };
    (status, axum::Json(body)).into_response()
}

async fn render(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if !admin.may_see(&headers) {
        let text = "send `Authorization: Bearer …` with the value of admin.token\n";
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response();
    }
    admin.ready_gauge.set(admin.failures().is_empty().into());
    match metrics::render(&admin.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Asks a running process whether it is ready: the health check of a container without a shell. Answers what a person
/// should look at all the same.
///
/// # Errors
/// With what is wrong.
pub fn check(admin: &config::Admin) -> anyhow::Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Ready {
        #[serde(default)]
        warnings: BTreeMap<String, String>,
    }
    let timeout = Duration::from_secs(3);
    let listen = admin.listen;
    let address =
        if listen.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], listen.port())) } else { listen };
    let mut stream = TcpStream::connect_timeout(&address, timeout)
        .with_context(|| format!("nothing listens on {address}"))?;
    stream.set_read_timeout(Some(timeout))?;
    let token =
        admin.token.as_ref().map(|token| format!("Authorization: Bearer {}\r\n", token.expose_secret()));
    stream.write_all(format!("GET /ready HTTP/1.0\r\n{}\r\n", token.unwrap_or_default()).as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("{address} did not answer"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    anyhow::ensure!(head.split(' ').nth(1) == Some("200"), "{address} is not ready: {body}");
    let Ready { warnings } =
        serde_json::from_str(body).with_context(|| format!("{address} is none of ours"))?;
    Ok(warnings)
}
