//! Events for speed, the scan for truth: leads whose event the portal lost are found by their number.
//!
//! Of all replicas one scans a portal at a time, by a lease in the store. A scan lists the leads above
//! the highest id seen, less an overlap for leads that became visible out of order, and emits an event
//! for those that have no decision. From then on such a lead waits in the store, and a router publishes its event again as
//! long as nothing comes of it, because the broker may have lost it. The very first scan of a portal only notes where the
//! leads end: what was there before Rota is not touched.

use std::sync::Arc;
use std::time::Duration;

use bitrix24::connect::connect;
use bitrix24::{Portal, PortalMetrics};
use common::broker::Message;
use common::broker::topology::Topology;
use common::budget::Purpose;
use common::clock::Clock;
use common::failure::{HandlerError, chain};
use common::ids::LeadId;
use common::lifecycle::Stop;
use common::messages::{EventSource, LeadEvent};
use common::process::{Context, WrongSetup};
use jiff::{SignedDuration, Timestamp};
use store::Store;
use store::postgres::Postgres;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::metrics::IngestMetrics;
use crate::outbox::Outbox;

/// A lead younger than this may have its event still on the way.
const EVENT_MAY_COME: SignedDuration = SignedDuration::from_secs(15);

/// When the event of a lead that was found is published again for the first time, if nobody has decided it by then.
const PUBLISH_AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(3);

/// Lists of 50 leads in one scan; a longer absence is caught up with by the following scans.
const LISTS_A_SCAN: usize = 20;

/// The scans of all portals.
pub(crate) struct Sweeper {
    postgres: Postgres,
    every: Duration,
    sweeps: Vec<Sweep>,
}

/// The scan of one portal.
struct Sweep {
    portal: Portal,
    store: Arc<dyn Store>,
    outbox: Arc<Outbox>,
    topology: Arc<Topology>,
    clock: Arc<dyn Clock>,
    metrics: Arc<IngestMetrics>,
    every: Duration,
    overlap: u64,
    holder: Uuid,
}

impl Sweeper {
    /// Prepares the scans; neither the database nor a portal need be there yet.
    ///
    /// # Errors
    /// When an address is wrong.
    pub(crate) fn new(
        context: &Context,
        outbox: &Arc<Outbox>,
        metrics: &Arc<IngestMetrics>,
    ) -> anyhow::Result<Self> {
        let config = &context.config;
        let postgres = Postgres::prepare(&config.database.url, config.database.connections)
            .map_err(|error| WrongSetup(chain(&error)))?;
        let portal_metrics = Arc::new(PortalMetrics::new(&context.registry)?);
        let mut sweeps = Vec::new();
        for portal in &config.portals {
            let (account, clock) = (Arc::new(postgres.clone()), Arc::clone(&context.clock));
            let portal =
                connect(portal, &config.portal_requests, account, clock, Arc::clone(&portal_metrics))
                    .map_err(|error| WrongSetup(format!("portal {}: webhook_url: {error}", portal.name)))?;
            sweeps.push(Sweep {
                portal: portal.for_purpose(Purpose::Background),
                store: Arc::new(postgres.clone()),
                outbox: Arc::clone(outbox),
                topology: Arc::clone(&context.topology),
                clock: Arc::clone(&context.clock),
                metrics: Arc::clone(metrics),
                every: config.ingest.sweep.every,
                overlap: config.ingest.sweep.overlap,
                holder: Uuid::now_v7(),
            });
        }
        Ok(Self { postgres, every: config.ingest.sweep.every, sweeps })
    }

    /// Scans until told to stop. The database is waited for here: events are accepted without it.
    pub(crate) async fn run(self, stop: Stop) {
        tokio::select! {
            () = stop.requested() => return,
            () = self.database_at_last() => {}
        }
        let mut running = JoinSet::new();
        for sweep in self.sweeps {
            running.spawn(sweep.run(stop.clone()));
        }
        stop.requested().await;
        while running.join_next().await.is_some() {}
        self.postgres.close().await;
    }

    async fn database_at_last(&self) {
        while let Err(error) = self.postgres.open().await {
            tracing::error!(event = "sweep.no_store", error = chain(&error));
            tokio::time::sleep(self.every).await;
        }
    }
}

impl Sweep {
    async fn run(self, stop: Stop) {
        loop {
            if let Err(error) = self.scan().await {
                tracing::warn!(event = "sweep.failed", portal = %self.portal.name(), error = chain(&*error));
            }
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(self.every) => {}
            }
        }
    }

    async fn scan(&self) -> Result<(), HandlerError> {
        let now = self.clock.now();
        // Twice the interval: a holder that lives renews in time, one that died is soon replaced.
        let lease = self.store.take_sweep(self.portal.name(), self.holder, now, self.every * 2).await?;
        let Some(lease) = lease else { return Ok(()) };
        let Some(seen) = lease.seen else {
            let newest = self.portal.newest_lead().await?.map_or(0, LeadId::get);
            self.store.swept(self.portal.name(), newest).await?;
            tracing::info!(event = "sweep.started", portal = %self.portal.name(), after.lead = newest);
            return Ok(());
        };
        let mut after = seen.last_id.saturating_sub(self.overlap).max(seen.first_id);
        for _ in 0..LISTS_A_SCAN {
            let sightings = self.portal.leads_after(after).await?;
            let Some(last) = sightings.last() else { break };
            after = last.id.get();
            let old_enough = |created: Option<Timestamp>| {
                created.is_none_or(|at| now.duration_since(at) >= EVENT_MAY_COME)
            };
            let ripe: Vec<LeadId> = sightings
                .iter()
                .filter(|sighting| old_enough(sighting.created))
                .map(|sighting| sighting.id)
                .collect();
            // Noted first: what is not published then is published again later.
            let again_at = now + PUBLISH_AGAIN_AFTER;
            for lead in self.store.note_found(self.portal.name(), &ripe, now, again_at).await? {
                self.emit(lead, now).await?;
                self.metrics.found(self.portal.name());
                tracing::warn!(event = "sweep.found", portal = %self.portal.name(), lead.id = lead.get());
            }
            // The overlap covers leads that are not ripe yet, unless there are more of them than it.
            let highest_ripe =
                sightings.iter().filter(|sighting| old_enough(sighting.created)).map(|s| s.id).max();
            if let Some(highest) = highest_ripe {
                self.store.swept(self.portal.name(), highest.get()).await?;
            }
            if sightings.len() < bitrix24::lead::LEADS_A_LIST {
                break;
            }
        }
        Ok(())
    }

    async fn emit(&self, lead: LeadId, now: Timestamp) -> Result<(), HandlerError> {
        let event = LeadEvent::of(lead, EventSource::Sweep);
        let message = Message::lead_event(self.portal.name(), event, now, now);
        let route = self.topology.to_queue(self.topology.lead_events(self.portal.name()));
        self.outbox.put(route, message).await?;
        Ok(())
    }
}
