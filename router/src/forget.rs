//! Deletes what is older than the configuration keeps: dead letters that were settled, decisions of leads that are done
//! with, titles of leads. One router of all does it, a bounded number at a time.

use std::sync::Arc;
use std::time::Duration;

use common::clock::Clock;
use common::config;
use common::failure::chain;
use common::lifecycle::Stop;
use jiff::{SignedDuration, Timestamp};
use store::{Forgotten, Keep, Store, StoreError};
use uuid::Uuid;

/// How often is looked for what is old.
const EVERY: Duration = Duration::from_mins(10);

/// The wait between two portions, so that the database has time for leads.
const BETWEEN: Duration = Duration::from_secs(1);

/// For how long one router does it without saying so again: longer than between two looks.
const LEASE: SignedDuration = SignedDuration::from_mins(25);

/// How many of a kind go at once: some ten milliseconds of the database.
const AT_ONCE: u32 = 500;

/// How many ids behind the scan's end decisions are kept, whatever their age; and how many times its overlap, so that a
/// larger one in the configuration finds no lead of old days undecided.
const BEHIND_SCAN: (u64, u64) = (10_000, 10);

/// Forgets.
pub(crate) struct Forget {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keep: config::Keep,
    /// `ingest.sweep.overlap`.
    pub(crate) overlap: u64,
    /// The name of this router among all.
    pub(crate) holder: Uuid,
}

impl Forget {
    pub(crate) async fn run(self, stop: Stop) {
        let mut pause = BETWEEN;
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = match self.look().await {
                Ok(true) => BETWEEN,
                Ok(false) => EVERY,
                Err(error) => {
                    tracing::warn!(event = "forget.failed", error = chain(&error));
                    EVERY
                }
            };
        }
    }

    /// Answers whether there may be more.
    async fn look(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        if !self.store.take_lease("forget", self.holder, now, LEASE).await? {
            return Ok(false);
        }
        let gone = self.store.forget(&kept(&self.keep, self.overlap, now)).await?;
        if gone != Forgotten::default() {
            let Forgotten { dead_letters, leads, titles } = gone;
            tracing::info!(event = "forget.done", dead_letters, leads, titles);
        }
        let limit = u64::from(AT_ONCE);
        Ok([gone.dead_letters, gone.leads, gone.titles].into_iter().any(|count| count >= limit))
    }
}

fn kept(keep: &config::Keep, overlap: u64, now: Timestamp) -> Keep {
    let ago = |age: Duration| now.checked_sub(age).unwrap_or(Timestamp::MIN);
    Keep {
        dead_letters: ago(keep.dead_letters),
        decisions: ago(keep.decisions),
        titles: ago(keep.titles),
        behind_scan: overlap.saturating_mul(BEHIND_SCAN.1).max(BEHIND_SCAN.0),
        limit: AT_ONCE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_follows_the_configuration() {
        let now: Timestamp = "2026-11-23T09:00:00Z".parse().unwrap();
        let keep = kept(&config::Keep::default(), 200, now);
        assert_eq!(keep.dead_letters, "2026-10-24T09:00:00Z".parse().unwrap());
        assert_eq!(keep.titles, "2026-11-16T09:00:00Z".parse().unwrap());
        assert_eq!(
            (keep.behind_scan, kept(&config::Keep::default(), 5_000, now).behind_scan),
            (10_000, 50_000)
        );
    }
}
