//! What is written on the wire between the stages: one envelope, two payloads.
//!
//! These types are promises: what an older or newer process reads from a queue must stay readable.
//! Unknown fields are ignored, a new meaning is a new version, and a consumer reads the versions
//! named in [`Payload::READS`]. Fixtures of every version ever sent are in `common/tests/messages/`.
//! What belongs to the way and not to the matter (attempt, first sight, class of the last failure)
//! travels in headers, so that a retry repeats the same bytes.

mod assignment;
mod envelope;
mod lead_event;

pub use assignment::{AssignmentCommand, AssignmentKey, Deal, Epoch, Orders};
pub use envelope::{Envelope, Payload, Unreadable};
pub use lead_event::{EventSource, LeadEvent};
