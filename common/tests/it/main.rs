//! Messages on the wire and the broker. One test binary: it links once.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod broker;
mod ground;
mod messages;
mod worker;
