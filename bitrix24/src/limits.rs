//! How fast requests may go: the [`Limiter`], which hands out one [`Permit`] a request.
//!
//! First `governor` shapes this process inside the portal's limit; then the budget all processes
//! share is asked, which says when. Without a shared budget this process is alone, and `governor` is
//! the whole limiter. What the limit *is* stands in `common::budget`, the other limit in
//! [`crate::method_time`]; nothing is sent here. Neighbour: [`crate::client`] spends the permits.

use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use common::budget::{BucketLimits, BudgetError, Purpose, RequestBudget, Wish};
use common::ids::PortalName;
use governor::clock::{Clock, Reference};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Jitter, Quota, RateLimiter};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::error::PortalError;
use crate::method_time::MethodTimes;

/// Spreads the processes that were told to wait the same time. Small beside the half second in which
/// the standard plan frees one request.
const JITTER_MAX: Duration = Duration::from_millis(50);

/// How long a process that was refused as too fast sends nothing: two of the portal's whole-second
/// steps, so that its counter has fallen at least once whatever the moment of the refusal.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(2);

/// How often somebody who gives way to fresh leads looks whether they are gone.
const GIVE_WAY: Duration = Duration::from_millis(100);

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

type Shape = RateLimiter<NotKeyed, InMemoryState, TokioClock, StateInformationMiddleware>;

/// Keeps one portal's requests inside its limits. Callers of one purpose are served in the order they
/// asked.
pub struct Limiter {
    portal: PortalName,
    limits: BucketLimits,
    lanes: [Lane; 3],
    /// Fresh callers that wait here, to whom the others give way.
    fresh: AtomicUsize,
    shared: Option<Arc<dyn RequestBudget>>,
    methods: MethodTimes,
    paused_until: SyncMutex<Option<Instant>>,
    /// How high the count stood when it was last heard of.
    level: SyncMutex<(f64, Instant)>,
}

/// Those who want a request for one purpose.
struct Lane {
    purpose: Purpose,
    /// The burst without what is left to more important purposes; what these take is counted here too.
    shape: Shape,
    turn: Mutex<()>,
}

impl Limiter {
    /// A limiter for `portal` inside `limits`; with `shared`, the count that all processes share has
    /// the last word.
    ///
    /// Without it some of the burst is kept in hand: the portal's counter falls once a second in
    /// steps of `per_second`, while ours falls evenly and is up to `per_second − 1` ahead of it.
    #[must_use]
    pub fn new(
        portal: PortalName,
        limits: BucketLimits,
        methods: MethodTimes,
        shared: Option<Arc<dyn RequestBudget>>,
    ) -> Self {
        let in_hand = if shared.is_some() { 0 } else { whole((limits.per_second - 1.0).max(1.0)) };
        let lane = |purpose: Purpose| {
            let burst = limits.burst.saturating_sub(in_hand).saturating_sub(purpose.leaves(limits));
            let period = Duration::from_secs_f64(1.0 / limits.per_second.max(0.001));
            let quota = Quota::with_period(period).unwrap_or(Quota::per_second(NonZeroU32::MIN));
            let quota = quota.allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN));
            let shape = RateLimiter::direct_with_clock(quota, TokioClock).with_middleware();
            Lane { purpose, shape, turn: Mutex::new(()) }
        };
        Self {
            portal,
            limits,
            lanes: [lane(Purpose::Fresh), lane(Purpose::Held), lane(Purpose::Background)],
            fresh: AtomicUsize::new(0),
            shared,
            methods,
            paused_until: SyncMutex::new(None),
            level: SyncMutex::new((0.0, Instant::now())),
        }
    }

    /// What is known of the time that methods have used.
    #[must_use]
    pub fn methods(&self) -> &MethodTimes {
        &self.methods
    }

    /// Whether more than half of the burst is free, as far as this process has heard: then a request
    /// more or less does not matter.
    #[must_use]
    pub fn has_plenty(&self) -> bool {
        let (level, at) = *self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let now = level - at.elapsed().as_secs_f64() * self.limits.per_second;
        now < f64::from(self.limits.burst) / 2.0
    }

    /// Waits until one request may be sent. A caller that is dropped while it waits costs at most
    /// the one request it was about to get.
    ///
    /// # Errors
    /// When the shared budget cannot be asked (transient); nothing may be sent then.
    pub async fn acquire(&self, purpose: Purpose) -> Result<Permit, PortalError> {
        let started = Instant::now();
        let lane = self.lane(purpose);
        let _waiting = (purpose == Purpose::Fresh).then(|| Waiting::enter(&self.fresh));
        let _turn = lane.turn.lock().await;
        self.shaped(lane).await;
        while let Some(shared) = &self.shared {
            let news = self.methods.news();
            let wish = Wish { portal: &self.portal, limits: self.limits, purpose, news: &news };
            let grant = shared.take(wish).await.map_err(|error| {
                self.methods.untold(&news);
                PortalError::Budget { source: Arc::new(error) }
            })?;
            self.methods.heard(grant.methods);
            *self.level.lock().unwrap_or_else(PoisonError::into_inner) = (grant.level, Instant::now());
            // Those who booked a moment have it for themselves.
            let wait = if grant.granted { grant.wait } else { Jitter::up_to(JITTER_MAX) + grant.wait };
            sleep(wait).await;
            if grant.granted {
                break;
            }
        }
        Ok(Permit { waited: started.elapsed() })
    }

    /// Waits for this process's own share.
    async fn shaped(&self, lane: &Lane) {
        let taken = loop {
            if let Some(until) = self.pause() {
                sleep_until(until).await;
            } else if lane.purpose != Purpose::Fresh && self.fresh.load(Ordering::Relaxed) > 0 {
                sleep(GIVE_WAY).await;
            } else {
                match lane.shape.check() {
                    Ok(taken) => break taken,
                    Err(not_yet) => sleep(not_yet.wait_time_from(TokioClock.now())).await,
                }
            }
        };
        for other in self.lanes.iter().filter(|other| other.purpose != lane.purpose) {
            // It is counted there where there is something left to count; nobody is refused by it.
            drop(other.shape.check());
        }
        if self.shared.is_none() && lane.purpose == Purpose::Fresh {
            let used = f64::from(self.limits.burst.saturating_sub(taken.remaining_burst_capacity()));
            *self.level.lock().unwrap_or_else(PoisonError::into_inner) = (used, Instant::now());
        }
    }

    /// The portal refused a request that had a permit. This process pauses and has its burst used
    /// up; the shared count is set to full.
    ///
    /// # Errors
    /// When the shared budget cannot be told; this process has slowed down nevertheless.
    pub async fn refused(&self) -> Result<(), BudgetError> {
        for lane in &self.lanes {
            // Ends: only time refills the burst, and this loop takes no time.
            while lane.shape.check().is_ok() {}
        }
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

    fn lane(&self, purpose: Purpose) -> &Lane {
        let [fresh, held, background] = &self.lanes;
        match purpose {
            Purpose::Fresh => fresh,
            Purpose::Held => held,
            Purpose::Background => background,
        }
    }
}

