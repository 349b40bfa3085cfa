//! Requests to a portal against a model of the portal's own counter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::budget::{BucketLimits, Grant, RequestBudget};
use store::Store;
use store::postgres::Postgres;
use tokio::task::JoinSet;

use crate::{portal, store};

/// How far a request may lag behind its grant for the count still to be safe; beyond it the answer says
/// more of this machine than of the budget.
const LAG_MAX: Duration = Duration::from_millis(150);

/// Whole seconds of the portal's clock may begin anywhere between those of ours.
const PHASES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(250), Duration::from_millis(500), Duration::from_millis(750)];

/// The highest level of the portal's counter: it starts at `level`, each request raises it by one, and
/// on each whole second, the first `phase` after the start, it falls by `per_second`.
fn highest_level(mut level: u32, mut requests: Vec<Duration>, per_second: u32, phase: Duration) -> u32 {
    requests.sort_unstable();
    let mut highest = level;
    let mut tick = phase;
    for request in requests {
        while tick <= request {
            level = level.saturating_sub(per_second);
            tick += Duration::from_secs(1);
        }
        level += 1;
        highest = highest.max(level);
    }
    highest
}

/// Lets the bucket run empty and takes one request: ours begin to count their seconds with it.
async fn first_of_empty(store: &Postgres, burst: u32) {
    let falls_at_once = BucketLimits { burst, per_second: burst };
    store.refused(&portal("acme"), falls_at_once).await.unwrap();
    let mut refusals = 0;
    while let Grant::Wait(wait) = store.take(&portal("acme"), falls_at_once).await.unwrap() {
        assert!(wait <= Duration::from_secs(1), "it falls each second: {wait:?}");
        tokio::time::sleep(wait).await;
        refusals += 1;
    }
    assert!(refusals > 0, "a portal that refused us was asked at once");
}

/// How many of `tries` requests at once are granted.
async fn granted_at_once(store: &Arc<Postgres>, limits: BucketLimits, tries: usize) -> usize {
    let mut takes = JoinSet::new();
    for _ in 0..tries {
        let store = Arc::clone(store);
        takes.spawn(async move { store.take(&portal("acme"), limits).await.unwrap() });
    }
    takes.join_all().await.into_iter().filter(|answer| *answer == Grant::Granted).count()
}

/// When requests were granted to this many takers that never rest, from `start` on.
async fn flood(
    store: &Arc<Postgres>,
    limits: BucketLimits,
    takers: usize,
    start: Instant,
    length: Duration,
) -> (Vec<Duration>, usize) {
    let mut tasks = JoinSet::new();
    for _ in 0..takers {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let mut grants = Vec::new();
            while start.elapsed() < length {
                let asked = Instant::now();
                match store.take(&portal("acme"), limits).await.unwrap() {
                    Grant::Granted => grants.push((start.elapsed(), asked.elapsed())),
                    Grant::Wait(wait) => {
                        tokio::time::sleep(wait.min(length.saturating_sub(start.elapsed()))).await;
                    }
                }
            }
            grants
        });
    }
    let grants: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let all = grants.len();
    (grants.into_iter().filter(|(_, lag)| *lag < LAG_MAX).map(|(at, _)| at).collect(), all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_bucket_grants_one_request_less_than_the_burst_at_once() {
    let store = Arc::new(store().await);
    let limits = BucketLimits { burst: 20, per_second: 2 };
    let used = async || store.budget_used(&portal("acme"), limits).await.unwrap();
    assert_eq!(used().await, 0, "nothing is known yet");
    // It may have been used by others just now.
    assert_eq!(granted_at_once(&store, limits, 40).await, 9, "an unknown portal counts as half full");
    first_of_empty(&store, limits.burst).await;
    assert_eq!(granted_at_once(&store, limits, 40).await, 18, "and one before");
    let Grant::Wait(wait) = store.take(&portal("acme"), limits).await.unwrap() else {
        panic!("it is full");
    };
    // A second may have passed meanwhile, in which it falls.
    assert!((15..=19).contains(&used().await), "{}", used().await);
    assert!(wait <= Duration::from_millis(1200), "{wait:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_takers_that_never_rest_use_the_burst_and_never_exceed_it() {
    let store = Arc::new(store().await);
    let limits = BucketLimits { burst: 60, per_second: 5 };
    first_of_empty(&store, limits.burst).await;
    // Three falls of the counter for sure, whatever its phase, and time to use the third.
    let (grants, all) = flood(&store, limits, 3, Instant::now(), Duration::from_millis(3400)).await;
    for phase in PHASES {
        let highest = highest_level(1, grants.clone(), limits.per_second, phase);
        assert!(highest <= limits.burst, "{highest} with seconds that begin at {phase:?}: {grants:?}");
    }
    let allowed = usize::try_from(limits.burst + 3 * limits.per_second).unwrap();
    assert!((1 + all) * 10 >= allowed * 9, "{all} and one of {allowed} that are allowed: {grants:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_whose_counter_fell_to_zero_just_before_a_flood_is_not_exceeded() {
    let store = Arc::new(store().await);
    let limits = BucketLimits { burst: 20, per_second: 5 };
    first_of_empty(&store, limits.burst).await;
    let start = Instant::now();
    // The portal's second has begun by then, ours has not.
    tokio::time::sleep(Duration::from_millis(1050)).await;
    let (grants, _) = flood(&store, limits, 3, start, Duration::from_millis(1900)).await;
    assert!(grants.len() >= 14, "{grants:?}");
    for phase in PHASES {
        let highest = highest_level(1, grants.clone(), limits.per_second, phase);
        assert!(highest <= limits.burst, "{highest} with seconds that begin at {phase:?}: {grants:?}");
    }
}
