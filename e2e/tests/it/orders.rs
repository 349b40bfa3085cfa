//! What a rule asks for besides the owner: fields that are set, and a deal in a funnel, once.

use e2e::harness::Pipeline;
use serde_json::{Value, json};

use crate::common_parts::{SOON, assert_each_once, assert_nothing_left, plan, start, wait_for_notices};

const ROUTING: &str = "\
version: 1
people: { ivanov: { user: 11 }, petrov: { user: 12 } }
rules:
  - name: Retargeting
    when: { utm_campaign: vk_retarget }
    assign: ivanov
    deal: { category: 5, stage: 'C5:NEW' }
    set: { status: IN_PROCESS, UF_CRM_TEAM: [3, north] }
  - { name: No such funnel, when: { utm_campaign: wrong }, assign: ivanov, deal: { category: 99 } }
  - { name: Fields only, when: { utm_campaign: fields }, assign: petrov, set: { comments: by rule } }
default: { assign: petrov }
";

async fn started() -> Pipeline {
    let mut plan = plan();
    plan.routing = ROUTING.replace("comments:", "COMMENTS:");
    start(&plan).await
}

async fn add(pipeline: &Pipeline, campaign: &str, more: Value) -> u64 {
    let mut lead = json!({ "TITLE": "Lead \"A & B\"", "UTM_CAMPAIGN": campaign, "OPPORTUNITY": "1000.50" });
    lead.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    pipeline.portal.add_leads(&json!({ "leads": [lead] })).await.unwrap()[0]
}

async fn wait_for_deals(pipeline: &Pipeline, count: usize, within: std::time::Duration) -> Vec<Value> {
    pipeline
        .wait_for(&format!("there are {count} deals"), within, async || {
            let done =
                pipeline.metric("notifier", "rota_assignments_total", &["outcome=\"assigned\""]).await?;
            #[expect(clippy::cast_precision_loss, reason = "a few")]
            Ok(pipeline.portal.deals().await?.len() >= count && done >= count as f64)
        })
        .await
        .unwrap();
    pipeline.portal.deals().await.unwrap()
}

#[tokio::test]
async fn fields_are_set_with_the_owner_and_a_deal_is_created_once() {
    let pipeline = started().await;
    let id = add(&pipeline, "vk_retarget", json!({ "SOURCE_ID": "WEB", "CURRENCY_ID": "RUB" })).await;
    let deals = wait_for_deals(&pipeline, 1, SOON).await;
    let mut deal = deals[0].clone();
    for time in ["createdTime", "updatedTime"] {
        deal.as_object_mut().unwrap().remove(time).unwrap();
    }
    assert_eq!(
        deal,
        json!({
            "id": 1, "title": "Lead \"A & B\"", "categoryId": 5, "stageId": "C5:NEW", "stageSemanticId": "P",
            "assignedById": 11, "leadId": id, "contactId": 0, "contactIds": [], "companyId": 0, "opportunity": 1000.5, "currencyId": "RUB", "sourceId": "WEB",
            "originatorId": "rota", "originId": format!("acme/{id}/1"),
        })
    );
    let lead = pipeline.portal.leads().await.unwrap().pop().unwrap();
    assert_eq!(lead.text("STATUS_ID"), "IN_PROCESS");
    assert_eq!(lead.fields["UF_CRM_TEAM"], json!(["3", "north"]));
    assert_each_once(&pipeline).await;

    // The owner is right already: the fields are written all the same.
    add(&pipeline, "fields", json!({ "ASSIGNED_BY_ID": "12" })).await;
    wait_for_notices(&pipeline, 2).await;
    let lead = pipeline.portal.leads().await.unwrap().pop().unwrap();
    assert_eq!((lead.text("COMMENTS"), lead.text("ASSIGNED_BY_ID")), ("by rule", "12"));

    // The same event again changes nothing.
    pipeline.portal.repeat_events(&[id], 3).await.unwrap();
    add(&pipeline, "", json!({})).await;
    wait_for_notices(&pipeline, 3).await;
    assert_nothing_left(&pipeline).await;
    assert_eq!(pipeline.portal.deals().await.unwrap().len(), 1);
    let stats = pipeline.portal.stats().await.unwrap();
    assert_eq!(stats.by_method.get("crm.item.list"), None, "nothing was in doubt: {stats:?}");
}

