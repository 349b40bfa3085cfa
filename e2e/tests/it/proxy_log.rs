//! The log of the proxy keeps what the addresses and heads of requests hold to itself, whatever goes wrong.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use e2e::HANG;
use e2e::hostile::{SECRETS, broken_with_secrets, head_with_secrets};
use e2e::services::{Caddy, ScratchDir};

/// What the proxy answers, from the status on.
fn ask(proxy: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.strip_prefix("HTTP/1.1 ").unwrap_or(&answer).to_owned()
}

/// What the proxy says when it answered `status` by itself. It is written a moment after the answer.
fn complaint(proxy: &Caddy, status: u16) -> String {
    let end = Instant::now() + HANG;
    loop {
        let log = proxy.log_text();
        if log.contains("\"logger\":\"http.log.error") && log.contains(&format!("\"status\":{status}")) {
            return log;
        }
        assert!(Instant::now() < end, "the proxy said nothing of {status}:\n{log}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn assert_keeps_secrets(log: &str) {
    for secret in SECRETS {
        assert!(!log.contains(secret), "the log of the proxy has {secret}:\n{log}");
    }
    assert!(log.contains("\"remote_"), "who asked is what an operator looks for:\n{log}");
}

#[test]
fn an_ingest_that_is_gone_makes_the_proxy_tell_no_secret() {
    let dir = ScratchDir::new().unwrap();
    // Nobody listens any more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let proxy = Caddy::start(dir.path(), gone).unwrap();
    let answer = ask(proxy.address(), &head_with_secrets("acme", "content-length: 0"));
    assert!(answer.starts_with("502 "), "{answer}");
    assert_keeps_secrets(&complaint(&proxy, 502));
}

#[test]
fn a_broken_body_makes_the_proxy_tell_no_secret() {
    let dir = ScratchDir::new().unwrap();
    let ingest = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = ingest.local_addr().unwrap().port();
    // It reads all that comes and never answers.
    thread::spawn(move || {
        for mut stream in ingest.incoming().flatten() {
            thread::spawn(move || stream.read_to_end(&mut Vec::new()));
        }
    });
    let proxy = Caddy::start(dir.path(), port).unwrap();
    let answer = ask(proxy.address(), &broken_with_secrets("acme"));
    assert!(answer.starts_with("502 "), "{answer}");
    assert_keeps_secrets(&complaint(&proxy, 502));
}
