//! The limiter with a budget that all processes share.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::budget::Purpose;
use common::failure::{Failure, FailureClass};

use crate::fake::{Bench, FakeBudget, FakePortal, limiter, result};

#[tokio::test(start_paused = true)]
async fn the_shared_budget_has_the_last_word() {
    let budget = Arc::new(FakeBudget::default());
    let limiter = Arc::new(limiter(Some(budget.clone())));
    let waiting = tokio::spawn({
        let limiter = limiter.clone();
        async move { limiter.acquire(Purpose::Fresh).await }
    });
    while budget.asked.load(Ordering::SeqCst) < 4 {
        tokio::time::sleep(FakeBudget::WAIT).await;
    }
    assert!(!waiting.is_finished());
    budget.open.store(true, Ordering::SeqCst);
    let waited = waiting.await.unwrap().unwrap().waited();
    assert!(waited >= 4 * FakeBudget::WAIT, "{waited:?}");
    assert_eq!(budget.asked.load(Ordering::SeqCst), 5);
}

#[tokio::test(start_paused = true)]
async fn without_the_shared_budget_nothing_is_sent() {
    let budget = FakeBudget::opened();
    budget.broken.store(true, Ordering::SeqCst);
    let fake = FakePortal::replying(Vec::new());
    let bench = Bench::with_budget(fake.clone(), Some(budget));
    let error = bench.portal.server_time().await.unwrap_err();
    assert_eq!((error.class(), error.is_ambiguous()), (FailureClass::Throttled, false));
    assert!(fake.methods().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_passed_on_and_slows_this_process() {
    let budget = FakeBudget::opened();
    let limiter = limiter(Some(budget.clone()));
    limiter.refused().await.unwrap();
    assert_eq!(budget.refusals.load(Ordering::SeqCst), 1);
    let waited = limiter.acquire(Purpose::Fresh).await.unwrap().waited();
    assert!(waited >= Duration::from_secs(2), "{waited:?}");

    budget.broken.store(true, Ordering::SeqCst);
    assert!(limiter.refused().await.is_err());
    budget.broken.store(false, Ordering::SeqCst);
    let waited = limiter.acquire(Purpose::Fresh).await.unwrap().waited();
    assert!(waited >= Duration::from_secs(2), "slowed although the store was away: {waited:?}");
}

#[tokio::test(start_paused = true)]
async fn callers_are_served_in_their_order_and_may_leave() {
    let budget = Arc::new(FakeBudget::default());
    let fake = FakePortal::new(|_, _| result(serde_json::json!("2026-05-21T12:00:12+03:00")));
    let bench = Bench::with_budget(fake.clone(), Some(budget.clone()));
    let leaves = tokio::time::timeout(Duration::from_secs(3), bench.portal.server_time());
    assert!(leaves.await.is_err());
    let mut callers = Vec::new();
    for method in ["first", "second", "third"] {
        let portal = bench.portal.clone();
        callers.push(tokio::spawn(async move { portal.call(method, &serde_json::json!({})).await }));
        tokio::task::yield_now().await;
    }
    budget.open.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(fake.methods(), ["first", "second", "third"]);
}
