//! The stages inside the test's own process, on the real services, with a clock that the test moves.

use std::time::{Duration, Instant};

use common::clock::ManualClock;
use common::config::{Config, Reader};
use common::lifecycle::Stop;
use common::messages::{AssignmentKey, Epoch};
use common::process::Context;
use e2e::harness::{Ground, PORTAL, Plan};
use e2e::portal::{PortalControl, PortalLead, client, send};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use store::postgres::Postgres;
use store::{Decisions as _, SavedDecision, Waiting as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::common_parts::{SOON, amqp_url, database_url, roster_change};

/// Running stages; dropping it ends them.
pub struct Clocked {
    pub portal: PortalControl,
    pub ground: Ground,
    pub store: Postgres,
    pub events_url: String,
    clock: ManualClock,
    routers: Vec<u16>,
    stop: Stop,
    stages: JoinSet<anyhow::Result<()>>,
}

impl Clocked {
    /// One ingest, and as many others as planned, at this time.
    pub async fn start(plan: &Plan, at: &str) -> Self {
        Self::start_on(&amqp_url(), plan, at).await
    }

    /// The same on this broker.
    pub async fn start_on(amqp_url: &str, plan: &Plan, at: &str) -> Self {
        let ground = Ground::prepare(amqp_url, &database_url(), plan).await.unwrap();
        let clock = ManualClock::starting_at(at.parse().unwrap());
        let (stop, mut stages, mut admins) = (Stop::default(), JoinSet::new(), Vec::new());
        let mut context = async |stage| {
            let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
            admins.push((stage, admin.local_addr().unwrap().port()));
            let config = Config::load(reader(stage), Some(&ground.config())).unwrap();
            let mut context = Context::start(stage, config, admin, stop.clone()).unwrap();
            context.clock = std::sync::Arc::new(clock.clone());
            context
        };
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = http.local_addr().unwrap().port();
        stages.spawn(ingest::serve(context("ingest").await, http));
        for _ in 0..plan.routers {
            stages.spawn(router::run(context("router").await));
        }
        for _ in 0..plan.notifiers {
            stages.spawn(notifier::run(context("notifier").await));
        }
        let routers = admins.iter().filter(|(stage, _)| *stage == "router").map(|(_, port)| *port).collect();
        let store = Postgres::prepare(&ground.database_url.clone().into(), 2).unwrap();
        let events_url = Ground::events_url(port);
        let portal = ground.portal.clone();
        let clocked = Self { portal, ground, store, events_url, clock, routers, stop, stages };
        for (stage, port) in admins {
            let url = format!("http://127.0.0.1:{port}/ready");
            let ready = async || Ok(matches!(send(client()?.get(&url)).await, Ok((200, _))));
            clocked.wait_for(&format!("{stage} is ready"), ready).await;
        }
        clocked.portal.change_settings(&json!({ "events_to": clocked.events_url })).await.unwrap();
        clocked
    }

    /// Starts one notifier more.
    pub async fn start_notifier(&mut self) {
        let (context, _) = self.context("notifier").await;
        self.stages.spawn(notifier::run(context));
    }

    /// Starts one router more.
    pub async fn start_router(&mut self) {
        let (context, port) = self.context("router").await;
        self.routers.push(port);
        self.stages.spawn(router::run(context));
    }

    async fn context(&self, stage: &'static str) -> (Context, u16) {
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = admin.local_addr().unwrap().port();
        let config = Config::load(reader(stage), Some(&self.ground.config())).unwrap();
        let mut context = Context::start(stage, config, admin, self.stop.clone()).unwrap();
        context.clock = std::sync::Arc::new(self.clock.clone());
        (context, port)
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        use common::clock::Clock as _;
        self.clock.now()
    }

    /// Moves the clock.
    pub fn advance(&self, by: SignedDuration) {
        self.clock.advance(by);
    }

    /// Waits until `condition` holds; panics when it does not for very long.
    pub async fn wait_for(&self, what: &str, condition: impl AsyncFn() -> anyhow::Result<bool>) {
        let end = Instant::now() + SOON;
        while !condition().await.unwrap_or_else(|error| panic!("{what}: {error:#}")) {
            assert!(Instant::now() < end, "not within {SOON:?}: {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until so many notices were sent.
    pub async fn wait_for_notices(&self, count: usize) {
        let enough = async || Ok(self.portal.notifications().await?.len() >= count);
        self.wait_for(&format!("{count} notices"), enough).await;
    }

    /// Waits until so many leads are held.
    pub async fn wait_for_held(&self, count: usize) {
        self.wait_for(&format!("{count} leads are held"), async || {
            let waiting = self.store.waiting(&PORTAL.parse()?, self.now()).await?;
            Ok(waiting.held == u64::try_from(count)?)
        })
        .await;
    }

    /// Waits until each router goes by what is known of people now.
    pub async fn wait_until_followed(&self) {
        let change = roster_change(&self.ground.database_url).await;
        self.wait_for(&format!("change {change} of the roster is followed"), async || {
            for port in &self.routers {
                if self.sum_at(*port, |series| series.starts_with("rota_roster_change{")).await < change {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await;
    }

    /// Waits until the portal was asked who is at work after now, and each router knows the answer.
    pub async fn wait_for_roster(&self) {
        // The question that is under way may be from before.
        let second = roster_change(&self.ground.database_url).await + 2.0;
        self.wait_for("the portal has told who is at work", async || {
            Ok(roster_change(&self.ground.database_url).await >= second)
        })
        .await;
        self.wait_until_followed().await;
    }

    /// How a giving of a lead was decided.
    pub async fn decision(&self, lead: u64, epoch: u32) -> SavedDecision {
        let lead = lead.to_string().parse().unwrap();
        let key = AssignmentKey { portal: PORTAL.parse().unwrap(), lead, epoch: Epoch(epoch) };
        self.store.decision(&key).await.unwrap().unwrap_or_else(|| panic!("{key} is not decided"))
    }

    /// How many rows there are.
    pub async fn count(&self, from: &str) -> anyhow::Result<i64> {
        let mut connection = PgConnection::connect(&self.ground.database_url).await?;
        let query = AssertSqlSafe(format!("SELECT count(*) {from}"));
        Ok(sqlx::query_scalar(query).fetch_one(&mut connection).await?)
    }

    /// The sum of a metric over the routers.
    pub async fn metric(&self, name: &str) -> f64 {
        self.sum_of(|series| series.starts_with(&format!("{name}{{"))).await
    }

    /// The same of those series that have this outcome.
    pub async fn metric_of(&self, name: &str, outcome: &str) -> f64 {
        let outcome = format!("outcome=\"{outcome}\"");
        self.sum_of(|series| series.starts_with(&format!("{name}{{")) && series.contains(&outcome)).await
    }

    async fn sum_of(&self, is_wanted: impl Fn(&str) -> bool) -> f64 {
        let mut sum = 0.0;
        for port in &self.routers {
            sum += self.sum_at(*port, &is_wanted).await;
        }
        sum
    }

    async fn sum_at(&self, port: u16, is_wanted: impl Fn(&str) -> bool) -> f64 {
        let url = format!("http://127.0.0.1:{port}/metrics");
        let (_, text) = send(client().unwrap().get(url)).await.unwrap();
        let values = text.lines().filter_map(|line| line.rsplit_once(' '));
        let values = values.filter(|(series, _)| is_wanted(series));
        values.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
    }

    /// Requests that were sent for leads.
    pub async fn spent(&self) -> u64 {
        self.portal.spent().await.unwrap()
    }

    /// The leads, in order.
    pub async fn leads(&self) -> Vec<PortalLead> {
        self.portal.leads().await.unwrap()
    }

    /// Adds leads; answers their ids.
    pub async fn add_leads(&self, new: Value) -> Vec<u64> {
        self.portal.add_leads(&new).await.unwrap()
    }

    /// Stops all stages in order.
    pub async fn stop(mut self) {
        self.stop.request();
        while let Some(ended) = self.stages.join_next().await {
            ended.unwrap().unwrap();
        }
    }
}

/// A stage as a reader of the configuration.
fn reader(stage: &str) -> Reader {
    match stage {
        "ingest" => Reader::Ingest,
        "router" => Reader::Router,
        "notifier" => Reader::Notifier,
        other => panic!("no stage {other}"),
    }
}
