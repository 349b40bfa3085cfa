//! Writes into the cards of leads why they were given to whom, or wait: when nothing more important needs the portal.

use std::sync::Arc;
use std::time::Duration;

use bitrix24::command::MAX_COMMANDS;
use bitrix24::timeline::{ADD, entry_command};
use bitrix24::{Command, Portal};
use common::clock::Clock;
use common::config::TimelineEntries;
use common::failure::{HandlerError, chain};
use common::lifecycle::Stop;
use store::{Store, TimelineEntry};

use crate::outbox::{self, LOST_AFTER};

/// How often is looked for entries: in the meantime they gather, so that many go in one request.
const EVERY: Duration = Duration::from_secs(5);

/// The timeline of one portal's leads.
pub(crate) struct Timeline {
    pub(crate) portal: Portal,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entries: TimelineEntries,
}

impl Timeline {
    pub(crate) async fn run(self, stop: Stop) {
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Err(error) = self.send_all(&stop).await {
                tracing::warn!(event = "timeline.failed", portal = %self.portal.name(), error = chain(&*error));
            }
        }
    }

    async fn send_all(&self, stop: &Stop) -> Result<(), HandlerError> {
        let limit = u32::try_from(MAX_COMMANDS).unwrap_or(u32::MAX);
        loop {
            let now = self.clock.now();
            let entries =
                self.store.take_timeline_entries(self.portal.name(), limit, now, now - LOST_AFTER).await?;
            let full = entries.len() == MAX_COMMANDS;
            if entries.is_empty() {
                return Ok(());
            }
            let ends = self.send(entries, stop).await;
            let failed = ends.iter().all(|(_, over)| !over);
            self.store.end_timeline_entries(&ends).await?;
            if !full || failed {
                return Ok(());
            }
        }
    }

    /// Sends entries; answers of each whether it is over.
    async fn send(&self, entries: Vec<TimelineEntry>, stop: &Stop) -> Vec<(TimelineEntry, bool)> {
        let title = match self.entries {
            TimelineEntries::None | TimelineEntries::En => "Lead distribution",
            TimelineEntries::Ru => "Распределение лидов",
        };
        let command = |entry: &TimelineEntry| entry_command(entry.key.lead, title, &entry.text);
        let commands: Vec<Command> = entries.iter().map(command).collect();
        let over = outbox::send(&self.portal, ADD, &commands, "timeline", stop).await;
        entries.into_iter().zip(over).collect()
    }
}
