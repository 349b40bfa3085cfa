//! How many file descriptors this process may have.
//!
//! Many systems start a process with 1,024 although it may ask for far more. Each connection needs one, and so do the
//! spool, the broker, the database and the requests to portals, which must not be left without.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What connections of clients leave for everything else. A router with ten portals has some 40 open.
const FOR_THE_REST: u64 = 256;

/// Asks for as many as this process may have.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(event = "descriptors.not_raised", %error);
    }
}

/// How many connections of clients there are descriptors for; half of all where there are few.
pub(crate) fn for_connections() -> usize {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(most.saturating_sub(FOR_THE_REST).max(most / 2)).unwrap_or(usize::MAX).min(MOST)
}

/// More permits a semaphore cannot have.
const MOST: usize = tokio::sync::Semaphore::MAX_PERMITS;
