//! Routings are published, followed and rolled back while leads come; ledgers are corrected by hand.

use std::process::Output;

use common::clock::{Clock as _, SystemClock};
use common::messages::{AssignmentKey, Epoch};
use e2e::harness::Pipeline;
use serde_json::{Value, json};
use store::postgres::Postgres;
use store::{Decisions as _, NewVersion, SavedDecision, Versions as _};

use crate::common_parts::{ROUTING, SOON, plan, start, wait_for_notices};

/// Everything goes to Sidorov.
const OTHER: &str = "\
version: 1
people: { sidorov: { user: 13 } }
default: { assign: sidorov }
";

fn told(output: &Output) -> (i32, String) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn rota(pipeline: &Pipeline, arguments: &[&str]) -> (i32, String) {
    told(&pipeline.rota(arguments).unwrap())
}

#[track_caller]
fn assert_rota(pipeline: &Pipeline, arguments: &[&str], code: i32, text: &str) {
    let (ended, printed) = rota(pipeline, arguments);
    assert!(ended == code && printed.contains(text), "{arguments:?} ended with {ended}: {printed}");
}

fn store(pipeline: &Pipeline) -> Postgres {
    Postgres::prepare(&pipeline.database_url.clone().into(), 1).unwrap()
}

async fn decision(pipeline: &Pipeline, lead: u64) -> SavedDecision {
    let key = AssignmentKey {
        portal: e2e::harness::PORTAL.parse().unwrap(),
        lead: lead.to_string().parse().unwrap(),
        epoch: Epoch::FIRST,
    };
    store(pipeline).decision(&key).await.unwrap().unwrap()
}

/// Waits until the routers' sum of this metric is `sum`.
async fn wait_for_metric(pipeline: &Pipeline, name: &str, sum: f64) {
    pipeline
        .wait_for(&format!("{name} is {sum}"), SOON, async || {
            Ok((pipeline.metric("router", name, &[]).await? - sum).abs() < 0.5)
        })
        .await
        .unwrap();
}

/// Adds a lead; answers its owner, and the version it was decided by.
async fn give(pipeline: &Pipeline, before: usize) -> (String, u64) {
    let ids = pipeline.portal.add_leads(&json!({ "leads": [{ "SOURCE_ID": "SITE_MOSCOW" }] })).await.unwrap();
    wait_for_notices(pipeline, before + 1).await;
    let leads = pipeline.portal.leads().await.unwrap();
    let owner = leads.last().unwrap().text("ASSIGNED_BY_ID").to_owned();
    let version = decision(pipeline, ids[0]).await.explanation["routing_version"].as_u64().unwrap();
    (owner, version)
}

#[tokio::test]
async fn routers_follow_what_is_published_and_rolled_back_and_keep_what_works() {
    let mut plan = plan();
    plan.routers = 2;
    let pipeline = start(&plan).await;
    // The configured file became the first version, once.
    assert_rota(&pipeline, &["versions"], 0, "configuration");
    assert_eq!(rota(&pipeline, &["versions", "--show", "1"]), (0, ROUTING.to_owned()));
    assert_eq!(give(&pipeline, 0).await, ("11".to_owned(), 1));

    pipeline.write("other.yaml", OTHER).unwrap();
    assert_rota(&pipeline, &["publish", "other.yaml", "--note", "July"], 0, "version 2 of portal acme");
    wait_for_metric(&pipeline, "rota_routing_version", 4.0).await;
    assert_eq!(give(&pipeline, 1).await, ("13".to_owned(), 2));
    assert_rota(&pipeline, &["publish", "other.yaml"], 0, "is version 2 of portal acme already");

    // A file with an error changes nothing and says why.
    pipeline.write("broken.yaml", &OTHER.replace("assign: sidorov", "assign: sidorof")).unwrap();
    let (code, text) = rota(&pipeline, &["publish", "broken.yaml"]);
    assert_eq!(code, 65, "{text}");
    assert!(text.contains("3:20: error: unknown person `sidorof`; did you mean `sidorov`?"), "{text}");
    assert!(text.contains("broken.yaml is not published; what decides is unchanged"), "{text}");

    let (code, text) = rota(&pipeline, &["versions", "--json"]);
    let versions: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 0);
    assert_eq!(versions.as_array().unwrap().len(), 2);
    assert_eq!(
        (&versions[0]["version"], &versions[0]["current"], &versions[0]["author"], &versions[0]["note"]),
        (&json!(2), &json!(true), &json!("olga"), &json!("July"))
    );

    // A version that these programs cannot read, as a newer `rota` could publish it.
    let broken = NewVersion { text: "version: 2\n".to_owned(), author: "a".to_owned(), note: None };
    let acme = e2e::harness::PORTAL.parse().unwrap();
    assert_eq!(store(&pipeline).publish(&acme, &broken, SystemClock.now()).await.unwrap(), 3);
    wait_for_metric(&pipeline, "rota_routing_unreadable", 2.0).await;
    assert_eq!(give(&pipeline, 2).await, ("13".to_owned(), 2));
    let log = pipeline.log_text("router-1");
    assert!(log.contains("routing.unreadable") && log.contains("`version` must be 1"), "{log}");

    assert_rota(&pipeline, &["rollback", "7"], 65, "portal acme has no version 7");
    assert_rota(&pipeline, &["rollback", "3"], 65, "cannot be used any more; what decides is unchanged");
    assert_rota(
        &pipeline,
        &["rollback", "1"],
        0,
        "version 1 of portal acme decides from now on; before it was 3",
    );
    wait_for_metric(&pipeline, "rota_routing_version", 2.0).await;
    wait_for_metric(&pipeline, "rota_routing_unreadable", 0.0).await;
    assert_eq!(give(&pipeline, 3).await, ("11".to_owned(), 1));
}

