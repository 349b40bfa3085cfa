//! What the tests of the whole pipeline share.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::harness::{Pipeline, Plan};
use e2e::portal::{Notification, PortalControl, PortalLead};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use store::postgres::Postgres;
use store::{DeadLetters as _, LetterFilter};

/// How long a test waits for what must come.
pub const SOON: Duration = e2e::HANG;

/// Three people in turn, one with twice the weight; two rules beside the default.
pub const ROUTING: &str = "\
version: 1
people: { ivanov: { user: 11 }, petrov: { user: 12, weight: 2 }, sidorov: { user: 13 } }
queues: { main: { members: [ivanov, petrov, sidorov], strategy: rotation } }
rules:
  - { name: Moscow website, when: { source: SITE_MOSCOW }, assign: ivanov }
  - { name: Large, when: { amount: { over: 500000 } }, assign: petrov }
default: { queue: main }
";

#[expect(clippy::disallowed_methods, reason = "how `with-services` tells the tests where its servers are")]
fn address(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `make test`"))
}

pub fn amqp_url() -> String {
    address("ROTA_TEST_AMQP_URL")
}

pub fn database_url() -> String {
    address("ROTA_TEST_DATABASE_URL")
}

/// One process of each stage; waits between attempts short enough for a test; no sweep.
pub fn plan() -> Plan {
    Plan {
        routers: 1,
        notifiers: 1,
        routing: ROUTING.to_owned(),
        portal: json!({}),
        others: Vec::new(),
        // A notice for each lead, which is what most tests count.
        portal_keys: vec!["notify: { digest_over: 1000 }".to_owned()],
        config: "retry: { delays: [1s, 2s, 3s], blocked_pause: 2s }\n\
                 ingest: { sweep: { every: 0s } }"
            .to_owned(),
        least_rights: true,
    }
}

pub async fn start(plan: &Plan) -> Pipeline {
    Pipeline::start(&amqp_url(), &database_url(), plan).await.unwrap()
}

/// `count` leads: one in five for each rule, the rest for the queue.
pub fn mixed_leads(count: usize) -> Value {
    let lead = |number: usize| {
        let title = format!("Lead {number} of \"A & B\" [B]hot[/B]");
        match number % 5 {
            0 => json!({ "TITLE": title, "SOURCE_ID": "SITE_MOSCOW" }),
            1 => json!({ "TITLE": title, "OPPORTUNITY": "600000" }),
            _ => json!({ "TITLE": title, "SOURCE_ID": "CALL", "OPPORTUNITY": "1000" }),
        }
    };
    json!({ "leads": (0..count).map(lead).collect::<Vec<_>>() })
}

/// Waits until this many assignments are over by the notifiers' own count, and by the portal's notices.
pub async fn wait_for_notices(pipeline: &Pipeline, count: usize) {
    pipeline
        .wait_for(&format!("{count} leads are assigned"), SOON, async || {
            Ok(pipeline.portal.notifications().await?.len() >= count)
        })
        .await
        .unwrap();
}

/// Each lead has exactly one owner given by us and exactly one notice, which names it and went to that
/// owner. Answers how many leads each person has.
pub async fn assert_each_once(pipeline: &Pipeline) -> BTreeMap<String, usize> {
    let (leads, notices) =
        (pipeline.portal.leads().await.unwrap(), pipeline.portal.notifications().await.unwrap());
    let mut shares = BTreeMap::new();
    for lead in &leads {
        let id = lead.text("ID");
        assert_eq!(lead.history.len(), 1, "lead {id}: {:?}", lead.history);
        *shares.entry(lead.text("ASSIGNED_BY_ID").to_owned()).or_default() += 1;
        assert_one_notice(lead, &notices);
    }
    assert_eq!(notices.len(), leads.len(), "no notice for anything else");
    shares
}

