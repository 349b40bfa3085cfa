//! The stage `router`: lead event → lead → decision → assignment command.
//!
//! For each event: has it been decided before? read the lead ([`handler`]), find whose client sent it where that matters
//! ([`clients`]), decide ([`decision`]) by the current routing ([`routing`]) in one transaction with the ledger, publish
//! the command. Beside that: held leads are brought back when somebody may take them ([`pool`]), leads that nobody answers
//! are given to others ([`answers`]), dead letters are sent again ([`replays`]), the portal is asked who is at work
//! ([`ask_people`]) and all replicas go by the answer ([`follow_people`], [`local_times`]), a portal without leads is told
//! ([`leads_mode`]), dead letters are taken into the store ([`dead_letters`]) and somebody is told of them
//! ([`tell_dead_letters`]), what was decided and never carried out is published again ([`overdue`]), what is old is deleted
//! ([`forget`]), and what waits is
//! counted ([`gauges`]).

mod answers;
mod ask_people;
mod clients;
mod command;
mod dead_letters;
mod decision;
mod follow_people;
mod forget;
mod gauges;
mod handler;
mod leads_mode;
mod local_times;
mod metrics;
mod overdue;
mod pool;
mod replays;
mod routing;
mod tell_dead_letters;
mod without_queue;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use bitrix24::connect::{connect, webhook_user};
use bitrix24::watch::watch_readability;
use bitrix24::{LeadReader, Portal, PortalMetrics};
use common::broker::settle::Settler;
use common::broker::worker::{Surroundings, Worker};
use common::budget::Purpose;
use common::config::{self, Config, ConfigError};
use common::failure::chain;
use common::ids::PortalName;
use common::lifecycle::Stop;
use common::process::{Context, WrongSetup};
use common::retry::RetryPolicy;
use distribution::Routing;
use jiff::SignedDuration;
use store::postgres::Postgres;
use store::{Intervals, KnownPeople, Store};
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use crate::answers::AnswerTimers;
use crate::ask_people::AskPeople;
use crate::clients::Clients;
use crate::dead_letters::DeadLetterTaker;
use crate::follow_people::{FollowPeople, heard_of};
use crate::forget::Forget;
use crate::gauges::Gauges;
use crate::handler::{DECIDING, Decide};
use crate::leads_mode::LeadsMode;
use crate::local_times::{LocalTimes, local};
use crate::metrics::RouterMetrics;
use crate::overdue::{Overdue, longest, on_its_way};
use crate::pool::{Pool, Wake};
use crate::replays::Replays;
use crate::routing::{Follow, Followed};
use crate::tell_dead_letters::TellDeadLetters;
use crate::without_queue::WithoutQueue;

/// Finds what is wrong with the routing files and the webhooks' addresses; nothing is opened.
///
/// # Errors
/// Everything that is wrong, a line each.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    bitrix24::connect::check(config)?;
    let wrong = config.portals.iter().filter_map(|portal| {
        let errors = routing::load(&portal.routing).err()?;
        Some(format!("portal {}: the routing file cannot be used\n{errors}", portal.name))
    });
    let wrong: Vec<String> = wrong.collect();
    if wrong.is_empty() { Ok(()) } else { Err(ConfigError(wrong)) }
}

