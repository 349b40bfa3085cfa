//! Portals that answer far too much: it is their own failure, and the process and the other portals go on.

use e2e::harness::Pipeline;
use serde_json::json;
use store::postgres::Postgres;
use store::{DeadLetter, DeadLetters as _};

use crate::common_parts::{SOON, mixed_leads, plan, start, wait_for_notices};

/// What a stage may take; the containers have twice that.
const MEMORY_MAX: u64 = 128 * 1024 * 1024;

/// Leads of each hostile portal: enough that they are read together, apart, and alone.
const HOSTILE_LEADS: usize = 12;

/// Each portal, what its answers are like, and the reason that stands in its dead letters.
fn hostile() -> [(&'static str, serde_json::Value, &'static str); 3] {
    let swollen =
        |of: &str, bytes: usize, gzip: bool| json!({ "swollen": { "of": of, "bytes": bytes, "gzip": gzip } });
    let deep = "[".repeat(1000) + &"]".repeat(1000);
    [
        ("bomb", swollen(r#"{"a":0}"#, 15_900_000, true), "it unpacks to more than 100 times what was sent"),
        ("wide", swollen(r#"{"a":0}"#, 1_000_000, false), "bytes of memory"),
        ("deep", swollen(&deep, 1_000_000, false), "it is nested deeper than 32"),
    ]
}

#[tokio::test]
async fn portals_that_answer_far_too_much_fail_alone_and_leave_the_process_its_memory() {
    let mut plan = plan();
    plan.others = hostile().iter().map(|(name, ..)| (*name).to_owned()).collect();
    // ingest asks them too.
    plan.config = plan.config.replace("every: 0s", "every: 1s");
    let pipeline = start(&plan).await;
    for (portal, (_, kind, _)) in pipeline.others.iter().zip(hostile()) {
        portal.add_fault(&json!({ "method": "*", "kind": kind })).await.unwrap();
        portal.add_leads(&mixed_leads(HOSTILE_LEADS)).await.unwrap();
    }
    for round in 1..=4 {
        pipeline.portal.add_leads(&mixed_leads(5)).await.unwrap();
        wait_for_notices(&pipeline, 5 * round).await;
    }
    let store = Postgres::prepare(&pipeline.database_url.clone().into(), 1).unwrap();
    pipeline
        .wait_for("the leads of the hostile portals are dead letters", SOON, async || {
            Ok(store.dead_letters(100).await?.len() >= 3 * HOSTILE_LEADS)
        })
        .await
        .unwrap();
    assert_small(&pipeline);
    let letters = store.dead_letters(100).await.unwrap();
    for (name, _, reason) in hostile() {
        let is_of =
            |letter: &&DeadLetter| letter.portal.as_ref().is_some_and(|portal| portal.as_str() == name);
        let own: Vec<&DeadLetter> = letters.iter().filter(is_of).collect();
        assert_eq!(own.len(), HOSTILE_LEADS, "{name}");
        let told =
            |letter: &&DeadLetter| letter.reason.contains("too much: ") && letter.reason.contains(reason);
        let others: Vec<_> =
            own.into_iter().filter(|letter| !told(letter)).map(|letter| &letter.reason).collect();
        assert!(others.is_empty(), "{name}: {others:?}");
    }
    assert_eq!(pipeline.portal.notifications().await.unwrap().len(), 20, "the good portal's own");
}

/// No process has ever taken more than it may.
fn assert_small(pipeline: &Pipeline) {
    for name in ["ingest", "router-1", "notifier-1"] {
        let peak = pipeline.peak_memory(name).unwrap();
        eprintln!("{name}: {} KiB at the most", peak / 1024);
        assert!(peak < MEMORY_MAX, "{name} has taken {peak} bytes");
    }
}
