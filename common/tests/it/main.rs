//! Messages on the wire, the broker, and the HTTP server. One test binary: it links once.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod broker;
mod ground;
mod messages;
mod server;
mod undeclared;
mod worker;
