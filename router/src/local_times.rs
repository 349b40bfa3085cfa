//! Puts people where the portal says they live, where the routing asks for that: the published routing and what is known of
//! people become the routing that decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::failure::chain;
use common::ids::{PortalName, UserId};
use common::lifecycle::Stop;
use distribution::Routing;
use jiff::tz::TimeZone;
use store::{KnownPeople, Store};
use tokio::sync::watch;

/// One portal's.
pub(crate) struct LocalTimes {
    pub(crate) portal: PortalName,
    pub(crate) published: watch::Receiver<Arc<Routing>>,
    pub(crate) people: watch::Receiver<Arc<KnownPeople>>,
    pub(crate) decides: watch::Sender<Arc<Routing>>,
    /// By which it decides.
    pub(crate) zones: BTreeMap<UserId, TimeZone>,
    pub(crate) store: Arc<dyn Store>,
}

/// The published routing with everybody where he lives.
pub(crate) fn local(published: &Arc<Routing>, people: &KnownPeople) -> Arc<Routing> {
    if published.asks_time_zones() {
        Arc::new(published.with_portal_zones(&people.time_zones()))
    } else {
        Arc::clone(published)
    }
}

impl LocalTimes {
    pub(crate) async fn run(mut self, stop: Stop) {
        loop {
            let changed = tokio::select! {
                () = stop.requested() => return,
                changed = self.published.changed() => changed,
                changed = self.people.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            let people = Arc::clone(&self.people.borrow_and_update());
            let published = Arc::clone(&self.published.borrow_and_update());
            self.decides.send_replace(local(&published, &people));
            let before = std::mem::replace(&mut self.zones, people.time_zones());
            let moved = self.zones != before;
            // Whoever moved may be at work now.
            if moved
                && published.asks_time_zones()
                && let Err(error) = self.store.look_at_holds(&self.portal).await
            {
                tracing::warn!(event = "roster.look_failed", portal = %self.portal, error = chain(&error));
            }
        }
    }
}
