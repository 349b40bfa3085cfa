//! A portal whose CRM keeps no leads: it says so, and whoever runs Rota hears of it.

use e2e::harness::{Pipeline, Plan};
use serde_json::json;

use crate::common_parts::{SOON, plan, start, wait_for_notices};

const WORDS: &str = "this portal turns leads into deals at once; Rota distributes leads";

const ROUTERS: [&str; 2] = ["router-1", "router-2"];

fn two_routers() -> Plan {
    let mut plan = plan();
    plan.routers = 2;
    plan.config.push_str("\nroster: { every: 1s, absences_every: 1s }");
    plan
}

fn start_again(pipeline: &mut Pipeline) {
    for router in ROUTERS {
        pipeline.stop(router).unwrap();
    }
    for router in ROUTERS {
        pipeline.start_again(router).unwrap();
    }
}

#[tokio::test]
async fn a_portal_without_leads_is_told_by_every_router_and_by_rota() {
    let mut pipeline = start(&two_routers()).await;
    assert_eq!(pipeline.metric("router", "rota_portal_without_leads", &[]).await.unwrap(), 0.0);
    // It is asked for at the start, by one of them; all of them know.
    pipeline.portal.change_settings(&json!({ "crm_mode": 2 })).await.unwrap();
    start_again(&mut pipeline);
    for router in ROUTERS {
        pipeline
            .wait_for("the router says so", SOON, async || {
                let (status, text) = pipeline.ready(router).await.unwrap_or_default();
                Ok(status == 503 && text.contains(WORDS))
            })
            .await
            .unwrap();
        let log = pipeline.log_text(router);
        let lines = log.lines().filter(|line| line.contains("portal.without_leads"));
        assert_eq!(lines.count(), 1, "{router}: once\n{log}");
    }
    assert_eq!(
        pipeline.metric("router", "rota_portal_without_leads", &["portal=\"acme\""]).await.unwrap(),
        2.0
    );
    for arguments in [&["people", "list"][..], &["versions"]] {
        let output = pipeline.rota(arguments).unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && text.contains(WORDS), "{arguments:?}: {text}");
    }
    // What comes there is a deal before anybody can distribute it, and it is counted as that.
    pipeline.portal.add_leads(&json!({ "count": 2 })).await.unwrap();
    pipeline
        .wait_for("both are skipped", SOON, async || {
            let labels = ["reason=\"converted\""];
            Ok(pipeline.metric("router", "rota_leads_skipped_total", &labels).await? >= 2.0)
        })
        .await
        .unwrap();
    assert_eq!(pipeline.portal.deals().await.unwrap().len(), 2);

    // Somebody switches leads on.
    pipeline.portal.change_settings(&json!({ "crm_mode": 1 })).await.unwrap();
    start_again(&mut pipeline);
    pipeline.wait_ready().await.unwrap();
    pipeline
        .wait_for("nobody complains any more", SOON, async || {
            let output = pipeline.rota(&["people", "list"])?;
            let without = pipeline.metric("router", "rota_portal_without_leads", &[]).await?;
            Ok(without < 0.5 && !String::from_utf8_lossy(&output.stderr).contains(WORDS))
        })
        .await
        .unwrap();
    pipeline.portal.add_leads(&json!({ "count": 1 })).await.unwrap();
    wait_for_notices(&pipeline, 1).await;
}

#[tokio::test]
async fn a_portal_that_does_not_tell_its_mode_is_served_as_ever() {
    let mut pipeline = start(&two_routers()).await;
    let refused = json!({ "error": { "status": 404, "code": "ERROR_METHOD_NOT_FOUND", "description": "" } });
    let fault = json!({ "method": "crm.settings.mode.get", "kind": refused });
    pipeline.portal.add_fault(&fault).await.unwrap();
    start_again(&mut pipeline);
    pipeline
        .wait_for("it is asked", SOON, async || {
            Ok(pipeline.log_text("router-1").contains("portal.mode_not_known")
                || pipeline.log_text("router-2").contains("portal.mode_not_known"))
        })
        .await
        .unwrap();
    pipeline.wait_ready().await.unwrap();
    pipeline.portal.add_leads(&json!({ "count": 3 })).await.unwrap();
    wait_for_notices(&pipeline, 3).await;
    assert_eq!(pipeline.metric("router", "rota_portal_without_leads", &[]).await.unwrap(), 0.0);
    let labels = ["source=\"people\"", "outcome=\"refused\""];
    assert_eq!(pipeline.metric("router", "rota_roster_questions_total", &labels).await.unwrap(), 0.0);
}
