//! How often and after what waits a message is tried again.
//!
//! Pure: the waits are numbers, the clock is an argument. Who waits is the broker: a message is
//! copied to the delay queue of its step and comes back by itself.

use std::time::Duration;

use jiff::Timestamp;

use crate::failure::FailureClass;

/// The waits between attempts, and the limits of patience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The waits after the first, second, … failed attempt, growing. After the last one the message
    /// becomes a dead letter. The default 5 s, 30 s, 2 min, 10 min, 1 h sums up to 1 h 12 min 35 s:
    /// longer than a portal's maintenance, shorter than a working day.
    pub delays: Vec<Duration>,
    /// How long a message may be put off as throttled, without another failure between.
    pub throttled_for: Duration,
    /// How long consuming stops when the portal refuses everybody, before one message probes it.
    pub blocked_pause: Duration,
}

impl RetryPolicy {
    /// The wait after the attempt with this number (from 1) failed; `None` when it was the last.
    #[must_use]
    pub fn after_attempt(&self, number: u32) -> Option<Duration> {
        let index = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        self.delays.get(index).copied()
    }

    /// The shortest step that is not sooner than `wanted`, or the longest there is.
    #[must_use]
    pub fn step_not_sooner(&self, wanted: Duration) -> Duration {
        let step = self.delays.iter().copied().find(|step| *step >= wanted);
        step.or_else(|| self.delays.last().copied()).unwrap_or(wanted)
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            delays: [5, 30, 2 * 60, 10 * 60, 60 * 60].map(Duration::from_secs).to_vec(),
            throttled_for: Duration::from_hours(24),
            blocked_pause: Duration::from_secs(30),
        }
    }
}

/// Which try at a message this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// When the first process of ours saw what the message is about.
    pub first_seen: Timestamp,
    /// Since when it has been put off as throttled, and nothing else.
    pub throttled_since: Option<Timestamp>,
}

impl Attempt {
    /// How long ago the message was first seen; zero if clocks disagree.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.first_seen)).unwrap_or_default()
    }

    /// How long it has been put off as throttled. The age of a lead does not count: it may have been held for days, and
    /// come to a portal that has no time for the first time.
    #[must_use]
    pub fn throttled_for(&self, now: Timestamp) -> Duration {
        let since = self.throttled_since.map(|since| Duration::try_from(now.duration_since(since)));
        since.and_then(Result::ok).unwrap_or_default()
    }

    /// The same try after it failed now.
    #[must_use]
    pub fn failed(self, class: FailureClass, now: Timestamp) -> Self {
        let throttled_since = match class {
            FailureClass::Throttled => self.throttled_since.or(Some(now)),
            FailureClass::Blocked => self.throttled_since,
            FailureClass::Transient | FailureClass::Permanent | FailureClass::Poison => None,
        };
        Self { throttled_since, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_follow_the_ladder_and_end() {
        let policy = RetryPolicy::default();
        let waits: Vec<_> = (1..=6).map(|n| policy.after_attempt(n).map(|d| d.as_secs())).collect();
        assert_eq!(waits, [Some(5), Some(30), Some(120), Some(600), Some(3600), None]);
    }

    #[test]
    fn never_sooner_than_told() {
        let policy = RetryPolicy::default();
        let step = |seconds| policy.step_not_sooner(Duration::from_secs(seconds)).as_secs();
        assert_eq!([step(0), step(5), step(6), step(500), step(9999)], [5, 5, 30, 600, 3600]);
    }
}
