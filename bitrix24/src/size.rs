//! How large an answer may be: as it is sent, unpacked, and as what it becomes in memory.
//!
//! One process serves many portals, so none of them may take what the others need. A few bytes can become many: gzip
//! unpacks to a thousand times its size, and `{"a":0}` takes a hundred times its length as a JSON value. So bytes are
//! counted while they arrive ([`crate::body`]), and memory before it is taken ([`crate::json`]). What goes beyond is a
//! failure of that one request, [`Excess`]; where it may be one lead of many, the others are asked for apart from it
//! ([`crate::apart`]).
//!
//! With these numbers ten portals that answer the worst leave a stage below 128 MiB. Each holds one large body at a time, and
//! two of those become values at a time: 10 · 4 MiB + 2 · 12 MiB beside the 35 MiB that a stage takes by itself. The leads
//! that were read take little, as their texts are cut ([`crate::fields::TEXT_BYTES_MAX`]).

use tokio::sync::{Semaphore, SemaphorePermit};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A body up to this length is small: it is read whatever else goes on. What single calls answer is far below it, and so are
/// a hundred leads.
pub const SMALL_BODY_BYTES: usize = 256 * KIB;

/// Up to so much memory, a small body becomes a value whatever else goes on.
pub const SMALL_MEMORY: usize = 2 * MIB;

/// The largest body that is read of a list or a batch, unpacked.
///
/// The largest answer asked for is 1000 leads, of some 3 KB each with all their fields, and only the fields needed are asked
/// for. A larger `MAX_LEADS_A_REQUEST` would change it.
pub const LARGE_ANSWER_BYTES: usize = 4 * MIB;

/// The largest body that is read of anything else, unpacked: one lead with long comments, fifty people.
pub const ANSWER_BYTES: usize = MIB;

/// How many times what was sent an answer may unpack to, once it is long. Even rows that differ by little but their id stay
/// below that.
pub const RATIO_MAX: usize = 100;

/// From this length on the ratio counts.
pub const RATIO_FROM_BYTES: usize = SMALL_BODY_BYTES;

/// How deep an answer may be nested. The deepest that is asked for, a phone of a lead of a batch, is 7 deep.
pub const DEPTH_MAX: u32 = 32;

/// Large answers that become values at one time in a process.
const LARGE_AT_A_TIME: usize = 2;

/// The limit of the process, because the memory is the process's.
static LARGE: Semaphore = Semaphore::const_new(LARGE_AT_A_TIME);

/// The limits of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Its body, unpacked, in bytes.
    pub bytes: usize,
    /// What it becomes, in bytes of memory. An answer of many short texts takes three times its length.
    pub memory: usize,
}

impl Limits {
    /// Those of this method's answers.
    #[must_use]
    pub fn of(method: &str) -> Self {
        let is_large = method == "batch" || method.rsplit('.').next() == Some("list");
        let bytes = if is_large { LARGE_ANSWER_BYTES } else { ANSWER_BYTES };
        Self { bytes, memory: 3 * bytes }
    }
}

/// What of an answer is too much. No part of the answer is in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// Its body.
    #[error("it is longer than {0} bytes")]
    Bytes(usize),
    /// What it unpacks to.
    #[error("it unpacks to more than {RATIO_MAX} times what was sent")]
    Ratio,
    /// What it would become.
    #[error("it would take more than {0} bytes of memory")]
    Memory(usize),
    /// How deep it is nested.
    #[error("it is nested deeper than {DEPTH_MAX}")]
    Depth,
}

/// Waits until a large answer may become a value; it may be made as long as what is returned lives.
pub(crate) async fn turn() -> Option<SemaphorePermit<'static>> {
    // It is never closed.
    LARGE.acquire().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_batches_may_be_large() {
        for (method, bytes) in [
            ("batch", LARGE_ANSWER_BYTES),
            ("crm.lead.list", LARGE_ANSWER_BYTES),
            ("crm.item.list", LARGE_ANSWER_BYTES),
            ("crm.lead.get", ANSWER_BYTES),
            ("user.get", ANSWER_BYTES),
            ("crm.lead.update", ANSWER_BYTES),
        ] {
            assert_eq!(Limits::of(method), Limits { bytes, memory: 3 * bytes }, "{method}");
        }
    }
}
