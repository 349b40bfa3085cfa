//! The execution time that each method has used, so that no method is ever refused for it.
//!
//! The portal adds up the time of each method over ten minutes, by webhook, and refuses a method that is
//! over its limit until the oldest minute has left the window. Each answer says how much is used: a
//! running total, of which the last one counts. All processes that use the webhook share one account, so
//! what one of them is told goes to the others with its next wish for a request ([`crate::limits`]).
//!
//! Source: page "Limits", part "Method execution time", and "Data types" for `time.operating`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::budget::MethodTime;
use common::clock::Clock;
use jiff::{SignedDuration, Timestamp};

use crate::envelope::Timing;

/// The portal's window.
const WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// How long a method is left alone when nobody said for how long: the portal counts in ten buckets of a
/// minute, so nothing is freed sooner than with the oldest of them.
const BUCKET: SignedDuration = SignedDuration::from_mins(1);

/// From this share of the limit on, what is left is spread over the time until the portal frees some, and
/// only one request of the method is under way in each process.
const SPREAD_FROM: f64 = 0.8;

/// Beyond this share nothing is sent. What is left is for requests of others that we have not heard of.
const STOP_AT: f64 = 0.95;

/// The longest wait before one request; a method that needs more is as good as blocked, and a stop of the
/// process would have to wait for it.
const SPREAD_MAX: Duration = Duration::from_secs(15);

/// How long to wait for what is under way.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// The weight of the newest request in the average cost of one.
const SMOOTHING: f64 = 0.3;

/// How a method may be used at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the number of requests allows.
    Free,
    /// One request at a time, after this wait.
    Tight(Duration),
    /// Not before this time has passed.
    Blocked(Duration),
}

/// What is known of the methods of one portal.
pub struct MethodTimes {
    limit: f64,
    clock: Arc<dyn Clock>,
    known: Mutex<BTreeMap<String, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    time: Option<MethodTime>,
    /// Whether others do not know it yet.
    news: bool,
    /// What one request with this method costs, smoothed, in seconds; and what one call does.
    request_seconds: f64,
    call_seconds: f64,
    /// What our own requests that are under way are expected to cost, in seconds.
    under_way: f64,
}

impl MethodTimes {
    /// For a portal that allows a method `limit` seconds in ten minutes.
    #[must_use]
    pub fn new(limit: f64, clock: Arc<dyn Clock>) -> Self {
        Self { limit, clock, known: Mutex::default() }
    }

    /// How `method` may be used now.
    #[must_use]
    pub fn pace(&self, method: &str) -> Pace {
        let known = self.known();
        let Some((known, time)) = known.get(method).and_then(|known| Some((known, known.time.as_ref()?)))
        else {
            return Pace::Free;
        };
        let now = self.clock.now();
        let used = time.used + known.under_way;
        let left = |until: Timestamp| Duration::try_from(until.duration_since(now)).unwrap_or_default();
        if let Some(until) = time.blocked_until.filter(|until| *until > now) {
            return Pace::Blocked(left(until));
        }
        let frees_at = time.resets_at.unwrap_or(time.told_at + BUCKET);
        if now.duration_since(time.told_at) >= WINDOW || used < SPREAD_FROM * self.limit {
            return Pace::Free;
        }
        // Some was freed, nobody has said how much: one request will tell.
        if frees_at <= now {
            return Pace::Tight(Duration::ZERO);
        }
        let rest = STOP_AT * self.limit - used;
        // Where a method is tight, requests are cut to this.
        let request = known.request_seconds.min(self.tight_seconds());
        if rest <= request {
            // What is under way will soon be told.
            let wait = if known.under_way > 0.0 { UNDER_WAY } else { return Pace::Blocked(left(frees_at)) };
            return Pace::Tight(wait);
        }
        Pace::Tight(left(frees_at).mul_f64((request / rest).min(1.0)).min(SPREAD_MAX))
    }

