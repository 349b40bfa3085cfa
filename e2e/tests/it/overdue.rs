//! Messages that the broker lost: what was decided is carried out all the same, and once.

use std::collections::BTreeMap;

use e2e::harness::Plan;
use e2e::portal::{client, send};
use e2e::services::{RabbitMq, ScratchDir};
use jiff::SignedDuration;
use lapin::options::QueueDeleteOptions;
use lapin::{Connection, ConnectionProperties};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::clocked::Clocked;
use crate::common_parts::{amqp_url, plan};

const KEY: &str = "5f0c4a9d2be17f36";

const ROUTING: &str = "\
version: 1
people: { ivanov: { user: 11 }, petrov: { user: 12 }, head: { user: 20 } }
queues: { main: { members: [ivanov, petrov] }, vip: { members: [head] } }
default: { queue: main }
";

const LEADS: usize = 6;

/// Longer than any message is on its way.
const AN_HOUR_AND_A_HALF: SignedDuration = SignedDuration::from_mins(90);

fn robots_plan() -> Plan {
    let mut plan = Plan { routing: ROUTING.to_owned(), ..plan() };
    plan.portal_keys.push(format!("robot_key: {KEY}"));
    plan
}

/// Waits until so many owners are set and people told.
async fn wait_for_told(clocked: &Clocked, count: usize) {
    let told = async || Ok(clocked.portal.notifications().await?.len() >= count);
    clocked.wait_for(&format!("{count} people are told"), told).await;
    let finished = async || {
        Ok(clocked.count("FROM assignments WHERE finished_at IS NOT NULL").await? >= i64::try_from(count)?)
    };
    clocked.wait_for("it is written down", finished).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_broker_that_loses_its_disk_loses_no_lead_and_nobody_is_told_twice() {
    let dir = ScratchDir::new().unwrap();
    let mut broker = RabbitMq::start(dir.path()).unwrap();
    let mut plan = robots_plan();
    (plan.routers, plan.notifiers) = (2, 0);
    let mut clocked = Clocked::start_on(&broker.url(), &plan, "2026-11-23T09:00:00Z").await;
    clocked.add_leads(json!({ "count": LEADS })).await;
    let published = async || {
        let count = clocked.count("FROM decisions WHERE published_at IS NOT NULL").await?;
        Ok(count == i64::try_from(LEADS)?)
    };
    clocked.wait_for("all commands are with the broker", published).await;

    broker.lose_disk().unwrap();
    clocked.start_notifier().await;
    clocked.advance(AN_HOUR_AND_A_HALF);
    wait_for_told(&clocked, LEADS).await;

    // It goes on for a day: nothing that is finished is published again.
    clocked.advance(SignedDuration::from_hours(24));
    let before = clocked.metric("rota_published_again_total").await;
    clocked.add_leads(json!({ "count": 1 })).await;
    wait_for_told(&clocked, LEADS + 1).await;
    let mut told: BTreeMap<Option<String>, usize> = BTreeMap::new();
    for notice in clocked.portal.notifications().await.unwrap() {
        *told.entry(notice.tag).or_default() += 1;
    }
    assert_eq!((told.len(), told.values().max()), (LEADS + 1, Some(&1)), "{told:?}");
    for lead in clocked.leads().await {
        assert_eq!(lead.history.len(), 1, "its owner was set once: {:?}", lead.history);
    }
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let all = LEADS as f64;
    assert!(before >= all, "{before}");
    assert_eq!(clocked.metric("rota_published_again_total").await.to_bits(), before.to_bits());
    assert_eq!(clocked.count("FROM dead_letters").await.unwrap(), 0);
    clocked.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_broker_that_loses_a_robots_call_does_not_lose_what_it_asked_for() {
    let dir = ScratchDir::new().unwrap();
    let mut broker = RabbitMq::start(dir.path()).unwrap();
    let mut plan = robots_plan();
    // Nobody takes the call.
    (plan.routers, plan.notifiers) = (0, 1);
    let mut clocked = Clocked::start_on(&broker.url(), &plan, "2026-11-23T09:00:00Z").await;
    let ids = clocked.add_leads(json!({ "count": 1, "events": false })).await;
    let url = format!("{}?key={KEY}&queue=vip", clocked.events_url.replace("/events", "/robot"));
    let body = format!("document_id[0]=crm&document_id[1]=CCrmDocumentLead&document_id[2]=LEAD_{}", ids[0]);
    let call = async |url: &str| {
        let kind = "application/x-www-form-urlencoded";
        send(client().unwrap().post(url).header("content-type", kind).body(body.clone())).await.unwrap()
    };
    // Noted before it is answered, unless the database takes longer than a second.
    let noted = async || {
        assert_eq!(call(&url).await.0, 200);
        Ok(clocked.count("FROM givings WHERE queue = 'vip'").await? == 1)
    };
    clocked.wait_for("the call is noted", noted).await;
    // What no queue can be named, and no database can hold.
    let (status, text) = call(&url.replace("vip", "vip%00")).await;
    assert_eq!((status, text.contains("`queue` has a control character")), (400, true), "{text}");

    broker.lose_disk().unwrap();
    clocked.start_router().await;
    clocked.advance(AN_HOUR_AND_A_HALF);
    wait_for_told(&clocked, 1).await;
    assert_eq!(clocked.leads().await[0].text("ASSIGNED_BY_ID"), "20", "the queue that the robot named");
    clocked.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_deleted_by_hand_while_stages_run_loses_no_lead() {
    let mut plan = robots_plan();
    (plan.routers, plan.notifiers) = (2, 0);
    // So many that no machine is too slow to declare a queue meanwhile.
    plan.config = "retry: { delays: [1s, 2s, 3s, 4s, 5s, 6s, 10s, 15s, 30s, 60s] }".to_owned();
    let mut clocked = Clocked::start(&plan, "2026-11-23T09:00:00Z").await;
    clocked.add_leads(json!({ "count": LEADS })).await;
    let published = async || {
        let count = clocked.count("FROM decisions WHERE published_at IS NOT NULL").await?;
        Ok(count == i64::try_from(LEADS)?)
    };
    clocked.wait_for("all commands are with the broker", published).await;
    let queue = format!("{}.acme.assignments", clocked.ground.prefix);
    let broker = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.unwrap();
    let channel = broker.create_channel().await.unwrap();
    let gone = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    assert_eq!(usize::try_from(gone).unwrap(), LEADS, "all of them were in it");

    // What comes now has no queue, and is tried again until it has: who starts declares it.
    clocked.add_leads(json!({ "count": 1 })).await;
    let no_queue = async || Ok(clocked.count("FROM decisions").await? == i64::try_from(LEADS + 1)?);
    clocked.wait_for("a lead is decided whose command has no queue", no_queue).await;
    clocked.start_notifier().await;
    clocked.add_leads(json!({ "count": 1 })).await;
    wait_for_told(&clocked, 2).await;
    assert_eq!(clocked.count("FROM dead_letters").await.unwrap(), 0);
    clocked.advance(AN_HOUR_AND_A_HALF);
    wait_for_told(&clocked, LEADS + 2).await;
    for lead in clocked.leads().await {
        assert_eq!(lead.history.len(), 1, "its owner was set once: {:?}", lead.history);
    }
    assert_eq!(clocked.portal.notifications().await.unwrap().len(), LEADS + 2, "told once each");
    clocked.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assignment_that_is_marked_sent_in_a_pack_without_it_is_carried_out() {
    let mut plan = robots_plan();
    plan.notifiers = 0;
    let mut clocked = Clocked::start(&plan, "2026-11-23T09:00:00Z").await;
    clocked.add_leads(json!({ "count": 1 })).await;
    let decided = async || Ok(clocked.count("FROM decisions WHERE outcome = 'assign'").await? == 1);
    clocked.wait_for("it is decided", decided).await;
    let mut database = PgConnection::connect(&clocked.ground.database_url).await.unwrap();
    let marked = "INSERT INTO assignments (portal, lead_id, epoch, to_user, pack, sent_at)
                  SELECT portal, lead_id, epoch, to_user, gen_random_uuid(), '2026-11-23T08:00:00Z' FROM decisions";
    sqlx::query(marked).execute(&mut database).await.unwrap();
    clocked.start_notifier().await;
    wait_for_told(&clocked, 1).await;
    assert_eq!(clocked.leads().await[0].history.len(), 1);
    clocked.stop().await;
}
