//! `GET /live`, `/ready` and `/metrics`, on a listener of their own that no portal reaches.
//!
//! Live looks at nothing but the process itself: a broker that is away must not make a supervisor
//! kill us. Ready answers 503 with everything that is wrong, by name, in JSON. The limits are fixed: whoever asks here is
//! known, and mistakes are all that they guard against.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{IntGauge, Registry};
use tokio::net::TcpListener;

use crate::broker::{Broker, BrokerStatus};
use crate::lifecycle::{Health, Stop};
use crate::metrics;
use crate::server::{self, Limits, ServerMetrics, TrustedProxies, Waits};

/// Prometheus asks by one connection that it keeps, a supervisor by a new one each time, and now and then a person does.
const CONNECTIONS: usize = 128;
const CONNECTIONS_PER_CLIENT: usize = 32;
/// Longer than is usual between two questions of Prometheus (15 s), so that its connection stays.
const WAITS: Waits =
    Waits { first_byte: Duration::from_secs(5), head: Duration::from_secs(5), idle: Duration::from_secs(30) };

#[derive(Clone)]
struct Admin {
    health: Health,
    registry: Registry,
    ready_gauge: IntGauge,
    broker: Arc<dyn Broker>,
}

/// Serves until told to stop.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    ready_gauge: IntGauge,
    health: Health,
    broker: Arc<dyn Broker>,
    server: ServerMetrics,
    stop: Stop,
) {
    let app = Router::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(render))
        .with_state(Admin { health, registry, ready_gauge, broker });
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
}

async fn ready(State(admin): State<Admin>) -> Response {
    let failures = admin.failures();
    let status = if failures.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "ready": failures.is_empty(), "failures": failures });
    (status, axum::Json(body)).into_response()
}

async fn render(State(admin): State<Admin>) -> Response {
    admin.ready_gauge.set(admin.failures().is_empty().into());
    match metrics::render(&admin.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Asks a running process whether it is ready: the health check of a container without a shell.
///
/// # Errors
/// With what is wrong.
pub fn check(admin: SocketAddr) -> anyhow::Result<()> {
    let timeout = Duration::from_secs(3);
    let address =
        if admin.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], admin.port())) } else { admin };
    let mut stream = TcpStream::connect_timeout(&address, timeout)
        .with_context(|| format!("nothing listens on {address}"))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("{address} did not answer"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    anyhow::ensure!(head.split(' ').nth(1) == Some("200"), "{address} is not ready: {body}");
    Ok(())
}
