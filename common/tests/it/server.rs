//! The HTTP server, called by clients who mean no good beside clients who do. Who shall not run into a deadline has hours.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::routing::{get, post};
use common::descriptors;
use common::lifecycle::Stop;
use common::metrics::render;
use common::server::{self, Limits, ServersMetrics, TrustedProxies, Waits};
use prometheus::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinHandle, JoinSet};

use crate::ground::{SOON, wait_for};

const HOURS: Duration = Duration::from_hours(3);
const AT_ONCE: Duration = Duration::from_millis(50);
const PATIENT: Waits = Waits { first_byte: HOURS, head: HOURS, idle: HOURS };
/// Addresses of this machine; Linux takes all of 127.0.0.0/8 for its own.
const STRANGER: Ipv4Addr = Ipv4Addr::LOCALHOST;
const PORTAL: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const GOOD: &str = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 4\r\n\r\ngood";
const HALF_HEAD: &str = "POST / HTTP/1.1\r\nhost: x\r\nx-slow";
const HALF_BODY: &str = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\ngo";

/// A server with three handlers: one reads the body, one waits until it may go on, one answers much.
struct Served {
    address: SocketAddr,
    registry: Registry,
    stop: Stop,
    task: JoinHandle<()>,
    gate: Arc<Gate>,
}

/// Where a request waits in its handler.
struct Gate {
    entered: Notify,
    open: Semaphore,
}

fn limits(connections: usize, per_client: usize, waits: Waits) -> Limits {
    Limits { connections, per_client, trusted_proxies: TrustedProxies::default(), waits }
}

async fn start(limits: Limits) -> Served {
    descriptors::raise();
    let gate = Arc::new(Gate { entered: Notify::new(), open: Semaphore::new(0) });
    let waiting = async |State(gate): State<Arc<Gate>>| {
        gate.entered.notify_one();
        gate.open.acquire().await.unwrap().forget();
        "waited"
    };
    let reading = async |State(gate): State<Arc<Gate>>, body: Body| {
        gate.entered.notify_one();
        format!("read {}", to_bytes(body, 4096).await.unwrap().len())
    };
    let app = Router::new()
        .route("/", post(reading))
        .route("/gate", get(waiting))
        .route("/large", get(async || vec![b'x'; 64 * 1024 * 1024]))
        .with_state(Arc::clone(&gate));
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let address = SocketAddr::from((STRANGER, listener.local_addr().unwrap().port()));
    let (registry, stop) = (Registry::new(), Stop::default());
    let metrics = ServersMetrics::register(&registry).unwrap().of("events");
    let task = tokio::spawn(server::serve(listener, app, limits, metrics, stop.clone()));
    Served { address, registry, stop, task, gate }
}

