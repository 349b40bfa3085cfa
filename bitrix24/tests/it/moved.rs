//! Where requests go while a portal moves, comes back, or is not where it was. The hosts are scripted, and the time is the
//! test's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bitrix24::moves::Verdict;
use bitrix24::transport::{Answer, TransportError};
use bitrix24::{Portal, PortalError, PortalMetrics, Transport};
use common::failure::{Failure, FailureClass, chain};
use prometheus::Registry;
use serde_json::{Value, json};

use crate::fake::{Addresses, Bench, FakeBudget, Reply, acme, limiter, reply};

/// What a host does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// It is the portal.
    Answer,
    /// It points to that host, which may be followed.
    Point(&'static str),
    /// It points to a host which may not.
    PointElsewhere,
    /// Nobody is there.
    Refuse,
    /// Nobody is there, which shows after eight seconds.
    RefuseLate,
    /// It points to the new host after eight seconds.
    PointLate,
    /// The answer is lost; the request may have run.
    Lose,
    /// A page with this status.
    Page(u16),
    /// It is somebody else's portal.
    KnowNobody,
    /// It is somewhere in a private network.
    OutOfReach,
    /// It is the portal, and we are too fast.
    Throttle,
    /// It is the portal, and this method is not for us.
    Deny,
}

/// The hosts of one portal.
struct Hosts {
    does: Mutex<BTreeMap<&'static str, Does>>,
    asked: Mutex<Vec<String>>,
    /// Grants nothing more once a host was asked.
    budget: Arc<FakeBudget>,
    closes: AtomicBool,
}

const OLD: &str = "old.test";
const NEW: &str = "new.test";
const NEWER: &str = "newer.test";
const MINUTE: Duration = Duration::from_mins(1);

#[async_trait]
impl Transport for Hosts {
    async fn send(&self, host: &str, _: &str, _: &Value) -> Reply {
        self.asked.lock().unwrap().push(host.to_owned());
        if self.closes.load(Ordering::SeqCst) {
            self.budget.open.store(false, Ordering::SeqCst);
        }
        let does = self.does.lock().unwrap()[host];
        let pointing = |verdict| Ok(Answer { status: 302, verdict, ..Answer::default() });
        let refused = |status, code| reply(status, json!({ "error": code }).to_string());
        match does {
            Does::Answer => reply(200, json!({ "result": "2026-05-21T12:00:12+03:00" }).to_string()),
            Does::Point(to) => pointing(Verdict::Follow(to.to_owned())),
            Does::PointElsewhere => pointing(Verdict::Elsewhere("sso.test".to_owned())),
            Does::Refuse => Err(TransportError::NotSent("refused".into())),
            Does::RefuseLate => {
                later(Duration::from_secs(8)).await;
                Err(TransportError::NotSent("timed out".into()))
            }
            Does::PointLate => {
                later(Duration::from_secs(8)).await;
                pointing(Verdict::Follow(NEW.to_owned()))
            }
            Does::Lose => Err(TransportError::Ambiguous("reset".into())),
            Does::Page(status) => reply(status, "<html>"),
            Does::KnowNobody => refused(401, "NO_AUTH_FOUND"),
            Does::Throttle => refused(503, "QUERY_LIMIT_EXCEEDED"),
            Does::Deny => refused(403, "insufficient_scope"),
            Does::OutOfReach => {
                Err(TransportError::OutOfReach { name: host.to_owned(), address: [10, 0, 0, 1].into() })
            }
        }
    }

    fn configured(&self) -> String {
        OLD.to_owned()
    }

    fn may_be_at(&self, host: &str) -> bool {
        [NEW, NEWER].contains(&host)
    }
}

/// A process that knows the portal.
struct Process {
    bench: Bench,
    hosts: Arc<Hosts>,
}

