//! The loop around a handler, from publishing to what is left in the queues.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::broker::worker::{Handler, Outcome, Received, Surroundings, Worker};
use common::broker::{Headers, Message};
use common::clock::{Clock as _, SystemClock};
use common::failure::{FailureClass, HandlerError};
use common::ids::LeadId;
use common::lifecycle::{Health, Stop};
use common::messages::LeadEvent;
use common::metrics::{self, WorkerMetrics};
use common::retry::RetryPolicy;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::ground::{DELAYS, GARBAGE, Ground, Trouble, event, message, wait_for};

/// Longer than three messages need on any machine.
const PAUSE: Duration = Duration::from_secs(5);

/// What a handler does with a message.
enum Step {
    Done,
    Fail(FailureClass, Option<Duration>),
    Panic,
    WaitForGate,
}

/// One call of the handler.
#[derive(Debug, Clone, Copy)]
struct Call {
    lead: u64,
    attempt: u32,
    first_seen: Timestamp,
    at: Instant,
}

/// A handler that follows a script and writes down its calls. What is not in the script is done.
#[derive(Clone)]
struct Scripted {
    script: Arc<Mutex<BTreeMap<u64, VecDeque<Step>>>>,
    calls: Arc<Mutex<Vec<Call>>>,
    gate: Arc<Semaphore>,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = (u64, Vec<Step>)>) -> Self {
        let script = script.into_iter().map(|(lead, steps)| (lead, steps.into())).collect();
        Self {
            script: Arc::new(Mutex::new(script)),
            calls: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    fn calls_of(&self, lead: u64) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.lead == lead).collect()
    }

    fn attempts(&self, lead: u64) -> Vec<u32> {
        self.calls_of(lead).into_iter().map(|call| call.attempt).collect()
    }

    async fn wait_for_calls(&self, count: usize) {
        wait_for(&format!("{count} calls of the handler"), async || self.calls().len() >= count).await;
    }
}

#[async_trait]
impl Handler for Scripted {
    type Payload = LeadEvent;

    async fn handle(&self, received: Received<LeadEvent>) -> Result<Outcome, HandlerError> {
        let lead = received.envelope.payload.lead.get();
        let (attempt, first_seen) = (received.attempt.number, received.attempt.first_seen);
        self.calls.lock().unwrap().push(Call { lead, attempt, first_seen, at: Instant::now() });
        let step = self.script.lock().unwrap().get_mut(&lead).and_then(VecDeque::pop_front);
        match step.unwrap_or(Step::Done) {
            Step::Done => Ok(Outcome::Done("done")),
            Step::Fail(class, retry_after) => Err(Trouble { retry_after, ..Trouble::new(class) }.into()),
            Step::Panic => panic!("a bug"),
            Step::WaitForGate => {
                self.gate.acquire().await.unwrap().forget();
                Ok(Outcome::Done("done"))
            }
        }
    }

    fn lead(&self, payload: &LeadEvent) -> LeadId {
        payload.lead
    }
}

struct Running {
    health: Health,
    stop: Stop,
    task: JoinHandle<()>,
}

impl Running {
    /// Stops the worker and the broker.
    async fn stop(self, ground: Ground) {
        self.stop.request();
        self.task.await.unwrap();
        ground.close_with_nothing_left().await;
    }
}

fn start(ground: &Ground, handler: &Scripted, in_flight: u16) -> Running {
    let (health, stop) = (Health::default(), Stop::default());
    let registry = metrics::registry("test").unwrap();
    let surroundings = Surroundings {
        broker: Arc::clone(&ground.broker) as _,
        settler: ground.settler.clone(),
        policy: Arc::new(RetryPolicy {
            delays: DELAYS.to_vec(),
            throttled_for: Duration::from_hours(1),
            blocked_pause: PAUSE,
        }),
        clock: Arc::new(SystemClock),
        metrics: Arc::new(WorkerMetrics::register(&registry, [&ground.portal]).unwrap()),
        health: health.clone(),
    };
    let (portal, queue) = (ground.portal.clone(), ground.queue.clone());
    let worker = Worker::new(surroundings, handler.clone(), portal, queue, in_flight);
    Running { health, task: tokio::spawn(worker.run(stop.clone())), stop }
}