impl Served {
    async fn connect(&self, from: Ipv4Addr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn say(&self, from: Ipv4Addr, words: &str) -> TcpStream {
        let mut stream = self.connect(from).await;
        // A refusal may come before this is sent.
        stream.write_all(words.as_bytes()).await.ok();
        stream
    }

    async fn ask(&self, from: Ipv4Addr, words: &str) -> String {
        rest(&mut self.say(from, words).await).await
    }

    /// The value of a series of a server's metrics.
    fn count(&self, series: &str) -> u64 {
        let text = render(&self.registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).trim().parse().unwrap()
    }

    async fn wait_until(&self, series: &str, count: u64) {
        wait_for(&format!("{series} is {count}"), async || self.count(series) == count).await;
    }
}

const OPEN: &str = "rota_http_connections{server=\"events\"}";
const OVER_CLIENT: &str = "rota_http_refused_total{limit=\"client\",server=\"events\"}";
const OVER_ALL: &str = "rota_http_refused_total{limit=\"all\",server=\"events\"}";

fn too_slow(waited_for: &str) -> String {
    format!("rota_http_too_slow_total{{server=\"events\",waited_for=\"{waited_for}\"}}")
}

/// What comes until the server closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes));
    // A connection that is closed with something unread is reset.
    reading.await.expect("the server closes the connection").ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What comes until the answer is complete, on a connection that stays.
async fn answer(stream: &mut TcpStream, ends_with: &str) -> String {
    let mut answer = String::new();
    while !answer.ends_with(ends_with) {
        let mut part = [0; 1024];
        let read = tokio::time::timeout(SOON, stream.read(&mut part)).await.expect("an answer").unwrap();
        assert!(read > 0, "the connection was closed after {answer:?}");
        answer += &String::from_utf8_lossy(&part[..read]);
    }
    answer
}

#[tokio::test]
async fn beside_many_hostile_connections_of_one_client_all_good_requests_are_answered() {
    let served = start(limits(100, 60, PATIENT)).await;
    let mut hostile = Vec::new();
    for _ in 0..100 {
        for words in ["", HALF_HEAD, HALF_BODY] {
            hostile.push(served.say(STRANGER, words).await);
        }
    }
    served.wait_until(OVER_CLIENT, 240).await;
    let served = Arc::new(served);
    for _ in 0..10 {
        let mut good = JoinSet::new();
        for _ in 0..20 {
            let served = Arc::clone(&served);
            good.spawn(async move { served.ask(PORTAL, GOOD).await });
        }
        for answered in good.join_all().await {
            assert!(answered.starts_with("HTTP/1.1 200 ") && answered.ends_with("read 4"), "{answered}");
        }
    }
    served.wait_until(OPEN, 60).await;
    assert_eq!((served.count(OVER_CLIENT), served.count(OVER_ALL)), (240, 0));
    assert_eq!(served.ask(STRANGER, GOOD).await, "", "a place is free for nobody of this address");

    drop(hostile);
    served.wait_until(OPEN, 0).await;
    assert!(served.ask(STRANGER, GOOD).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn more_connections_than_there_may_be_are_closed_whoever_makes_them() {
    let served = start(limits(3, 2, PATIENT)).await;
    let first = [served.connect(STRANGER).await, served.connect(STRANGER).await];
    let second = served.connect(PORTAL).await;
    served.wait_until(OPEN, 3).await;
    assert_eq!(served.ask(PORTAL, GOOD).await, "");
    assert_eq!((served.count(OVER_ALL), served.count(OVER_CLIENT)), (1, 0));
    drop(first);
    served.wait_until(OPEN, 1).await;
    assert!(served.ask(PORTAL, GOOD).await.starts_with("HTTP/1.1 200 "));
    drop(second);
}

#[tokio::test]
async fn who_sends_nothing_or_half_a_head_or_leaves_its_connection_idle_is_closed() {
    for (waits, words, phase, gets) in [
        (Waits { first_byte: AT_ONCE, ..PATIENT }, "", "first_byte", ""),
        (Waits { head: AT_ONCE, ..PATIENT }, HALF_HEAD, "head", ""),
        (Waits { idle: AT_ONCE, ..PATIENT }, "GET / HTTP/1.1\r\nhost: x\r\n\r\n", "idle", "HTTP/1.1 405 "),
        // An answer that nobody reads.
        (
            Waits { idle: AT_ONCE, ..PATIENT },
            "GET /large HTTP/1.1\r\nhost: x\r\n\r\n",
            "idle",
            "HTTP/1.1 200 ",
        ),
    ] {
        let served = start(limits(10, 10, waits)).await;
        let mut slow = served.say(STRANGER, words).await;
        served.wait_until(&too_slow(phase), 1).await;
        served.wait_until(OPEN, 0).await;
        let got = rest(&mut slow).await;
        assert!(got.starts_with(gets) && (gets.is_empty() == got.is_empty()), "{phase}: {got}");
    }
}

#[tokio::test]
async fn a_byte_now_and_then_keeps_no_connection() {
    let served = start(limits(10, 10, Waits { head: Duration::from_secs(1), ..PATIENT })).await;
    let mut slow = served.say(STRANGER, HALF_HEAD).await;
    let trickle = async {
        while slow.write_all(b"x").await.is_ok() {
            tokio::time::sleep(AT_ONCE).await;
        }
    };
    tokio::time::timeout(SOON, trickle).await.expect("the connection is closed");
    assert_eq!(served.count(&too_slow("head")), 1);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_http_2_is_not_spoken() {
    let served = start(limits(10, 10, PATIENT)).await;
    let large = |bytes: usize| {
        format!("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-large: {}\r\n\r\n", "y".repeat(bytes))
    };
    assert!(served.ask(STRANGER, &large(12 * 1024)).await.starts_with("HTTP/1.1 200 "));
    // The server need not read all of it, so the answer may be lost with the connection.
    let refused = served.ask(STRANGER, &large(400 * 1024)).await;
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 431 "), "{refused}");
    let endless = served.ask(STRANGER, large(400 * 1024).trim_end()).await;
    assert!(endless.is_empty() || endless.starts_with("HTTP/1.1 431 "), "{endless}");
    // Exactly as much as is read at once, so that nothing is left unread.
    let mut full = large(0).trim_end().to_owned();
    full.extend(std::iter::repeat_n('y', 16 * 1024 - full.len()));
    let told = served.ask(STRANGER, &full).await;
    assert!(told.starts_with("HTTP/1.1 431 "), "{told}");

    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answered = served.ask(STRANGER, preface).await;
    assert!(answered.is_empty() || answered.starts_with("HTTP/1.1 4"), "{answered:?}");
    served.wait_until(OPEN, 0).await;
}

#[tokio::test]
async fn through_a_trusted_proxy_clients_are_told_apart() {
    let proxy = Ipv4Addr::new(127, 0, 0, 3);
    let trusted_proxies = TrustedProxies::new(vec!["127.0.0.3/32".parse().unwrap()]);
    let served = start(Limits { trusted_proxies, ..limits(100, 5, PATIENT) }).await;
    let of =
        |client: &str, words: &str| words.replacen("\r\n", &format!("\r\nx-forwarded-for: {client}\r\n"), 1);
    let mut hostile = Vec::new();
    for number in 0..5 {
        // What the client itself wrote before the proxy's word makes no difference.
        let forged = format!("198.51.100.{number}, 203.0.113.1");
        hostile.push(served.say(proxy, &of(&forged, "GET /gate HTTP/1.1\r\nhost: x\r\n\r\n")).await);
        served.gate.entered.notified().await;
    }
    let answered = served.ask(proxy, &of("203.0.113.1", GOOD)).await;
    assert!(answered.starts_with("HTTP/1.1 503 "), "{answered}");
    assert_eq!(served.count(OVER_CLIENT), 1);
    for client in ["203.0.113.2", "2001:db8::1", "unknown"] {
        let answered = served.ask(proxy, &of(client, GOOD)).await;
        assert!(answered.starts_with("HTTP/1.1 200 "), "{client}: {answered}");
    }
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(served.connect(proxy).await);
    }
    served.wait_until(OPEN, 25).await;
    assert!(
        served.ask(proxy, GOOD).await.starts_with("HTTP/1.1 200 "),
        "a proxy's connections are not limited"
    );
    // Nobody else is believed.
    let mut own = Vec::new();
    for _ in 0..5 {
        own.push(served.connect(STRANGER).await);
    }
    served.wait_until(OPEN, 30).await;
    assert_eq!(served.ask(STRANGER, &of("203.0.113.9", GOOD)).await, "");

    served.gate.open.add_permits(5);
    for stream in &mut hostile {
        assert!(answer(stream, "waited").await.starts_with("HTTP/1.1 200 "));
    }
    let answered = served.ask(proxy, &of("203.0.113.1", GOOD)).await;
    assert!(answered.starts_with("HTTP/1.1 200 "), "what was answered takes no place: {answered}");
    drop((silent, own));
}

#[tokio::test]
async fn told_to_stop_it_answers_what_it_has_in_hand_and_leaves_the_rest() {
    let served = start(limits(10, 10, PATIENT)).await;
    let mut silent = served.connect(STRANGER).await;
    let mut idle = served.say(STRANGER, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    answer(&mut idle, "\r\n\r\n").await;
    let mut in_hand = served.say(STRANGER, "GET /gate HTTP/1.1\r\nhost: x\r\n\r\n").await;
    served.gate.entered.notified().await;
    let mut half = served.say(STRANGER, HALF_BODY).await;
    served.gate.entered.notified().await;
    served.wait_until(OPEN, 4).await;

    served.stop.request();
    assert_eq!((rest(&mut silent).await, rest(&mut idle).await), (String::new(), String::new()));
    served.wait_until(OPEN, 2).await;
    assert!(!served.task.is_finished());
    assert!(TcpStream::connect(served.address).await.is_err(), "nothing new is taken");
    half.write_all(b"od").await.unwrap();
    assert!(rest(&mut half).await.ends_with("read 4"));
    served.gate.open.add_permits(1);
    let answered = rest(&mut in_hand).await;
    assert!(answered.starts_with("HTTP/1.1 200 ") && answered.ends_with("waited"), "{answered}");
    tokio::time::timeout(SOON, served.task).await.expect("it ends").unwrap();
}
