//! The simulator from outside: over HTTP as a client of the portal, and by its control API.

#![expect(clippy::unwrap_used, reason = "a test that fails panics, its helpers too")]

mod batches;
mod clients;
mod control;
mod events;
mod faults;
mod harness;
mod history;
mod leads;
mod limits;
mod lists;
mod log;
mod notices;
mod program;
mod requests;
