//! What can be seen from outside. One test binary: it links once.
#![expect(clippy::unwrap_used, reason = "what fails in a helper of a test fails the test")]
#![expect(clippy::float_cmp, reason = "the metrics that are compared count whole things")]

mod answers;
mod bad_days;
mod broker;
mod canaries;
mod chaos;
mod clocked;
mod common_parts;
mod dead_letters;
mod deployment;
mod documents;
mod holding;
mod hostile;
mod hostile_portals;
mod leads_mode;
mod least_rights;
mod line;
mod observability;
mod orders;
mod overdue;
mod pipeline;
mod presence;
mod proxy_log;
mod renamed;
mod robots;
mod services;
mod spool;
mod sticky;
mod strangers;
mod timeline;
mod unseen;
mod versions;
mod webhook;
