//! Leads that the portal does not show, and those that spoil the answer for others.

use std::time::Duration;

use e2e::harness::Pipeline;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use store::postgres::Postgres;
use store::{DeadLetters as _, Unseen};

use crate::common_parts::{
    assert_each_once, assert_nothing_left, mixed_leads, plan, start, wait_for_notices,
};

/// For what must come; how fast is not asked.
const PATIENCE: Duration = Duration::from_mins(5);

/// Waits until the portal's word about this lead is noted, and makes it three minutes older.
pub async fn said_long_ago(pipeline: &Pipeline, lead: u64, unseen: Unseen) {
    let database = pipeline.database_url.clone();
    pipeline
        .wait_for(&format!("lead {lead} is noted as {}", unseen.as_str()), PATIENCE, async || {
            let mut connection = PgConnection::connect(&database).await?;
            let moved = sqlx::query(
                "UPDATE unseen_leads SET since = since - interval '3 minutes' WHERE lead_id = $1 AND kind = $2",
            )
            .bind(i64::try_from(lead)?)
            .bind(unseen.as_str())
            .execute(&mut connection)
            .await?;
            connection.close().await?;
            Ok(moved.rows_affected() == 1)
        })
        .await
        .unwrap();
}

async fn skipped(pipeline: &Pipeline) -> f64 {
    pipeline.metric("router", "rota_decisions_total", &["outcome=\"skip\""]).await.unwrap()
}

/// Adds these leads while no router runs, so that they are read together.
async fn add_together(pipeline: &mut Pipeline, new: &serde_json::Value) -> Vec<u64> {
    pipeline.stop("router-1").unwrap();
    let leads = pipeline.portal.add_leads(new).await.unwrap();
    pipeline
        .wait_for("all events are there", PATIENCE, async || {
            let accepted = pipeline.metric("ingest", "rota_events_received_total", &["accepted"]).await?;
            Ok(accepted >= leads.iter().map(|_| 1.0).sum::<f64>())
        })
        .await
        .unwrap();
    leads
}

#[tokio::test]
async fn leads_that_are_hidden_from_the_webhooks_owner_wait_for_the_right_and_are_given() {
    let mut plan = plan();
    plan.portal = json!({ "hidden_leads": [2, 3, 5] });
    let mut pipeline = start(&plan).await;
    add_together(&mut pipeline, &mixed_leads(8)).await;
    pipeline.start_again("router-1").unwrap();
    wait_for_notices(&pipeline, 5).await;
    pipeline
        .wait_for("the router says that not all leads are seen", PATIENCE, async || {
            let (status, text) = pipeline.ready("router-1").await?;
            Ok(status == 503 && text.contains("may not see all leads of portal acme: 3 of those"))
        })
        .await
        .unwrap();
    assert_eq!(pipeline.metric("router", "rota_hidden_leads", &[]).await.unwrap(), 3.0);
    assert_eq!(skipped(&pipeline).await, 0.0, "hidden is not deleted");

    pipeline.portal.change_settings(&json!({ "hidden_leads": [] })).await.unwrap();
    wait_for_notices(&pipeline, 8).await;
    assert_each_once(&pipeline).await;
    assert_nothing_left(&pipeline).await;
    pipeline.wait_ready().await.unwrap();
    assert_eq!(pipeline.metric("router", "rota_hidden_leads", &[]).await.unwrap(), 0.0);
}

#[tokio::test]
async fn a_lead_that_is_hidden_after_the_decision_waits_for_the_right() {
    let mut pipeline = start(&plan()).await;
    pipeline.stop("notifier-1").unwrap();
    let leads = pipeline.portal.add_leads(&mixed_leads(6)).await.unwrap();
    pipeline
        .wait_for("all are decided", PATIENCE, async || {
            Ok(pipeline.metric("router", "rota_decisions_total", &[]).await? == 6.0)
        })
        .await
        .unwrap();
    pipeline.portal.change_settings(&json!({ "hidden_leads": [leads[0], leads[4]] })).await.unwrap();
    pipeline.start_again("notifier-1").unwrap();
    wait_for_notices(&pipeline, 4).await;
    for lead in [leads[0], leads[4]] {
        // Also a day would not be too long, but this one is over.
        said_long_ago(&pipeline, lead, Unseen::Hidden).await;
    }
    let deleted = pipeline.metric("notifier", "rota_assignments_total", &["deleted"]).await.unwrap();
    assert_eq!(deleted, 0.0, "hidden is not deleted");
    pipeline.portal.change_settings(&json!({ "hidden_leads": [] })).await.unwrap();
    pipeline
        .wait_for("all are assigned", PATIENCE, async || {
            Ok(pipeline.portal.leads().await?.iter().all(|lead| lead.history.len() == 1))
        })
        .await
        .unwrap();
    assert_nothing_left(&pipeline).await;
}