impl Process {
    fn started(addresses: &Arc<Addresses>, does: &[(&'static str, Does)]) -> Self {
        let budget = FakeBudget::opened();
        let hosts = Arc::new(Hosts {
            does: Mutex::new(does.iter().copied().collect()),
            asked: Mutex::default(),
            budget: budget.clone(),
            closes: AtomicBool::new(false),
        });
        let registry = Registry::new();
        let metrics = Arc::new(PortalMetrics::new(&registry).unwrap());
        let portal = Portal::new(acme(), hosts.clone(), Arc::new(limiter(Some(budget))), metrics);
        Self { bench: Bench { portal: portal.remembering(addresses.clone()), registry }, hosts }
    }

    fn now(&self, host: &'static str, does: Does) {
        self.hosts.does.lock().unwrap().insert(host, does);
    }

    /// Sends one request; which hosts were asked, and what came of it.
    async fn ask(&self) -> (Vec<String>, Result<(), PortalError>) {
        self.hosts.asked.lock().unwrap().clear();
        let result = self.bench.portal.server_time().await.map(drop);
        (self.hosts.asked.lock().unwrap().clone(), result)
    }

    /// One request that succeeds after asking these hosts.
    async fn succeeds(&self, at: &[&str], why: &str) {
        let (asked, result) = self.ask().await;
        assert_eq!(asked, at, "{why}");
        assert!(result.is_ok(), "{why}: {result:?}");
    }

    async fn fails(&self, at: &[&str], why: &str) -> PortalError {
        let (asked, result) = self.ask().await;
        assert_eq!(asked, at, "{why}");
        result.expect_err(why)
    }

    fn is_moved(&self) -> bool {
        self.bench.metric("rota_portal_moved{followed=\"yes\"") == "1"
    }
}

async fn later(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn the_configured_address_is_asked_at_once_where_the_new_one_surely_ran_nothing() {
    for does in [
        Does::Refuse,
        Does::PointElsewhere,
        Does::Page(404),
        Does::Page(403),
        Does::KnowNobody,
        Does::OutOfReach,
        Does::Point(OLD),
    ] {
        let addresses = Arc::new(Addresses::keeping(NEW));
        let process = Process::started(&addresses, &[(OLD, Does::Answer), (NEW, does)]);
        process.succeeds(&[NEW, OLD], &format!("{does:?}")).await;
        assert_eq!(addresses.kept(), None, "{does:?}: it came back");
        assert!(!process.is_moved(), "{does:?}");
        process.succeeds(&[OLD], &format!("{does:?}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_have_run_is_not_repeated_and_the_next_one_asks_where_the_portal_is() {
    for does in [Does::Lose, Does::Page(200), Does::Page(502), Does::Page(410)] {
        let addresses = Arc::new(Addresses::keeping(NEW));
        let process = Process::started(&addresses, &[(OLD, Does::Answer), (NEW, does)]);
        process.fails(&[NEW], &format!("{does:?}")).await;
        process.succeeds(&[OLD], &format!("{does:?}")).await;
        assert_eq!(addresses.kept(), None, "{does:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_day_of_the_portal_at_its_new_address_costs_a_request_a_minute() {
    let addresses = Arc::new(Addresses::keeping(NEW));
    let process = Process::started(&addresses, &[(OLD, Does::Point(NEW)), (NEW, Does::Lose)]);
    process.fails(&[NEW], "its answer is lost").await;
    process.fails(&[OLD, NEW], "it is still there").await;
    for _ in 0..5 {
        process.fails(&[NEW], "that is known").await;
    }
    later(MINUTE).await;
    process.fails(&[OLD, NEW], "asked again").await;
    process.now(NEW, Does::KnowNobody);
    let error = process.fails(&[NEW], "the webhook was deleted").await;
    assert_eq!(error.class(), FailureClass::Blocked);
    later(MINUTE).await;
    process.now(OLD, Does::Refuse);
    let error = process.fails(&[OLD, NEW], "neither works").await;
    assert!(matches!(error, PortalError::Refused { .. }), "who answered tells more: {error}");
    process.now(NEW, Does::Answer);
    process.succeeds(&[NEW], "its day is better").await;
    assert_eq!(addresses.kept().as_deref(), Some(NEW), "it was never forgotten");
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_portal_is_no_reason_to_ask_elsewhere() {
    for does in [Does::Throttle, Does::Deny] {
        let addresses = Arc::new(Addresses::keeping(NEW));
        let process = Process::started(&addresses, &[(OLD, Does::Answer), (NEW, does)]);
        for _ in 0..3 {
            process.fails(&[NEW], &format!("{does:?}")).await;
        }
        assert_eq!(addresses.kept().as_deref(), Some(NEW), "{does:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_lost_answer_of_the_configured_address_is_not_repeated_at_the_new_one() {
    let addresses = Arc::new(Addresses::keeping(NEW));
    let process = Process::started(&addresses, &[(OLD, Does::Lose), (NEW, Does::Lose)]);
    process.fails(&[NEW], "lost").await;
    let error = process.fails(&[OLD], "it may have run there").await;
    assert!(error.is_ambiguous(), "{error}");
    process.now(NEW, Does::Refuse);
    later(MINUTE).await;
    let error = process.fails(&[NEW, OLD], "nobody is there").await;
    assert!(error.is_ambiguous(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_others_count_on_is_not_sent_again_late() {
    let addresses = Arc::new(Addresses::keeping(NEW));
    let process = Process::started(&addresses, &[(OLD, Does::Answer), (NEW, Does::RefuseLate)]);
    let error = process.fails(&[NEW], "too late for this one").await;
    assert!(matches!(error, PortalError::NotSent { .. }), "{error}");
    process.succeeds(&[OLD], "the next one asks where the portal is").await;
    process.now(OLD, Does::PointLate);
    let error = process.fails(&[OLD], "too late again").await;
    assert!(chain(&error).contains("no time left"), "{error}");
    assert!(matches!(error, PortalError::NotSent { .. }) && !error.is_ambiguous(), "{error}");
    assert_eq!(addresses.kept(), None);
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_its_second_turn_only_as_long_as_others_count_on() {
    for (kept, does) in [(None, Does::Point(NEW)), (Some(NEW), Does::Refuse)] {
        let addresses = Arc::new(Addresses::default());
        addresses.set(kept);
        let first = kept.unwrap_or(OLD);
        let process =
            Process::started(&addresses, &[(OLD, Does::Answer), (NEW, Does::Answer), (first, does)]);
        process.hosts.closes.store(true, Ordering::SeqCst);
        let started = tokio::time::Instant::now();
        let error = process.fails(&[first], "there is no second turn").await;
        assert!(matches!(error, PortalError::NotSent { .. }) && !error.is_ambiguous(), "{error}");
        assert_eq!(started.elapsed(), Duration::from_secs(7));
    }
}

#[tokio::test(start_paused = true)]
async fn a_portal_that_moved_twice_is_followed_and_a_circle_ends() {
    let addresses = Arc::new(Addresses::default());
    let does = [(OLD, Does::Point(NEW)), (NEW, Does::Point(NEWER)), (NEWER, Does::Answer)];
    let process = Process::started(&addresses, &does);
    process.succeeds(&[OLD, NEW, NEWER], "twice").await;
    assert_eq!(addresses.kept().as_deref(), Some(NEWER));
    process.succeeds(&[NEWER], "known").await;
    process.now(NEWER, Does::Point(OLD));
    let error = process.fails(&[NEWER, OLD, NEW, OLD, NEW, NEWER], "a circle").await;
    assert!(matches!(error, PortalError::Elsewhere { .. }), "{error}");
    let error = process.fails(&[NEWER, OLD, NEW], "the configured address was asked").await;
    assert!(matches!(error, PortalError::Elsewhere { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_process_learns_within_a_minute_what_others_have_kept_or_forgotten() {
    let addresses = Arc::new(Addresses::default());
    let process = Process::started(&addresses, &[(OLD, Does::Answer), (NEW, Does::Answer)]);
    process.succeeds(&[OLD], "nothing is known").await;
    addresses.set(Some(NEW));
    process.succeeds(&[OLD], "not yet looked").await;
    later(MINUTE).await;
    process.succeeds(&[NEW], "another process kept it").await;
    assert!(process.is_moved());
    assert_eq!(process.bench.metric("rota_portal_renames_total"), "0", "that process counts it");
    addresses.set(None);
    process.succeeds(&[NEW], "not yet looked").await;
    later(MINUTE).await;
    process.succeeds(&[OLD], "somebody has forgotten it").await;
    assert!(!process.is_moved());
    assert_eq!(addresses.kept(), None, "and nobody remembers it again");
    // A failure makes it look sooner.
    process.now(OLD, Does::Refuse);
    process.fails(&[OLD], "nobody is there").await;
    addresses.set(Some(NEW));
    later(Duration::from_secs(5)).await;
    process.succeeds(&[NEW], "others know more").await;
    assert_eq!(addresses.looks.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_holds_up_nothing_for_long() {
    let addresses = Arc::new(Addresses::keeping(NEW));
    addresses.hangs.store(true, Ordering::SeqCst);
    let process = Process::started(&addresses, &[(OLD, Does::Point(NEW)), (NEW, Does::Answer)]);
    let started = tokio::time::Instant::now();
    process.succeeds(&[OLD, NEW], "the old address tells").await;
    process.succeeds(&[NEW], "and it is known").await;
    assert_eq!(started.elapsed(), Duration::from_secs(10), "one look and one word");
    addresses.hangs.store(false, Ordering::SeqCst);
    addresses.set(None);
    later(MINUTE).await;
    process.succeeds(&[OLD, NEW], "it was not kept, so it is told again").await;
    assert_eq!(addresses.kept().as_deref(), Some(NEW));
}

#[tokio::test(start_paused = true)]
async fn a_look_into_the_store_does_not_undo_what_is_being_written() {
    for (kept, does, now_at) in [
        (None, [(OLD, Does::Point(NEW)), (NEW, Does::Answer)], NEW),
        (Some(NEW), [(OLD, Does::Answer), (NEW, Does::Point(OLD))], OLD),
    ] {
        let addresses = Arc::new(Addresses::default());
        addresses.set(kept);
        let process = Process::started(&addresses, &[(OLD, Does::Throttle), (NEW, Does::Throttle)]);
        process.fails(&[kept.unwrap_or(OLD)], "the first look").await;
        for (host, does) in does {
            process.now(host, does);
        }
        later(Duration::from_secs(59)).await;
        *addresses.writes_take.lock().unwrap() = Duration::from_secs(3);
        let second = async {
            later(Duration::from_secs(2)).await;
            process.ask().await
        };
        let (_, (asked, result)) = tokio::join!(process.ask(), second);
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(asked, [now_at], "a look was due meanwhile");
        assert_eq!(addresses.kept().as_deref(), (now_at == NEW).then_some(NEW));
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_of_before_the_move_does_not_end_it() {
    /// Answers the first request only after the second has been followed.
    struct Slow(AtomicU8);
    #[async_trait]
    impl Transport for Slow {
        async fn send(&self, host: &str, _: &str, _: &Value) -> Reply {
            let good = || reply(200, json!({ "result": "2026-05-21T12:00:12+03:00" }).to_string());
            match (host, self.0.fetch_add(1, Ordering::SeqCst)) {
                (OLD, 0) => {
                    later(Duration::from_secs(9)).await;
                    good()
                }
                (OLD, _) => {
                    let verdict = Verdict::Follow(NEW.to_owned());
                    Ok(Answer { status: 302, verdict, ..Answer::default() })
                }
                _ => good(),
            }
        }
        fn configured(&self) -> String {
            OLD.to_owned()
        }
        fn may_be_at(&self, _: &str) -> bool {
            true
        }
    }
    let addresses = Arc::new(Addresses::default());
    let metrics = Arc::new(PortalMetrics::new(&Registry::new()).unwrap());
    let transport = Arc::new(Slow(AtomicU8::new(0)));
    let portal = Portal::new(acme(), transport, Arc::new(limiter(None)), metrics);
    let portal = portal.remembering(addresses.clone());
    let second = async {
        later(Duration::from_secs(1)).await;
        portal.server_time().await
    };
    let (first, second) = tokio::join!(portal.server_time(), second);
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(addresses.kept().as_deref(), Some(NEW));
}
