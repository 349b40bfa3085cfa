//! Which queues the published routing of a portal has, for robots that name one: a wrong name is told to who calls.
//!
//! It only ever refuses what it knows to be wrong. A name that is not among those known is looked for in the store before it
//! is refused, as it may have been published a moment ago; and where the store does not tell in time, or has a version in
//! words of a newer program, every name passes, and the router decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::clock::Clock;
use common::failure::chain;
use common::ids::PortalName;
use distribution::{Routing, nearest};
use jiff::{SignedDuration, Timestamp};
use store::{StoreError, Versions};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// For how long names are taken from memory. A queue that was taken out of the routing is refused after that.
const KEPT: SignedDuration = SignedDuration::from_secs(10);

/// The portal watches how fast it is answered, so the store is not waited for longer; it answers within milliseconds.
const STORE_MAY_TAKE: Duration = Duration::from_secs(1);

/// For how long a store that did not answer is left alone, so that not every robot waits for it.
const STORE_LEFT_ALONE: SignedDuration = SignedDuration::from_secs(5);

/// The queues of all portals.
pub(crate) struct QueueNames {
    store: Arc<dyn Versions>,
    clock: Arc<dyn Clock>,
    known: Mutex<BTreeMap<PortalName, Known>>,
}

/// What is known of one portal.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Of which version.
    version: u64,
    /// `None` where it cannot be read.
    names: Option<Vec<String>>,
    /// When the store said so.
    asked_at: Option<Timestamp>,
    /// When it did not answer.
    failed_at: Option<Timestamp>,
}

/// A name that no queue of the published routing has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the routing that decides (version {version}) has no queue `{name}`{hint}")]
pub(crate) struct UnknownQueue {
    name: String,
    version: u64,
    /// The names there are, or the one that was probably meant.
    hint: String,
}

impl QueueNames {
    pub(crate) fn new(store: Arc<dyn Versions>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, known: Mutex::default() }
    }

    /// Whether a queue of this portal may be called so.
    ///
    /// # Errors
    /// When none is.
    pub(crate) async fn check(&self, portal: &PortalName, name: &str) -> Result<(), UnknownQueue> {
        let known = self.known.lock().await.get(portal).cloned().unwrap_or_default();
        let now = self.clock.now();
        let within =
            |since: Option<Timestamp>, length| since.is_some_and(|at| now.duration_since(at) < length);
        let has =
            |known: &Known| known.names.as_ref().is_none_or(|names| names.iter().any(|known| known == name));
        let fresh = within(known.asked_at, KEPT);
        if fresh && known.names.is_some() && has(&known) || within(known.failed_at, STORE_LEFT_ALONE) {
            return Ok(());
        }
        // What others are told meanwhile is the same or newer, so nobody waits for anybody.
        let asked = timeout(STORE_MAY_TAKE, self.ask(portal, known.clone())).await;
        let (known, told) = match asked {
            Ok(Ok(Some(told))) => (Known { asked_at: Some(now), failed_at: None, ..told }, true),
            Ok(Ok(None)) => (Known { asked_at: Some(now), ..Known::default() }, false),
            Ok(Err(error)) => {
                tracing::warn!(event = "robot.queues_not_known", %portal, error = chain(&error));
                (Known { failed_at: Some(now), ..known }, false)
            }
            Err(_) => {
                tracing::warn!(event = "robot.queues_not_known", %portal, error = "the database takes too long");
                (Known { failed_at: Some(now), ..known }, false)
            }
        };
        let passes = !told || has(&known);
        self.known.lock().await.insert(portal.clone(), known.clone());
        if passes {
            return Ok(());
        }
        let names = known.names.iter().flatten().map(String::as_str);
        Err(UnknownQueue { name: name.to_owned(), version: known.version, hint: nearest(name, names) })
    }

    /// The names of the current version; `None` where nothing is published.
    async fn ask(&self, portal: &PortalName, known: Known) -> Result<Option<Known>, StoreError> {
        let current = self.store.current_versions().await?;
        let Some(version) = current.get(portal).copied() else { return Ok(None) };
        if version == known.version {
            return Ok(Some(known));
        }
        let Some(published) = self.store.version(portal, version).await? else { return Ok(None) };
        let routing = Routing::from_yaml(&published.text, "").ok();
        let names =
            routing.map(|routing| routing.queues().map(|queue| queue.name.as_str().to_owned()).collect());
        Ok(Some(Known { version, names, ..known }))
    }
}

#[cfg(test)]
mod tests {
    use common::clock::SystemClock;
    use store::postgres::Postgres;

    use super::*;

    #[tokio::test]
    async fn while_the_store_is_away_every_name_passes() {
        // Nothing listens on port 1.
        let away = Postgres::prepare(&"postgres://rota:x@127.0.0.1:1/rota".into(), 1).unwrap();
        let queues = QueueNames::new(Arc::new(away), Arc::new(SystemClock));
        let portal: PortalName = "acme".parse().unwrap();
        for name in ["main", "wip"] {
            assert_eq!(queues.check(&portal, name).await, Ok(()));
        }
        let known = queues.known.lock().await.get(&portal).cloned().unwrap();
        assert!(known.failed_at.is_some(), "it is left alone for a while");
    }

    #[test]
    fn what_is_there_is_named() {
        let unknown = |name: &str| UnknownQueue {
            name: name.to_owned(),
            version: 3,
            hint: nearest(name, ["main", "vip"].into_iter()),
        };
        let text = unknown("wip").to_string();
        assert_eq!(text, "the routing that decides (version 3) has no queue `wip`; did you mean `vip`?");
        let text = unknown("retail").to_string();
        assert_eq!(text, "the routing that decides (version 3) has no queue `retail`; known: `main`, `vip`");
    }
}
