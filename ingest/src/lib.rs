//! The stage `ingest`: the portal's webhook → lead event, stored before it is answered.
//!
//! A request is read strictly ([`form`], [`event`]), its sender proved ([`verify`]), the event
//! published and confirmed, and only then answered 200 ([`http`]). What comes of a request that proves nothing is in
//! [`strangers`], and what it says about our own configuration in [`own_mistakes`]. While the broker takes nothing,
//! events wait in a file ([`spool`]). What a robot asks for is noted in the store too, if that answers ([`calls`]), and a
//! queue that it names is looked up in the published routing ([`queue_names`]). The portal never repeats an event, so new
//! leads are also looked for by their number ([`sweep`]). No request to a portal is made while one of its own is answered.

mod calls;
mod event;
mod form;
mod http;
mod metrics;
mod outbox;
mod own_mistakes;
mod queue_names;
mod spool;
mod strangers;
mod sweep;
mod verify;

use std::sync::Arc;

use anyhow::Context as _;
use common::failure::chain;
use common::process::{Context, WrongSetup};
use common::server::Limits;
use store::postgres::Postgres;
use tokio::net::TcpListener;

use crate::calls::Calls;
use crate::http::App;
use crate::metrics::IngestMetrics;
use crate::outbox::Outbox;
use crate::own_mistakes::OwnMistakes;
use crate::queue_names::QueueNames;
use crate::spool::Spool;
use crate::strangers::Strangers;
use crate::sweep::Sweeper;
use crate::verify::Doors;

/// Connections to the database for what robots say, which is asked a few times a minute.
const QUERIES_AT_ONCE: u32 = 2;

/// Runs the stage until told to stop, on the configured address.
///
/// # Errors
/// When it cannot start, a task died, or the grace was over.
pub async fn run(context: Context) -> anyhow::Result<()> {
    let listen = context.config.http.listen;
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("http.listen: cannot open {listen}"))?;
    serve(context, listener).await
}

/// Runs the stage on a listener of the caller's.
///
/// # Errors
/// As [`run`].
pub async fn serve(mut context: Context, listener: TcpListener) -> anyhow::Result<()> {
    let config = Arc::clone(&context.config);
    let names: Vec<_> = config.portals.iter().map(|portal| portal.name.clone()).collect();
    let metrics = Arc::new(IngestMetrics::register(&context.registry, &names)?);
    let spool = match &config.ingest.spool.directory {
        Some(directory) => {
            let spool = Spool::open(directory, config.ingest.spool.max_bytes).map_err(|error| {
                WrongSetup(format!("ingest.spool.directory {}: {error}", directory.display()))
            })?;
            Some(Arc::new(spool))
        }
        None => None,
    };
    let outbox = Arc::new(Outbox::new(Arc::clone(&context.broker), spool, Arc::clone(&metrics)));
    let stop = context.lifecycle.stop();
    let drain = Arc::clone(&outbox);
    context.lifecycle.spawn("spool", drain.drain(stop.clone()));

    // Connections are made when a robot calls; the database need not be there.
    let postgres = Postgres::prepare(&config.database.url, QUERIES_AT_ONCE)
        .map_err(|error| WrongSetup(chain(&error)))?;
    let strangers = Arc::new(Strangers::new());
    context.lifecycle.spawn("strangers", Arc::clone(&strangers).tell(stop.clone()));
    let app = App {
        doors: Doors::of(&config.portals),
        outbox: Arc::clone(&outbox),
        calls: Calls::new(Arc::new(postgres.clone())),
        topology: Arc::clone(&context.topology),
        clock: Arc::clone(&context.clock),
        metrics: Arc::clone(&metrics),
        queues: QueueNames::new(Arc::new(postgres.clone()), Arc::clone(&context.clock)),
        strangers,
        own_mistakes: OwnMistakes::new(context.lifecycle.health(), Arc::clone(&metrics)),
        body_timeout: config.http.body_timeout,
    };
    let (limits, server) = (Limits::from(&config.http), context.servers.of("events"));
    context.lifecycle.spawn("http", http::serve(listener, app, limits, server, stop.clone()));

    if !config.ingest.sweep.every.is_zero() {
        let sweeper = Sweeper::new(&context, &outbox, &metrics)?;
        context.lifecycle.spawn("sweep", sweeper.run(stop));
    }
    let result = context.run().await.context("running ingest");
    postgres.close().await;
    result
}

/// For the fuzzer: reads any body as both notations of a form.
#[cfg(fuzzing)]
pub fn check_form(body: &[u8]) {
    form::Form::check(body);
}