#[tokio::test]
async fn a_file_that_was_edited_is_told_at_the_start_and_not_used() {
    let mut pipeline = start(&plan()).await;
    pipeline.stop("router-1").unwrap();
    pipeline.write("routing.yaml", OTHER).unwrap();
    pipeline.start_again("router-1").unwrap();
    pipeline.wait_ready().await.unwrap();
    let log = pipeline.log_text("router-1");
    assert!(
        log.contains("routing.file_not_used") && log.contains("publish the file by `rota publish`"),
        "{log}"
    );
    assert_eq!(give(&pipeline, 0).await, ("11".to_owned(), 1));
}

#[tokio::test]
async fn no_limit_is_exceeded_by_three_routers_and_held_leads_follow_a_new_version_at_once() {
    let limited = "\
version: 1
people: { ivanov: { user: 11, limits: { per_hour: 2 } }, petrov: { user: 12, limits: { per_day: 3 } } }
queues: { main: { members: [ivanov, petrov] } }
default: { queue: main, set: { status: IN_PROCESS } }
";
    let mut plan = plan();
    (plan.routers, plan.routing) = (3, limited.to_owned());
    let pipeline = start(&plan).await;
    let leads: Vec<Value> = (0..12).map(|number| json!({ "TITLE": number.to_string() })).collect();
    let ids = pipeline.portal.add_leads(&json!({ "leads": leads })).await.unwrap();
    wait_for_notices(&pipeline, 5).await;
    pipeline
        .wait_for("seven leads are held", SOON, async || {
            // Each router says what is in the store they share.
            Ok((pipeline.metric("router", "rota_held_leads", &[]).await? - 21.0).abs() < 0.5)
        })
        .await
        .unwrap();
    let mut given = Vec::new();
    for id in &ids {
        let decision = decision(&pipeline, *id).await;
        if let store::Verdict::Assign { person, .. } = &decision.verdict {
            given.push(person.clone());
            assert_eq!(decision.orders.set.get("STATUS_ID"), Some(&json!("IN_PROCESS")));
        }
    }
    given.sort();
    assert_eq!(given, ["ivanov", "ivanov", "petrov", "petrov", "petrov"]);

    pipeline.write("unlimited.yaml", &limited.replace(", limits: { per_hour: 2 }", "")).unwrap();
    assert_rota(&pipeline, &["publish", "unlimited.yaml"], 0, "version 2");
    wait_for_notices(&pipeline, 12).await;
}

#[tokio::test]
async fn credits_are_corrected_and_given_back_by_hand() {
    let pipeline = start(&plan()).await;
    let ids = pipeline.portal.add_leads(&json!({ "leads": [{ "SOURCE_ID": "CALL" }] })).await.unwrap();
    wait_for_notices(&pipeline, 1).await;
    let credits = || {
        let (code, text) = rota(&pipeline, &["credits", "--json"]);
        assert_eq!(code, 0, "{text}");
        let credits: Value = serde_json::from_str(&text).unwrap();
        let sum: i64 = credits.as_array().unwrap().iter().map(|entry| entry["units"].as_i64().unwrap()).sum();
        assert_eq!(sum, 0, "{text}");
        let turns = |person: &str| {
            let entries = credits.as_array().unwrap();
            let entry = entries.iter().find(|entry| entry["person"] == person).unwrap();
            entry["turns"].as_str().unwrap().to_owned()
        };
        ["ivanov", "petrov", "sidorov"].map(turns)
    };
    assert_eq!(credits(), ["+0.25", "-0.50", "+0.25"]);
    let correct = ["correct", "main", "ivanov", "-0.75", "--reason", "two by mistake"];
    assert_rota(&pipeline, &correct, 0, "ivanov has -0.75 turns more in queue main; the others paid for it");
    assert_eq!(credits(), ["-0.50", "0.00", "+0.50"]);
    let lead = ids[0].to_string();
    let refund = ["refund", lead.as_str(), "--reason", "spam"];
    assert_rota(&pipeline, &refund, 0, "counts as nobody's turn any more");
    assert_eq!(credits(), ["-0.75", "+0.50", "+0.25"]);
    assert_rota(&pipeline, &refund, 65, "cost no turn, or was given back before");
    assert_rota(
        &pipeline,
        &["correct", "main", "nobody", "1", "--reason", "x"],
        64,
        "he is no member of that queue",
    );
    assert_rota(&pipeline, &["versions", "--portal", "acne"], 64, "has no portal `acne`; it has: acme");
}
