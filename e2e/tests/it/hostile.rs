//! Clients who mean no good, beside a portal whose events must not notice.

use std::net::Ipv4Addr;
use std::time::Instant;

use common::descriptors;
use e2e::harness::{PORTAL, Pipeline};
use e2e::hostile::{half_body, half_head, say, send_bodies};
use e2e::portal::send;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::common_parts::{SOON, assert_nothing_left, plan, start, wait_for_notices};

/// The portal's own events come from 127.0.0.1, by the simulator and by the harness.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const HOSTILE: usize = 300;
const GOOD: usize = 60;

/// Hours for who is too slow: no deadline helps here.
const HTTP: &str = "http: { connections: 200, connections_per_client: 100, first_byte_timeout: 1h, \
                    head_timeout: 1h, idle_timeout: 1h, body_timeout: 1h }";

/// A connection of a stranger who has sent this.
async fn connection(pipeline: &Pipeline, words: &str) -> TcpStream {
    let port = pipeline.event_ports().next().unwrap();
    say(STRANGER, (Ipv4Addr::LOCALHOST, port).into(), words).await.unwrap()
}

/// Good events by a connection each, ten at a time; answers how many were answered 200.
async fn good_events(pipeline: &Pipeline) -> usize {
    let leads = serde_json::json!({ "count": GOOD, "events": false });
    let leads = pipeline.portal.add_leads(&leads).await.unwrap();
    let mut accepted = 0;
    for some in leads.chunks(10) {
        let mut events = JoinSet::new();
        for lead in some {
            let (url, lead) = (pipeline.events_url.clone(), *lead);
            events.spawn(async move { event(&url, lead).await });
        }
        accepted += events.join_all().await.into_iter().filter(|status| *status == Some(200)).count();
    }
    accepted
}

async fn event(url: &str, lead: u64) -> Option<u16> {
    let body = format!(
        "event=ONCRMLEADADD&data%5BFIELDS%5D%5BID%5D={lead}&ts=1742807175\
         &auth%5Bapplication_token%5D=51856fefc120afa4b628cc82d3935cce\
         &auth%5Bmember_id%5D=a223c6b3710f85df22e9377d6c4f7553"
    );
    let request = e2e::portal::client().unwrap().post(url).body(body);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    send(request).await.ok().map(|(status, _)| status)
}

async fn count(pipeline: &Pipeline, metric: &str, labels: &[&str]) -> f64 {
    let labels = [&["server=\"events\""], labels].concat();
    pipeline.metric("ingest", metric, &labels).await.unwrap()
}

#[tokio::test]
async fn good_events_are_answered_beside_more_hostile_connections_than_there_may_be() {
    descriptors::raise();
    let mut plan = plan();
    plan.config = format!("{}\n{HTTP}", plan.config);
    let pipeline = start(&plan).await;
    let words = ["", &half_head(PORTAL), &half_body(PORTAL)];
    let mut hostile = Vec::new();
    for number in 0..HOSTILE {
        hostile.push(connection(&pipeline, words[number % words.len()]).await);
    }
    pipeline
        .wait_for("200 of 300 connections of a stranger are refused", SOON, async || {
            Ok(count(&pipeline, "rota_http_refused_total", &["limit=\"client\""]).await == 200.0)
        })
        .await
        .unwrap();
    // And bodies that end badly, from an address with places.
    let ingest = (Ipv4Addr::LOCALHOST, pipeline.event_ports().next().unwrap()).into();
    let bodies = tokio::spawn(send_bodies(ingest, PORTAL));
    assert_eq!(good_events(&pipeline).await, GOOD);
    assert!(!bodies.is_finished(), "{:?}", bodies.await);
    bodies.abort();
    assert_eq!(count(&pipeline, "rota_http_refused_total", &["limit=\"all\""]).await, 0.0);
    drop(hostile);
    wait_for_notices(&pipeline, GOOD).await;
    assert_nothing_left(&pipeline).await;
}

#[tokio::test]
async fn ingest_without_descriptors_goes_on_as_soon_as_it_has_some() {
    descriptors::raise();
    let mut plan = plan();
    plan.config = format!("{}\n{HTTP}", plan.config);
    let mut pipeline = start(&plan).await;
    let limited = Instant::now();
    let had = pipeline.descriptors("ingest").unwrap();
    pipeline.limit_descriptors("ingest", u64::try_from(had).unwrap() + 10).unwrap();
    let mut hostile = Vec::new();
    for _ in 0..50 {
        hostile.push(connection(&pipeline, "").await);
    }
    // By the log, as its metrics cannot be asked for either.
    pipeline
        .wait_for("ingest says that it cannot accept a connection", SOON, async || {
            Ok(pipeline.log_text("ingest").contains("server.accept_failed"))
        })
        .await
        .unwrap();
    drop(hostile);
    assert_eq!(good_events(&pipeline).await, GOOD);
    let failures = count(&pipeline, "rota_http_accept_failures_total", &[]).await;
    // It pauses for a tenth of a second after each.
    let most = limited.elapsed().as_secs_f64() * 10.0 + 2.0;
    assert!((1.0..most).contains(&failures), "{failures} failures, {most} at the most");
    wait_for_notices(&pipeline, GOOD).await;
    pipeline.stop_all().unwrap();
}