#[tokio::test]
async fn what_can_never_work_is_a_dead_letter_and_holds_up_nothing() {
    let ground = Ground::new().await;
    let permanent = event(&ground.portal, 1);
    let garbage = message(GARBAGE);
    let strange = event(&"beta".parse().unwrap(), 3);
    for message in [&permanent, &garbage, &strange, &event(&ground.portal, 4)] {
        ground.publish(message.clone()).await;
    }
    let handler = Scripted::new([(1, vec![Step::Fail(FailureClass::Permanent, None)])]);
    // One at a time, so that the order is known.
    let running = start(&ground, &handler, 1);
    handler.wait_for_calls(2).await;
    let letters = ground.dead_letters::<3>().await;
    for (letter, (sent, class, reason)) in letters.iter().zip([
        (&permanent, "permanent", "reading lead 42: it rains"),
        (&garbage, "poison", "the message is no envelope: "),
        (&strange, "poison", "the message is for portal beta, the queue is of acme"),
    ]) {
        assert_eq!((&letter.id, &letter.body), (&sent.id, &sent.body));
        assert_eq!(letter.headers.class.as_deref(), Some(class));
        assert_eq!(letter.headers.queue.as_deref(), Some(ground.queue.as_str()));
        assert!(letter.headers.reason.as_ref().unwrap().starts_with(reason), "{letter:?}");
    }
    assert_eq!(handler.calls().iter().map(|call| call.lead).collect::<Vec<_>>(), [1, 4]);
    assert!(running.health.failures().is_empty());
    running.stop(ground).await;
}

#[tokio::test]
async fn failures_of_the_moment_come_again_after_growing_waits_and_only_some_count() {
    const HOPELESS: u64 = 1;
    const PANICKING: u64 = 2;
    const THROTTLED: u64 = 3;
    let ground = Ground::new().await;
    let hopeless = event(&ground.portal, HOPELESS);
    for message in [&hopeless, &event(&ground.portal, PANICKING), &event(&ground.portal, THROTTLED)] {
        ground.publish(message.clone()).await;
    }
    let transient = || Step::Fail(FailureClass::Transient, None);
    let throttled = |told| Step::Fail(FailureClass::Throttled, told);
    let told = Duration::from_millis(400);
    let handler = Scripted::new([
        (HOPELESS, vec![transient(), transient(), transient()]),
        (PANICKING, vec![Step::Panic, Step::Done]),
        (THROTTLED, vec![throttled(None), throttled(Some(told)), throttled(None), transient(), Step::Done]),
    ]);
    let running = start(&ground, &handler, 4);
    handler.wait_for_calls(3 + 2 + 5).await;
    assert_eq!(handler.attempts(HOPELESS), [1, 2, 3]);
    assert_eq!(handler.attempts(PANICKING), [1, 2], "a panic counts as an attempt");
    assert_eq!(handler.attempts(THROTTLED), [1, 1, 1, 1, 2], "only the last failure counts");

    let waits = |lead| {
        let calls = handler.calls_of(lead);
        assert!(calls.iter().all(|call| Some(call.first_seen) == hopeless.headers.first_seen), "{calls:?}");
        calls.windows(2).map(|pair| pair[1].at - pair[0].at).collect::<Vec<_>>()
    };
    for (lead, least) in [
        (HOPELESS, DELAYS.to_vec()),
        (PANICKING, vec![DELAYS[0]]),
        (THROTTLED, vec![DELAYS[0], told, DELAYS[0], DELAYS[0]]),
    ] {
        let waits = waits(lead);
        assert!(waits.iter().zip(&least).all(|(wait, least)| wait >= least), "{lead}: {waits:?}");
    }

    let [letter] = ground.dead_letters().await;
    assert_eq!((&letter.id, &letter.body), (&hopeless.id, &hopeless.body));
    assert_eq!((letter.headers.attempt, letter.headers.class.as_deref()), (Some(3), Some("transient")));
    running.stop(ground).await;
}

