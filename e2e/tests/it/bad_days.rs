//! Bad days: the portal fails, people interfere, events are lost, processes are killed.

use std::time::Duration;

use common::clock::{Clock as _, SystemClock};
use e2e::HANG;
use e2e::harness::Pipeline;
use serde_json::json;
use store::postgres::Postgres;
use store::{DeadLetters as _, Unseen, Waiting as _};

use crate::common_parts::{
    SOON, assert_each_once, assert_no_dead_letters, assert_nothing_left, mixed_leads, plan, publish,
    queued_with, start, wait_for_notices,
};

async fn assignments(pipeline: &Pipeline, outcome: &str) -> f64 {
    let label = format!("outcome=\"{outcome}\"");
    pipeline.metric("notifier", "rota_assignments_total", &[&label]).await.unwrap()
}

#[tokio::test]
async fn a_portal_that_fails_for_a_while_delays_leads_and_loses_none() {
    let pipeline = start(&plan()).await;
    for kind in [
        json!({ "answer": { "status": 502, "body": "<html>Bad Gateway</html>" } }),
        json!({ "error": { "status": 503, "code": "QUERY_LIMIT_EXCEEDED", "description": "Too many requests" } }),
        json!("truncated"),
        json!("reset_before"),
    ] {
        for method in ["crm.lead.get", "crm.lead.list"] {
            pipeline.portal.add_fault(&json!({ "method": method, "kind": kind, "times": 1 })).await.unwrap();
        }
    }
    pipeline.portal.add_leads(&mixed_leads(30)).await.unwrap();
    wait_for_notices(&pipeline, 30).await;
    assert_each_once(&pipeline).await;
    assert_nothing_left(&pipeline).await;
    assert!(!pipeline.portal.stats().await.unwrap().faults.is_empty());
}

#[tokio::test]
async fn a_portal_that_refuses_everybody_stops_consuming_until_it_is_mended() {
    let pipeline = start(&plan()).await;
    let refused = json!({ "error": { "status": 401, "code": "INVALID_CREDENTIALS", "description": "no" } });
    pipeline.portal.add_fault(&json!({ "method": "*", "kind": refused })).await.unwrap();
    pipeline.portal.add_leads(&mixed_leads(10)).await.unwrap();
    pipeline
        .wait_for("the router says that the portal refuses it", SOON, async || {
            let (status, text) = pipeline.ready("router-1").await?;
            Ok(status == 503 && text.contains("portal:acme") && text.contains("INVALID_CREDENTIALS"))
        })
        .await
        .unwrap();
    assert_eq!(pipeline.metric("router", "rota_portal_blocked", &[]).await.unwrap(), 1.0);

    pipeline.portal.clear_faults().await.unwrap();
    wait_for_notices(&pipeline, 10).await;
    assert_each_once(&pipeline).await;
    pipeline.wait_ready().await.unwrap();
    assert_nothing_left(&pipeline).await;
}

