//! What every process of Rota does the same way, and what crosses the wire between them.
//!
//! Read in this order: the words ([`ids`], [`failure`]), what is sent ([`messages`]), how it is sent
//! and how its handling ends ([`broker`]), then what a process is made of ([`config`], [`clock`],
//! [`telemetry`], [`metrics`], [`lifecycle`], [`descriptors`], [`server`], [`admin`], [`process`]).
//!
//! Nothing here knows a rule of distribution, a method of the portal or a table of the store.

pub mod address;
pub mod admin;
pub mod broker;
pub mod budget;
pub mod clock;
pub mod config;
pub mod descriptors;
pub mod failure;
pub mod ids;
pub mod lifecycle;
pub mod messages;
pub mod metrics;
pub mod process;
pub mod retry;
pub mod server;
pub mod telemetry;
