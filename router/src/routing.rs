//! Which routing decides: the current version in the store, followed while we run.
//!
//! The file that the configuration names is only the beginning: where the store has no version of a portal's routing,
//! it is published as the first. From then on versions are published and made current by others, and followed here. A
//! version that this program cannot read changes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::clock::Clock;
use common::failure::chain;
use common::ids::{PortalName, UserId};
use common::lifecycle::Stop;
use distribution::Routing;
use store::{NewVersion, PublishedVersion, Store, StoreError};
use tokio::sync::watch;

use crate::metrics::RouterMetrics;

/// How often is looked for another version. A change is followed within two seconds.
const EVERY: Duration = Duration::from_secs(1);

/// Who published what came from the configuration.
const AUTHOR: &str = "configuration";

/// Reads and checks a routing file; answers its text.
///
/// # Errors
/// In words for people: every mistake with its line and column, or why the file cannot be read.
pub(crate) fn load(path: &Path) -> Result<String, String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    Routing::from_yaml(&text, &name).map_err(|errors| errors.to_string())?;
    Ok(text)
}

/// The current version of a portal; `text` of the file at `path` becomes its first where it has none.
///
/// # Errors
/// When the store does not answer.
pub(crate) async fn current(
    store: &dyn Store,
    portal: &PortalName,
    (path, text): (&Path, &str),
    clock: &dyn Clock,
) -> Result<PublishedVersion, StoreError> {
    let note = Some(path.display().to_string());
    let first = NewVersion { text: text.to_owned(), author: AUTHOR.to_owned(), note };
    let current = store.current_or_first(portal, &first, clock.now()).await?;
    if current.text != text {
        tracing::warn!(
            event = "routing.file_not_used", portal = %portal, file = %path.display(), version = current.version,
            hint = "the file differs from the published version, which decides; publish the file by `rota publish`",
        );
    }
    Ok(current)
}

/// The routing of a version, for a portal whose webhook is this user's.
///
/// # Errors
/// Everything in it that this program cannot read.
pub(crate) fn read(
    portal: &PortalName,
    webhook_user: Option<UserId>,
    version: &PublishedVersion,
) -> Result<Routing, String> {
    let name = format!("version {} of portal {portal}", version.version);
    let routing = Routing::from_yaml(&version.text, &name).map_err(|errors| errors.to_string())?;
    let routing = routing.with_version(version.version);
    Ok(match webhook_user {
        Some(user) => routing.with_webhook_user(user),
        None => routing,
    })
}

/// Follows the current versions of all portals.
pub(crate) struct Follow {
    pub(crate) portals: BTreeMap<PortalName, Followed>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) metrics: Arc<RouterMetrics>,
}

/// What is known of one portal.
pub(crate) struct Followed {
    decides: watch::Sender<Arc<Routing>>,
    /// Whose the portal's inbound webhook is.
    webhook_user: Option<UserId>,
    /// The version that was looked at last, whether it can be read or not.
    seen: u64,
    /// Whether the version before may have held a lead when this one came.
    swapped: bool,
}

impl Followed {
    pub(crate) fn new(routing: Arc<Routing>, webhook_user: Option<UserId>) -> Self {
        Self { seen: routing.version(), decides: watch::Sender::new(routing), webhook_user, swapped: false }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Routing>> {
        self.decides.subscribe()
    }
}

impl Follow {
    pub(crate) async fn run(mut self, stop: Stop) {
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Err(error) = self.look().await {
                tracing::warn!(event = "routing.look_failed", error = chain(&error));
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let current = self.store.current_versions().await?;
        for (portal, followed) in &mut self.portals {
            if std::mem::take(&mut followed.swapped) {
                self.store.look_at_holds(portal).await?;
            }
            let Some(number) = current.get(portal).copied().filter(|number| *number != followed.seen) else {
                continue;
            };
            let Some(version) = self.store.version(portal, number).await? else { continue };
            followed.seen = number;
            match read(portal, followed.webhook_user, &version) {
                Ok(routing) => {
                    self.metrics.routing(portal, &routing);
                    let before = followed.decides.send_replace(Arc::new(routing)).version();
                    tracing::info!(
                        event = "routing.followed", portal = %portal, version = number, before,
                        author = version.author,
                    );
                    followed.swapped = true;
                    self.store.look_at_holds(portal).await?;
                }
                Err(error) => {
                    self.metrics.unreadable_routing(portal);
                    tracing::error!(
                        event = "routing.unreadable", portal = %portal, version = number, error,
                        decides = followed.decides.borrow().version(),
                    );
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_can_be_loaded_and_a_missing_file_is_named() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/routing.example.yaml");
        assert!(load(&example).unwrap().contains("version: 1"));
        assert!(load(Path::new("/nowhere.yaml")).unwrap_err().starts_with("/nowhere.yaml: No such file"));
    }
}
