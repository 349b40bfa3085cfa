//! The stage `notifier`: assignment command → responsible person set, person told.
//!
//! For each command: read the lead again, compare with what the decision saw ([`compare`]), write
//! owner and notice as a pair in a pack with others ([`writer`]), word the notice ([`wording`]). What
//! a pack was about to do is written down before it is sent, so that an end that nobody saw can be
//! cleared up from the portal's own state ([`recovery`]) instead of being repeated.

mod compare;
mod handler;
mod metrics;
mod recovery;
mod wording;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bitrix24::pack::{PackLimits, Packer};
use bitrix24::{LeadReader, PortalMetrics};
use common::broker::worker::Worker;
use common::failure::chain;
use common::lifecycle::{Health, Stop};
use common::process::{Context, WrongSetup};
use store::Store;
use store::postgres::Postgres;

use crate::handler::Assign;
use crate::metrics::NotifierMetrics;
use crate::wording::Wording;
use crate::writer::Writer;

/// Assignments in one request: a batch has 50 commands, and each needs two.
const ASSIGNMENTS_A_PACK: usize = 25;

/// Packs under way at once, as for reads: four keep up with two requests a second where an answer
/// takes up to two seconds.
const PACKS_IN_FLIGHT: usize = 4;

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
    context.unless_stopped(postgres.migrate()).await?;
    let store: Arc<dyn Store> = Arc::new(postgres.clone());
    let portal_metrics = Arc::new(PortalMetrics::new(&context.registry)?);
    let names = config.portals.iter().map(|portal| &portal.name);
    let metrics = Arc::new(NotifierMetrics::register(&context.registry, names)?);
    let surroundings = context.surroundings()?;
    let stop = context.lifecycle.stop();
    for portal in &config.portals {
        let budget = Arc::new(postgres.clone());
        let client =
            bitrix24::connect::connect(portal, &config.portal_requests, budget, Arc::clone(&portal_metrics))
                .map_err(|error| WrongSetup(format!("portal {}: webhook_url: {error}", portal.name)))?;
        let clock = Arc::clone(&context.clock);
        let writer = Arc::new(Writer::new(Arc::clone(&client), Arc::clone(&store), Arc::clone(&clock)));
        let limits = PackLimits {
            max_pack: ASSIGNMENTS_A_PACK,
            in_flight: PACKS_IN_FLIGHT,
            queue: ASSIGNMENTS_A_PACK * PACKS_IN_FLIGHT,
        };
        let handler = Assign {
            portal: portal.name.clone(),
            client: Arc::clone(&client),
            reader: LeadReader::new(client),
            writer: Packer::new(writer, limits),
            store: Arc::clone(&store),
            wording: Wording::new(portal),
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
