//! What is needed to run the whole system on one machine and look at it from outside.
//!
//! [`services`] starts a private RabbitMQ and PostgreSQL, [`harness`] the stages' real programs and a
//! simulated portal on them, [`portal`] asks that portal what it saw, [`chaos`] lets all go wrong that can and compares
//! what the portal says with what the store says, [`hostile`] sends what nobody should, [`door_bench`] measures what that
//! costs, and [`least_rights`] has the users of an installation. Nothing here is part of a running
//! installation: it serves the tests of all crates (by the program `with-services`) and the demo.

use std::time::Duration;

/// What takes longer hangs: for whatever tests and benchmarks wait for. Far from what anything needs, so that a slow or
/// busy machine changes no result; below the time after which nextest kills a test, so that a test says itself what it
/// waited for.
pub const HANG: Duration = Duration::from_mins(5);

pub mod chaos;
pub mod door_bench;
pub mod harness;
pub mod hostile;
pub mod least_rights;
pub mod portal;
pub mod services;
