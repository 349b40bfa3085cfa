//! Says in `/ready` when nothing that a portal answers can be read.

use std::time::Duration;

use common::lifecycle::{Health, Stop};

use crate::client::Portal;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(2);

/// Keeps the check of a portal until told to stop.
pub async fn watch_readability(portal: Portal, health: Health, stop: Stop) {
    let check = format!("portal:{}:readable", portal.name());
    let mut failed = false;
    loop {
        if let Some(unreadable) = portal.unreadable() {
            let why = format!(
                "portal {} has answered nothing that can be read for {} s ({} answers): look at what it answers, by `curl` \
                 and the webhook's address, for warnings of PHP or a page of a proxy before the JSON, or far too much of it",
                portal.name(),
                unreadable.lasts.as_secs(),
                unreadable.answers,
            );
            health.fail(&check, &why);
            if !std::mem::replace(&mut failed, true) {
                tracing::error!(event = "portal.unreadable", portal = %portal.name(), reason = why);
            }
        } else {
            health.pass(&check);
            if std::mem::take(&mut failed) {
                tracing::info!(event = "portal.readable_again", portal = %portal.name());
            }
        }
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