/// Runs the stage until told to stop.
///
/// # Errors
/// When it cannot start, a task died, or the grace was over.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let config = Arc::clone(&context.config);
    let texts = texts(&config)?;
    let postgres = Postgres::prepare(&config.database.url, config.database.connections)
        .map_err(|error| WrongSetup(chain(&error)))?;
    context.unless_stopped(postgres.open()).await?;
    let store: Arc<dyn Store> = Arc::new(postgres.clone());
    let portal_metrics = Arc::new(PortalMetrics::new(&context.registry)?);
    let names: Vec<PortalName> = config.portals.iter().map(|portal| portal.name.clone()).collect();
    let metrics = Arc::new(RouterMetrics::register(&context.registry, names)?);
    let follow = follow(&mut context, &texts, &store, &metrics).await?;
    let stop = context.lifecycle.stop();
    let shared = Shared {
        store: Arc::clone(&store),
        metrics: Arc::clone(&metrics),
        surroundings: context.surroundings()?,
        intervals: Intervals::of(&config.roster),
        stop: stop.clone(),
    };
    let mut people = FollowPeople {
        portals: BTreeMap::new(),
        store: Arc::clone(&store),
        clock: Arc::clone(&context.clock),
        metrics: Arc::clone(&metrics),
        leads_mode: LeadsMode::new(context.lifecycle.health(), Arc::clone(&metrics)),
    };
    for portal in &config.portals {
        let followed = people.portals.entry(portal.name.clone()).or_default();
        let Some(routing) = follow.portals.get(&portal.name) else { continue };
        let (account, clock) = (Arc::new(postgres.clone()), Arc::clone(&context.clock));
        let client = connect(portal, &config.portal_requests, account, clock, Arc::clone(&portal_metrics))
            .map_err(|error| WrongSetup(format!("portal {}: webhook_url: {error}", portal.name)))?;
        shared.serve(&mut context, portal, &client, &routing.subscribe(), &followed.subscribe());
    }
    context.lifecycle.spawn("people-known", people.run(stop.clone()));
    context.lifecycle.spawn("routings", follow.run(stop.clone()));
    let taker = DeadLetterTaker {
        store: Arc::clone(&store),
        settler: Settler::new(Arc::clone(&context.broker), Arc::clone(&context.topology)),
        broker: Arc::clone(&context.broker),
        queue: context.topology.dead(),
        timelines: config.portals.iter().map(|portal| (portal.name.to_string(), portal.timeline)).collect(),
        clock: Arc::clone(&context.clock),
        without_queue: WithoutQueue {
            topology: Arc::clone(&context.topology),
            policy: Arc::new(RetryPolicy::from(&config.retry)),
            portals: config.portals.iter().map(|portal| portal.name.clone()).collect(),
        },
    };
    context.lifecycle.spawn("dead-letters", taker.run(stop.clone()));
    let replays = Replays {
        portals: config.portals.iter().map(|portal| portal.name.clone()).collect(),
        store: Arc::clone(&store),
        broker: Arc::clone(&context.broker),
        topology: Arc::clone(&context.topology),
        clock: Arc::clone(&context.clock),
        holder: Uuid::now_v7(),
    };
    for portal in &config.portals {
        let Some(to) = portal.dead_letters.tell else { continue };
        let tell = TellDeadLetters {
            portal: portal.name.clone(),
            to,
            store: Arc::clone(&store),
            clock: Arc::clone(&context.clock),
        };
        context.lifecycle.spawn("dead-letters-told", tell.run(stop.clone()));
    }
    context.lifecycle.spawn("replays", replays.run(stop.clone()));
    let forget = Forget {
        store: Arc::clone(&store),
        clock: Arc::clone(&context.clock),
        keep: config.keep,
        overlap: config.ingest.sweep.overlap,
        holder: Uuid::now_v7(),
    };
    context.lifecycle.spawn("forget", forget.run(stop.clone()));
    let gauges = Gauges {
        portals: config.portals.iter().map(|portal| (portal.name.clone(), portal.limits.into())).collect(),
        store,
        clock: Arc::clone(&context.clock),
        metrics,
        health: context.lifecycle.health(),
    };
    context.lifecycle.spawn("gauges", gauges.run(stop));
    let result = context.run().await.context("running the router");
    postgres.close().await;
    result
}

/// What the tasks of all portals have in common.
struct Shared {
    store: Arc<dyn Store>,
    metrics: Arc<RouterMetrics>,
    surroundings: Surroundings,
    intervals: Intervals,
    stop: Stop,
}

