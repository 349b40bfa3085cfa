//! The HTTP server of every process: it waits for nobody for long, and lets nobody have all of it.
//!
//! It speaks HTTP/1.1 without encryption and nothing else. [`progress`] gives each connection a time for its first byte,
//! for the head of a request, and between requests; while a request is answered, whoever answers it keeps the time.
//! [`client`] says for whom a connection or a request counts, [`places`] how many there may be at once, and [`metrics`]
//! what became of those that were too many or too slow. Told to stop, it answers what it has in hand and takes nothing more.

mod client;
mod metrics;
mod places;
mod progress;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use self::client::client_of;
pub use self::client::{Client, TrustedProxies};
use self::metrics::{Open, Refused};
pub use self::metrics::{ServerMetrics, ServersMetrics};
use self::places::{Place, Places};
pub use self::progress::Waits;
use self::progress::{Observed, Progress};
use crate::config::Http;
use crate::descriptors;
use crate::lifecycle::Stop;

/// The longest head of a request, and the largest part of a body that is read at a time, in bytes. A portal's event has a
/// head of some 300 bytes, to which proxies add theirs. Beyond it the answer is 431.
const HEAD_MAX: usize = 16 * 1024;

/// How long nothing is accepted after accepting failed for want of something, such as descriptors: long enough not to keep
/// a processor busy, short for whoever waits.
const WANT_PAUSE: Duration = Duration::from_millis(100);

/// How often it is logged that connections cannot be accepted.
const COMPLAIN_EVERY: Duration = Duration::from_mins(1);

/// How much of a server there is, and how much of it one client may have.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Of these for one client; behind a trusted proxy, its requests at once.
    pub per_client: usize,
    /// Whom to believe for whom a request is.
    pub trusted_proxies: TrustedProxies,
    /// How long is waited for a client.
    pub waits: Waits,
}

impl From<&Http> for Limits {
    fn from(http: &Http) -> Self {
        let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            connections: number(http.connections),
            per_client: number(http.connections_per_client),
            trusted_proxies: TrustedProxies::new(http.trusted_proxies.clone()),
            waits: Waits {
                first_byte: http.first_byte_timeout,
                head: http.head_timeout,
                idle: http.idle_timeout,
            },
        }
    }
}

/// Serves until told to stop, and then until what is in hand is answered.
pub async fn serve(listener: TcpListener, app: Router, limits: Limits, metrics: ServerMetrics, stop: Stop) {
    let server = Arc::new(Server::new(app, limits, metrics));
    let mut connections = JoinSet::new();
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.requested() => break,
            Some(ended) = connections.join_next() => {
                tell_of_panic(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            // A connection that is not admitted is dropped here, which closes it.
            Ok((stream, peer)) => {
                if let Some(admitted) = server.admit(peer) {
                    connections.spawn(Arc::clone(&server).converse(stream, admitted, stop.clone()));
                }
            }
            Err(error) => {
                server.metrics.accept_failed();
                if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
                    complained = Some(Instant::now());
                    tracing::error!(event = "server.accept_failed", server = server.metrics.name(), %error);
                }
                if lacks_something(&error) {
                    tokio::select! {
                        () = stop.requested() => {}
                        () = tokio::time::sleep(WANT_PAUSE) => {}
                    }
                }
            }
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        tell_of_panic(ended);
    }
}

/// Whether accepting failed because this machine lacks something, and not because the connection was gone again.
fn lacks_something(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

fn tell_of_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(event = "server.panicked", %error);
    }
}

/// What all connections share.
struct Server {
    app: Router,
    metrics: ServerMetrics,
    trusted_proxies: TrustedProxies,
    waits: Waits,
    connections: Arc<Semaphore>,
    clients: Places<Client>,
}

/// A connection that may be served. It holds its places until it is dropped.
struct Admitted {
    /// The client, unless each request through the connection says for whom it is.
    client: Option<Client>,
    _of_all: OwnedSemaphorePermit,
    _of_client: Option<Place<Client>>,
    _open: Open,
}

