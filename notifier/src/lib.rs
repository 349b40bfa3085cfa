//! The stage `notifier`: assignment command → responsible person set, person told.
//!
//! For each command ([`handler`]): look at the lead again and compare it with what the decision saw
//! ([`compare`]), write owner and notice in a pack with others ([`packing`], [`plan`], [`pace`], [`writer`]),
//! word the notice ([`wording`]). What a pack was about to do is written down before
//! it is sent, so that an end that nobody saw can be cleared up from the portal's own state ([`lost_pack`], [`recovery`])
//! instead of being repeated; what a failure teaches about later packs is in [`trust`]. Beside that the lead's timeline is told why ([`timeline`]), and people what else they must know ([`notices`]);
//! both are sent at most once ([`outbox`]).

mod compare;
mod handler;
mod lost_pack;
mod metrics;
mod notices;
mod outbox;
mod pace;
mod packing;
mod plan;
mod recovery;
mod timeline;
mod trust;
mod wording;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bitrix24::connect::connect;
use bitrix24::watch::watch_readability;
use bitrix24::{Fields, LeadReader, PortalMetrics};
use common::broker::worker::Worker;
use common::budget::Purpose;
use common::config::TimelineEntries;
use common::failure::chain;
use common::lifecycle::{Health, Stop};
use common::process::{Context, WrongSetup};
use store::Store;
use store::postgres::Postgres;

use crate::handler::Assign;
use crate::lost_pack::LostPacks;
use crate::metrics::NotifierMetrics;
use crate::notices::Notices;
use crate::packing::Packs;
use crate::timeline::Timeline;
use crate::wording::Wording;
use crate::writer::Writer;

/// How often the store is asked whether it is there.
const ASK_STORE_EVERY: Duration = Duration::from_secs(10);

/// Runs the stage until told to stop.
///
/// # Errors
/// When it cannot start, a task died, or the grace was over.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let config = Arc::clone(&context.config);
    let postgres = Postgres::prepare(&config.database.url, config.database.connections)
        .map_err(|error| WrongSetup(chain(&error)))?;
    context.unless_stopped(postgres.open()).await?;
    let store: Arc<dyn Store> = Arc::new(postgres.clone());
    let portal_metrics = Arc::new(PortalMetrics::new(&context.registry)?);
    let names = config.portals.iter().map(|portal| &portal.name);
    let metrics = Arc::new(NotifierMetrics::register(&context.registry, names)?);
    let surroundings = context.surroundings()?;
    let stop = context.lifecycle.stop();
    for portal in &config.portals {
        let (account, clock) = (Arc::new(postgres.clone()), Arc::clone(&context.clock));
        let metrics_of_portal = Arc::clone(&portal_metrics);
        let client = connect(portal, &config.portal_requests, account, Arc::clone(&clock), metrics_of_portal)
            .map_err(|error| WrongSetup(format!("portal {}: webhook_url: {error}", portal.name)))?;
        if portal.timeline != TimelineEntries::None {
            let timeline = Timeline {
                portal: client.for_purpose(Purpose::Background),
                store: Arc::clone(&store),
                clock: Arc::clone(&clock),
                entries: portal.timeline,
            };
            context.lifecycle.spawn("timeline", timeline.run(stop.clone()));
        }
        let (store, wording) = (Arc::clone(&store), Wording::new(portal));
        let notices = Notices {
            portal: client.for_purpose(Purpose::Held),
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            wording: wording.clone(),
        };
        context.lifecycle.spawn("notices", notices.run(stop.clone()));
        let wording_tells = wording.tells();
        let watch = watch_readability(client.clone(), context.lifecycle.health(), stop.clone());
        context.lifecycle.spawn("portal-readable", watch);
        let writer = Writer::new(client.clone(), Arc::clone(&store), Arc::clone(&clock), wording);
        let handler = Assign {
            portal: portal.name.clone(),
            client: client.clone(),
            reader: LeadReader::new(client.clone()),
            lost: LostPacks {
                portal: client.clone(),
                store: Arc::clone(&store),
                clock: Arc::clone(&clock),
                metrics: Arc::clone(&metrics),
                stop: stop.clone(),
                tells: wording_tells,
            },
            attempts: u32::try_from(config.retry.delays.len()).unwrap_or(u32::MAX).saturating_add(1),
            packs: Packs::new(Arc::new(writer), usize::from(config.notifier.in_flight), Arc::clone(&metrics)),
            fields: Arc::new(Fields::default()),
            waits_for_right: config.retry.throttled_for,
            may_have_waited: config.retry.delays.first().copied().unwrap_or_default(),
            store,
            clock,
            metrics: Arc::clone(&metrics),
        };
        let queue = context.topology.assignments(&portal.name);
        let worker =
            Worker::new(surroundings.clone(), handler, portal.name.clone(), queue, config.notifier.in_flight);
        context.lifecycle.spawn("assignments", worker.run(stop.clone()));
    }
    let health = context.lifecycle.health();
    context.lifecycle.spawn("store", watch_store(Arc::clone(&store), health, stop));
    let result = context.run().await.context("running the notifier");
    postgres.close().await;
    result
}

/// Not ready while the store is away.
async fn watch_store(store: Arc<dyn Store>, health: Health, stop: Stop) {
    loop {
        match store.ping().await {
            Ok(()) => health.pass("store"),
            Err(error) => health.fail("store", &chain(&error)),
        }
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(ASK_STORE_EVERY) => {}
        }
    }
}