    /// The part of the limit that one request may take while the method is tight, in seconds.
    #[must_use]
    pub fn tight_seconds(&self) -> f64 {
        self.limit / 100.0
    }

    /// Whether requests of ours with this method are under way.
    pub(crate) fn is_under_way(&self, method: &str) -> bool {
        self.known().get(method).is_some_and(|known| known.under_way > 0.0)
    }

    /// So many calls of `method` are about to be sent; answers what they are expected to cost, in seconds, which
    /// counts as used until [`MethodTimes::ended`].
    pub(crate) fn begun(&self, method: &str, calls: u32) -> f64 {
        let mut known = self.known();
        let known = known.entry(method.to_owned()).or_default();
        let seconds = known.call_seconds * f64::from(calls);
        known.under_way += seconds;
        seconds
    }

    /// The request with those calls has ended.
    pub(crate) fn ended(&self, method: &str, seconds: f64) {
        if let Some(known) = self.known().get_mut(method) {
            known.under_way = (known.under_way - seconds).max(0.0);
            // Sums of fractions do not come out even.
            if known.under_way < 1e-6 {
                known.under_way = 0.0;
            }
        }
    }

    /// An answer said this about `method`; `seconds` is what its `calls` took in that request.
    pub(crate) fn told(&self, method: &str, time: Timing, calls: u32, seconds: f64) {
        let Some(used) = time.operating else { return };
        let told_at = self.clock.now();
        let resets_at = time
            .resets_in
            .and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok())
            .map(|left| told_at + left);
        let mut known = self.known();
        let known = known.entry(method.to_owned()).or_default();
        known.request_seconds += SMOOTHING * (seconds - known.request_seconds);
        known.call_seconds += SMOOTHING * (seconds / f64::from(calls.max(1)) - known.call_seconds);
        known.time =
            Some(MethodTime { method: method.to_owned(), used, resets_at, blocked_until: None, told_at });
        known.news = true;
    }

    /// The portal refused `method` for its time; answers for how long it is left alone.
    pub(crate) fn refused(&self, method: &str) -> Duration {
        let now = self.clock.now();
        let mut known = self.known();
        let known = known.entry(method.to_owned()).or_default();
        let resets_at = known.time.as_ref().and_then(|time| time.resets_at).filter(|at| *at > now);
        let until = resets_at.unwrap_or(now + BUCKET);
        known.time = Some(MethodTime {
            method: method.to_owned(),
            used: self.limit,
            resets_at,
            blocked_until: Some(until),
            told_at: now,
        });
        known.news = true;
        Duration::try_from(until.duration_since(now)).unwrap_or_default()
    }

    /// What others do not know yet.
    pub(crate) fn news(&self) -> Vec<MethodTime> {
        let mut known = self.known();
        let news = |known: &mut Known| std::mem::take(&mut known.news).then(|| known.time.clone()).flatten();
        known.values_mut().filter_map(news).collect()
    }

    /// Those news did not reach the others.
    pub(crate) fn untold(&self, news: &[MethodTime]) {
        let mut known = self.known();
        for time in news {
            if let Some(known) = known.get_mut(&time.method) {
                known.news = true;
            }
        }
    }

    /// What others were told.
    pub(crate) fn heard(&self, times: Vec<MethodTime>) {
        let mut known = self.known();
        for time in times {
            let known = known.entry(time.method.clone()).or_default();
            if known.time.as_ref().is_none_or(|before| before.told_at < time.told_at) {
                known.time = Some(time);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use common::clock::ManualClock;

    use super::*;

    const UPDATE: &str = "crm.lead.update";

    fn times() -> (MethodTimes, ManualClock) {
        let clock = ManualClock::starting_at("2026-05-21T09:00:00Z".parse().unwrap());
        (MethodTimes::new(480.0, Arc::new(clock.clone())), clock)
    }

    fn used(operating: f64, resets_in: f64) -> Timing {
        Timing { duration: None, operating: Some(operating), resets_in: Some(resets_in) }
    }

    #[test]
    fn a_method_is_free_then_tight_then_left_alone() {
        let (times, _) = times();
        assert_eq!(times.pace(UPDATE), Pace::Free);
        times.told(UPDATE, used(383.0, 300.0), 1, 6.0);
        assert_eq!(times.pace(UPDATE), Pace::Free);
        // 72 s are left for 300 s, and a request takes 30 % of 6 s and 70 % of that again.
        times.told(UPDATE, used(384.0, 300.0), 1, 6.0);
        let Pace::Tight(wait) = times.pace(UPDATE) else { panic!("{:?}", times.pace(UPDATE)) };
        assert!((12.7..12.8).contains(&wait.as_secs_f64()), "{wait:?}");
        times.told(UPDATE, used(453.0, 300.0), 1, 6.0);
        assert_eq!(times.pace(UPDATE), Pace::Blocked(Duration::from_mins(5)));
        assert_eq!(times.pace("crm.lead.list"), Pace::Free, "only that method");
    }

    #[test]
    fn what_is_under_way_counts_as_used() {
        let (times, _) = times();
        times.told(UPDATE, used(380.0, 300.0), 25, 5.0);
        assert_eq!(times.pace(UPDATE), Pace::Free);
        // 30 % of 0.2 s a call, until more is known.
        let seconds = times.begun(UPDATE, 100);
        assert!((seconds - 6.0).abs() < 1e-9, "{seconds}");
        assert!(matches!(times.pace(UPDATE), Pace::Tight(_)) && times.is_under_way(UPDATE));
        times.ended(UPDATE, seconds);
        assert_eq!((times.pace(UPDATE), times.is_under_way(UPDATE)), (Pace::Free, false));
    }

    #[test]
    fn one_request_asks_what_was_freed_and_the_last_word_counts() {
        let (times, clock) = times();
        times.told(UPDATE, used(460.0, 30.0), 1, 1.0);
        assert!(matches!(times.pace(UPDATE), Pace::Blocked(_)));
        clock.advance(SignedDuration::from_secs(30));
        assert_eq!(times.pace(UPDATE), Pace::Tight(Duration::ZERO));
        times.told(UPDATE, used(120.0, 60.0), 1, 1.0);
        assert_eq!(times.pace(UPDATE), Pace::Free);
        times.told(UPDATE, used(470.0, 590.0), 1, 1.0);
        clock.advance(SignedDuration::from_mins(10));
        assert_eq!(times.pace(UPDATE), Pace::Free, "the window is empty");
    }

    #[test]
    fn a_refusal_blocks_until_the_portal_frees_some() {
        let (times, clock) = times();
        times.told(UPDATE, used(100.0, 200.0), 1, 1.0);
        assert_eq!(times.refused(UPDATE), Duration::from_secs(200));
        assert_eq!(times.pace(UPDATE), Pace::Blocked(Duration::from_secs(200)));
        clock.advance(SignedDuration::from_secs(200));
        assert_eq!(times.pace(UPDATE), Pace::Tight(Duration::ZERO));
        assert_eq!(times.refused(UPDATE), Duration::from_mins(1), "nobody said when");
    }

    #[test]
    fn what_one_process_is_told_all_know() {
        let ((ours, clock), (theirs, _)) = (times(), times());
        ours.told(UPDATE, used(470.0, 60.0), 1, 1.0);
        let news = ours.news();
        assert!(ours.news().is_empty(), "told once");
        ours.untold(&news);
        assert_eq!(ours.news(), news, "until it has arrived");
        theirs.heard(news.clone());
        assert!(matches!(theirs.pace(UPDATE), Pace::Blocked(_)));
        assert!(theirs.news().is_empty(), "hearsay is no news");
        clock.advance(SignedDuration::from_secs(1));
        ours.told(UPDATE, used(90.0, 60.0), 1, 1.0);
        ours.heard(news);
        assert_eq!(ours.pace(UPDATE), Pace::Free, "older than what we know");
    }
}