#[tokio::test]
async fn a_lead_is_deleted_when_the_portal_has_said_so_for_some_minutes() {
    for code in ["", "NOT_FOUND"] {
        let mut plan = plan();
        plan.portal = json!({ "not_found_code": code });
        let mut pipeline = start(&plan).await;
        let leads = add_together(&mut pipeline, &mixed_leads(3)).await;
        pipeline.portal.delete_lead(leads[1]).await.unwrap();
        pipeline.start_again("router-1").unwrap();
        wait_for_notices(&pipeline, 2).await;
        assert_eq!(skipped(&pipeline).await, 0.0, "the first word is not believed yet");
        said_long_ago(&pipeline, leads[1], Unseen::Missing).await;
        pipeline
            .wait_for("the lead is over", PATIENCE, async || Ok(skipped(&pipeline).await == 1.0))
            .await
            .unwrap();
        assert_nothing_left(&pipeline).await;
    }
}

#[tokio::test]
async fn of_leads_that_are_read_together_only_the_bad_one_becomes_a_dead_letter() {
    const LEADS: usize = 60;
    let mut pipeline = start(&plan()).await;
    let mut new = mixed_leads(LEADS);
    // Nobody asks for the comments of the first, but the title of the second is needed.
    new["leads"][10]["COMMENTS"] = json!("\u{ffff}");
    new["leads"][20]["TITLE"] = json!("\u{ffff}");
    let leads = add_together(&mut pipeline, &new).await;
    pipeline.start_again("router-1").unwrap();
    wait_for_notices(&pipeline, LEADS - 1).await;
    pipeline
        .wait_for("the bad one is a dead letter", PATIENCE, async || {
            Ok(pipeline.metric("router", "rota_dead_letters", &["transient"]).await? == 1.0)
        })
        .await
        .unwrap();
    let store = Postgres::prepare(&pipeline.database_url.clone().into(), 1).unwrap();
    let dead = store.dead_letters(10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].lead.map(common::ids::LeadId::get), Some(leads[20]));
    assert!(dead[0].reason.contains("WRONG_ENCODING"), "{}", dead[0].reason);
    let given = pipeline.portal.leads().await.unwrap();
    assert_eq!(given.iter().filter(|lead| lead.history.len() == 1).count(), LEADS - 1);
}

#[tokio::test]
async fn a_portal_of_which_nothing_can_be_read_is_said_to_be_so() {
    let pipeline = start(&plan()).await;
    pipeline.portal.add_fault(&json!({ "method": "*", "kind": "php_warning" })).await.unwrap();
    pipeline.portal.add_leads(&mixed_leads(10)).await.unwrap();
    pipeline
        .wait_for("the router says that nothing can be read", PATIENCE, async || {
            let (status, text) = pipeline.ready("router-1").await?;
            Ok(status == 503 && text.contains("portal acme has answered nothing that can be read"))
        })
        .await
        .unwrap();
    assert_eq!(pipeline.metric("router", "rota_portal_unreadable", &[]).await.unwrap(), 1.0);
    pipeline.portal.clear_faults().await.unwrap();
    pipeline.portal.add_leads(&mixed_leads(3)).await.unwrap();
    wait_for_notices(&pipeline, 3).await;
    pipeline.wait_ready().await.unwrap();
    assert_eq!(pipeline.metric("router", "rota_portal_unreadable", &[]).await.unwrap(), 0.0);
}
