//! A portal gets a new address: it is followed where it may be, and waited for where it may not.

use e2e::harness::{Pipeline, Plan};
use serde_json::{Value, json};

use crate::common_parts::{SOON, assert_nothing_left, mixed_leads, plan, start, wait_for_notices};

/// The portal's host, `127.0.0.1:39000`.
fn configured(pipeline: &Pipeline) -> String {
    pipeline.portal.webhook_url.split('/').nth(2).unwrap().to_owned()
}

/// Its name at the same port.
fn another(pipeline: &Pipeline) -> String {
    configured(pipeline).replace("127.0.0.1", "localhost")
}

async fn rename(pipeline: &Pipeline, to: Option<String>) {
    pipeline.portal.change_settings(&json!({ "renamed_to": to })).await.unwrap();
}

/// What `rota portal addresses` lists.
fn addresses(pipeline: &Pipeline) -> Vec<Value> {
    let output = pipeline.rota(&["portal", "addresses", "--json"]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn said(pipeline: &Pipeline, arguments: &[&str]) -> (Option<i32>, String) {
    let output = pipeline.rota(arguments).unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

async fn moved(pipeline: &Pipeline, program: &str, followed: &str) -> f64 {
    let label = format!("followed=\"{followed}\"");
    pipeline.metric(program, "rota_portal_moved", &[&label]).await.unwrap()
}

#[tokio::test]
async fn a_renamed_portal_is_followed_and_remembered_by_all_stages_until_it_comes_back() {
    let mut pipeline = start(&plan()).await;
    let (_, text) = said(&pipeline, &["portal", "addresses"]);
    assert_eq!(text, "no portal has moved\n");
    rename(&pipeline, Some(another(&pipeline))).await;
    pipeline.portal.add_leads(&mixed_leads(5)).await.unwrap();
    wait_for_notices(&pipeline, 5).await;
    let renames = async |pipeline: &Pipeline, program| {
        pipeline.metric(program, "rota_portal_renames_total", &[]).await.unwrap()
    };
    assert!(renames(&pipeline, "router").await + renames(&pipeline, "notifier").await >= 1.0);
    let known = addresses(&pipeline);
    assert_eq!(known.len(), 1, "{known:?}");
    for (member, expected) in [
        ("portal", json!("acme")),
        ("configured", json!(configured(&pipeline))),
        ("host", json!(another(&pipeline))),
        ("used", json!(true)),
        ("why_not", Value::Null),
    ] {
        assert_eq!(known[0][member], expected, "{member}");
    }
    pipeline.stop("notifier-1").unwrap();
    pipeline.start_again("notifier-1").unwrap();
    pipeline.wait_ready().await.unwrap();
    pipeline.portal.add_leads(&mixed_leads(5)).await.unwrap();
    wait_for_notices(&pipeline, 10).await;
    assert_eq!(renames(&pipeline, "notifier").await, 0.0, "it knew");
    assert_eq!(moved(&pipeline, "notifier", "yes").await, 1.0, "and the configuration is still wrong");

    rename(&pipeline, Some(configured(&pipeline))).await;
    pipeline.portal.add_leads(&mixed_leads(5)).await.unwrap();
    wait_for_notices(&pipeline, 15).await;
    assert_eq!(addresses(&pipeline), Vec::<Value>::new(), "it came back");
    assert_nothing_left(&pipeline).await;
}

#[tokio::test]
async fn running_stages_learn_that_an_address_was_forgotten() {
    let asks_often =
        Plan { config: format!("{}\nroster: {{ every: 1s, absences_every: 1s }}", plan().config), ..plan() };
    let pipeline = start(&asks_often).await;
    rename(&pipeline, Some(another(&pipeline))).await;
    pipeline.portal.add_leads(&mixed_leads(2)).await.unwrap();
    wait_for_notices(&pipeline, 2).await;
    // Both names are the portal's: nothing but the command brings the stages back.
    rename(&pipeline, None).await;
    assert_eq!(moved(&pipeline, "router", "yes").await, 1.0);
    let (code, text) = said(&pipeline, &["portal", "forget-address", "nobody"]);
    assert_eq!(code, Some(65));
    assert!(text.contains("portal nobody has not moved; nothing was changed"), "{text}");
    let (code, text) = said(&pipeline, &["portal", "forget-address", "acme"]);
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "portal acme is asked at its configured address again, within a minute\n")
    );
    pipeline
        .wait_for("the router asks at the configured address", SOON, async || {
            Ok(pipeline.metric("router", "rota_portal_moved", &["followed=\"yes\""]).await? == 0.0)
        })
        .await
        .unwrap();
    pipeline.portal.add_leads(&mixed_leads(2)).await.unwrap();
    wait_for_notices(&pipeline, 4).await;
    assert_eq!(addresses(&pipeline), Vec::<Value>::new(), "and nobody has remembered it again");
    assert_nothing_left(&pipeline).await;
}

#[tokio::test]
async fn a_portal_that_points_elsewhere_is_waited_for_and_nothing_is_lost() {
    let pipeline = start(&plan()).await;
    rename(&pipeline, Some("portal.evil.test".to_owned())).await;
    pipeline.portal.add_leads(&mixed_leads(5)).await.unwrap();
    pipeline
        .wait_for("the router says so", SOON, async || {
            let (status, text) = pipeline.ready("router-1").await.unwrap_or_default();
            Ok(status == 503 && text.contains("points to portal.evil.test") && text.contains("webhook_url"))
        })
        .await
        .unwrap();
    assert_eq!(moved(&pipeline, "router", "no").await, 1.0);
    assert_eq!(addresses(&pipeline), Vec::<Value>::new());
    rename(&pipeline, None).await;
    wait_for_notices(&pipeline, 5).await;
    assert_eq!(moved(&pipeline, "router", "no").await, 0.0);
    let secret = pipeline.portal.webhook_url.trim_end_matches('/').rsplit('/').next().unwrap();
    assert!(!pipeline.log_text("router-1").contains(secret), "the secret is in the log");
    assert_nothing_left(&pipeline).await;
}
