//! The portal's own robot "Outgoing webhook" asks for a lead to be given.

use e2e::harness::{PORTAL, Pipeline};
use e2e::portal::{client, send};
use serde_json::json;

use crate::common_parts::{SOON, assert_nothing_left, assert_spent, plan, start, wait_for_notices};

const KEY: &str = "5f0c4a9d2be17f36";

const ROUTING: &str = "\
version: 1
people: { ivanov: { user: 11 }, petrov: { user: 12 }, head: { user: 20 } }
queues: { main: { members: [ivanov, petrov] }, vip: { members: [head] } }
default: { queue: main }
";

/// Posts as the robot does; `query` follows `robot?`.
async fn robot(pipeline: &Pipeline, query: &str, document: &str) -> (u16, String) {
    let url = format!("{}?{query}", pipeline.events_url.replace("/events", "/robot"));
    let body = format!(
        "document_id%5B0%5D=crm&document_id%5B1%5D=CCrmDocumentLead&document_id%5B2%5D={document}\
         &auth%5Bdomain%5D=acme.bitrix24.com&auth%5Bclient_endpoint%5D=https%3A%2F%2Facme.bitrix24.com%2Frest%2F\
         &auth%5Bserver_endpoint%5D=https%3A%2F%2Foauth.bitrix.info%2Frest%2F\
         &auth%5Bmember_id%5D=a223c6b3710f85df22e9377d6c4f7553"
    );
    let kind = "application/x-www-form-urlencoded";
    send(client().unwrap().post(url).header("content-type", kind).body(body)).await.unwrap()
}

async fn owners(pipeline: &Pipeline, lead: usize) -> Vec<String> {
    let leads = pipeline.portal.leads().await.unwrap();
    leads[lead].history.iter().map(|change| change.to.clone()).collect()
}

#[tokio::test]
async fn a_robot_gives_a_lead_again_by_the_rules_or_to_the_queue_it_names() {
    let mut plan = plan();
    plan.routing = ROUTING.to_owned();
    plan.portal_keys.push(format!("robot_key: {KEY}"));
    (plan.routers, plan.notifiers) = (2, 2);
    let pipeline = start(&plan).await;
    let ids = pipeline.portal.add_leads(&json!({ "count": 1 })).await.unwrap();
    wait_for_notices(&pipeline, 1).await;
    assert_eq!(owners(&pipeline, 0).await, ["11"]);

    let document = format!("LEAD_{}", ids[0]);
    let accepted = (200, "accepted\n".to_owned());
    assert_eq!(robot(&pipeline, &format!("key={KEY}&queue=vip"), &document).await, accepted);
    wait_for_notices(&pipeline, 2).await;
    assert_eq!(owners(&pipeline, 0).await, ["11", "20"]);
    assert_eq!(robot(&pipeline, &format!("key={KEY}"), &document).await, accepted);
    wait_for_notices(&pipeline, 3).await;
    assert_eq!(owners(&pipeline, 0).await, ["11", "20", "12"], "in turn");
    // A misspelt queue: by the rules, and it is said.
    assert_eq!(robot(&pipeline, &format!("key={KEY}&queue=wip"), &document).await, accepted);
    wait_for_notices(&pipeline, 4).await;
    assert_eq!(owners(&pipeline, 0).await, ["11", "20", "12", "11"]);
    let logs = pipeline.log_text("router-1") + &pipeline.log_text("router-2");
    assert!(logs.contains("robot.unknown_queue") && logs.contains("wip"), "it is logged");

    // A lead that nobody decided yet, because its event is lost, goes where the robot says, once.
    let new = json!({ "count": 1, "events": false });
    let lost = pipeline.portal.add_leads(&new).await.unwrap()[0];
    assert_eq!(robot(&pipeline, &format!("key={KEY}&queue=vip"), &format!("LEAD_{lost}")).await, accepted);
    wait_for_notices(&pipeline, 5).await;
    pipeline.portal.repeat_events(&[lost], 3).await.unwrap();
    // A dozen at once, as a robot on a stage does when many leads are moved: each lead goes where it is wanted.
    let many = pipeline.portal.add_leads(&json!({ "count": 12 })).await.unwrap();
    for lead in &many {
        assert_eq!(
            robot(&pipeline, &format!("key={KEY}&queue=vip"), &format!("LEAD_{lead}")).await,
            accepted
        );
    }
    pipeline
        .wait_for("all of them are the head's", SOON, async || {
            let leads = pipeline.portal.leads().await?;
            Ok(leads.iter().skip(1).all(|lead| lead.text("ASSIGNED_BY_ID") == "20"))
        })
        .await
        .unwrap();
    assert_nothing_left(&pipeline).await;
    for lead in 1..14 {
        let owners = owners(&pipeline, lead).await;
        assert!(owners.len() <= 2 && owners.last().is_some_and(|last| last == "20"), "{lead}: {owners:?}");
    }
    let mut tags: Vec<_> = pipeline.portal.notifications().await.unwrap();
    tags.retain(|notice| notice.tag.as_deref() == Some(&format!("{PORTAL}/{}/4", ids[0])));
    assert_eq!(tags.len(), 1, "each giving has its own tag");
    assert_spent(&pipeline.portal, "robots: 19 givings", 57).await;
}

#[tokio::test]
async fn a_robot_without_the_key_or_on_another_entity_is_refused() {
    let mut plan = plan();
    plan.portal_keys.push(format!("robot_key: {KEY}"));
    let pipeline = start(&plan).await;
    let key = format!("key={KEY}");
    let forbidden = (403, "forbidden\n".to_owned());
    for query in ["", "key=", "key=5f0c4a9d2be17f37", "queue=main"] {
        assert_eq!(robot(&pipeline, query, "LEAD_1").await, forbidden, "{query}");
    }
    let (status, text) = robot(&pipeline, &key, "DEAL_1").await;
    assert!(
        status == 400 && text.contains("\"DEAL_1\"") && text.contains("a stage of leads"),
        "{status} {text}"
    );
    let (status, text) = robot(&pipeline, &format!("{key}&queue={}", "q".repeat(201)), "LEAD_1").await;
    assert!(status == 400 && text.contains("longer than 200 bytes"), "{status} {text}");
    let messages = pipeline.metric("router", "rota_messages_processed_total", &[]).await.unwrap();
    assert_eq!(messages, 0.0);
    let log = pipeline.log_text("ingest");
    assert!(!log.contains(KEY), "no key in the log");
}
