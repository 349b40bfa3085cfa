//! Writes into the cards of leads why they were given to whom, or wait: when nothing more important needs the portal.

use std::sync::Arc;
use std::time::Duration;

use bitrix24::command::MAX_COMMANDS;
use bitrix24::timeline::{ADD, entry_command};
use bitrix24::{Command, Portal, PortalError};
use common::clock::Clock;
use common::config::TimelineEntries;
use common::failure::{Failure as _, FailureClass, HandlerError, chain};
use common::lifecycle::Stop;
use jiff::SignedDuration;
use store::{Store, TimelineEntry};

/// How often is looked for entries: in the meantime they gather, so that many go in one request.
const EVERY: Duration = Duration::from_secs(5);

/// Who took entries and has not ended them after this time is gone, and nobody knows whether they were sent.
const LOST_AFTER: SignedDuration = SignedDuration::from_mins(15);

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
        let permit = tokio::select! {
            permit = self.portal.permit(&[ADD]) => permit,
            () = stop.requested() => return entries.into_iter().map(|entry| (entry, false)).collect(),
        };
        let outcomes = match permit {
            Ok(permit) => self.portal.batch_with(permit, &commands).await,
            Err(error) => Err(error),
        };
        let over = |outcome: &Result<_, PortalError>| outcome.as_ref().err().is_none_or(is_over);
        match outcomes {
            Ok(outcomes) => {
                if let Some(error) = outcomes.iter().find_map(|outcome| outcome.as_ref().err()) {
                    tracing::warn!(event = "timeline.refused", portal = %self.portal.name(), error = chain(error));
                }
                let ends: Vec<bool> = outcomes.iter().map(over).collect();
                entries.into_iter().zip(ends).collect()
            }
            Err(error) => {
                tracing::warn!(event = "timeline.not_sent", portal = %self.portal.name(), error = chain(&error));
                let over = is_over(&error);
                entries.into_iter().map(|entry| (entry, over)).collect()
            }
        }
    }
}

/// Whether an entry that failed so is not sent again: it may be there, or never will.
fn is_over(error: &PortalError) -> bool {
    error.is_ambiguous() || error.class() == FailureClass::Permanent
}
