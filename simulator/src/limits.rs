//! The portal's two limits: how many requests (a leaky bucket) and how much execution time a method.
//!
//! Source: "Limits" of the REST documentation. The bucket rises by one with each request and falls
//! once a second; over its threshold a request is refused. Execution time is summed by method in ten
//! buckets of a minute, counted only where a method takes more than 0.1 s in one request, and checked before a
//! call: the call that crosses the limit still runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The counter of requests.
#[derive(Debug)]
pub struct Bucket {
    level: u32,
    /// When the portal's clock began, and with it the seconds at which the counter falls.
    started: Instant,
    ticks: u64,
}

impl Default for Bucket {
    /// The seconds begin at a moment that no client can know.
    fn default() -> Self {
        let started = Instant::now();
        let phase = Duration::from_millis(rand::random::<u64>() % 1000);
        Self { level: 0, started: started.checked_sub(phase).unwrap_or(started), ticks: 0 }
    }
}

impl Bucket {
    /// Counts a request; whether it may pass.
    pub fn take(&mut self, now: Instant, burst: u32, per_second: u32, count_refused: bool) -> bool {
        let ticks = now.saturating_duration_since(self.started).as_secs();
        let elapsed = u32::try_from(ticks - self.ticks).unwrap_or(u32::MAX);
        self.ticks = ticks;
        self.level = self.level.saturating_sub(elapsed.saturating_mul(per_second));
        let passes = self.level < burst;
        if passes || count_refused {
            self.level += 1;
        }
        passes
    }

    /// The counter.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.level
    }
}

/// Execution times by method.
#[derive(Debug, Default)]
pub struct Operating {
    /// Seconds by method and bucket.
    spent: BTreeMap<String, BTreeMap<i64, f64>>,
}

/// Execution times of one request so far, by method.
#[derive(Debug, Default)]
pub struct Hit(BTreeMap<String, f64>);

/// A method that takes up to this long in one request is not counted.
const FREE_SECONDS: f64 = 0.1;

/// Buckets in the window.
const BUCKETS: i64 = 10;

impl Operating {
    /// Seconds that a method has used in the last ten buckets of so many seconds.
    pub fn spent(&mut self, method: &str, now_seconds: i64, bucket: i64) -> f64 {
        let Some(buckets) = self.spent.get_mut(method) else { return 0.0 };
        buckets.retain(|number, _| *number > now_seconds / bucket - BUCKETS);
        buckets.values().sum()
    }

    /// Adds a call: nothing as long as its request has taken little time with this method, and then all of it.
    pub fn add(&mut self, hit: &mut Hit, method: &str, now_seconds: i64, bucket: i64, seconds: f64) {
        let in_hit = hit.0.entry(method.to_owned()).or_default();
        let before = *in_hit;
        *in_hit += seconds;
        if *in_hit <= FREE_SECONDS {
            return;
        }
        let counts = if before <= FREE_SECONDS { *in_hit } else { seconds };
        *self.spent.entry(method.to_owned()).or_default().entry(now_seconds / bucket).or_default() += counts;
    }

    /// When the oldest bucket leaves the window, in unix seconds.
    #[must_use]
    pub fn reset_at(&self, method: &str, bucket: i64) -> Option<i64> {
        let oldest = self.spent.get(method)?.keys().next()?;
        Some((oldest + BUCKETS) * bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_51st_request_of_a_burst_is_refused_and_two_a_second_come_back() {
        let mut bucket = Bucket { level: 0, started: Instant::now(), ticks: 0 };
        let start = bucket.started;
        let mut passed = |after: f64| bucket.take(start + Duration::from_secs_f64(after), 50, 2, false);
        assert_eq!((0..60).filter(|_| passed(0.1)).count(), 50);
        assert_eq!((0..10).filter(|_| passed(0.9)).count(), 0);
        assert_eq!((0..10).filter(|_| passed(1.0)).count(), 2);
        assert_eq!((0..10).filter(|_| passed(3.5)).count(), 4);
    }

    #[test]
    fn refused_requests_can_count_too() {
        let mut bucket = Bucket { level: 0, started: Instant::now(), ticks: 0 };
        let start = bucket.started;
        for _ in 0..60 {
            bucket.take(start, 50, 2, true);
        }
        assert_eq!(bucket.level(), 60);
        assert!(
            !bucket.take(start + Duration::from_secs(5), 50, 2, true),
            "60 - 10 is still at the threshold"
        );
    }

    #[test]
    fn short_requests_are_free_and_long_ones_leave_after_ten_buckets() {
        let mut operating = Operating::default();
        operating.add(&mut Hit::default(), "m", 0, 60, 0.1);
        assert!(operating.spent("m", 0, 60).abs() < f64::EPSILON);
        operating.add(&mut Hit::default(), "m", 30, 60, 1.5);
        assert!((operating.spent("m", 599, 60) - 1.5).abs() < f64::EPSILON);
        assert_eq!(operating.reset_at("m", 60), Some(600));
        assert!(operating.spent("m", 600, 60).abs() < f64::EPSILON);
    }

    #[test]
    fn many_short_calls_in_one_request_are_counted_together() {
        let (mut operating, mut hit) = (Operating::default(), Hit::default());
        operating.add(&mut hit, "m", 0, 60, 0.06);
        assert!(operating.spent("m", 0, 60).abs() < f64::EPSILON);
        for _ in 0..2 {
            operating.add(&mut hit, "m", 0, 60, 0.06);
        }
        assert!((operating.spent("m", 0, 60) - 0.18).abs() < 1e-9);
    }
}
