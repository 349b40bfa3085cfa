//! The packer itself, with a sender that the test holds back or breaks.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bitrix24::{PackLimits, PackSender, Packer, Permit, PortalError};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::fake::{Bench, FakePortal};

const LIMITS: PackLimits =
    PackLimits { max_pack: 10, in_flight: 2, queue: 100, linger: Duration::from_millis(100) };

/// Answers each number with its double; waits for a place at `permits` and at `sends` before. 13
/// panics, 14 is left without an answer.
struct Doubler {
    portal: bitrix24::Portal,
    plenty: AtomicBool,
    permits: Semaphore,
    sends: Semaphore,
    under_way: AtomicUsize,
    packs: Mutex<Vec<Vec<u32>>>,
}

impl Doubler {
    fn new(permits: usize, sends: usize) -> Arc<Self> {
        Arc::new(Self {
            portal: Bench::new(FakePortal::replying(Vec::new())).portal,
            plenty: AtomicBool::new(true),
            permits: Semaphore::new(permits),
            sends: Semaphore::new(sends),
            under_way: AtomicUsize::new(0),
            packs: Mutex::new(Vec::new()),
        })
    }

    fn packs(&self) -> Vec<Vec<u32>> {
        self.packs.lock().unwrap().clone()
    }
}

#[async_trait]
impl PackSender<u32, u32> for Doubler {
    async fn permit(&self) -> Result<Permit, PortalError> {
        self.permits.acquire().await.map_err(|_| PortalError::BatchSize { count: 0 })?.forget();
        self.portal.permit(&[]).await
    }

    fn has_plenty(&self) -> bool {
        self.plenty.load(Ordering::SeqCst)
    }

    async fn send(&self, _: Permit, pack: Vec<u32>) -> Vec<Result<u32, PortalError>> {
        self.packs.lock().unwrap().push(pack.clone());
        assert!(!pack.contains(&13), "as the test wants it");
        self.under_way.fetch_add(1, Ordering::SeqCst);
        self.sends.acquire().await.unwrap().forget();
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        pack.into_iter().take_while(|number| *number != 14).map(|number| Ok(number * 2)).collect()
    }
}

type Caller = tokio::task::JoinHandle<Result<u32, PortalError>>;

/// Submits all numbers, each from a task of its own, in order.
async fn submit(packer: &Arc<Packer<u32, u32>>, numbers: impl IntoIterator<Item = u32>) -> Vec<Caller> {
    let mut callers = Vec::new();
    for number in numbers {
        let packer = packer.clone();
        callers.push(tokio::spawn(async move { packer.submit(number).await }));
        tokio::task::yield_now().await;
    }
    callers
}

/// Lets all other tasks run until none can go on: with the clock stopped, time moves only then.
async fn settled() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

async fn answers(callers: Vec<Caller>) -> Vec<Result<u32, String>> {
    let mut all = Vec::new();
    for caller in callers {
        let answer = timeout(Duration::from_mins(1), caller).await.expect("nobody waits for ever");
        all.push(answer.unwrap().map_err(|error| error.to_string()));
    }
    all
}

