//! What happens when, from a seed.
//!
//! Each kind of thing has its own generator, so that leaving a fault out changes nothing about when the others come.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use super::fault::{Fault, HANGS_MS};

/// What is to be played.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where all chance comes from.
    pub seed: u64,
    /// How long leads and faults come.
    pub lasts: Duration,
    /// Leads in a second.
    pub per_second: f64,
    /// The faults that come.
    pub faults: BTreeSet<Fault>,
}

/// All that is to happen. Times count from the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Which process is killed, counted from 0 and round again.
    pub kills: Vec<(Duration, usize)>,
    /// What happens to the broker, and for how long.
    pub broker: Vec<(Duration, Fault, Duration)>,
    /// When the database is stopped, and for how long.
    pub database: Vec<(Duration, Duration)>,
    /// Faults of requests, as the simulator is told of them.
    pub requests: Vec<(Duration, Fault, Value)>,
    /// The leads.
    pub leads: Vec<Arrival>,
}

/// A lead that comes.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// When it is added.
    pub at: Duration,
    /// How long after that each copy of its event is sent; none where the event is lost.
    pub events: Vec<Duration>,
    /// How long after that a person takes it.
    pub taken: Option<Duration>,
}

/// The first faults come when leads are on their way.
const QUIET_START: Duration = Duration::from_secs(3);

impl Schedule {
    /// The one of these options.
    #[must_use]
    pub fn of(options: &Options) -> Self {
        let Options { lasts, per_second, faults, .. } = options;
        let chance = |number: u64| StdRng::seed_from_u64(options.seed.wrapping_mul(31).wrapping_add(number));
        Self {
            kills: kills(chance(1), *lasts, faults),
            broker: broker(chance(2), *lasts, faults),
            database: database(chance(3), *lasts, faults),
            requests: requests(chance(4), *lasts, faults),
            leads: leads(chance(5), *lasts, *per_second, faults),
        }
    }
}

/// Moments with such waits between them.
fn moments(rng: &mut StdRng, lasts: Duration, waits: std::ops::Range<f64>) -> Vec<Duration> {
    let mut at = QUIET_START;
    let mut all = Vec::new();
    loop {
        at += Duration::from_secs_f64(rng.random_range(waits.clone()));
        if at >= lasts {
            return all;
        }
        all.push(at);
    }
}

/// The waits between troubles of a server: some in each run, and time between them to recover.
fn seldom(lasts: Duration) -> std::ops::Range<f64> {
    let seconds = lasts.as_secs_f64();
    (seconds / 10.0).clamp(5.0, 30.0)..(seconds / 5.0).clamp(10.0, 60.0)
}

fn kills(mut rng: StdRng, lasts: Duration, faults: &BTreeSet<Fault>) -> Vec<(Duration, usize)> {
    let kills: Vec<_> =
        moments(&mut rng, lasts, 2.0..5.0).into_iter().map(|at| (at, rng.random_range(0..6))).collect();
    kills.into_iter().filter(|_| faults.contains(&Fault::StageKilled)).collect()
}

fn broker(mut rng: StdRng, lasts: Duration, faults: &BTreeSet<Fault>) -> Vec<(Duration, Fault, Duration)> {
    let mut all = Vec::new();
    for at in moments(&mut rng, lasts, seldom(lasts)) {
        let fault = if rng.random_bool(0.5) { Fault::BrokerKilled } else { Fault::BrokerFull };
        let lasts = Duration::from_secs_f64(rng.random_range(3.0..8.0));
        // Where only one of the two is wanted, it takes the other's times too.
        let other = [Fault::BrokerKilled, Fault::BrokerFull].into_iter().find(|fault| faults.contains(fault));
        let fault = if faults.contains(&fault) { Some(fault) } else { other };
        all.extend(fault.map(|fault| (at, fault, lasts)));
    }
    all
}

fn database(mut rng: StdRng, lasts: Duration, faults: &BTreeSet<Fault>) -> Vec<(Duration, Duration)> {
    let all: Vec<_> = moments(&mut rng, lasts, seldom(lasts))
        .into_iter()
        .map(|at| (at, Duration::from_secs_f64(rng.random_range(1.0..5.0))))
        .collect();
    all.into_iter().filter(|_| faults.contains(&Fault::DatabaseStopped)).collect()
}