impl Shared {
    /// Starts what is done for one portal.
    fn serve(
        &self,
        context: &mut Context,
        portal: &config::Portal,
        client: &Portal,
        published: &watch::Receiver<Arc<Routing>>,
        people: &watch::Receiver<Arc<KnownPeople>>,
    ) {
        let known = Arc::clone(&people.borrow());
        let decides = watch::Sender::new(local(&published.borrow(), &known));
        let routing = decides.subscribe();
        let local_times = LocalTimes {
            portal: portal.name.clone(),
            published: published.clone(),
            people: people.clone(),
            decides,
            zones: known.time_zones(),
            store: Arc::clone(&self.store),
        };
        context.lifecycle.spawn("local-times", local_times.run(self.stop.clone()));
        let ask = AskPeople {
            portal: client.for_purpose(Purpose::Background),
            routing: published.clone(),
            store: Arc::clone(&self.store),
            clock: Arc::clone(&context.clock),
            metrics: Arc::clone(&self.metrics),
            intervals: self.intervals,
            holder: Uuid::now_v7(),
            absences_at: None,
            mode_due: None,
            mode_problem: None,
            problems: BTreeMap::new(),
        };
        context.lifecycle.spawn("people", ask.run(self.stop.clone()));
        let wake = Wake::default();
        let pool = Pool {
            portal: portal.name.clone(),
            routing: routing.clone(),
            people: people.clone(),
            intervals: self.intervals,
            store: Arc::clone(&self.store),
            broker: Arc::clone(&context.broker),
            topology: Arc::clone(&context.topology),
            clock: Arc::clone(&context.clock),
            wake: Arc::clone(&wake),
        };
        context.lifecycle.spawn("held-leads", pool.run(self.stop.clone()));
        let overdue = Overdue {
            portal: portal.name.clone(),
            store: Arc::clone(&self.store),
            broker: Arc::clone(&context.broker),
            topology: Arc::clone(&context.topology),
            clock: Arc::clone(&context.clock),
            metrics: Arc::clone(&self.metrics),
            on_its_way: on_its_way(&context.config.retry),
            longest: longest(&context.config.retry),
            holder: Uuid::now_v7(),
        };
        context.lifecycle.spawn("overdue", overdue.run(self.stop.clone()));
        let timers = AnswerTimers {
            portal: client.for_purpose(Purpose::Background),
            routing: routing.clone(),
            store: Arc::clone(&self.store),
            broker: Arc::clone(&context.broker),
            topology: Arc::clone(&context.topology),
            clock: Arc::clone(&context.clock),
            metrics: Arc::clone(&self.metrics),
            holder: Uuid::now_v7(),
            news_at: None,
            problem: None,
            put_off: BTreeMap::new(),
        };
        context.lifecycle.spawn("answers", timers.run(self.stop.clone()));
        let handler = Decide {
            portal: portal.name.clone(),
            routing: routing.clone(),
            people: people.clone(),
            intervals: self.intervals,
            timeline: portal.timeline,
            held: LeadReader::new(client.for_purpose(Purpose::Held)),
            reader: LeadReader::new(client.clone()),
            clients: Clients::new(client, Arc::clone(&self.metrics)),
            store: Arc::clone(&self.store),
            broker: Arc::clone(&context.broker),
            topology: Arc::clone(&context.topology),
            clock: Arc::clone(&context.clock),
            metrics: Arc::clone(&self.metrics),
            comes_again_within: comes_again_within(&self.surroundings.policy),
            deciding: Semaphore::new(DECIDING),
            waits_for_right: context.config.retry.throttled_for,
            may_have_waited: context.config.retry.delays.first().copied().unwrap_or_default(),
            wake,
        };
        let (health, stop) = (context.lifecycle.health(), self.stop.clone());
        context.lifecycle.spawn("portal-readable", watch_readability(client.clone(), health, stop));
        let queue = context.topology.lead_events(&portal.name);
        let in_flight = context.config.router.in_flight;
        let worker = Worker::new(self.surroundings.clone(), handler, portal.name.clone(), queue, in_flight);
        let (clock, stop, known) = (Arc::clone(&context.clock), self.stop.clone(), people.clone());
        let intervals = self.intervals;
        context.lifecycle.spawn("lead-events", async move {
            tokio::select! {
                () = stop.requested() => {}
                () = heard_of(known, intervals, &*clock) => {}
            }
            worker.run(stop).await;
        });
    }
}

/// How long a message that failed may be away: the longest wait between tries, and some time in the queue.
fn comes_again_within(policy: &RetryPolicy) -> SignedDuration {
    let longest = policy.delays.iter().max().copied().unwrap_or_default();
    SignedDuration::try_from(longest).unwrap_or(SignedDuration::from_hours(1)) + SignedDuration::from_mins(5)
}

/// The routing file of each portal.
fn texts(config: &Config) -> Result<Vec<(&config::Portal, String)>, WrongSetup> {
    let text = |portal: &'_ config::Portal| {
        routing::load(&portal.routing).map_err(|error| {
            WrongSetup(format!("portal {}: the routing file cannot be used\n{error}", portal.name))
        })
    };
    config.portals.iter().map(|portal| Ok((portal, text(portal)?))).collect()
}

/// The routing that decides in each portal, to be followed.
async fn follow(
    context: &mut Context,
    texts: &[(&config::Portal, String)],
    store: &Arc<dyn Store>,
    metrics: &Arc<RouterMetrics>,
) -> anyhow::Result<Follow> {
    let mut follow =
        Follow { portals: BTreeMap::new(), store: Arc::clone(store), metrics: Arc::clone(metrics) };
    for (portal, text) in texts {
        let file = (portal.routing.as_path(), text.as_str());
        let current = routing::current(&**store, &portal.name, file, &*context.clock);
        let version = context.unless_stopped(current).await?;
        let webhook_user = webhook_user(&portal.webhook_url);
        let routing = routing::read(&portal.name, webhook_user, &version).map_err(|error| {
            let hint = "make an older version current again by `rota rollback`";
            WrongSetup(format!(
                "portal {}: the published routing cannot be used; {hint}\n{error}",
                portal.name
            ))
        })?;
        metrics.routing(&portal.name, &routing);
        follow.portals.insert(portal.name.clone(), Followed::new(Arc::new(routing), webhook_user));
    }
    Ok(follow)
}
