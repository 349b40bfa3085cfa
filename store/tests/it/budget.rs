//! Requests to a portal against a model of the portal's own counter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::budget::{BucketLimits, Grant, MethodTime, Purpose, RequestBudget, Wish};
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

async fn take(store: &Postgres, limits: BucketLimits, purpose: Purpose) -> Grant {
    let portal = portal("acme");
    store.take(Wish { portal: &portal, limits, purpose, news: &[] }).await.unwrap()
}

/// Lets the bucket run empty and takes one request: ours begin to count their seconds with it.
async fn first_of_empty(store: &Postgres, burst: u32) {
    let falls_at_once = BucketLimits { burst, per_second: f64::from(burst) };
    let grant = take(store, falls_at_once, Purpose::Fresh).await;
    assert!(grant.granted && grant.wait <= Duration::from_millis(1200), "it falls each second: {grant:?}");
    tokio::time::sleep(grant.wait + Duration::from_millis(1300)).await;
    assert_eq!(take(store, falls_at_once, Purpose::Fresh).await.wait, Duration::ZERO);
}

/// How many of `tries` requests at once may be sent at once.
async fn granted_at_once(store: &Arc<Postgres>, limits: BucketLimits, tries: usize) -> usize {
    let mut takes = JoinSet::new();
    for _ in 0..tries {
        let store = Arc::clone(store);
        takes.spawn(async move { take(&store, limits, Purpose::Background).await });
    }
    takes.join_all().await.into_iter().filter(|answer| answer.granted).count()
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
                let grant = take(&store, limits, Purpose::Fresh).await;
                assert!(grant.granted, "a fresh lead's turn comes");
                let lag = asked.elapsed();
                tokio::time::sleep(grant.wait).await;
                if start.elapsed() < length {
                    grants.push((start.elapsed(), lag));
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
    // What can wait leaves ten of them.
    let limits = BucketLimits { burst: 30, per_second: 2.0 };
    let used = async || store.budget_used(&portal("acme"), limits).await.unwrap();
    assert_eq!(used().await, 0, "nothing is known yet");
    // It may have been used by others just now.
    assert_eq!(granted_at_once(&store, limits, 40).await, 4, "an unknown portal counts as half full");
    first_of_empty(&store, limits.burst).await;
    assert_eq!(granted_at_once(&store, limits, 40).await, 18, "and one before");
    let grant = take(&store, limits, Purpose::Background).await;
    assert!(!grant.granted && grant.wait <= Duration::from_millis(1200), "{grant:?}");
    // A second may have passed meanwhile, in which it falls.
    assert!((15..=19).contains(&used().await), "{}", used().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_the_burst_are_for_fresh_leads_and_more_are_booked_in_turn() {
    let store = Arc::new(store().await);
    let limits = BucketLimits { burst: 20, per_second: 2.0 };
    first_of_empty(&store, limits.burst).await;
    let mut granted = [0, 0];
    for (purpose, granted) in [Purpose::Background, Purpose::Held].into_iter().zip(&mut granted) {
        while take(&store, limits, purpose).await.granted {
            *granted += 1;
        }
    }
    assert_eq!(granted, [8, 5], "ten are left to the others, then five");
    let mut waits = Vec::new();
    for _ in 0..11 {
        let grant = take(&store, limits, Purpose::Fresh).await;
        assert!(grant.granted);
        waits.push(grant.wait);
    }
    assert!(waits[..5].iter().all(Duration::is_zero), "{waits:?}");
    // Two a second from then on, each in its own place.
    for pair in waits[5..].chunks(2).collect::<Vec<_>>().windows(2) {
        let apart = pair[1][0].saturating_sub(pair[0][0]);
        assert!((900..=1100).contains(&apart.as_millis()), "{waits:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_takers_that_never_rest_use_the_burst_and_never_exceed_it() {
    let store = Arc::new(store().await);
    let limits = BucketLimits { burst: 60, per_second: 5.0 };
    first_of_empty(&store, limits.burst).await;
    // Three falls of the counter for sure, whatever its phase, and time to use the third.
    let (grants, all) = flood(&store, limits, 3, Instant::now(), Duration::from_millis(3400)).await;
    for phase in PHASES {
        let highest = highest_level(1, grants.clone(), 5, phase);
        assert!(highest <= limits.burst, "{highest} with seconds that begin at {phase:?}: {grants:?}");
    }
    let allowed = usize::try_from(limits.burst + 3 * 5).unwrap();
    assert!((1 + all) * 10 >= allowed * 9, "{all} and one of {allowed} that are allowed: {grants:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_whose_counter_fell_to_zero_just_before_a_flood_is_not_exceeded() {
    let store = Arc::new(store().await);
    let limits = BucketLimits { burst: 20, per_second: 5.0 };
    first_of_empty(&store, limits.burst).await;
    let start = Instant::now();
    // The portal's second has begun by then, ours has not.
    tokio::time::sleep(Duration::from_millis(1050)).await;
    let (grants, _) = flood(&store, limits, 3, start, Duration::from_millis(1900)).await;
    assert!(grants.len() >= 14, "{grants:?}");
    for phase in PHASES {
        let highest = highest_level(1, grants.clone(), 5, phase);
        assert!(highest <= limits.burst, "{highest} with seconds that begin at {phase:?}: {grants:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_fills_the_count_and_slows_everybody() {
    let store = Arc::new(store().await);
    let limits = BucketLimits { burst: 20, per_second: 2.0 };
    first_of_empty(&store, limits.burst).await;
    for _ in 0..3 {
        // As one pack after the other is refused.
        store.refused(&portal("acme"), limits).await.unwrap();
    }
    let mut waits = Vec::new();
    for _ in 0..10 {
        waits.push(take(&store, limits, Purpose::Fresh).await.wait);
    }
    assert!(waits[0] > Duration::ZERO, "the portal's counter has to fall first");
    // 1.6 a second instead of 2: once slower for all three.
    let last = waits[9].as_secs_f64();
    assert!((6.0..=7.5).contains(&last), "{waits:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_portal_says_about_a_method_is_told_to_all_and_the_latest_counts() {
    let store = store().await;
    let (limits, portal) = (BucketLimits { burst: 50, per_second: 2.0 }, portal("acme"));
    let told = |used: f64, second: i64| MethodTime {
        method: "crm.lead.update".to_owned(),
        used,
        resets_at: jiff::Timestamp::from_second(1_000_600).ok(),
        blocked_until: None,
        told_at: jiff::Timestamp::from_second(second).unwrap(),
    };
    for news in [told(10.0, 1_000_010), told(5.0, 1_000_005)] {
        let news = [news];
        store.take(Wish { portal: &portal, limits, purpose: Purpose::Fresh, news: &news }).await.unwrap();
    }
    assert_eq!(take(&store, limits, Purpose::Fresh).await.methods, [told(10.0, 1_000_010)]);
}
