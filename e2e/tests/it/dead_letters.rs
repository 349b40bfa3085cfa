//! Dead letters are looked at, sent again, decided anew and discarded, while leads go on.

use std::collections::BTreeSet;

use e2e::harness::Pipeline;
use e2e::portal::PortalLead;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::clocked::Clocked;
use crate::common_parts::{SOON, assert_nothing_left, mixed_leads, plan, start};

/// How a command ended, and what it printed.
fn rota(pipeline: &Pipeline, arguments: &[&str]) -> (i32, String) {
    let output = pipeline.rota(arguments).unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[track_caller]
fn done(pipeline: &Pipeline, arguments: &[&str]) -> String {
    let (code, text) = rota(pipeline, arguments);
    assert_eq!(code, 0, "{arguments:?}: {text}");
    text
}

#[track_caller]
fn refuses(pipeline: &Pipeline, arguments: &[&str], code: i32, says: &str) {
    let (ended, text) = rota(pipeline, arguments);
    assert!(ended == code && text.contains(says), "{arguments:?} ended with {ended}: {text}");
}

#[track_caller]
fn json_of(pipeline: &Pipeline, arguments: &[&str]) -> Value {
    let output = pipeline.rota(&[arguments, &["--json"]].concat()).unwrap();
    assert!(output.status.success(), "{arguments:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn letters(pipeline: &Pipeline, settled: bool) -> Vec<Value> {
    let all: &[&str] = if settled { &["--settled"] } else { &[] };
    let list = json_of(pipeline, &[&["dead", "list", "--limit", "1000"], all].concat());
    list.as_array().unwrap().clone()
}

/// The numbers of those that wait.
fn waiting(pipeline: &Pipeline) -> Vec<String> {
    letters(pipeline, false).iter().map(|letter| letter["id"].to_string()).collect()
}

/// This many leads whose update the portal refuses for good; returns when their commands wait for a human.
async fn refuse(pipeline: &Pipeline, leads: usize) {
    let refused = json!({ "error": { "status": 400, "code": "", "description": "Required field: phone" } });
    let fault = json!({ "method": "crm.lead.update", "kind": refused });
    pipeline.portal.add_fault(&fault).await.unwrap();
    pipeline.portal.add_leads(&mixed_leads(leads)).await.unwrap();
    let all_dead = async || Ok(letters(pipeline, false).len() == leads);
    pipeline.wait_for("all are dead letters", SOON, all_dead).await.unwrap();
    pipeline.portal.clear_faults().await.unwrap();
}

async fn wait_for_replay(pipeline: &Pipeline, what: &str, is_so: impl Fn(&Value) -> bool) {
    pipeline
        .wait_for(what, 3 * SOON, async || Ok(is_so(&json_of(pipeline, &["dead", "replay", "--status"])[0])))
        .await
        .unwrap();
}

async fn wait_for_ends(pipeline: &Pipeline, what: &str, is_so: impl Fn(&str) -> bool) {
    pipeline
        .wait_for(what, SOON, async || {
            Ok(letters(pipeline, true).iter().all(|letter| is_so(letter["end"].as_str().unwrap())))
        })
        .await
        .unwrap();
}

async fn assert_one_owner_at_most(pipeline: &Pipeline) {
    for lead in pipeline.portal.leads().await.unwrap() {
        assert!(lead.history.len() <= 1, "lead {}: {:?}", lead.text("ID"), lead.history);
    }
}

/// Each lead has one owner given by us.
async fn assert_one_owner_each(pipeline: &Pipeline) {
    for lead in pipeline.portal.leads().await.unwrap() {
        assert_eq!(lead.history.len(), 1, "lead {}: {:?}", lead.text("ID"), lead.history);
    }
}

#[tokio::test]
async fn letters_are_sent_again_beside_fresh_leads_and_know_their_end() {
    let pipeline = start(&plan()).await;
    refuse(&pipeline, 5).await;
    let ids = waiting(&pipeline);
    let shown = done(&pipeline, &["dead", "show", &ids[0]]);
    for says in ["Required field: phone", "waits for a human", "\"type\":\"assignment-command\"", "attempts"]
    {
        assert!(shown.contains(says), "{says}: {shown}");
    }
    let raw = done(&pipeline, &["dead", "show", &ids[0], "--raw"]);
    assert_eq!(json_of(&pipeline, &["dead", "show", &ids[0]])["body"], raw);
    let table = done(&pipeline, &["dead", "list", "--limit", "2", "--reason", "PHONE", "--newer-than", "1h"]);
    assert_eq!((table.lines().count(), table.contains("… and 3 more")), (4, true), "{table}");
    assert_eq!(done(&pipeline, &["dead", "list", "--older-than", "1h"]), "no dead letters\n");

    for (arguments, code, says) in [
        (&["dead", "show", "77"][..], 65, "there is no dead letter 77"),
        (&["dead", "list", "--portal", "beta"], 64, "no portal `beta`; it has: acme"),
        (&["dead", "list", "--queue", "leads"], 64, "no queue `leads`; known: lead-events, assignments"),
        (&["dead", "discard"], 64, "--all for all that wait"),
        (&["dead", "replay"], 64, "--all for all that wait"),
        (&["dead", "replay", "1", "--all"], 64, "either numbers, or a filter, or --all"),
        (&["dead", "replay", "--all", "--rate", "0"], 64, "--rate must be"),
        (&["dead", "replay", &ids[0], "77"], 65, "there is no dead letter 77; nothing was changed"),
        (&["dead", "replay", "--class", "poison"], 65, "no dead letter is like that; nothing was changed"),
        (&["dead", "replay", "--cancel"], 65, "no replay is running"),
    ] {
        refuses(&pipeline, arguments, code, says);
    }
    assert!(done(&pipeline, &["dead", "discard", &ids[4], "--dry-run"]).contains("nothing was changed"));
    assert!(
        done(&pipeline, &["dead", "replay", "--all", "--dry-run"]).contains("5 dead letters would be sent")
    );
    assert_eq!(waiting(&pipeline), ids);
    done(&pipeline, &["dead", "discard", &ids[4], "--note", "given by hand"]);
    refuses(&pipeline, &["dead", "replay", &ids[4]], 65, "was dealt with: discarded by olga: given by hand");
    refuses(&pipeline, &["dead", "discard", &ids[0], &ids[4]], 65, "was dealt with");
    assert_eq!(waiting(&pipeline), ids[..4]);

    assert!(done(&pipeline, &["dead", "replay", "--class", "permanent"]).contains("4 dead letters"));
    pipeline.portal.add_leads(&mixed_leads(10)).await.unwrap();
    wait_for_replay(&pipeline, "all are sent", |replay| replay["state"] == "done").await;
    let of_sent = |end: &str| end.starts_with("assigned to ") || end == "discarded by olga: given by hand";
    wait_for_ends(&pipeline, "all have their end", of_sent).await;
    let lead = letters(&pipeline, true)[0]["lead"].to_string();
    let story = done(&pipeline, &["lead", &lead]);
    let told = [
        "it is first heard of",
        "read and decided by routing version 1",
        "The lead goes to",
        "dead letter 1 (permanent)",
        "dead letter 1 is replayed by olga: assigned to",
        "is its owner",
        "all is done",
    ];
    let places: Vec<usize> =
        told.iter().map(|told| story.find(told).unwrap_or_else(|| panic!("{told}: {story}"))).collect();
    assert!(places.is_sorted() && story.contains("is told"), "{story}");
    let story = done(&pipeline, &["why", &lead, "--language", "ru"]);
    for told in ["о лиде стало известно", "Лид получает", "отправлено снова: assigned to", "всё сделано"]
    {
        assert!(story.contains(told), "{told}: {story}");
    }
    assert_eq!(json_of(&pipeline, &["lead", &lead])["steps"][0]["kind"], "first_seen");
    refuses(&pipeline, &["lead", "4242"], 65, "nothing is known of lead 4242 in portal acme");
    // Sent twice, done once.
    done(&pipeline, &["dead", "replay", &ids[0], &ids[1]]);
    wait_for_replay(&pipeline, "they are sent again", |replay| replay["state"] == "done").await;
    let again = json_of(&pipeline, &["dead", "show", &ids[0]]);
    assert!(again["end"].as_str().unwrap().starts_with("already assigned to "), "{again}");
    pipeline
        .wait_for("the others are given", SOON, async || {
            let leads = pipeline.portal.leads().await?;
            Ok(leads.iter().filter(|lead| !lead.history.is_empty()).count() == 14)
        })
        .await
        .unwrap();
    pipeline
        .wait_for("nobody waits", SOON, async || {
            Ok(pipeline.metric("router", "rota_dead_letters", &[]).await? == 0.0)
        })
        .await
        .unwrap();
    assert_nothing_left(&pipeline).await;
    assert_one_owner_at_most(&pipeline).await;
}

#[tokio::test]
async fn another_router_goes_on_where_one_died_and_a_person_can_end_it() {
    let mut plan = plan();
    plan.routers = 2;
    let mut pipeline = start(&plan).await;
    refuse(&pipeline, 8).await;
    done(&pipeline, &["dead", "replay", "--all", "--rate", "1"]);
    refuses(&pipeline, &["dead", "replay", "--all"], 65, "is about to be sent again by replay 1");
    wait_for_replay(&pipeline, "two are sent", |replay| replay["sent"].as_u64() >= Some(2)).await;
    let holder = ["router-1", "router-2"]
        .into_iter()
        .find(|router| pipeline.log_text(router).contains("replay.taken"));
    pipeline.kill(holder.unwrap()).unwrap();
    wait_for_replay(&pipeline, "six are sent", |replay| replay["sent"].as_u64() >= Some(6)).await;
    let cancelled = json_of(&pipeline, &["dead", "replay", "--cancel"]);
    assert_eq!((&cancelled["state"], &cancelled["ended_by"]), (&json!("cancelled"), &json!("olga")));
    // The one that was in hand is sent; all others wait as before.
    wait_for_ends(&pipeline, "none is half sent", |end| {
        end.starts_with("assigned to ") || end == "waits for a human"
    })
    .await;
    let left = waiting(&pipeline);
    assert!((1..=2).contains(&left.len()), "{left:?}");
    done(&pipeline, &["dead", "replay", "--all"]);
    wait_for_ends(&pipeline, "all are given", |end| end.starts_with("assigned to ")).await;
    assert_one_owner_each(&pipeline).await;
}

#[tokio::test]
async fn fresh_leads_overtake_a_large_replay() {
    const LETTERS: usize = 300;
    const FRESH: usize = 20;
    let pipeline = start(&plan()).await;
    refuse(&pipeline, LETTERS).await;
    done(&pipeline, &["dead", "replay", "--all"]);
    wait_for_replay(&pipeline, "it has begun", |replay| replay["sent"].as_u64() >= Some(1)).await;
    let fresh = pipeline.portal.add_leads(&mixed_leads(FRESH)).await.unwrap();
    let given = async || {
        let leads = pipeline.portal.leads().await?;
        let is_fresh = |lead: &PortalLead| fresh.iter().any(|id| lead.text("ID") == id.to_string());
        Ok(leads.iter().filter(|lead| is_fresh(lead) && !lead.history.is_empty()).count() == FRESH)
    };
    pipeline.wait_for("all fresh leads are given", SOON, given).await.unwrap();
    let replay = &json_of(&pipeline, &["dead", "replay", "--status"])[0];
    let sent = usize::try_from(replay["sent"].as_u64().unwrap()).unwrap();
    eprintln!("{FRESH} fresh leads were given when {sent} of {LETTERS} letters were sent");
    assert!(sent < LETTERS, "they had to wait for all letters");
    done(&pipeline, &["dead", "replay", "--cancel"]);
    assert_one_owner_at_most(&pipeline).await;
}

#[tokio::test]
async fn cards_say_so_and_somebody_is_told_once_in_ten_minutes() {
    let mut plan = plan();
    plan.routers = 2;
    plan.portal_keys.push("timeline: en".to_owned());
    plan.portal_keys.push("dead_letters: { tell: 13 }".to_owned());
    let clocked = Clocked::start(&plan, "2026-11-23T09:00:00Z").await;
    let refused = json!({ "error": { "status": 400, "code": "", "description": "Required field: phone" } });
    let fault = json!({ "method": "crm.lead.update", "kind": refused });
    clocked.portal.add_fault(&fault).await.unwrap();
    let told = async || -> Vec<String> {
        let notices = clocked.portal.notifications().await.unwrap();
        let told = notices.into_iter().filter(|notice| notice.message.contains("could not be given"));
        told.inspect(|notice| assert_eq!(notice.user, 13)).map(|notice| notice.message).collect()
    };
    let dead = async |count: i64| {
        clocked
            .wait_for(
                "they are dead letters",
                async || Ok(clocked.count("FROM dead_letters").await? == count),
            )
            .await;
    };
    clocked.add_leads(mixed_leads(2)).await;
    clocked.wait_for("somebody is told", async || Ok(told().await.len() == 1)).await;
    clocked.add_leads(mixed_leads(3)).await;
    dead(5).await;
    let cards = async || {
        let entries = clocked.portal.timeline().await.unwrap();
        entries.iter().filter(|entry| entry.text.starts_with("Not given: setting the owner")).count()
    };
    clocked.wait_for("all cards say so", async || Ok(cards().await == 5)).await;
    assert_eq!(told().await.len(), 1, "ten minutes are not over");
    clocked.advance(SignedDuration::from_mins(11));
    clocked.wait_for("they are told of the rest", async || Ok(told().await.len() == 2)).await;
    let untold = clocked.count("FROM dead_letters WHERE told_at IS NULL").await.unwrap();
    assert_eq!((untold, cards().await), (0, 5));
    clocked.stop().await;
}

#[tokio::test]
async fn leads_whose_decision_was_not_carried_out_are_decided_anew() {
    let pipeline = start(&plan()).await;
    refuse(&pipeline, 6).await;
    let other = "version: 1\npeople: { sidorov: { user: 13 } }\ndefault: { assign: sidorov }\n";
    pipeline.write("other.yaml", other).unwrap();
    done(&pipeline, &["publish", "other.yaml"]);
    pipeline
        .wait_for("the new routing decides", SOON, async || {
            Ok(pipeline.metric("router", "rota_routing_version", &[]).await? == 2.0)
        })
        .await
        .unwrap();
    done(&pipeline, &["dead", "replay", "--all", "--decide-again", "--rate", "50"]);
    wait_for_ends(&pipeline, "all are given", |end| end.starts_with("assigned to ")).await;
    assert_one_owner_each(&pipeline).await;
    let leads = pipeline.portal.leads().await.unwrap();
    let owners: BTreeSet<&str> = leads.iter().map(|lead| lead.text("ASSIGNED_BY_ID")).collect();
    assert_eq!(owners, BTreeSet::from(["13"]), "by the routing of now");
    let credits = json_of(&pipeline, &["credits"]);
    let sum: i64 = credits.as_array().unwrap().iter().map(|one| one["units"].as_i64().unwrap()).sum();
    assert_eq!(sum, 0, "{credits}");
    assert_nothing_left(&pipeline).await;
}
