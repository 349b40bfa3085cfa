//! What clients who mean no good send to where portals post to. None of it may be felt by anybody else.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

/// Longer than any body that is taken, by ingest or by the proxy before it.
const OVER_LONG: usize = 100_000;

/// How often each of the bodies is sent.
const BODIES_EVERY: Duration = Duration::from_millis(100);

/// Connections with unfinished requests that are kept open. One client may have no more than 64 through the proxy.
const KEPT: usize = 40;

/// The start of a request, without the empty line behind its head.
#[must_use]
pub fn half_head(portal: &str) -> String {
    let form = "content-type: application/x-www-form-urlencoded";
    format!("POST /bitrix24/{portal}/events HTTP/1.1\r\nhost: x\r\n{form}\r\n")
}

/// A request with half of its body.
#[must_use]
pub fn half_body(portal: &str) -> String {
    half_head(portal) + "content-length: 600\r\n\r\nevent="
}

/// A request whose body has a part without a length.
fn broken_chunk(portal: &str) -> String {
    half_head(portal) + "transfer-encoding: chunked\r\n\r\n5\r\nevent\r\nzz\r\n"
}

/// What the next request holds that no log may have: a key in its address, a cookie and a word of authorization.
pub const SECRETS: [&str; 3] = ["key-in-the-address", "cookie-of-somebody", "word-of-authorization"];

/// The start of a request with all of [`SECRETS`], up to its body; `more` are further lines of its head.
#[must_use]
pub fn head_with_secrets(portal: &str, more: &str) -> String {
    let [key, cookie, word] = SECRETS;
    format!(
        "POST /bitrix24/{portal}/events?key={key} HTTP/1.1\r\nhost: 127.0.0.1\r\ncookie: session={cookie}\r\n\
         authorization: Bearer {word}\r\nconnection: close\r\n{more}\r\n\r\n"
    )
}

/// A request with all of [`SECRETS`] whose body has a part without a length: a proxy answers it by an error of its own.
#[must_use]
pub fn broken_with_secrets(portal: &str) -> String {
    head_with_secrets(portal, "transfer-encoding: chunked") + "5\r\nevent\r\nzz\r\n"
}

/// A request with a body that is too long.
fn over_long(portal: &str) -> String {
    half_head(portal) + &format!("content-length: {OVER_LONG}\r\n\r\n{}", "x".repeat(OVER_LONG))
}

/// A connection from one of this machine's addresses, on which this was sent. Whoever listens may have closed it meanwhile.
///
/// # Errors
/// When nobody listens.
pub async fn say(from: Ipv4Addr, to: SocketAddr, words: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect(to).await?;
    stream.write_all(words.as_bytes()).await.ok();
    Ok(stream)
}

/// Sends broken, over-long and half bodies again and again, without an end.
///
/// # Errors
/// When nobody listens.
pub async fn send_bodies(to: SocketAddr, portal: &str) -> std::io::Result<()> {
    let bodies = [broken_chunk(portal), over_long(portal), half_body(portal)];
    let mut kept = VecDeque::new();
    loop {
        for body in &bodies {
            kept.push_back(say(Ipv4Addr::LOCALHOST, to, body).await?);
        }
        while kept.len() > KEPT {
            kept.pop_front();
        }
        tokio::time::sleep(BODIES_EVERY).await;
    }
}
