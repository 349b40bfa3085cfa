//! The portal's own robot "Outgoing webhook" asks for a lead to be given.

use std::time::Duration;

use common::broker::Message;
use common::clock::{Clock as _, SystemClock};
use common::ids::{LeadId, PortalName};
use common::messages::{Epoch, EventSource, LeadEvent};
use e2e::harness::{PORTAL, Pipeline};
use e2e::portal::{client, send};
use serde_json::json;
use sqlx::{Connection as _, PgConnection, PgPool};
use store::postgres::Postgres;
use store::{Givings as _, NewGiving};

use crate::common_parts::{SOON, assert_nothing_left, assert_spent, plan, publish, start, wait_for_notices};

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
    // Who gets it is told, and who loses it.
    wait_for_notices(&pipeline, 3).await;
    assert_eq!(owners(&pipeline, 0).await, ["11", "20"]);
    assert_eq!(robot(&pipeline, &format!("key={KEY}"), &document).await, accepted);
    wait_for_notices(&pipeline, 5).await;
    assert_eq!(owners(&pipeline, 0).await, ["11", "20", "12"], "in turn");
    assert_eq!(robot(&pipeline, &format!("key={KEY}"), &document).await, accepted);
    wait_for_notices(&pipeline, 7).await;
    assert_eq!(owners(&pipeline, 0).await, ["11", "20", "12", "11"]);
    for (giving, loser, now) in [(1, 11, "head"), (2, 20, "petrov"), (3, 12, "ivanov")] {
        let tag = format!("{PORTAL}/{}/{giving}/taken", ids[0]);
        let notices = pipeline.portal.notifications().await.unwrap();
        let lost: Vec<_> = notices.iter().filter(|notice| notice.tag.as_deref() == Some(&tag)).collect();
        let [lost] = lost.as_slice() else { panic!("{tag}: {lost:?}") };
        let says = format!("was given to {now}: a robot of the portal asked for it.");
        assert!(lost.user == loser && lost.message.ends_with(&says), "{lost:?}");
    }

    // A lead that nobody decided yet, because its event is lost, goes where the robot says, once.
    let new = json!({ "count": 1, "events": false });
    let lost = pipeline.portal.add_leads(&new).await.unwrap()[0];
    assert_eq!(robot(&pipeline, &format!("key={KEY}&queue=vip"), &format!("LEAD_{lost}")).await, accepted);
    wait_for_notices(&pipeline, 8).await;
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
    assert_spent(&pipeline.portal, "robots: 19 givings", 75).await;
}

/// The lead was read with the owner of before, and the earlier giving ended before the decision: found by chance, as a robot's
/// call that came to nothing.
#[tokio::test]
async fn an_earlier_giving_that_ends_between_reading_and_deciding_is_no_persons_choice() {
    let mut plan = plan();
    plan.routing = ROUTING.to_owned();
    let mut pipeline = start(&plan).await;
    pipeline.stop("notifier-1").unwrap();
    let lead = pipeline.portal.add_leads(&json!({ "count": 1 })).await.unwrap()[0];
    let decided = async || Ok(pipeline.metric("router", "rota_messages_processed_total", &[]).await? == 1.0);
    pipeline.wait_for("the first giving is decided", SOON, decided).await.unwrap();

    let (acme, lead): (PortalName, _) = (PORTAL.parse().unwrap(), LeadId::new(lead).unwrap());
    let store = Postgres::prepare(&pipeline.database_url.clone().into(), 1).unwrap();
    let now = SystemClock.now();
    let asked = NewGiving::of_robot("by hand", Some("vip"), now);
    assert_eq!(store.give_again(&acme, lead, &asked).await.unwrap(), Some(Epoch(2)));
    // Nobody decides meanwhile.
    let database = PgPool::connect(&pipeline.database_url).await.unwrap();
    let mut holder = PgConnection::connect(&pipeline.database_url).await.unwrap();
    let mut held = holder.begin().await.unwrap();
    sqlx::query("SELECT FROM deciding WHERE portal = $1 FOR UPDATE")
        .bind(PORTAL)
        .execute(&mut *held)
        .await
        .unwrap();
    let event = LeadEvent { epoch: Some(Epoch(2)), ..LeadEvent::of(lead, EventSource::Replay) };
    let queue = format!("{}.{PORTAL}.lead-events", pipeline.prefix);
    publish(&queue, &Message::lead_event(&acme, event, now, now).body).await;
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity
                                WHERE datname = current_database() AND wait_event_type = 'Lock')";
    pipeline
        .wait_for("it is read or put off", SOON, async || {
            Ok(sqlx::query_scalar(waits).fetch_one(&database).await?
                || pipeline
                    .log_text("router-1")
                    .contains("an earlier giving of the lead is still carried out"))
        })
        .await
        .unwrap();
    pipeline.start_again("notifier-1").unwrap();
    wait_for_notices(&pipeline, 1).await;
    held.rollback().await.unwrap();
    pipeline
        .wait_for("it is the head's", SOON, async || {
            Ok(pipeline.portal.leads().await?[0].text("ASSIGNED_BY_ID") == "20")
        })
        .await
        .unwrap();
    assert_eq!(owners(&pipeline, 0).await, ["11", "20"]);
}