fn doubled(numbers: impl IntoIterator<Item = u32>) -> Vec<Result<u32, String>> {
    numbers.into_iter().map(|number| Ok(number * 2)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_pack_is_closed_only_when_it_may_be_sent() {
    let doubler = Doubler::new(0, 100);
    let packer = Arc::new(Packer::new(doubler.clone(), LIMITS));
    let callers = submit(&packer, 20..=45).await;
    settled().await;
    assert!(doubler.packs().is_empty());
    doubler.permits.add_permits(100);
    assert_eq!(answers(callers).await, doubled(20..=45));
    let sizes: Vec<usize> = doubler.packs().iter().map(Vec::len).collect();
    assert_eq!(sizes, [10, 10, 6]);
}

#[tokio::test(start_paused = true)]
async fn no_more_packs_are_under_way_than_allowed() {
    let doubler = Doubler::new(100, 0);
    let packer = Arc::new(Packer::new(doubler.clone(), LIMITS));
    let callers = submit(&packer, 20..=24).await;
    settled().await;
    assert_eq!(doubler.under_way.load(Ordering::SeqCst), LIMITS.in_flight);
    doubler.sends.add_permits(100);
    assert_eq!(answers(callers).await, doubled(20..=24));
    assert_eq!(doubler.packs(), [vec![20], vec![21], vec![22, 23, 24]]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_answers_its_own_pack_and_harms_no_other() {
    let doubler = Doubler::new(0, 100);
    let packer = Arc::new(Packer::new(doubler.clone(), LIMITS));
    let mut callers = submit(&packer, 4..=15).await;
    settled().await;
    doubler.permits.add_permits(100);
    let others = callers.split_off(10);
    assert!(answers(callers).await.iter().all(Result::is_err));
    assert_eq!(answers(others).await[0], Err(PortalError::Interrupted.to_string()), "14: no answer");
    for _ in 0..LIMITS.in_flight {
        assert!(packer.submit(13).await.is_err());
    }
    assert_eq!(packer.submit(30).await.unwrap(), 60, "no slot was lost");
}

#[tokio::test(start_paused = true)]
async fn without_permission_everybody_is_told() {
    let doubler = Doubler::new(0, 100);
    let packer = Arc::new(Packer::new(doubler.clone(), LIMITS));
    let callers = submit(&packer, 20..=40).await;
    doubler.permits.close();
    let told = PortalError::BatchSize { count: 0 }.to_string();
    assert_eq!(answers(callers).await, vec![Err(told); 21]);
    assert!(doubler.packs().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_takes_its_request_back() {
    let doubler = Doubler::new(0, 0);
    let packer = Arc::new(Packer::new(doubler.clone(), LIMITS));
    let mut callers = submit(&packer, 20..=24).await;
    settled().await;
    callers.remove(1).abort();
    settled().await;
    doubler.permits.add_permits(1);
    settled().await;
    assert_eq!(doubler.packs(), [vec![20, 22, 23, 24]]);
    callers.remove(1).abort();
    doubler.sends.add_permits(1);
    assert_eq!(answers(callers).await, doubled([20, 23, 24]));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_callers_wait() {
    let doubler = Doubler::new(0, 100);
    let limits = PackLimits { queue: 3, ..LIMITS };
    let packer = Arc::new(Packer::new(doubler.clone(), limits));
    let callers = submit(&packer, 20..=39).await;
    settled().await;
    doubler.permits.add_permits(100);
    assert_eq!(answers(callers).await, doubled(20..=39));
    // One was taken before the permission came, three waited in the queue.
    assert_eq!(doubler.packs()[0], [20, 21, 22, 23]);
}

#[tokio::test(start_paused = true)]
async fn what_was_submitted_is_answered_when_the_packer_goes() {
    let doubler = Doubler::new(100, 0);
    let packer = Arc::new(Packer::new(doubler.clone(), LIMITS));
    let callers = submit(&packer, 20..=30).await;
    drop(packer);
    doubler.sends.add_permits(100);
    assert_eq!(answers(callers).await, doubled(20..=30));
}

#[tokio::test(start_paused = true)]
async fn where_there_are_many_a_pack_waits_for_more_of_them() {
    let doubler = Doubler::new(100, 100);
    let packer = Arc::new(Packer::new(doubler.clone(), LIMITS));
    let started = tokio::time::Instant::now();
    packer.submit(20).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO, "a lone one waits for nothing");
    // Used up for the most part: one more request would matter.
    doubler.plenty.store(false, Ordering::SeqCst);
    let first = submit(&packer, [21, 22]).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    let second = submit(&packer, 23..=29).await;
    assert_eq!(answers(first).await, doubled([21, 22]));
    assert_eq!(answers(second).await, doubled(23..=29));
    doubler.plenty.store(true, Ordering::SeqCst);
    let third = submit(&packer, [30, 31]).await;
    answers(third).await;
    assert_eq!(doubler.packs(), [vec![20], (21..=29).collect(), vec![30, 31]]);
    // Nothing came for a while.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = tokio::time::Instant::now();
    packer.submit(32).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
}