fn assert_one_notice(lead: &PortalLead, notices: &[Notification]) {
    let id = lead.text("ID");
    let tag = format!("{}/{id}/1", e2e::harness::PORTAL);
    let own: Vec<_> = notices.iter().filter(|notice| notice.tag.as_deref() == Some(tag.as_str())).collect();
    assert_eq!(own.len(), 1, "lead {id}: {own:?}");
    assert_eq!(own[0].user.to_string(), lead.text("ASSIGNED_BY_ID"), "lead {id}");
    let title = lead.text("TITLE").replace('[', "［").replace(']', "］");
    let start = format!("You have been assigned a new lead: {title} [URL=http://");
    assert!(own[0].message.starts_with(&start), "{:?}", own[0].message);
    assert!(
        own[0].message.ends_with(&format!("/crm/lead/details/{id}/]#{id}[/URL]")),
        "{:?}",
        own[0].message
    );
}

/// The number of the last change of what is known of people; each router's metric `rota_roster_change` says how far it
/// follows.
pub async fn roster_change(database_url: &str) -> f64 {
    let mut connection = PgConnection::connect(database_url).await.unwrap();
    let query = "SELECT COALESCE(max(changes), 0)::double precision FROM rosters";
    sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
}

/// Waits until each router goes by what is known of people now.
pub async fn wait_until_followed(pipeline: &Pipeline) {
    let change = roster_change(&pipeline.database_url).await;
    pipeline
        .wait_for(&format!("change {change} of the roster is followed"), SOON, async || {
            Ok(pipeline.least_metric("router", "rota_roster_change").await? >= change)
        })
        .await
        .unwrap();
}

/// No dead letter waits for anybody.
pub async fn assert_no_dead_letters(pipeline: &Pipeline) {
    let store = Postgres::prepare(&pipeline.database_url.clone().into(), 1).unwrap();
    let waiting = store.find_letters(&LetterFilter::default()).await.unwrap();
    let reasons: Vec<String> = waiting.into_iter().map(|kept| kept.letter.reason).collect();
    assert!(reasons.is_empty(), "{reasons:?}");
}

/// No more requests were sent for the leads of this case than if each had come alone; tells how many. How many leads share
/// a request depends on how fast they come, so that is a figure of `make bench`.
pub async fn assert_spent(portal: &PortalControl, case: &str, most: u64) {
    let spent = portal.spent().await.unwrap();
    let led_by = portal.stats().await.unwrap().led_by;
    eprintln!("{case}: {spent} requests {led_by:?}");
    assert!(spent <= most, "{case}: {spent} requests, not {most}");
}

/// No message is left anywhere: not in the work queues, not in the delays, not among the dead.
pub async fn assert_nothing_left(pipeline: &Pipeline) {
    pipeline
        .wait_for("all queues are empty", SOON, async || {
            Ok(queued(pipeline).await?.values().all(|count| *count == 0))
        })
        .await
        .unwrap();
    assert_no_dead_letters(pipeline).await;
}

/// How many messages are ready in each queue of a pipeline whose delays are those of [`plan`].
pub async fn queued(pipeline: &Pipeline) -> anyhow::Result<BTreeMap<String, u32>> {
    queued_with(pipeline, 3).await
}

/// The same, where there are delays of one to so many seconds.
pub async fn queued_with(pipeline: &Pipeline, delays: u64) -> anyhow::Result<BTreeMap<String, u32>> {
    let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut counts = BTreeMap::new();
    let delays: Vec<Duration> = (1..=delays).map(Duration::from_secs).collect();
    let portals = [e2e::harness::PORTAL.parse()?];
    for queue in common::broker::topology::Topology::new(&pipeline.prefix, &delays, portals).queues() {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared =
            channel.queue_declare(queue.name.clone().into(), passive, FieldTable::default()).await?;
        counts.insert(queue.name, declared.message_count());
    }
    connection.close(200, "bye".into()).await?;
    Ok(counts)
}

/// Puts a message into a queue, past all stages.
pub async fn publish(queue: &str, body: &[u8]) {
    let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let published = channel.basic_publish("".into(), queue.into(), options, body, properties).await.unwrap();
    assert!(matches!(published.await.unwrap(), Confirmation::Ack(None)), "{queue}");
    connection.close(200, "bye".into()).await.unwrap();
}
