//! Plays a schedule with real processes and servers, waits until all is quiet, and gathers what both sides say.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::clock::{Clock, SystemClock};
use jiff::Timestamp;
use serde_json::json;
use tokio::task::{JoinSet, spawn_blocking};

use super::door::Door;
use super::fault::{CLIENT_TIMEOUT, Fault};
use super::record::Record;
use super::schedule::{Arrival, Options, Schedule};
use crate::harness::{PORTAL, Pipeline, Plan};
use crate::portal::{LogEntry, PortalControl, PortalLead, Stats};
use crate::services::{Postgres, RabbitMq, ScratchDir};

/// A lead that is not over so long after the last fault is late.
pub(super) const LATE: Duration = Duration::from_mins(5);

/// After that, messages that repeat what is done may still be on their way.
const PATIENCE: Duration = Duration::from_mins(7);

/// The waits between attempts: more and shorter ones than by default, whose sum would be over an hour. The first five
/// minutes are the same in kind.
pub(super) const DELAYS: [&str; 9] = ["1s", "2s", "5s", "10s", "20s", "30s", "45s", "1m", "65s"];

/// Whoever takes a lead by hand; in no queue.
pub(super) const PERSON: u64 = 20;

const ROUTING: &str = "\
version: 1
only_if_owner_in: [1]
people:
  ann: { user: 11 }
  bob: { user: 12 }
  cid: { user: 13 }
  dan: { user: 14, weight: 2 }
  eve: { user: 15 }
queues: { main: { members: [ann, bob, cid, dan, eve] } }
default: { queue: main }
";

/// What was done to a server or a process, and when.
#[derive(Debug, Clone)]
pub struct Disturbance {
    /// What.
    pub fault: Fault,
    /// Of which process, or nothing.
    pub what: String,
    /// Since when.
    pub from: Timestamp,
    /// When it ran again.
    pub to: Timestamp,
}

/// A run that is over.
#[derive(Debug, Clone)]
pub struct Played {
    /// What was asked for.
    pub options: Options,
    /// What was done to servers and processes.
    pub disturbances: Vec<Disturbance>,
    /// When the last fault was over.
    pub faults_end: Timestamp,
    /// When all was quiet; none if that did not come.
    pub quiet: Option<Timestamp>,
    /// Why it is not quiet.
    pub unquiet: String,
    /// What the portal did.
    pub log: Vec<LogEntry>,
    /// The leads that the portal has.
    pub leads: Vec<PortalLead>,
    /// What the portal counted.
    pub stats: Stats,
    /// What the store says.
    pub record: Record,
    /// The queues at the end, as the broker lists them.
    pub queues: String,
    /// The processes' logs, by name.
    pub logs: Vec<(String, String)>,
}

type Disturbances = Arc<Mutex<Vec<Disturbance>>>;

/// The servers of a run, which can be stopped.
struct Servers {
    rabbitmq: Arc<Mutex<RabbitMq>>,
    postgres: Arc<Mutex<Postgres>>,
    // Last: a server must have ended before its files go.
    _dir: ScratchDir,
}

impl Servers {
    async fn start() -> anyhow::Result<Self> {
        let dir = ScratchDir::new()?;
        let (for_rabbitmq, for_postgres) = (dir.path().to_owned(), dir.path().to_owned());
        let (rabbitmq, postgres) = tokio::join!(
            spawn_blocking(move || RabbitMq::start(&for_rabbitmq)),
            spawn_blocking(move || Postgres::start_durable(&for_postgres)),
        );
        let (rabbitmq, postgres) = (Arc::new(Mutex::new(rabbitmq??)), Arc::new(Mutex::new(postgres??)));
        Ok(Self { rabbitmq, postgres, _dir: dir })
    }
}