/// Counts somebody who waits, as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Rounded up to a whole number.
fn whole(number: f64) -> u32 {
    // Limits are small numbers; what is larger has no meaning.
    (1..=1_000_000).find(|whole| f64::from(*whole) >= number).unwrap_or(1_000_000)
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
    use common::clock::SystemClock;

    use super::*;

    fn alone(burst: u32, per_second: f64) -> Limiter {
        let methods = MethodTimes::new(480.0, Arc::new(SystemClock));
        Limiter::new("acme".parse().unwrap(), BucketLimits { burst, per_second }, methods, None)
    }

    /// The portal's counter, which must never exceed `burst`, asked by a caller that never rests.
    #[tokio::test(start_paused = true)]
    async fn a_process_alone_never_overruns_the_portal() {
        for (burst, per_second) in [(50, 2), (250, 5), (3, 1)] {
            let limiter = alone(burst, f64::from(per_second));
            for offset_ms in [0_u64, 1, 499, 999] {
                tokio::time::advance(Duration::from_mins(5)).await;
                let started = Instant::now();
                let (mut counter, mut steps) = (0_u32, 0);
                for _ in 0..burst * 2 {
                    let _permit = limiter.acquire(Purpose::Fresh).await.unwrap();
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
    async fn a_share_of_the_limit_is_kept_to() {
        let limiter = alone(25, 0.5);
        let started = Instant::now();
        for _ in 0..34 {
            let _permit = limiter.acquire(Purpose::Fresh).await.unwrap();
        }
        // 24 at once, ten more at one in two seconds.
        assert_eq!(started.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_pauses_and_uses_up_the_burst() {
        let limiter = alone(50, 2.0);
        assert_eq!(limiter.acquire(Purpose::Fresh).await.unwrap().waited(), Duration::ZERO);
        assert!(limiter.has_plenty());
        limiter.refused().await.unwrap();
        let waited = limiter.acquire(Purpose::Fresh).await.unwrap().waited();
        assert!(waited >= PAUSE_AFTER_REFUSAL, "{waited:?}");
        assert!(!limiter.has_plenty());
        // Four were freed during the pause; the burst is gone, so a fifth and sixth wait.
        let started = Instant::now();
        for _ in 0..6 {
            let _permit = limiter.acquire(Purpose::Fresh).await.unwrap();
        }
        assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_leaves_some_of_the_burst_and_gives_way() {
        let limiter = Arc::new(alone(50, 2.0));
        // 49 are to be had, and ten of them are left.
        for _ in 0..39 {
            let permit = limiter.acquire(Purpose::Background).await.unwrap();
            assert_eq!(permit.waited(), Duration::ZERO);
        }
        let sweep = tokio::spawn({
            let limiter = Arc::clone(&limiter);
            async move { limiter.acquire(Purpose::Background).await.unwrap().waited() }
        });
        tokio::task::yield_now().await;
        for _ in 0..10 {
            let permit = limiter.acquire(Purpose::Fresh).await.unwrap();
            assert_eq!(permit.waited(), Duration::ZERO, "for fresh leads there is some left");
        }
        assert!(sweep.await.unwrap() > Duration::ZERO);
    }
}
