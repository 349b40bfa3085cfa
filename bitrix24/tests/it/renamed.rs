//! A portal that was renamed: its old address points to the new one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bitrix24::{HttpSettings, HttpTransport, Portal, PortalMetrics};
use common::address::{AddressError, PortalAddresses};
use common::failure::{Failure, FailureClass};
use common::ids::PortalName;
use prometheus::Registry;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::fake::{Bench, acme, limiter};

/// Remembers one host.
#[derive(Default)]
struct Addresses(Mutex<Option<String>>);

#[async_trait]
impl PortalAddresses for Addresses {
    async fn moved_to(&self, _: &PortalName, configured: &str) -> Result<Option<String>, AddressError> {
        assert!(configured.starts_with("127.0.0.1:"), "{configured}");
        Ok(self.0.lock().unwrap().clone())
    }

    async fn moved(&self, _: &PortalName, _: &str, host: &str) -> Result<(), AddressError> {
        *self.0.lock().unwrap() = Some(host.to_owned());
        Ok(())
    }
}

/// A server that answers each connection with `answer`, and counts them.
async fn answering(answer: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 4096];
            drop(stream.read(&mut request).await);
            drop(stream.write_all(answer.as_bytes()).await);
            drop(stream.shutdown().await);
        }
    });
    (host, count)
}

fn http(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// A client of the portal at `host`.
fn client(host: &str, addresses: &Arc<Addresses>) -> Bench {
    let wait = Duration::from_secs(10);
    let settings = HttpSettings { timeout: wait, connect_timeout: wait, allow_http: false };
    let url = format!("http://{host}/rest/1/s3cret/").into();
    let transport = Arc::new(HttpTransport::new(&url, settings).unwrap());
    let registry = Registry::new();
    let metrics = Arc::new(PortalMetrics::new(&registry).unwrap());
    let portal = Portal::new(acme(), transport, Arc::new(limiter(None)), metrics);
    Bench { portal: portal.remembering(addresses.clone()), registry }
}

#[tokio::test]
async fn a_renamed_portal_is_followed_once_and_remembered() {
    let time = json!({ "result": "2026-05-21T12:00:12+03:00" }).to_string();
    let (new, asked_at_new) = answering(http("200 OK", &time)).await;
    let moved = format!("302 Found\r\nLocation: http://{new}/rest/1/s3cret/server.time");
    let (old, asked_at_old) = answering(http(&moved, "<html>moved</html>")).await;
    let addresses = Arc::new(Addresses::default());
    let asked = || [&asked_at_old, &asked_at_new].map(|count| count.load(Ordering::SeqCst));
    let bench = client(&old, &addresses);
    for _ in 0..2 {
        bench.portal.server_time().await.unwrap();
    }
    assert_eq!(asked(), [1, 2]);
    assert_eq!(bench.metric("rota_portal_renames_total"), "1");
    // A process that starts later does not ask at the old address any more.
    client(&old, &addresses).portal.server_time().await.unwrap();
    assert_eq!(asked(), [1, 3]);
}

#[tokio::test]
async fn an_address_of_another_kind_is_not_followed() {
    let (old, asked) =
        answering(http("302 Found\r\nLocation: https://evil.test/rest/1/s3cret/server.time", "")).await;
    let portal = client(&old, &Arc::default()).portal;
    let error = portal.server_time().await.unwrap_err();
    assert!(error.to_string().contains("evil.test"), "{error}");
    assert_eq!(error.class(), FailureClass::Blocked);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the secret goes nowhere else");
}