/// Plays the schedule of these options.
///
/// # Errors
/// When a server or program does not start, or does not come back.
pub async fn play(options: &Options) -> anyhow::Result<Played> {
    let servers = Servers::start().await.context("starting the servers")?;
    let mut pipeline = start(&servers).await?;
    let door = Door::open(pipeline.event_ports().collect()).await?;
    let events_to = format!("http://{}/bitrix24/{PORTAL}/events", door.address);
    pipeline.portal.change_settings(&json!({ "events_to": events_to })).await?;

    let schedule = Schedule::of(options);
    let (started, done) = (Instant::now(), Disturbances::default());
    let portal = pipeline.portal.clone();
    tokio::try_join!(
        kill(&mut pipeline, &schedule, started, &done),
        trouble_broker(&servers, &schedule, started, &done),
        trouble_database(&servers, &schedule, started, &done),
        spoil_requests(&portal, &schedule, started),
        bring_leads(&portal, &schedule.leads, started),
    )?;
    portal.clear_faults().await?;
    let faults_end = SystemClock.now();
    let quiet = wait_until_quiet(&mut pipeline, &servers).await?;
    let mut logs: Vec<_> = pipeline.names().map(|name| (name.to_owned(), pipeline.log_text(name))).collect();
    logs.push((
        "rabbitmq".to_owned(),
        servers.rabbitmq.lock().unwrap_or_else(PoisonError::into_inner).log_text(),
    ));
    let queues = queues(&servers).await?;
    let disturbances = done.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Played {
        options: options.clone(),
        disturbances,
        faults_end,
        quiet: quiet.is_ok().then(|| SystemClock.now()),
        unquiet: quiet.err().unwrap_or_default(),
        log: portal.log().await?,
        leads: portal.leads().await?,
        stats: portal.stats().await?,
        record: Record::read(&pipeline.database_url).await?,
        queues,
        logs,
    })
}

async fn start(servers: &Servers) -> anyhow::Result<Pipeline> {
    let plan = Plan {
        routers: 2,
        notifiers: 2,
        routing: ROUTING.to_owned(),
        portal: json!({ "burst": 250, "per_second": 5, "cost_ms": { "crm.lead.update": 5 } }),
        others: Vec::new(),
        portal_keys: vec!["limits: { burst: 250, per_second: 5 }".to_owned()],
        config: format!(
            "retry: {{ delays: [{}], blocked_pause: 2s }}\n\
             portal_requests: {{ timeout: {CLIENT_TIMEOUT} }}\n\
             ingest: {{ spool: {{ directory: spool }}, sweep: {{ every: 5s }} }}",
            DELAYS.join(", ")
        ),
        least_rights: true,
    };
    let urls = {
        let rabbitmq = servers.rabbitmq.lock().unwrap_or_else(PoisonError::into_inner).url();
        let postgres = servers.postgres.lock().unwrap_or_else(PoisonError::into_inner).url();
        (rabbitmq, postgres)
    };
    let mut pipeline = Pipeline::start(&urls.0, &urls.1, &plan).await?;
    pipeline.start_another("ingest")?;
    pipeline.wait_ready().await?;
    Ok(pipeline)
}

async fn sleep_until(started: Instant, at: Duration) {
    tokio::time::sleep_until((started + at).into()).await;
}

fn note(done: &Disturbances, fault: Fault, what: &str, from: Timestamp) {
    let disturbance = Disturbance { fault, what: what.to_owned(), from, to: SystemClock.now() };
    done.lock().unwrap_or_else(PoisonError::into_inner).push(disturbance);
}

/// Kills processes and starts them again, and whatever ended by itself, as a supervisor does.
async fn kill(
    pipeline: &mut Pipeline,
    schedule: &Schedule,
    started: Instant,
    done: &Disturbances,
) -> anyhow::Result<()> {
    for (at, which) in &schedule.kills {
        sleep_until(started, *at).await;
        pipeline.revive()?;
        let names: Vec<String> = pipeline.names().map(str::to_owned).collect();
        let Some(name) = names.get(which % names.len().max(1)) else { continue };
        let from = SystemClock.now();
        pipeline.kill(name)?;
        pipeline.start_again(name)?;
        note(done, Fault::StageKilled, name, from);
    }
    Ok(())
}

async fn trouble_broker(
    servers: &Servers,
    schedule: &Schedule,
    started: Instant,
    done: &Disturbances,
) -> anyhow::Result<()> {
    for (at, fault, lasts) in schedule.broker.iter().copied() {
        sleep_until(started, at).await;
        let (rabbitmq, done) = (Arc::clone(&servers.rabbitmq), Arc::clone(done));
        let trouble = move || {
            let mut rabbitmq = rabbitmq.lock().unwrap_or_else(PoisonError::into_inner);
            let from = SystemClock.now();
            if fault == Fault::BrokerFull {
                rabbitmq.set_memory_alarm(true)?;
                std::thread::sleep(lasts);
                rabbitmq.set_memory_alarm(false)?;
            } else {
                rabbitmq.kill();
                rabbitmq.restart()?;
            }
            note(&done, fault, "", from);
            anyhow::Ok(())
        };
        spawn_blocking(trouble).await??;
    }
    Ok(())
}

