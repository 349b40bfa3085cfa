//! Who gets leads: what the portal tells of people, what they say themselves, what happens when nobody can tell, and
//! whose leads are left alone.

use std::collections::BTreeMap;

use common::clock::{Clock as _, SystemClock};
use common::messages::{AssignmentKey, Epoch};
use e2e::harness::{PORTAL, Pipeline, Plan};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use store::postgres::Postgres;
use store::{Decisions as _, RosterSource, Rosters as _};

use crate::common_parts::{SOON, assert_spent, plan, start, wait_for_notices, wait_until_followed};

const PEOPLE: &str = "people: { p11: { user: 11 }, p12: { user: 12 }, p13: { user: 13 }, p14: { user: 14 } }";

/// Four people in turn. The portal is asked every two seconds; what it said counts for ten.
fn office(queue: &str) -> Plan {
    let mut plan = plan();
    plan.routing = format!(
        "version: 1\n{PEOPLE}\n\
         queues: {{ main: {{ members: [p11, p12, p13, p14], strategy: rotation{queue} }} }}\n\
         default: {{ queue: main }}\n"
    );
    plan.config.push_str("\nroster: { every: 2s, absences_every: 2s }");
    plan
}

fn now() -> Timestamp {
    SystemClock.now()
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// What `rota people list` says of each: `yes`, or why not.
fn whereabouts(pipeline: &Pipeline) -> BTreeMap<u64, String> {
    let output = pipeline.rota(&["people", "list", "--json"]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let people: Value = serde_json::from_slice(&output.stdout).unwrap();
    let one = |person: &Value| {
        let why = person["why"]["reason"].as_str().unwrap_or("yes").to_owned();
        (person["user"].as_u64().unwrap(), why)
    };
    people.as_array().unwrap().iter().map(one).collect()
}

/// Waits until the routers go by this of each person.
async fn wait_for(pipeline: &Pipeline, expected: [(u64, &str); 4]) {
    let expected: BTreeMap<u64, String> =
        expected.into_iter().map(|(user, why)| (user, why.to_owned())).collect();
    pipeline
        .wait_for(&format!("{expected:?}"), SOON, async || Ok(whereabouts(pipeline) == expected))
        .await
        .unwrap();
    wait_until_followed(pipeline).await;
}

/// Waits until the routers know that this person has so many leads.
async fn wait_for_open_leads(pipeline: &Pipeline, user: u64, count: u64) {
    let store = Postgres::prepare(&pipeline.database_url.clone().into(), 1).unwrap();
    let acme = PORTAL.parse().unwrap();
    let is_told = async || {
        let roster = store.roster(&acme, now()).await?;
        let mut facts = roster.readings.iter().filter(|reading| reading.source == RosterSource::OpenLeads);
        let said = facts.next().and_then(|reading| reading.facts.as_ref());
        Ok(said.is_some_and(|(facts, _)| facts[user.to_string()] == json!(count)))
    };
    pipeline.wait_for("the portal has counted", SOON, is_told).await.unwrap();
    wait_until_followed(pipeline).await;
}

/// Leads by owner, without those that nobody was given.
async fn owners(pipeline: &Pipeline) -> BTreeMap<String, usize> {
    let mut owners = BTreeMap::new();
    for lead in pipeline.portal.leads().await.unwrap().iter().filter(|lead| !lead.history.is_empty()) {
        *owners.entry(lead.text("ASSIGNED_BY_ID").to_owned()).or_default() += 1;
    }
    owners
}

async fn explanation(pipeline: &Pipeline, lead: u64) -> Value {
    let store = Postgres::prepare(&pipeline.database_url.clone().into(), 1).unwrap();
    let lead = lead.to_string().parse().unwrap();
    let key = AssignmentKey { portal: PORTAL.parse().unwrap(), lead, epoch: Epoch::FIRST };
    store.decision(&key).await.unwrap().unwrap().explanation
}

/// Waits until so many leads are held by the count of each of so many routers.
async fn held(pipeline: &Pipeline, routers: f64, count: f64) {
    pipeline
        .wait_for(&format!("{count} leads are held"), SOON, async || {
            Ok((pipeline.metric("router", "rota_held_leads", &[]).await? - routers * count).abs() < 0.5)
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn who_is_dismissed_on_leave_or_travelling_gets_nothing() {
    let pipeline = start(&office("")).await;
    let portal = &pipeline.portal;
    portal.change_user(11, json!({ "ACTIVE": false })).await.unwrap();
    let (from, to) = (now() - hours(1), now() + hours(48));
    let absences = json!([
        { "user": 12, "from": from, "to": to, "kind": "vacation" },
        // Of which the messenger knows nothing.
        { "user": 13, "from": from, "to": to, "kind": "trip" },
        // Not yet.
        { "user": 14, "from": to, "to": to + hours(1), "kind": "calendar" },
    ]);
    portal.set_absences(&absences).await.unwrap();
    wait_for(&pipeline, [(11, "inactive"), (12, "absent"), (13, "absent"), (14, "yes")]).await;
    portal.add_leads(&json!({ "count": 6 })).await.unwrap();
    wait_for_notices(&pipeline, 6).await;
    assert_eq!(owners(&pipeline).await, [("14".to_owned(), 6)].into());
    assert_spent(&pipeline.portal, "dismissed, on leave, travelling: 6 leads", 12).await;
}

#[tokio::test]
async fn a_queue_that_asks_for_an_open_working_day_passes_over_all_others() {
    let mut plan = office(", working_day: required");
    plan.portal = json!({ "without_working_days": [14] });
    let pipeline = start(&plan).await;
    let day = |status: &str, began: Timestamp| json!({ "STATUS": status, "TIME_START": began.to_string() });
    let portal = &pipeline.portal;
    portal.set_working_day(11, &day("OPENED", now() - hours(2))).await.unwrap();
    // Forgotten: the portal still calls it open.
    portal.set_working_day(12, &day("OPENED", now() - hours(20))).await.unwrap();
    portal.set_working_day(13, &day("EXPIRED", now() - hours(30))).await.unwrap();
    wait_for(&pipeline, [(11, "yes"), (12, "working_day"), (13, "working_day"), (14, "yes")]).await;
    portal.add_leads(&json!({ "count": 6 })).await.unwrap();
    wait_for_notices(&pipeline, 6).await;
    assert_eq!(owners(&pipeline).await, [("11".to_owned(), 3), ("14".to_owned(), 3)].into());
    // All go home; who opens his day gets what waits.
    portal.set_working_day(11, &json!({ "STATUS": "CLOSED" })).await.unwrap();
    portal.change_settings(&json!({ "without_working_days": [] })).await.unwrap();
    wait_for(&pipeline, [11, 12, 13, 14].map(|user| (user, "working_day"))).await;
    portal.add_leads(&json!({ "count": 2 })).await.unwrap();
    held(&pipeline, 1.0, 2.0).await;
    portal.set_working_day(12, &day("OPENED", now())).await.unwrap();
    wait_for_notices(&pipeline, 8).await;
    assert_eq!(owners(&pipeline).await.get("12"), Some(&2));
    assert_spent(&pipeline.portal, "working days closed, forgotten, expired, not kept: 8 leads", 24).await;
}

#[tokio::test]
async fn what_the_portal_refuses_to_tell_stops_nothing_and_is_said() {
    let mut plan = office(", working_day: required");
    plan.portal =
        json!({ "hidden_working_days": [11, 12, 13, 14], "scopes": ["crm", "im", "user_brief", "timeman"] });
    let pipeline = start(&plan).await;
    let ids = pipeline.portal.add_leads(&json!({ "count": 4 })).await.unwrap();
    wait_for_notices(&pipeline, 4).await;
    assert_eq!(owners(&pipeline).await.len(), 4, "everybody in turn");
    let not_known = &explanation(&pipeline, ids[3]).await["not_known"];
    assert_eq!(*not_known, json!(["working_days", "absences"]));
    for source in ["working_days", "calendar"] {
        let labels = [format!("source=\"{source}\""), "outcome=\"refused\"".to_owned()];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        assert!(pipeline.metric("router", "rota_roster_questions_total", &labels).await.unwrap() >= 1.0);
        let told = format!("\"source\":\"{source}\"");
        pipeline
            .wait_for("three questions", SOON, async || {
                Ok(pipeline.metric("router", "rota_roster_questions_total", &labels).await? >= 3.0)
            })
            .await
            .unwrap();
        let log = pipeline.log_text("router-1");
        let lines = log.lines().filter(|line| line.contains("roster.source_refused") && line.contains(&told));
        assert_eq!(lines.count(), 1, "once for {source}");
    }
    assert_spent(&pipeline.portal, "presence refused: 4 leads", 10).await;
}

#[tokio::test]
async fn three_routers_give_nobody_more_open_leads_than_his_limit() {
    let mut plan = office(", limits: { open: 3 }");
    plan.routers = 3;
    let pipeline = start(&plan).await;
    // Of the leads that were there before us, and are nobody's business here, two are p11's.
    let old = json!({ "count": 2, "fields": { "ASSIGNED_BY_ID": "11" }, "events": false });
    pipeline.portal.add_leads(&old).await.unwrap();
    wait_for_open_leads(&pipeline, 11, 2).await;
    pipeline.portal.add_leads(&json!({ "count": 14 })).await.unwrap();
    wait_for_notices(&pipeline, 10).await;
    held(&pipeline, 3.0, 4.0).await;
    let given: Vec<(String, usize)> = owners(&pipeline).await.into_iter().collect();
    let expected = [("11", 1), ("12", 3), ("13", 3), ("14", 3)];
    assert_eq!(given, expected.map(|(user, count)| (user.to_owned(), count)));
    // One of p12's is done.
    let leads = pipeline.portal.leads().await.unwrap();
    let of_12 = leads.iter().find(|lead| lead.text("ASSIGNED_BY_ID") == "12").unwrap();
    let id = of_12.text("ID").parse().unwrap();
    pipeline.portal.change_lead(id, &json!({ "STATUS_ID": "CONVERTED" })).await.unwrap();
    wait_for_notices(&pipeline, 11).await;
    held(&pipeline, 3.0, 3.0).await;
    assert_spent(&pipeline.portal, "three routers, limit of open leads: 14 leads", 56).await;
}

#[tokio::test]
async fn people_pause_themselves_and_note_absences() {
    let pipeline = start(&office("")).await;
    let rota = |arguments: &[&str]| {
        let output = pipeline.rota(&[&["people"], arguments].concat()).unwrap();
        let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    };
    let (code, text) = rota(&["pause", "p11", "--for", "45m", "--reason", "lunch"]);
    assert!(code == 0 && text.starts_with("p11 takes no leads until "), "{text}");
    for (person, from) in [("p12", "2020-01-01"), ("p13", "2020-01-01T09:00")] {
        assert_eq!(rota(&["absent", person, "--from", from, "--to", "2100-01-01"]).0, 0);
    }
    assert_eq!(rota(&["absent", "p14", "--from", "2099-01-01", "--to", "2099-01-01"]).0, 0);
    wait_for(&pipeline, [(11, "paused"), (12, "absent"), (13, "absent"), (14, "yes")]).await;
    let (_, list) = rota(&["list"]);
    assert!(list.contains("lunch, by olga"), "{list}");
    assert_eq!(rota(&["pause", "p14", "--for", "1h"]).0, 0);
    wait_for(&pipeline, [(11, "paused"), (12, "absent"), (13, "absent"), (14, "paused")]).await;
    pipeline.portal.add_leads(&json!({ "count": 3 })).await.unwrap();
    held(&pipeline, 1.0, 3.0).await;
    assert_eq!(rota(&["resume", "p12"]).0, 0);
    wait_for_notices(&pipeline, 3).await;
    assert_eq!(owners(&pipeline).await, [("12".to_owned(), 3)].into());
    for (arguments, wrong) in [
        (&["resume", "p12"][..], "p12 has no pause and no absence that was noted here"),
        (&["pause", "ivanov", "--for", "45m"], "nobody is called `ivanov`"),
        (&["pause", "p11", "--for", "soon"], "a duration such as 45m"),
        (&["absent", "p11", "--from", "2020-01-01", "--to", "2020-01-02"], "is over already"),
        (&["absent", "p11", "--from", "tomorrow", "--to", "2100-01-01"], "`tomorrow` is no time"),
    ] {
        let (code, text) = rota(arguments);
        assert!(code != 0 && text.contains(wrong), "{arguments:?}: {code} {text}");
    }
    let (code, text) = rota(&["cancel", "p14"]);
    assert!(code == 0 && text.starts_with("1 of p14's absences"), "{text}");
    assert_spent(&pipeline.portal, "paused and absent by their own word: 3 leads", 15).await;
}

#[tokio::test]
async fn a_lead_that_a_person_gave_to_somebody_is_left_alone() {
    let mut plan = office("");
    // The webhook's owner, who gets all leads at first.
    plan.routing.push_str("only_if_owner_in: [1]\n");
    let pipeline = start(&plan).await;
    let leads = json!({ "leads": [{ "ASSIGNED_BY_ID": "20" }, {}] });
    let ids = pipeline.portal.add_leads(&leads).await.unwrap();
    wait_for_notices(&pipeline, 1).await;
    let skipped = ["outcome=\"skip\""];
    pipeline
        .wait_for("a lead is skipped", SOON, async || {
            Ok(pipeline.metric("router", "rota_decisions_total", &skipped).await? >= 1.0)
        })
        .await
        .unwrap();
    assert_eq!(explanation(&pipeline, ids[0]).await["outcome"], json!({ "kind": "skip", "reason": "taken" }));
    assert_eq!(pipeline.portal.leads().await.unwrap()[0].text("ASSIGNED_BY_ID"), "20");
    assert_eq!(owners(&pipeline).await.len(), 1);
    assert_spent(&pipeline.portal, "given by a person before: 2 leads", 6).await;
}

#[tokio::test]
async fn a_lead_that_somebody_made_for_themselves_is_left_alone_and_counted() {
    let pipeline = start(&office("")).await;
    let by_hand =
        |source: &str| json!({ "CREATED_BY_ID": "12", "ASSIGNED_BY_ID": "12", "SOURCE_ID": source });
    // The second came by a form, in the name of the same person; the third, the webhook made.
    let leads = json!({ "leads": [by_hand("CALL"), by_hand("WEBFORM"), {}] });
    let ids = pipeline.portal.add_leads(&leads).await.unwrap();
    wait_for_notices(&pipeline, 2).await;
    let by_hand = ["reason=\"made_by_hand\""];
    pipeline
        .wait_for("a lead is skipped", SOON, async || {
            Ok(pipeline.metric("router", "rota_leads_skipped_total", &by_hand).await? >= 1.0)
        })
        .await
        .unwrap();
    let outcome = json!({ "kind": "skip", "reason": "made_by_hand" });
    assert_eq!(explanation(&pipeline, ids[0]).await["outcome"], outcome);
    let leads = pipeline.portal.leads().await.unwrap();
    assert_eq!((leads[0].history.len(), leads[0].text("ASSIGNED_BY_ID")), (0, "12"));
    assert_eq!(pipeline.metric("router", "rota_leads_skipped_total", &[]).await.unwrap(), 1.0);
}

#[tokio::test]
async fn the_list_of_people_tells_queues_apart_and_counts_what_was_given() {
    let mut plan = office(", limits: { per_day: 1 }");
    plan.routing = plan
        .routing
        .replace("queues: { ", "queues: { pool: { members: [p11], working_day: required }, ")
        .replace("default:", "rules: [{ name: Pool, when: { source: POOL }, queue: pool }]\ndefault:");
    let pipeline = start(&plan).await;
    pipeline.portal.set_working_day(11, &json!({ "STATUS": "CLOSED" })).await.unwrap();
    let lines = || {
        let output = pipeline.rota(&["people", "list", "--json"]).unwrap();
        let lines: Value = serde_json::from_slice(&output.stdout).unwrap();
        let line = |line: &Value| {
            let why = line["why"]["reason"].as_str().unwrap_or("yes");
            format!("{} {} {why}", line["person"].as_str().unwrap(), line["queue"].as_str().unwrap())
        };
        lines.as_array().unwrap().iter().map(line).collect::<Vec<_>>()
    };
    let others = ["p12 main yes", "p13 main yes", "p14 main yes"];
    let expected = |of_11: [&'static str; 2]| [&of_11[..], &others].concat();
    pipeline
        .wait_for("his day is closed, which only the pool minds", SOON, async || {
            Ok(lines() == expected(["p11 pool working_day", "p11 main yes"]))
        })
        .await
        .unwrap();
    pipeline.portal.add_leads(&json!({ "count": 1 })).await.unwrap();
    wait_for_notices(&pipeline, 1).await;
    assert_eq!(owners(&pipeline).await, [("11".to_owned(), 1)].into(), "the decision agrees");
    assert_eq!(lines(), expected(["p11 pool working_day", "p11 main at_limit"]));
}
