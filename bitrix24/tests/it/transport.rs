//! Real requests to a small server on this computer.

use std::io::Write as _;
use std::time::Duration;

use bitrix24::moves::Verdict;
use bitrix24::size::{ANSWER_BYTES, Excess, LARGE_ANSWER_BYTES, SMALL_BODY_BYTES};
use bitrix24::transport::{Answer, TransportError};
use bitrix24::{HttpSettings, HttpTransport, Transport};
use common::failure::chain;
use flate2::Compression;
use flate2::write::GzEncoder;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const SECRET: &str = "s3cretpart";

/// What takes longer hangs, however busy the machine is.
const HANG: Duration = Duration::from_mins(5);

/// Takes one connection, reads one request, answers with `answer` and closes.
async fn serve(answer: Vec<u8>) -> (HttpTransport, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        // The client may close first when the answer is too long.
        drop(stream.write_all(&answer).await);
        drop(stream.shutdown().await);
        request
    });
    (transport(port, HANG), server)
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return String::from_utf8(request).unwrap();
            }
        }
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the request is complete");
        request.extend_from_slice(&chunk[..read]);
    }
}

fn transport(port: u16, timeout: Duration) -> HttpTransport {
    let url = SecretString::from(format!("http://127.0.0.1:{port}/rest/1/{SECRET}/"));
    HttpTransport::new(&url, HttpSettings { timeout, connect_timeout: HANG, allow_http: false }).unwrap()
}

async fn send(transport: &HttpTransport, method: &str, body: &Value) -> Result<Answer, TransportError> {
    transport.send(&transport.configured(), method, body).await
}

fn http(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn assert_no_secret(error: &TransportError) {
    let text = format!("{} {error:?}", chain(error));
    assert!(!text.contains(SECRET), "{text}");
}

#[tokio::test]
async fn a_request_is_json_by_post() {
    let (transport, server) = serve(http("200 OK", "{\"result\":true}")).await;
    let answer = send(&transport, "crm.lead.get", &json!({"id": 42})).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"{\"result\":true}".as_slice()));
    let request = server.await.unwrap();
    assert!(request.starts_with(&format!("POST /rest/1/{SECRET}/crm.lead.get HTTP/1.1\r\n")), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"id\":42}"), "{request}");
    let lower = request.to_lowercase();
    for header in [
        "content-type: application/json",
        "accept: application/json",
        "accept-encoding: gzip",
        concat!("user-agent: rota/", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(lower.contains(header), "{header} in {request}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (transport, server) =
        serve(http("302 Found\r\nLocation: https://new.bitrix24.test/rest/1/x/", "moved")).await;
    let answer = send(&transport, "server.time", &json!({})).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (302, 0));
    assert_eq!(answer.verdict, Verdict::Elsewhere("new.bitrix24.test".to_owned()));
    server.await.unwrap();
}

#[tokio::test]
async fn no_connection_is_surely_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = send(&transport(port, HANG), "server.time", &json!({})).await.unwrap_err();
    assert!(matches!(error, TransportError::NotSent(_)), "{error:?}");
    assert_no_secret(&error);
}

#[tokio::test]
async fn a_lost_answer_may_have_run() {
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"result\":".to_vec();
    for answer in [Vec::new(), cut] {
        let (transport, server) = serve(answer).await;
        let error = send(&transport, "crm.lead.update", &json!({"id": 42})).await.unwrap_err();
        assert!(matches!(error, TransportError::Ambiguous(_)), "{error:?}");
        assert_no_secret(&error);
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_timeout_may_have_run() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Long enough for the connection to stand.
    let error = send(&transport(port, Duration::from_secs(2)), "batch", &json!({})).await.unwrap_err();
    assert!(matches!(error, TransportError::Ambiguous(_)), "{error:?}");
    assert_no_secret(&error);
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    for (method, bytes) in [("crm.lead.list", LARGE_ANSWER_BYTES), ("crm.lead.get", ANSWER_BYTES)] {
        let (transport, server) = serve(http("200 OK", &"x".repeat(bytes + 1))).await;
        let error = send(&transport, method, &json!({})).await.unwrap_err();
        assert!(
            matches!(error, TransportError::Excessive(Excess::Bytes(limit)) if limit == bytes),
            "{error:?}"
        );
        assert!(chain(&error).contains("longer than"), "{}", chain(&error));
        server.await.unwrap();
    }
}

#[tokio::test]
async fn what_is_packed_is_unpacked_and_a_few_bytes_do_not_become_many() {
    let (transport, server) = serve(packed(b"{\"result\":true}")).await;
    assert_eq!(send(&transport, "server.time", &json!({})).await.unwrap().body, b"{\"result\":true}");
    server.await.unwrap();

    let (transport, server) = serve(packed(&vec![b' '; LARGE_ANSWER_BYTES])).await;
    let error = send(&transport, "batch", &json!({})).await.unwrap_err();
    assert!(matches!(error, TransportError::Excessive(Excess::Ratio)), "{error:?}");
    server.await.unwrap();

    // Packed answers that break off are lost, whatever was in them.
    let mut broken = packed(b"{\"result\":true}");
    broken.truncate(broken.len() - 4);
    let (transport, server) = serve(broken).await;
    let error = send(&transport, "crm.lead.update", &json!({})).await.unwrap_err();
    assert!(matches!(error, TransportError::Ambiguous(_)), "{error:?}");
    server.await.unwrap();
}

#[tokio::test]
async fn a_portal_holds_one_large_body_at_a_time_and_small_ones_besides() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let transport = transport(listener.local_addr().unwrap().port(), HANG);
    let server = tokio::spawn(async move {
        for bytes in [SMALL_BODY_BYTES + 1, SMALL_BODY_BYTES, SMALL_BODY_BYTES + 1] {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(&http("200 OK", &"x".repeat(bytes))).await.unwrap();
        }
    });
    let ask = async || send(&transport, "batch", &json!({})).await.unwrap();
    let first = ask().await;
    assert!(first.place.is_some());
    assert!(ask().await.place.is_none(), "a small one waits for nothing");
    let second = tokio::join!(ask(), async {
        // The answer is here, and is not read to its end before the first one is gone.
        server.await.unwrap();
        drop(first);
    });
    assert!(second.0.place.is_some());
}

/// An answer packed by gzip, until the connection ends.
fn packed(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    let head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n";
    [head.to_vec(), encoder.finish().unwrap()].concat()
}