async fn trouble_database(
    servers: &Servers,
    schedule: &Schedule,
    started: Instant,
    done: &Disturbances,
) -> anyhow::Result<()> {
    for (at, lasts) in schedule.database.iter().copied() {
        sleep_until(started, at).await;
        let (postgres, done) = (Arc::clone(&servers.postgres), Arc::clone(done));
        let trouble = move || {
            let mut postgres = postgres.lock().unwrap_or_else(PoisonError::into_inner);
            let from = SystemClock.now();
            postgres.stop_at_once()?;
            std::thread::sleep(lasts);
            postgres.restart()?;
            note(&done, Fault::DatabaseStopped, "", from);
            anyhow::Ok(())
        };
        spawn_blocking(trouble).await??;
    }
    Ok(())
}

async fn spoil_requests(portal: &PortalControl, schedule: &Schedule, started: Instant) -> anyhow::Result<()> {
    for (at, _, fault) in &schedule.requests {
        sleep_until(started, *at).await;
        portal.add_fault(fault).await?;
    }
    Ok(())
}

/// Adds leads one after the other; their events, and people who take them, come by themselves.
async fn bring_leads(portal: &PortalControl, leads: &[Arrival], started: Instant) -> anyhow::Result<()> {
    let mut to_come = JoinSet::new();
    for arrival in leads.iter().cloned() {
        sleep_until(started, arrival.at).await;
        let added = portal.add_leads(&json!({ "count": 1, "events": false })).await?;
        let lead = *added.first().context("no lead was added")?;
        for after in arrival.events {
            let portal = portal.clone();
            to_come.spawn(async move {
                tokio::time::sleep(after).await;
                portal.repeat_events(&[lead], 1).await
            });
        }
        if let Some(after) = arrival.taken {
            let portal = portal.clone();
            to_come.spawn(async move {
                tokio::time::sleep(after).await;
                portal.change_lead(lead, &json!({ "ASSIGNED_BY_ID": PERSON.to_string() })).await
            });
        }
    }
    while let Some(came) = to_come.join_next().await {
        came??;
    }
    Ok(())
}

/// Waits until all leads are over and no message is left; else tells what is left.
async fn wait_until_quiet(pipeline: &mut Pipeline, servers: &Servers) -> anyhow::Result<Result<(), String>> {
    let end = Instant::now() + PATIENCE;
    let mut left = "nobody looked".to_owned();
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(1)).await;
        pipeline.revive()?;
        let (leads, over) = (pipeline.portal.leads().await?, Record::over(&pipeline.database_url).await?);
        let id = |lead: &PortalLead| lead.text("ID").parse::<u64>().ok();
        let open: BTreeSet<u64> = leads.iter().filter_map(id).filter(|lead| !over.contains(lead)).collect();
        if !open.is_empty() {
            left = format!("{} leads are not over: {open:?}", open.len());
            continue;
        }
        let queues = queues(servers).await?;
        let is_full = |line: &&str| line.split('\t').nth(1).is_some_and(|messages| messages != "0");
        let full: Vec<&str> = queues.lines().filter(is_full).collect();
        if full.is_empty() {
            return Ok(Ok(()));
        }
        left = format!("messages are left: {}", full.join(", "));
    }
    Ok(Err(left))
}

/// A line for each queue: its name, messages, those of them that are ready and that are not acknowledged, consumers, state.
async fn queues(servers: &Servers) -> anyhow::Result<String> {
    let rabbitmq = Arc::clone(&servers.rabbitmq);
    let list = move || {
        let rabbitmq = rabbitmq.lock().unwrap_or_else(PoisonError::into_inner);
        let columns = ["name", "messages", "messages_ready", "messages_unacknowledged", "consumers", "state"];
        rabbitmq.rabbitmqctl(&[&["list_queues", "--no-table-headers"], columns.as_slice()].concat())
    };
    spawn_blocking(list).await?
}

impl Played {
    /// Writes all that is known into a folder, for whoever looks for the cause.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| path.display().to_string())
        };
        for (name, text) in &self.logs {
            file(&format!("{name}.log"), text)?;
        }
        let lines: Result<Vec<String>, _> = self.log.iter().map(serde_json::to_string).collect();
        file("portal.jsonl", &lines?.join("\n"))?;
        for (table, rows) in &self.record.0 {
            let lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
            file(&format!("{table}.jsonl"), &lines.join("\n"))?;
        }
        file("queues.txt", &self.queues)?;
        let line = |done: &Disturbance| format!("{} {} {} {}", done.from, done.to, done.fault, done.what);
        let lines: Vec<String> = self.disturbances.iter().map(line).collect();
        file("disturbances.txt", &lines.join("\n"))
    }
}