#[tokio::test]
async fn a_lead_that_the_portal_refuses_waits_for_a_human_and_holds_nobody_up() {
    let pipeline = start(&plan()).await;
    let refused = json!({ "error": { "status": 400, "code": "", "description": "Required field: phone" } });
    let fault = json!({ "method": "crm.lead.update", "kind": refused, "times": 2 });
    pipeline.portal.add_fault(&fault).await.unwrap();
    pipeline.portal.add_leads(&mixed_leads(1)).await.unwrap();
    let dead = ["portal=\"acme\"", "class=\"permanent\""];
    pipeline
        .wait_for("there is a dead letter", SOON, async || {
            Ok(pipeline.metric("router", "rota_dead_letters", &dead).await? == 1.0)
        })
        .await
        .unwrap();
    assert!(pipeline.log_text("router-1").contains("Required field: phone"), "with the portal's reason");
    pipeline.portal.add_leads(&mixed_leads(5)).await.unwrap();
    pipeline
        .wait_for("the others are assigned", SOON, async || {
            Ok(assignments(&pipeline, "assigned").await == 5.0)
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn what_people_do_meanwhile_is_kept() {
    let mut pipeline = start(&plan()).await;
    pipeline.stop("notifier-1").unwrap();
    let new = json!({ "leads": [{ "TITLE": "taken" }, { "TITLE": "deleted" }, { "TITLE": "ours" },
                                { "TITLE": "converted", "STATUS_ID": "CONVERTED" }] });
    let leads = pipeline.portal.add_leads(&new).await.unwrap();
    pipeline
        .wait_for("all are decided", SOON, async || {
            Ok(pipeline.metric("router", "rota_decisions_total", &[]).await? == 4.0)
        })
        .await
        .unwrap();
    pipeline.portal.change_lead(leads[0], &json!({ "ASSIGNED_BY_ID": "20" })).await.unwrap();
    pipeline.portal.delete_lead(leads[1]).await.unwrap();
    // What the router saw is believed for five seconds, by the clock.
    tokio::time::sleep(Duration::from_secs(5)).await;
    pipeline.start_again("notifier-1").unwrap();
    wait_for_notices(&pipeline, 1).await;
    crate::unseen::said_long_ago(&pipeline, leads[1], Unseen::Missing).await;
    for outcome in ["kept_by_person", "deleted", "assigned"] {
        let ended = async || Ok(assignments(&pipeline, outcome).await == 1.0);
        pipeline.wait_for(&format!("one is {outcome}"), SOON, ended).await.unwrap();
    }
    assert_nothing_left(&pipeline).await;
    let left = pipeline.portal.leads().await.unwrap();
    assert_eq!(left[0].text("ASSIGNED_BY_ID"), "20");
    assert!(left[2].history.is_empty(), "a converted lead is left alone: {:?}", left[2].history);
    assert_eq!(pipeline.metric("router", "rota_decisions_total", &["outcome=\"skip\""]).await.unwrap(), 1.0);
}

#[tokio::test]
async fn leads_whose_events_are_all_lost_are_found_and_older_ones_left_alone() {
    let mut plan = plan();
    plan.portal = json!({ "event_loss": 1.0 });
    plan.config = plan.config.replace("every: 0s", "every: 1s");
    let pipeline = start(&plan).await;
    pipeline
        .wait_for("the first scan has noted where our leads begin", SOON, async || {
            Ok(pipeline.log_text("ingest").contains("sweep.started"))
        })
        .await
        .unwrap();
    pipeline.portal.add_leads(&mixed_leads(20)).await.unwrap();
    wait_for_notices(&pipeline, 20).await;
    assert_each_once(&pipeline).await;
    assert_eq!(pipeline.metric("ingest", "rota_sweep_found_total", &[]).await.unwrap(), 20.0);
    assert_nothing_left(&pipeline).await;
}

#[tokio::test]
async fn killed_processes_and_lost_answers_lose_no_lead_and_double_at_most_one_notice_a_pack() {
    const LEADS: usize = 60;
    let mut plan = plan();
    plan.portal =
        json!({ "event_copies": 2, "event_delay_ms": [0, 3000], "cost_ms": { "crm.lead.update": 20 } });
    let mut pipeline = start(&plan).await;
    let lost = json!({ "method": "batch", "kind": "answer_lost", "every": 3, "times": 2 });
    pipeline.portal.add_fault(&lost).await.unwrap();
    pipeline.portal.add_leads(&mixed_leads(LEADS)).await.unwrap();
    let mut kills = 0;
    for at in [5, 15, 30] {
        wait_for_notices(&pipeline, at).await;
        for stage in ["router-1", "notifier-1"] {
            pipeline.kill(stage).unwrap();
            pipeline.start_again(stage).unwrap();
        }
        kills += 1;
        pipeline.wait_ready().await.unwrap();
    }
    pipeline
        .wait_for("all leads are assigned and told", SOON, async || {
            let notices = pipeline.portal.notifications().await?;
            let told: std::collections::BTreeSet<_> =
                notices.into_iter().filter_map(|notice| notice.tag).collect();
            let owned = pipeline.portal.leads().await?;
            Ok(told.len() == LEADS && owned.iter().all(|lead| lead.history.len() == 1))
        })
        .await
        .unwrap();
    wait_until_all_is_over(&pipeline, 3).await;
    let lost = pipeline.portal.stats().await.unwrap().faults.get("answer_lost").copied().unwrap_or_default();
    let notices = pipeline.portal.notifications().await.unwrap().len();
    // Four packs can be under way when a notifier is killed.
    let doubled_at_most = usize::try_from(lost).unwrap() + 4 * kills;
    assert!((LEADS..=LEADS + doubled_at_most).contains(&notices), "{notices} notices, {lost} answers lost");
    assert_no_dead_letters(&pipeline).await;
}

#[tokio::test]
async fn when_every_fifth_answer_is_lost_all_leads_are_assigned_once_and_one_notice_a_pack_is_in_doubt() {
    const LEADS: usize = 150;
    let mut plan = plan();
    plan.notifiers = 2;
    // So many attempts that no lead's message is the unlucky one each time, in whatever order the requests come.
    plan.config = plan.config.replace("[1s, 2s, 3s]", "[1s, 2s, 3s, 4s, 5s, 6s, 7s, 8s]");
    let pipeline = start(&plan).await;
    pipeline.portal.add_fault(&json!({ "method": "*", "kind": "answer_lost", "every": 5 })).await.unwrap();
    pipeline.portal.add_leads(&mixed_leads(LEADS)).await.unwrap();
    pipeline
        .wait_for("all leads are assigned and told", SOON, async || {
            let notices = pipeline.portal.notifications().await?;
            let told: std::collections::BTreeSet<_> =
                notices.into_iter().filter_map(|notice| notice.tag).collect();
            Ok(told.len() == LEADS
                && pipeline.portal.leads().await?.iter().all(|lead| lead.history.len() == 1))
        })
        .await
        .unwrap();
    // The lost packs that are still to be cleared up may repeat theirs, and that answer may be lost too.
    wait_until_all_is_over(&pipeline, 8).await;
    let lost = pipeline.portal.stats().await.unwrap().faults["answer_lost"];
    assert!(lost > 0);
    let notices = pipeline.portal.notifications().await.unwrap().len();
    let doubled_at_most = usize::try_from(lost).unwrap();
    assert!((LEADS..=LEADS + doubled_at_most).contains(&notices), "{notices} notices, {lost} answers lost");
    let owners = pipeline.portal.leads().await.unwrap();
    assert!(owners.iter().all(|lead| lead.history.len() == 1), "no owner was set twice");
    assert_no_dead_letters(&pipeline).await;
}

#[tokio::test]
async fn requests_that_failed_without_running_are_cleared_up_and_double_no_notice() {
    const LEADS: usize = 40;
    let mut plan = plan();
    plan.notifiers = 2;
    let mut pipeline = start(&plan).await;
    for notifier in ["notifier-1", "notifier-2"] {
        pipeline.stop(notifier).unwrap();
    }
    pipeline.portal.add_leads(&mixed_leads(LEADS)).await.unwrap();
    pipeline
        .wait_for("all are decided", SOON, async || {
            Ok(pipeline.metric("router", "rota_decisions_total", &[]).await? == 40.0)
        })
        .await
        .unwrap();
    let fails = json!({ "answer": { "status": 500, "body": "<html>Internal Server Error</html>" } });
    pipeline.portal.add_fault(&json!({ "method": "batch", "kind": fails, "times": 3 })).await.unwrap();
    for notifier in ["notifier-1", "notifier-2"] {
        pipeline.start_again(notifier).unwrap();
    }
    wait_for_all(&pipeline, LEADS).await;
    assert_nothing_left(&pipeline).await;
    assert_eq!(pipeline.portal.stats().await.unwrap().faults["answer"], 3);
    assert_each_once(&pipeline).await;
    let log = pipeline.log_text("notifier-1") + &pipeline.log_text("notifier-2");
    assert!(log.contains("pack.cleared_up"), "a request that may have run is not simply repeated");
    assert_eq!(assignments(&pipeline, "assigned").await, 40.0, "what is counted as assigned is");
}

#[tokio::test]
async fn one_lead_that_makes_every_request_fail_takes_no_other_with_it() {
    const LEADS: usize = 12;
    let mut plan = plan();
    // As many tries as there are by default, so that the pack is halved until the lead is alone.
    plan.config = plan.config.replace("[1s, 2s, 3s]", "[1s, 2s, 3s, 4s, 5s]");
    let mut pipeline = start(&plan).await;
    pipeline.stop("notifier-1").unwrap();
    let refused = json!({ "error": { "status": 413, "code": "ERROR_ARGUMENT", "description": "too large" } });
    let fault = json!({ "method": "batch", "kind": refused, "containing": "Poisonous" });
    pipeline.portal.add_fault(&fault).await.unwrap();
    let poisonous = json!({ "leads": [{ "TITLE": "Poisonous" }] });
    let bad = pipeline.portal.add_leads(&poisonous).await.unwrap()[0];
    pipeline.portal.add_leads(&mixed_leads(LEADS)).await.unwrap();
    pipeline
        .wait_for("all are decided", SOON, async || {
            Ok(pipeline.metric("router", "rota_decisions_total", &[]).await? == 13.0)
        })
        .await
        .unwrap();
    pipeline.start_again("notifier-1").unwrap();
    let dead = ["portal=\"acme\"", "class=\"permanent\""];
    pipeline
        .wait_for("the bad one is a dead letter", HANG, async || {
            Ok(pipeline.metric("router", "rota_dead_letters", &dead).await? == 1.0)
        })
        .await
        .unwrap();
    wait_for_all(&pipeline, LEADS).await;
    let leads = pipeline.portal.leads().await.unwrap();
    let given = |lead: &&e2e::portal::PortalLead| !lead.history.is_empty();
    assert_eq!(leads.iter().filter(given).count(), LEADS);
    let store = Postgres::prepare(&pipeline.database_url.clone().into(), 1).unwrap();
    let letters = store.dead_letters(10).await.unwrap();
    assert_eq!(
        letters.iter().filter_map(|letter| letter.lead).map(common::ids::LeadId::get).collect::<Vec<_>>(),
        [bad]
    );
    assert!(letters[0].reason.contains("ERROR_ARGUMENT"), "{}", letters[0].reason);
}

#[tokio::test]
async fn a_portal_that_knows_no_references_in_batches_gets_its_leads_the_plain_way() {
    let mut plan = plan();
    plan.portal = json!({ "batch_references": false });
    let pipeline = start(&plan).await;
    for number in 1..=3 {
        pipeline.portal.add_leads(&mixed_leads(1)).await.unwrap();
        wait_for_notices(&pipeline, number).await;
    }
    assert_each_once(&pipeline).await;
    assert_nothing_left(&pipeline).await;
    let plainly = pipeline.metric("notifier", "rota_plain_writes_total", &[]).await.unwrap();
    assert_eq!(plainly, 1.0, "it is not tried again");
}

/// Waits until so many leads are given and told.
async fn wait_for_all(pipeline: &Pipeline, leads: usize) {
    pipeline
        .wait_for("all leads are assigned and told", HANG, async || {
            let notices = pipeline.portal.notifications().await?;
            let told: std::collections::BTreeSet<_> =
                notices.into_iter().filter_map(|notice| notice.tag).collect();
            let given = pipeline.portal.leads().await?;
            Ok(told.len() == leads && given.iter().filter(|lead| lead.history.len() == 1).count() == leads)
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_person_who_takes_a_lead_between_our_look_and_our_write_keeps_it() {
    let mut plan = plan();
    // Right after the router has read a lead, somebody takes it: every third time.
    plan.portal = json!({ "robots": [
        { "after": "crm.lead.get", "fields": { "ASSIGNED_BY_ID": "20" }, "every": 3 }
    ] });
    let pipeline = start(&plan).await;
    for number in 1..=6 {
        pipeline.portal.add_leads(&mixed_leads(1)).await.unwrap();
        pipeline
            .wait_for("the lead is over", SOON, async || {
                Ok(pipeline.metric("notifier", "rota_assignments_total", &[]).await? == f64::from(number))
            })
            .await
            .unwrap();
    }
    assert_eq!(assignments(&pipeline, "kept_by_person").await, 2.0);
    let leads = pipeline.portal.leads().await.unwrap();
    let owners: Vec<&str> = leads.iter().map(|lead| lead.text("ASSIGNED_BY_ID")).collect();
    assert_eq!((owners[2], owners[5]), ("20", "20"), "{owners:?}");
    let notices = pipeline.portal.notifications().await.unwrap();
    assert_eq!(notices.len(), 4, "nobody is told about a lead that is not theirs");
    // Two requests a lead, and a look more where it was taken.
    assert!(pipeline.portal.spent().await.unwrap() <= 6 * 2 + 2 * 2);
}

#[tokio::test]
async fn many_leads_of_one_person_become_one_notice() {
    let mut plan = plan();
    plan.portal_keys = vec!["notify: { digest_over: 3 }".to_owned()];
    let mut pipeline = start(&plan).await;
    pipeline.stop("notifier-1").unwrap();
    let new = json!({ "count": 20, "fields": { "SOURCE_ID": "SITE_MOSCOW" } });
    pipeline.portal.add_leads(&new).await.unwrap();
    pipeline
        .wait_for("all are decided", SOON, async || {
            Ok(pipeline.metric("router", "rota_decisions_total", &[]).await? == 20.0)
        })
        .await
        .unwrap();
    pipeline.start_again("notifier-1").unwrap();
    pipeline.wait_ready().await.unwrap();
    pipeline
        .wait_for("all are assigned", SOON, async || Ok(assignments(&pipeline, "assigned").await == 20.0))
        .await
        .unwrap();
    let notices = pipeline.portal.notifications().await.unwrap();
    assert!(notices.len() <= 10, "{notices:?}");
    let links: usize = notices.iter().map(|notice| notice.message.matches("[URL=").count()).sum();
    assert_eq!(links, 20, "each lead is in one of them");
    assert_nothing_left(&pipeline).await;
}

#[tokio::test]
async fn a_notice_that_is_refused_for_a_moment_is_sent_later_and_once() {
    let pipeline = start(&plan()).await;
    let refused = json!({ "error": { "status": 401, "code": "CONNECTION_ERROR", "description": "" } });
    let fault = json!({ "method": "im.notify.personal.add", "kind": refused, "times": 2 });
    pipeline.portal.add_fault(&fault).await.unwrap();
    // Of two people: what one person is told later, of leads that are theirs by then, may be one notice.
    pipeline.portal.add_leads(&mixed_leads(2)).await.unwrap();
    wait_for_notices(&pipeline, 2).await;
    assert_each_once(&pipeline).await;
    assert_nothing_left(&pipeline).await;
    let retried = ["settled=\"delay\"", "class=\"transient\""];
    assert!(pipeline.metric("notifier", "rota_messages_processed_total", &retried).await.unwrap() >= 2.0);
}

#[tokio::test]
async fn a_message_that_nobody_can_read_is_buried_untouched_and_holds_nobody_up() {
    let pipeline = start(&plan()).await;
    let garbage = b"{\"type\":\"lead-event\",\"version\":99}\xff";
    for queue in ["lead-events", "assignments"] {
        publish(&format!("{}.{}.{queue}", pipeline.prefix, e2e::harness::PORTAL), garbage).await;
    }
    pipeline.portal.add_leads(&mixed_leads(5)).await.unwrap();
    wait_for_notices(&pipeline, 5).await;
    assert_each_once(&pipeline).await;
    let dead = ["portal=\"\"", "class=\"poison\""];
    pipeline
        .wait_for("both are dead letters", SOON, async || {
            Ok(pipeline.metric("router", "rota_dead_letters", &dead).await? == 2.0)
        })
        .await
        .unwrap();
    let store = Postgres::prepare(&pipeline.database_url.clone().into(), 1).unwrap();
    for letter in store.dead_letters(10).await.unwrap() {
        assert_eq!(letter.body, garbage, "{}", letter.reason);
    }
    assert!(crate::common_parts::queued(&pipeline).await.unwrap().values().all(|count| *count == 0));
}

#[tokio::test]
async fn processes_that_are_told_to_stop_finish_what_is_in_hand_and_double_nothing() {
    const LEADS: usize = 60;
    let mut plan = plan();
    plan.portal = json!({ "event_delay_ms": [0, 3000], "cost_ms": { "crm.lead.update": 20 } });
    let mut pipeline = start(&plan).await;
    pipeline.portal.add_leads(&mixed_leads(LEADS)).await.unwrap();
    for at in [5, 20, 35] {
        wait_for_notices(&pipeline, at).await;
        for stage in ["router-1", "notifier-1"] {
            pipeline.stop(stage).unwrap();
            pipeline.start_again(stage).unwrap();
        }
        // Before it listens to signals, a process simply ends by one.
        pipeline.wait_ready().await.unwrap();
    }
    wait_for_notices(&pipeline, LEADS).await;
    assert_each_once(&pipeline).await;
    assert_nothing_left(&pipeline).await;
}

/// Waits until no lead's assignment is open, by the store itself, and no message waits.
async fn wait_until_all_is_over(pipeline: &Pipeline, delays: u64) {
    let store = Postgres::prepare(&pipeline.database_url.clone().into(), 1).unwrap();
    let acme = e2e::harness::PORTAL.parse().unwrap();
    pipeline
        .wait_for("nothing is under way any more", SOON, async || {
            let waiting = store.waiting(&acme, SystemClock.now()).await?;
            Ok(waiting.oldest.is_none()
                && queued_with(pipeline, delays).await?.values().all(|count| *count == 0))
        })
        .await
        .unwrap();
}
