//! How fast requests may go: the [`Limiter`], which hands out one [`Permit`] a request.
//!
//! First `governor` shapes this process inside the portal's limit; then the budget all processes
//! share is asked, until it grants. Without a shared budget this process is alone, and `governor` is
//! the whole limiter. What the limit *is* stands in `common::budget`; nothing is sent here.
//! Neighbour: [`crate::client`] spends the permits.

use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use common::budget::{BucketLimits, BudgetError, Grant, RequestBudget};
use common::ids::PortalName;
use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Jitter, Quota, RateLimiter};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::error::PortalError;

/// Spreads the processes that were told to wait the same time. Small beside the half second in which
/// the standard plan frees one request.
const JITTER_MAX: Duration = Duration::from_millis(50);

/// How long a process that was refused as too fast sends nothing: two of the portal's whole-second
/// steps, so that its counter has fallen at least once whatever the moment of the refusal.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(2);

/// The right to send one request, soon. Dropped unused, it is lost: the count has already risen.
#[must_use = "a permit that is not spent slows everybody for nothing"]
#[derive(Debug)]
pub struct Permit {
    waited: Duration,
}

impl Permit {
    /// How long it took to get it.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

/// Keeps one portal's requests inside its limit. Callers are served in the order they asked.
pub struct Limiter {
    portal: PortalName,
    limits: BucketLimits,
    shape: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<TokioInstant>>,
    shared: Option<Arc<dyn RequestBudget>>,
    turn: Mutex<()>,
    paused_until: SyncMutex<Option<Instant>>,
}

impl Limiter {
    /// A limiter for `portal` inside `limits`; with `shared`, the count that all processes share has
    /// the last word.
    ///
    /// Without it some of the burst is kept in hand: the portal's counter falls once a second in
    /// steps of `per_second`, while ours falls evenly and is up to `per_second − 1` ahead of it. A
    /// limit of 0 counts as 1.
    #[must_use]
    pub fn new(portal: PortalName, limits: BucketLimits, shared: Option<Arc<dyn RequestBudget>>) -> Self {
        let in_hand = if shared.is_some() { 0 } else { limits.per_second.saturating_sub(1).max(1) };
        let burst = at_least_one(limits.burst.saturating_sub(in_hand));
        let quota = Quota::per_second(at_least_one(limits.per_second)).allow_burst(burst);
        Self {
            portal,
            limits,
            shape: RateLimiter::direct_with_clock(quota, TokioClock),
            shared,
            turn: Mutex::new(()),
            paused_until: SyncMutex::new(None),
        }
    }

    /// Waits until one request may be sent. A caller that is dropped while it waits costs at most
    /// the one request it was about to get.
    ///
    /// # Errors
    /// When the shared budget cannot be asked (transient); nothing may be sent then.
    pub async fn acquire(&self) -> Result<Permit, PortalError> {
        let started = Instant::now();
        let _turn = self.turn.lock().await;
        loop {
            if let Some(until) = self.pause() {
                sleep_until(until).await;
            } else if let Err(not_yet) = self.shape.check() {
                sleep(not_yet.wait_time_from(TokioClock.now())).await;
            } else {
                break;
            }
        }
        if let Some(shared) = &self.shared {
            while let Grant::Wait(time) = shared
                .take(&self.portal, self.limits)
                .await
                .map_err(|error| PortalError::Budget { source: Arc::new(error) })?
            {
                sleep(Jitter::up_to(JITTER_MAX) + time).await;
            }
        }
        Ok(Permit { waited: started.elapsed() })
    }

    /// The portal refused a request that had a permit. This process pauses and has its burst used
    /// up; the shared count is set to full.
    ///
    /// # Errors
    /// When the shared budget cannot be told; this process has slowed down nevertheless.
    pub async fn refused(&self) -> Result<(), BudgetError> {
        // Ends: only time refills the burst, and this loop takes no time.
        while self.shape.check().is_ok() {}
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Instant::now() + PAUSE_AFTER_REFUSAL);
        match &self.shared {
            Some(shared) => shared.refused(&self.portal, self.limits).await,
            None => Ok(()),
        }
    }

    fn pause(&self) -> Option<Instant> {
        let until = *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.filter(|until| *until > Instant::now())
    }
}

fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

/// The clock of tokio, for `governor`, so that both wait by the same clock, also when a test stops it.
#[derive(Debug, Clone, Copy)]
struct TokioClock;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TokioInstant(Instant);

impl Clock for TokioClock {
    type Instant = TokioInstant;

    fn now(&self) -> TokioInstant {
        TokioInstant(Instant::now())
    }
}

impl Add<Nanos> for TokioInstant {
    type Output = Self;

    fn add(self, time: Nanos) -> Self {
        Self(self.0 + Duration::from(time))
    }
}

impl Reference for TokioInstant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, time: Nanos) -> Self {
        Self(self.0.checked_sub(Duration::from(time)).unwrap_or(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(burst: u32, per_second: u32) -> Limiter {
        Limiter::new("acme".parse().unwrap(), BucketLimits { burst, per_second }, None)
    }

    /// The portal's counter, which must never exceed `burst`, asked by a caller that never rests.
    #[tokio::test(start_paused = true)]
    async fn a_process_alone_never_overruns_the_portal() {
        for (burst, per_second) in [(50, 2), (250, 5), (3, 1)] {
            let limiter = alone(burst, per_second);
            for offset_ms in [0_u64, 1, 499, 999] {
                tokio::time::advance(Duration::from_mins(5)).await;
                let started = Instant::now();
                let (mut counter, mut steps) = (0_u32, 0);
                for _ in 0..burst * 2 {
                    let _permit = limiter.acquire().await.unwrap();
                    let passed = (started.elapsed() + Duration::from_millis(offset_ms)).as_secs();
                    for _ in steps..passed {
                        counter = counter.saturating_sub(per_second);
                    }
                    steps = passed;
                    counter += 1;
                    assert!(counter <= burst, "{burst}/{per_second} after {:?}", started.elapsed());
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_pauses_and_uses_up_the_burst() {
        let limiter = alone(50, 2);
        assert_eq!(limiter.acquire().await.unwrap().waited(), Duration::ZERO);
        limiter.refused().await.unwrap();
        let waited = limiter.acquire().await.unwrap().waited();
        assert!(waited >= PAUSE_AFTER_REFUSAL, "{waited:?}");
        // Four were freed during the pause; the burst is gone, so a fifth and sixth wait.
        let started = Instant::now();
        for _ in 0..6 {
            let _permit = limiter.acquire().await.unwrap();
        }
        assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    }
}