#[tokio::test]
async fn a_lead_that_was_held_for_days_may_be_throttled_as_long_as_any_other() {
    let ground = Ground::new().await;
    let days_ago = SystemClock.now() - SignedDuration::from_hours(72);
    let aged = |lead, throttled_since| {
        let event = event(&ground.portal, lead);
        let headers = Headers { first_seen: Some(days_ago), throttled_since, ..event.headers };
        Message { headers, ..event }
    };
    let throttled = || Step::Fail(FailureClass::Throttled, None);
    ground.publish(aged(1, None)).await;
    let given_up = aged(2, Some(days_ago));
    ground.publish(given_up.clone()).await;
    let handler = Scripted::new([(1, vec![throttled(), throttled(), Step::Done]), (2, vec![throttled()])]);
    let running = start(&ground, &handler, 4);
    handler.wait_for_calls(4).await;
    assert_eq!(handler.attempts(1), [1, 1, 1]);
    let [letter] = ground.dead_letters().await;
    assert_eq!((&letter.id, letter.headers.class.as_deref()), (&given_up.id, Some("throttled")));
    running.stop(ground).await;
}

#[tokio::test]
async fn a_portal_that_refuses_everything_stops_consuming_until_a_probe_finds_it_open() {
    let ground = Ground::new().await;
    for lead in 1..=4 {
        ground.publish(event(&ground.portal, lead)).await;
    }
    let blocked = || vec![Step::Fail(FailureClass::Blocked, None)];
    let handler = Scripted::new([(1, blocked()), (2, blocked())]);
    let running = start(&ground, &handler, 1);
    handler.wait_for_calls(1).await;
    wait_for("the portal is reported", async || !running.health.failures().is_empty()).await;
    let failures = BTreeMap::from([("portal:acme".to_owned(), "reading lead 42: it rains".to_owned())]);
    assert_eq!(running.health.failures(), failures);

    handler.wait_for_calls(6).await;
    wait_for("the portal is open", async || running.health.failures().is_empty()).await;
    let calls = handler.calls();
    let leads: Vec<_> = calls.iter().map(|call| call.lead).collect();
    assert_eq!(leads[..3], [1, 2, 3], "the first, the probe that failed, the one that did not: {calls:?}");
    let (first, second) = (calls[1].at - calls[0].at, calls[2].at - calls[1].at);
    assert!(first >= PAUSE && second >= PAUSE, "{calls:?}");
    assert!(calls[5].at - calls[2].at < PAUSE, "open again, no more pauses: {calls:?}");
    assert_eq!((handler.attempts(1), handler.attempts(2)), (vec![1, 1], vec![1, 1]), "it does not count");
    running.stop(ground).await;
}

#[tokio::test]
async fn a_worker_that_stops_finishes_what_is_in_hand_and_takes_nothing_more() {
    let ground = Ground::new().await;
    for lead in 1..=5 {
        ground.publish(event(&ground.portal, lead)).await;
    }
    let handler = Scripted::new([(1, vec![Step::WaitForGate]), (2, vec![Step::WaitForGate])]);
    let running = start(&ground, &handler, 2);
    handler.wait_for_calls(2).await;
    running.stop.request();
    tokio::task::yield_now().await;
    assert!(!running.task.is_finished(), "two are in hand");
    handler.gate.add_permits(2);
    running.task.await.unwrap();
    assert_eq!(handler.calls().len(), 2);
    ground.close_with_left(3).await;
}
