//! What ingest spends on requests that prove nothing, and how long good events wait beside hostile connections.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use common::descriptors;

use crate::harness::{MEMBER_ID, PORTAL, Pipeline, TOKEN};
use crate::hostile::{half_body, half_head, say};
use crate::portal::{client, send};

/// Requests of each shape.
const FORGED: usize = 2_000;

/// From so many addresses of this machine, so many connections each.
const HOSTILE: (u8, usize) = (8, 250);

/// Good events, one after the other.
const GOOD: u32 = 500;

/// What a stranger may send, by name: content type and body, each near the longest that is taken.
fn shapes() -> Vec<(&'static str, &'static str, String)> {
    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/json";
    let numbered = |count: usize, one: &dyn Fn(usize) -> String, between: &str| {
        (0..count).map(one).collect::<Vec<_>>().join(between)
    };
    let members = numbered(1_200, &|n| format!(r#""key{n}":0"#), ",");
    vec![
        ("a short form", FORM, "event=ONCRMLEADADD&auth[application_token]=x".to_owned()),
        ("64 pairs", FORM, numbered(64, &|n| format!("data[FIELDS][{n}]={}", "x".repeat(200)), "&")),
        ("percent signs", FORM, format!("a={}", "%41".repeat(5_000))),
        ("one key 1,200 times", JSON, format!("{{{}}}", numbered(1_200, &|_| r#""a":0"#.to_owned(), ","))),
        ("1,200 keys", JSON, format!("{{{members}}}")),
        ("64 keys and a long text", JSON, {
            let members = numbered(63, &|n| format!(r#""key{n}":0"#), ",");
            format!(r#"{{{members},"a":"{}"}}"#, "x".repeat(14_000))
        }),
        ("escapes", JSON, format!(r#"{{"a":"{}"}}"#, r"\u0041".repeat(2_500))),
        ("nested lists", JSON, format!("{}{}", "[".repeat(7_000), "]".repeat(7_000))),
    ]
}

/// The processor's time that ingest takes for a request of each shape, in microseconds, with HTTP and the answer.
///
/// # Errors
/// When a request is not answered, or is answered 200.
pub async fn forged(pipeline: &Pipeline) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let client = client()?;
    let process = pipeline.process_id("ingest")?;
    let mut costs = Vec::new();
    for (name, kind, body) in shapes() {
        ensure!(body.len() <= 16 * 1024, "{name} has {} bytes", body.len());
        let once = async || {
            let request = client.post(&pipeline.events_url).header("content-type", kind);
            send(request.body(body.clone())).await
        };
        // The connection is made before.
        once().await?;
        let before = on_processor(process)?;
        for _ in 0..FORGED {
            let (status, _) = once().await?;
            ensure!(matches!(status, 400 | 403 | 429), "{name} is answered {status}");
        }
        let spent = on_processor(process)?.saturating_sub(before);
        costs.push((name, spent.as_secs_f64() * 1e6 / f64::from(u32::try_from(FORGED)?)));
    }
    Ok(costs)
}

/// How long good events took beside hostile connections: the middle and the 99th of a hundred, and how many of the hostile
/// connections ingest kept open at the end.
///
/// # Errors
/// When a good event is not answered 200.
pub async fn beside_hostile(pipeline: &Pipeline) -> anyhow::Result<(Duration, Duration, usize)> {
    descriptors::raise();
    let port = pipeline.event_ports().next().context("no ingest")?;
    let ingest: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
    let words = [String::new(), half_head(PORTAL), half_body(PORTAL)];
    let mut hostile = Vec::new();
    for number in 0..HOSTILE.1 {
        for last in 0..HOSTILE.0 {
            let words = words.get(number % words.len()).map(String::as_str).unwrap_or_default();
            hostile.push(say(Ipv4Addr::new(127, 0, 1, 1 + last), ingest, words).await?);
        }
    }
    let body = format!("event=ONCRMDEALADD&auth[application_token]={TOKEN}&auth[member_id]={MEMBER_ID}");
    let mut times = Vec::new();
    for _ in 0..GOOD {
        // A connection each, as the portal makes them.
        let request = client()?.post(&pipeline.events_url).body(body.clone());
        let started = Instant::now();
        let (status, text) =
            send(request.header("content-type", "application/x-www-form-urlencoded")).await?;
        times.push(started.elapsed());
        ensure!(status == 200, "a good event is answered {status}: {text}");
    }
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    let open = pipeline.metric("ingest", "rota_http_connections", &[r#"server="events""#]).await?;
    drop(hostile);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    Ok((at(50), at(99), open as usize))
}

/// The time that all threads of a process have run on a processor.
fn on_processor(process: u32) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0_u64;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().context("no time")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}