impl Server {
    fn new(app: Router, limits: Limits, metrics: ServerMetrics) -> Self {
        let Limits { connections, per_client, trusted_proxies, waits } = limits;
        let possible = descriptors::for_connections().min(connections);
        if possible < connections {
            tracing::warn!(
                event = "server.fewer_connections",
                server = metrics.name(),
                configured = connections,
                possible,
                "this process may have no more descriptors",
            );
        }
        Self {
            app,
            metrics,
            trusted_proxies,
            waits,
            connections: Arc::new(Semaphore::new(possible)),
            clients: Places::new(per_client),
        }
    }

    /// A place for a connection, if there is one.
    fn admit(&self, peer: SocketAddr) -> Option<Admitted> {
        let peer = peer.ip().to_canonical();
        let Ok(of_all) = Arc::clone(&self.connections).try_acquire_owned() else {
            self.metrics.refused(Refused::All);
            return None;
        };
        let client = (!self.trusted_proxies.contains(peer)).then(|| Client::at(peer));
        let of_client = match client {
            Some(client) => Some(self.place_of(client)?),
            None => None,
        };
        let open = self.metrics.open();
        Some(Admitted { client, _of_all: of_all, _of_client: of_client, _open: open })
    }

    fn place_of(&self, client: Client) -> Option<Place<Client>> {
        let place = self.clients.take(client);
        if place.is_none() {
            self.metrics.refused(Refused::Client);
        }
        place
    }

    /// Serves one connection until it ends, or its client is too slow.
    async fn converse(self: Arc<Self>, stream: TcpStream, admitted: Admitted, stop: Stop) {
        let progress = Arc::new(Progress::new(self.waits));
        let service = service_fn(|request| {
            progress.request_came();
            let (server, progress) = (Arc::clone(&self), Arc::clone(&progress));
            async move {
                let response = server.answer(request, admitted.client).await;
                progress.answered();
                Ok::<_, Infallible>(response)
            }
        });
        let io = TokioIo::new(Observed::new(stream, Arc::clone(&progress)));
        // Its own timer would be one for the first byte, the head and the pause between requests alike.
        let connection = http1::Builder::new().max_buf_size(HEAD_MAX).serve_connection(io, service);
        let mut connection = pin!(connection);
        let mut asked_to_stop = pin!(stop.requested());
        let mut stopping = false;
        let mut alarm = pin!(tokio::time::sleep(Duration::ZERO));
        let too_slow = poll_fn(|context| {
            loop {
                if connection.as_mut().poll(context).is_ready() {
                    // Also when it failed: the client went away, or does not speak HTTP.
                    return Poll::Ready(None);
                }
                if stopping || asked_to_stop.as_mut().poll(context).is_pending() {
                    break;
                }
                // After a look at what has come, so that a request which is here is answered.
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            let Some((phase, deadline)) = progress.waits_for_client() else { return Poll::Pending };
            if alarm.deadline() != deadline {
                alarm.as_mut().reset(deadline);
            }
            alarm.as_mut().poll(context).map(|()| Some(phase))
        });
        if let Some(phase) = too_slow.await {
            self.metrics.too_slow(phase);
        }
    }

    /// The answer to a request. One that comes through a trusted proxy takes a place of its client's meanwhile. The app finds
    /// the client among the request's extensions, as an [`Option`].
    async fn answer(&self, mut request: Request<Incoming>, direct: Option<Client>) -> Response {
        let named = || client_of(request.headers(), &self.trusted_proxies).map(Client::at);
        let client = direct.or_else(named);
        let place = client.filter(|_| direct.is_none()).map(|client| self.place_of(client));
        if let Some(None) = place {
            return (StatusCode::SERVICE_UNAVAILABLE, "too many requests of this client at once\n")
                .into_response();
        }
        request.extensions_mut().insert(client);
        match TowerToHyperService::new(self.app.clone()).call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_descriptors_or_memory_is_waited_for_and_a_lost_connection_is_not() {
        // EMFILE, ENFILE, ENOMEM and ENOBUFS of Linux; then ECONNABORTED.
        for (code, lacks) in [(24, true), (23, true), (12, true), (105, true), (103, false)] {
            assert_eq!(lacks_something(&io::Error::from_raw_os_error(code)), lacks, "{code}");
        }
    }
}
