//! A portal that was renamed: its old address points to the new one. Real servers on this computer; the names of others
//! resolve to it too. What follows from whom over time is in `moved.rs`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitrix24::transport::TransportError;
use bitrix24::{HttpSettings, HttpTransport, Portal, PortalMetrics, Transport};
use common::failure::{Failure, FailureClass};
use prometheus::Registry;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::fake::{Addresses, Bench, acme, limiter};

const SECRET: &str = "s3cretpart";

/// What takes longer hangs, however busy the machine is.
const HANG: Duration = Duration::from_mins(5);

/// A server that answers each connection with the same, and keeps what it was sent.
struct Server {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn answering(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let read = stream.read(&mut request).await.unwrap_or_default();
                kept.lock().unwrap().push(String::from_utf8_lossy(&request[..read]).into_owned());
                drop(stream.write_all(answer.as_bytes()).await);
                drop(stream.shutdown().await);
            }
        });
        Self { address, sent }
    }

    /// How often it was asked.
    fn asked(&self) -> usize {
        self.sent.lock().unwrap().len()
    }
}

fn http(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn pointing(status: &str, location: &str) -> String {
    http(&format!("{status}\r\nLocation: {location}"), "<html>moved</html>")
}

fn a_time() -> String {
    http("200 OK", &json!({ "result": "2026-05-21T12:00:12+03:00" }).to_string())
}

/// All names are this computer's, at its port or at the one of the address that is asked.
struct Here(SocketAddr);

impl Resolve for Here {
    fn resolve(&self, _: Name) -> Resolving {
        let address = self.0;
        Box::pin(async move {
            let addresses: Addrs = Box::new([address].into_iter());
            Ok(addresses)
        })
    }
}

/// The webhook at `base`, as `http://portal.test:81`, where all names are the server's.
fn transport(base: &str, server: &Server) -> HttpTransport {
    let settings = HttpSettings { timeout: HANG, connect_timeout: HANG, allow_http: true };
    let url = format!("{base}/rest/1/{SECRET}/").into();
    HttpTransport::resolving(&url, settings, Arc::new(Here(server.address))).unwrap()
}

fn client(base: &str, server: &Server, addresses: &Arc<Addresses>) -> Bench {
    let registry = Registry::new();
    let metrics = Arc::new(PortalMetrics::new(&registry).unwrap());
    let transport = Arc::new(transport(base, server));
    let portal = Portal::new(acme(), transport, Arc::new(limiter(None)), metrics);
    Bench { portal: portal.remembering(addresses.clone()), registry }
}

#[tokio::test]
async fn a_renamed_portal_is_followed_once_and_remembered() {
    let new = Server::answering(a_time()).await;
    let location = format!("http://{}/rest/1/{SECRET}/server.time", new.address);
    let old = Server::answering(pointing("302 Found", &location)).await;
    let addresses = Arc::new(Addresses::default());
    let base = format!("http://{}", old.address);
    let bench = client(&base, &old, &addresses);
    for _ in 0..2 {
        bench.portal.server_time().await.unwrap();
    }
    assert_eq!((old.asked(), new.asked()), (1, 2));
    assert_eq!(bench.metric("rota_portal_renames_total"), "1");
    assert_eq!(bench.metric("rota_portal_moved{followed=\"yes\""), "1");
    // A process that starts later does not ask at the old address any more.
    let later = client(&base, &old, &addresses);
    later.portal.server_time().await.unwrap();
    assert_eq!((old.asked(), new.asked()), (1, 3));
    assert_eq!(later.metric("rota_portal_renames_total"), "0");
    assert_eq!(later.metric("rota_portal_moved{followed=\"yes\""), "1", "the configuration is still wrong");
}

#[tokio::test]
async fn a_new_address_that_does_not_work_is_not_remembered() {
    let too_fast = json!({ "error": "QUERY_LIMIT_EXCEEDED", "error_description": "Too many requests" });
    for answer in [
        http("404 Not Found", "<html>nobody</html>"),
        http("200 OK", "<html>buy this name</html>"),
        http("503 Service Unavailable", &too_fast.to_string()),
        http("401 Unauthorized", &json!({ "error": "NO_AUTH_FOUND" }).to_string()),
        String::new(),
    ] {
        let new = Server::answering(answer.clone()).await;
        let location = format!("http://{}/rest/1/{SECRET}/server.time", new.address);
        let old = Server::answering(pointing("301 Moved Permanently", &location)).await;
        let addresses = Arc::new(Addresses::default());
        let bench = client(&format!("http://{}", old.address), &old, &addresses);
        for _ in 0..2 {
            bench.portal.server_time().await.unwrap_err();
        }
        assert_eq!((old.asked(), new.asked()), (2, 2), "the old address is still the one: {answer}");
        assert_eq!(addresses.kept(), None, "{answer}");
        assert_eq!(bench.metric("rota_portal_renames_total"), "0", "{answer}");
        assert_eq!(bench.metric("rota_portal_moved{followed=\"yes\""), "0", "{answer}");
    }
}

#[tokio::test]
async fn a_redirect_elsewhere_gets_no_request_and_no_secret() {
    let evil = Server::answering(a_time()).await;
    let port = evil.address.port();
    for (base, status, location) in [
        // Of another kind: whatever the name, it would lead to the server that is evil.
        ("http://acme.co.uk", "302 Found", format!("http://evil.co.uk:{port}/rest/1/{SECRET}/server.time")),
        ("http://portal.company.test", "302 Found", format!("http://sso.company.test:{port}/login")),
        (
            "http://portal.company.test",
            "308 Permanent Redirect",
            format!("http://new.company.test:{port}/rest/1/{SECRET}/server.time"),
        ),
        ("http://127.0.0.1", "302 Found", format!("http://evil.test:{port}/rest/1/{SECRET}/server.time")),
        // No move, though of the same kind.
        (
            "http://127.0.0.1",
            "302 Found",
            format!("http://127.0.0.1:{port}/login?back=/rest/1/{SECRET}/server.time"),
        ),
        ("http://127.0.0.1", "302 Found", format!("http://127.0.0.1:{port}/rest/1/{SECRET}/server.time?x=1")),
        ("http://127.0.0.1", "303 See Other", format!("http://127.0.0.1:{port}/rest/1/{SECRET}/server.time")),
    ] {
        let old = Server::answering(pointing(status, &location)).await;
        let addresses = Arc::new(Addresses::default());
        let bench = client(&format!("{base}:{}", old.address.port()), &old, &addresses);
        let error = bench.portal.server_time().await.unwrap_err();
        let host = location.split('/').nth(2).unwrap();
        assert!(error.to_string().contains(&format!("points to {host},")), "{error}");
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
        assert_eq!(error.class(), FailureClass::Blocked, "it waits for a person");
        assert_eq!(old.asked(), 1);
        assert_eq!(bench.metric("rota_portal_moved{followed=\"no\""), "1");
        assert_eq!(addresses.kept(), None);
    }
    let sent = evil.sent.lock().unwrap().join("\n");
    assert!(sent.is_empty() && !sent.contains(SECRET), "{sent}");
}

#[tokio::test]
async fn what_was_remembered_under_another_rule_is_not_used() {
    let evil = Server::answering(a_time()).await;
    let old = Server::answering(a_time()).await;
    let addresses = Arc::new(Addresses::keeping(&format!("evil.co.uk:{}", evil.address.port())));
    let bench = client(&format!("http://acme.co.uk:{}", old.address.port()), &old, &addresses);
    bench.portal.server_time().await.unwrap();
    assert_eq!((old.asked(), evil.asked()), (1, 0));
    assert_eq!(bench.metric("rota_portal_moved{followed=\"yes\""), "0");
}

#[tokio::test]
async fn a_moved_name_that_is_not_on_the_internet_gets_no_connection() {
    let private = Server::answering(a_time()).await;
    // The names are of https without a port, so the resolver's port counts.
    let transport = transport("https://acme.bitrix24.com", &private);
    let error = transport.send("acme2.bitrix24.com", "server.time", &json!({})).await.unwrap_err();
    assert!(
        matches!(&error, TransportError::OutOfReach { name, address }
            if name == "acme2.bitrix24.com" && address.is_loopback()),
        "{error:?}"
    );
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
    assert_eq!(private.asked(), 0);
    let error = transport.send("evil.test", "server.time", &json!({})).await.unwrap_err();
    assert!(matches!(&error, TransportError::NotSent(_)), "{error:?}");
    assert_eq!(private.asked(), 0);
    // The name of the configuration may be in the company's own network: a connection is made, though not by TLS here.
    transport.send("acme.bitrix24.com", "server.time", &json!({})).await.unwrap_err();
    assert_eq!(private.asked(), 1);
    assert!(!private.sent.lock().unwrap()[0].contains(SECRET));
}
