//! Tells people what is no assignment: of leads that wait too long, that somebody lost, and the like.

use std::sync::Arc;
use std::time::Duration;

use bitrix24::command::MAX_COMMANDS;
use bitrix24::{Command, Portal};
use common::clock::Clock;
use common::failure::{HandlerError, chain};
use common::lifecycle::Stop;
use store::{Notice, Store};

use crate::outbox::{self, LOST_AFTER};
use crate::wording::Wording;

/// How often is looked for notices.
const EVERY: Duration = Duration::from_secs(5);

/// The notices of one portal.
pub(crate) struct Notices {
    pub(crate) portal: Portal,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wording: Wording,
}

impl Notices {
    pub(crate) async fn run(self, stop: Stop) {
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Err(error) = self.send_all(&stop).await {
                tracing::warn!(event = "notices.failed", portal = %self.portal.name(), error = chain(&*error));
            }
        }
    }

    async fn send_all(&self, stop: &Stop) -> Result<(), HandlerError> {
        let (portal, limit) = (self.portal.name(), u32::try_from(MAX_COMMANDS).unwrap_or(u32::MAX));
        loop {
            let now = self.clock.now();
            let notices = self.store.take_notices(portal, limit, now, now - LOST_AFTER).await?;
            if notices.is_empty() {
                return Ok(());
            }
            let commands: Vec<Command> = notices.iter().map(|notice| self.command(notice)).collect();
            let over =
                outbox::send(&self.portal, self.wording.author().method(), &commands, "notices", stop).await;
            let failed = over.iter().all(|over| !over);
            let full = notices.len() == MAX_COMMANDS;
            let ends: Vec<(String, bool)> = notices.into_iter().map(|notice| notice.tag).zip(over).collect();
            self.store.end_notices(portal, &ends).await?;
            if !full || failed {
                return Ok(());
            }
        }
    }

    fn command(&self, notice: &Notice) -> Command {
        self.wording.other(notice).command()
    }
}
