//! Requests to a portal against a model of the portal's own counter.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// So slow that nothing of it falls while a test runs, whatever that takes: what is granted can be counted. Waits are a
/// hundred seconds for each request that has no room, beside which a busy machine does not count.
const HARDLY_FALLS: f64 = 0.01;

/// How many of `tries` requests at once may be sent at once.
async fn granted_at_once(store: &Arc<Postgres>, limits: BucketLimits, tries: usize) -> usize {
    let mut takes = JoinSet::new();
    for _ in 0..tries {
        let store = Arc::clone(store);
        takes.spawn(async move { take(&store, limits, Purpose::Background).await });
    }
    takes.join_all().await.into_iter().filter(|answer| answer.granted).count()
}

/// A request that was granted in a flood.
struct Flooded {
    asked: Duration,
    /// How many were granted until then, with this one.
    number: usize,
    wait: Duration,
    /// When it was sent, and whether soon enough after its grant to say something of the budget.
    sent: Duration,
    in_time: bool,
}

/// What was granted to three takers that never rest but where they are told to wait, from `start` on: for so long, and
/// until there are so many.
async fn flood(
    store: &Arc<Postgres>,
    limits: BucketLimits,
    start: Instant,
    (length, least): (Duration, usize),
) -> Vec<Flooded> {
    let count = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        let (store, count) = (Arc::clone(store), Arc::clone(&count));
        tasks.spawn(async move {
            let mut grants = Vec::new();
            while start.elapsed() < length || count.load(Ordering::SeqCst) < least {
                let asked = start.elapsed();
                let Grant { granted, wait, .. } = take(&store, limits, Purpose::Fresh).await;
                assert!(granted, "a fresh lead's turn comes");
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::time::sleep(wait).await;
                let sent = start.elapsed();
                let in_time = sent < asked + wait + LAG_MAX;
                grants.push(Flooded { asked, number, wait, sent, in_time });
            }
            grants
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// When they were sent, without those on which this machine lost time.
fn sent_in_time(grants: &[Flooded]) -> Vec<Duration> {
    grants.iter().filter(|grant| grant.in_time).map(|grant| grant.sent).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_bucket_grants_one_request_less_than_the_burst_at_once() {
    let store = Arc::new(store().await);
    // What can wait leaves ten of them.
    let limits = BucketLimits { burst: 30, per_second: HARDLY_FALLS };
    let used = async || store.budget_used(&portal("acme"), limits).await.unwrap();
    assert_eq!(used().await, 0, "nothing is known yet");
    // It may have been used by others just now.
    assert_eq!(granted_at_once(&store, limits, 40).await, 4, "an unknown portal counts as half full");
    first_of_empty(&store, limits.burst).await;
    assert_eq!(granted_at_once(&store, limits, 40).await, 18, "and one before");
    let grant = take(&store, limits, Purpose::Background).await;
    assert!(!grant.granted && grant.wait > Duration::from_mins(1), "{grant:?}");
    assert!((18..=19).contains(&used().await), "{}", used().await);
    // With two a second there is room at the next, if that has not come meanwhile.
    let falls = BucketLimits { burst: 30, per_second: 2.0 };
    let grant = take(&store, falls, Purpose::Background).await;
    assert!(grant.granted || grant.wait <= Duration::from_millis(1200), "{grant:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_the_burst_are_for_fresh_leads_and_more_are_booked_in_turn() {
    let store = Arc::new(store().await);
    let limits = BucketLimits { burst: 20, per_second: HARDLY_FALLS };
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
    // One in a hundred seconds from then on, each in its own place.
    for pair in waits[5..].windows(2) {
        let apart = pair[1].saturating_sub(pair[0]);
        assert!((50..=150).contains(&apart.as_secs()), "{waits:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_takers_that_never_rest_use_the_burst_and_never_exceed_it() {
    let store = Arc::new(store().await);
    let limits = BucketLimits { burst: 60, per_second: 5.0 };
    first_of_empty(&store, limits.burst).await;
    // Three falls of the counter for sure, whatever its phase, and time to use the third.
    let grants = flood(&store, limits, Instant::now(), (Duration::from_millis(3400), 75)).await;
    let sent = sent_in_time(&grants);
    for phase in PHASES {
        let highest = highest_level(1, sent.clone(), 5, phase);
        assert!(highest <= limits.burst, "{highest} with seconds that begin at {phase:?}: {sent:?}");
    }
    // Nobody is told to wait for a second before nine tenths are granted of what is allowed until that.
    for Flooded { asked, number, wait, .. } in grants.iter().filter(|grant| !grant.wait.is_zero()) {
        let due = *asked + *wait;
        let allowed = u64::from(limits.burst) + 5 * due.as_secs().saturating_sub(1);
        // The request that made the count, and those before this one; two more may be granted and not yet counted.
        let granted = u64::try_from(1 + (number - 1) + 2).unwrap();
        assert!(granted * 10 >= allowed * 9, "{granted} of {allowed} that are allowed before {due:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_whose_counter_fell_to_zero_just_before_a_flood_is_not_exceeded() {
    let store = Arc::new(store().await);
    let limits = BucketLimits { burst: 20, per_second: 5.0 };
    first_of_empty(&store, limits.burst).await;
    let start = Instant::now();
    // The portal's second has begun by then, ours has not.
    tokio::time::sleep(Duration::from_millis(1050)).await;
    let grants = sent_in_time(&flood(&store, limits, start, (Duration::from_millis(1900), 14)).await);
    for phase in PHASES {
        let highest = highest_level(1, grants.clone(), 5, phase);
        assert!(highest <= limits.burst, "{highest} with seconds that begin at {phase:?}: {grants:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_fills_the_count_and_slows_everybody() {
    let store = Arc::new(store().await);
    let limits = BucketLimits { burst: 20, per_second: 2.0 * HARDLY_FALLS };
    first_of_empty(&store, limits.burst).await;
    let mut refusals = JoinSet::new();
    for _ in 0..3 {
        // As one pack after the other is refused.
        let store = Arc::clone(&store);
        refusals.spawn(async move { store.refused(&portal("acme"), limits).await.unwrap() });
    }
    refusals.join_all().await;
    let mut waits = Vec::new();
    for _ in 0..10 {
        waits.push(take(&store, limits, Purpose::Fresh).await.wait);
    }
    assert!(waits[0] > Duration::ZERO, "the portal's counter has to fall first");
    // 1.6 in a hundred seconds instead of 2, once slower for all three: eleven take 688 s, and not 550 or 860.
    let last = waits[9].as_secs_f64();
    assert!((630.0..=750.0).contains(&last), "{waits:?}");
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