#[tokio::test]
async fn a_deal_whose_answer_was_lost_is_found_and_not_created_again() {
    let pipeline = started().await;
    let lost = json!({ "method": "crm.item.add", "kind": "answer_lost", "times": 1 });
    pipeline.portal.add_fault(&lost).await.unwrap();
    add(&pipeline, "vk_retarget", json!({})).await;
    // It may have run for a minute; before that nothing is concluded.
    let deals = wait_for_deals(&pipeline, 1, SOON * 2).await;
    assert_eq!(deals.len(), 1);
    assert_each_once(&pipeline).await;
    assert_nothing_left(&pipeline).await;
    let stats = pipeline.portal.stats().await.unwrap();
    assert_eq!(stats.by_method.get("crm.item.add"), Some(&1), "{stats:?}");
}

#[tokio::test]
async fn a_deal_refused_for_a_moment_is_created_without_a_second_notice() {
    let pipeline = started().await;
    let error = json!({ "status": 503, "code": "QUERY_LIMIT_EXCEEDED", "description": "Too many requests" });
    let refused = json!({ "method": "crm.item.add", "kind": { "error": error }, "times": 2 });
    pipeline.portal.add_fault(&refused).await.unwrap();
    add(&pipeline, "vk_retarget", json!({})).await;
    assert_eq!(wait_for_deals(&pipeline, 1, SOON).await.len(), 1);
    assert_each_once(&pipeline).await;
    assert_nothing_left(&pipeline).await;
}

#[tokio::test]
async fn a_portal_that_has_no_deals_blocks_no_lead() {
    let pipeline = started().await;
    let error =
        json!({ "status": 404, "code": "ERROR_METHOD_NOT_FOUND", "description": "Method not found!" });
    let refused = json!({ "method": "crm.item.add", "kind": { "error": error } });
    pipeline.portal.add_fault(&refused).await.unwrap();
    add(&pipeline, "vk_retarget", json!({})).await;
    let dead = ["portal=\"acme\"", "class=\"permanent\""];
    let is_dead = async || Ok(pipeline.metric("router", "rota_dead_letters", &dead).await? == 1.0);
    pipeline.wait_for("there is a dead letter", SOON * 3, is_dead).await.unwrap();
    assert_eq!(pipeline.ready("notifier-1").await.unwrap().0, 200, "the portal is not blocked");
    add(&pipeline, "fields", json!({})).await;
    wait_for_notices(&pipeline, 2).await;
    let log = pipeline.log_text("notifier-1");
    assert!(log.contains("the owner is set and told; creating the deal in funnel 5, stage C5:NEW"), "{log}");
}

#[tokio::test]
async fn a_funnel_that_does_not_exist_is_a_dead_letter_and_the_lead_has_its_owner() {
    let pipeline = started().await;
    add(&pipeline, "wrong", json!({})).await;
    let dead = ["portal=\"acme\"", "class=\"permanent\""];
    pipeline
        .wait_for("there is a dead letter", SOON, async || {
            Ok(pipeline.metric("router", "rota_dead_letters", &dead).await? == 1.0)
        })
        .await
        .unwrap();
    let shares = assert_each_once(&pipeline).await;
    assert_eq!(shares.get("11"), Some(&1), "{shares:?}");
    let log = pipeline.log_text("notifier-1");
    assert!(
        log.contains("the owner is set and told; creating the deal in funnel 99, stage the first"),
        "{log}"
    );
    assert!(pipeline.portal.deals().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lead_that_a_person_took_meanwhile_gets_neither_fields_nor_a_deal() {
    let mut pipeline = started().await;
    pipeline.kill("notifier-1").unwrap();
    let id = add(&pipeline, "vk_retarget", json!({})).await;
    pipeline
        .wait_for("it is decided", SOON, async || {
            Ok(pipeline.metric("router", "rota_decisions_total", &["outcome=\"assign\""]).await? >= 1.0)
        })
        .await
        .unwrap();
    pipeline.portal.change_lead(id, &json!({ "ASSIGNED_BY_ID": "15" })).await.unwrap();
    pipeline.start_again("notifier-1").unwrap();
    pipeline
        .wait_for("the person's choice is kept", SOON, async || {
            let kept = ["outcome=\"kept_by_person\""];
            Ok(pipeline.metric("notifier", "rota_assignments_total", &kept).await.unwrap_or_default() >= 1.0)
        })
        .await
        .unwrap();
    let lead = pipeline.portal.leads().await.unwrap().pop().unwrap();
    assert_eq!((lead.text("ASSIGNED_BY_ID"), lead.text("STATUS_ID")), ("15", "NEW"));
    assert!(pipeline.portal.deals().await.unwrap().is_empty());
    assert!(pipeline.portal.notifications().await.unwrap().is_empty());
}