fn requests(mut rng: StdRng, lasts: Duration, faults: &BTreeSet<Fault>) -> Vec<(Duration, Fault, Value)> {
    let wanted: Vec<Fault> = Fault::OF_REQUESTS.into_iter().filter(|fault| faults.contains(fault)).collect();
    let mut all = Vec::new();
    for at in moments(&mut rng, lasts, 0.7..2.5) {
        let (which, hangs) = (rng.random_range(0..1000), rng.random_range(HANGS_MS));
        // Writes travel in batches, and it is they that matter most.
        let method = if rng.random_bool(0.8) { "batch" } else { "*" };
        let Some(fault) = wanted.get(which % wanted.len().max(1)) else { continue };
        let kind = fault.kind(hangs);
        all.extend(kind.map(|kind| (at, *fault, json!({ "method": method, "kind": kind, "times": 1 }))));
    }
    all
}

fn leads(mut rng: StdRng, lasts: Duration, per_second: f64, faults: &BTreeSet<Fault>) -> Vec<Arrival> {
    let mut at = Duration::ZERO;
    let mut all = Vec::new();
    while at < lasts {
        let draw =
            |rng: &mut StdRng, share: f64, fault: Fault| rng.random_bool(share) && faults.contains(&fault);
        let lost = draw(&mut rng, 0.05, Fault::EventLost);
        let doubled = draw(&mut rng, 0.05, Fault::EventDoubled);
        let taken = draw(&mut rng, 0.03, Fault::PersonTakes);
        let delays = [rng.random_range(0.0..3.0), rng.random_range(0.0..3.0)].map(Duration::from_secs_f64);
        let late = if faults.contains(&Fault::EventLate) { delays } else { [Duration::ZERO; 2] };
        let copies = if lost { 0 } else { 1 + usize::from(doubled) };
        let taken_after = Duration::from_secs_f64(rng.random_range(0.0..8.0));
        all.push(Arrival {
            at,
            events: late.into_iter().take(copies).collect(),
            taken: taken.then_some(taken_after),
        });
        at += Duration::from_secs_f64(1.0 / per_second);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(seed: u64, faults: &[Fault]) -> Options {
        let lasts = Duration::from_mins(5);
        Options { seed, lasts, per_second: 15.0, faults: faults.iter().copied().collect() }
    }

    #[test]
    fn a_seed_gives_the_same_again_and_another_seed_something_else() {
        let first = Schedule::of(&options(7, &Fault::ALL));
        assert_eq!(first, Schedule::of(&options(7, &Fault::ALL)));
        assert_ne!(first, Schedule::of(&options(8, &Fault::ALL)));
    }

    #[test]
    fn a_run_of_five_minutes_has_all_faults() {
        for seed in 0..20 {
            let schedule = Schedule::of(&options(seed, &Fault::ALL));
            assert_eq!(schedule.leads.len(), 4500);
            assert!((59..=150).contains(&schedule.kills.len()), "{}", schedule.kills.len());
            assert!(schedule.broker.len() >= 4 && schedule.database.len() >= 4, "{schedule:?}");
            let of_requests: BTreeSet<Fault> = schedule.requests.iter().map(|(_, fault, _)| *fault).collect();
            assert_eq!(of_requests.len(), Fault::OF_REQUESTS.len());
            for copies in 0..3 {
                assert!(schedule.leads.iter().any(|lead| lead.events.len() == copies));
            }
            assert!(schedule.leads.iter().any(|lead| lead.taken.is_some()));
        }
    }

    #[test]
    fn faults_that_are_left_out_do_not_come_and_move_no_other() {
        let (all, few) =
            (Schedule::of(&options(7, &Fault::ALL)), Schedule::of(&options(7, &[Fault::StageKilled])));
        assert_eq!(all.kills, few.kills);
        assert!(few.broker.is_empty() && few.database.is_empty() && few.requests.is_empty());
        assert!(few.leads.iter().all(|lead| lead.events == [Duration::ZERO] && lead.taken.is_none()));
    }
}
