//! A short bad day of everything at once, by the code of `make chaos`. docs/RELIABILITY.md says what must hold.

use std::time::Duration;

use e2e::chaos::{Fault, Options, play};

/// The same day each time. Few leads, so that a slow machine keeps up; what is waited for has minutes.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_day_loses_nothing_and_the_record_says_what_happened_own_broker_and_own_database_server() {
    let options =
        Options { seed: 14, lasts: Duration::from_secs(20), per_second: 4.0, faults: Fault::ALL.into() };
    let played = play(&options).await.unwrap();
    let verdict = played.verdict();
    assert!(verdict.violations.is_empty(), "{}", played.report(&verdict));
    assert_eq!(verdict.leads, 80);
    assert!(!played.disturbances.is_empty() && !played.stats.faults.is_empty(), "nothing went wrong");
}
