//! The client against a scripted portal: what is sent, and what is made of the answers.

#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test that fails panics, and its helpers take what the test has in hand"
)]

mod answers;
mod client;
mod clients;
mod fake;
mod leads;
mod limiter;
mod moved;
mod packer;
mod people;
mod reader;
mod renamed;
mod transport;