#[tokio::test]
async fn a_robot_without_the_key_or_on_another_entity_is_refused() {
    let mut plan = plan();
    plan.portal_keys.push(format!("robot_key: {KEY}"));
    let pipeline = start(&plan).await;
    let key = format!("key={KEY}");
    let forbidden = (403, "forbidden\n".to_owned());
    // Also one that names no queue there is: who has no key is told nothing.
    for query in ["", "key=", "key=5f0c4a9d2be17f37", "queue=main", "queue=wip"] {
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

#[tokio::test]
async fn a_robot_that_names_no_queue_there_is_is_told_and_a_new_queue_is_known_at_once() {
    let mut plan = plan();
    plan.routing = ROUTING.to_owned();
    plan.portal_keys.push(format!("robot_key: {KEY}"));
    let pipeline = start(&plan).await;
    let lead = pipeline.portal.add_leads(&json!({ "count": 1 })).await.unwrap()[0];
    wait_for_notices(&pipeline, 1).await;
    let ask = async |queue: &str| {
        robot(&pipeline, &format!("key={KEY}&queue={queue}"), &format!("LEAD_{lead}")).await
    };
    // Only a database that takes longer than a second lets a wrong name pass, and is left alone for five.
    let mut passed = 0;
    let mut refused = async |queue: &str| loop {
        let answer = ask(queue).await;
        if answer.0 != 200 {
            return answer;
        }
        passed += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let text = "the routing that decides (version 1) has no queue `wip`; did you mean `vip`?\n";
    assert_eq!(refused("wip").await, (422, text.to_owned()));
    let text = "the routing that decides (version 1) has no queue `retail`; known: `main`, `vip`\n";
    assert_eq!(refused("retail").await, (422, text.to_owned()));
    let labels = ["outcome=\"unknown_queue\""];
    assert_eq!(pipeline.metric("ingest", "rota_events_received_total", &labels).await.unwrap(), 2.0);
    assert!(pipeline.log_text("ingest").contains("robot.unknown_queue"));
    assert!(passed > 0 || owners(&pipeline, 0).await == ["11"], "it stays where it is");

    // What was published a moment ago is no unknown name.
    let routing = ROUTING.replace("vip: {", "retail: { members: [petrov] }, vip: {");
    pipeline.write("new.yaml", &routing).unwrap();
    let output = pipeline.rota(&["publish", "new.yaml"]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(ask("retail").await, (200, "accepted\n".to_owned()));
    pipeline
        .wait_for("the lead is petrov's", SOON, async || {
            Ok(owners(&pipeline, 0).await.last().is_some_and(|owner| owner == "12"))
        })
        .await
        .unwrap();
}
