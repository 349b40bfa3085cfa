//! Any body of a message is read or is poison, and what was read is written as what it was.

#![no_main]

use common::failure::{Failure as _, FailureClass};
use common::messages::{AssignmentCommand, Envelope, LeadEvent, Payload};
use libfuzzer_sys::fuzz_target;

fn check<P: Payload + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    match Envelope::<P>::from_bytes(bytes) {
        Ok(envelope) => {
            let again = Envelope::<P>::from_bytes(&envelope.to_bytes());
            assert_eq!(again.unwrap_or_else(|error| panic!("{error}")), envelope);
        }
        Err(error) => {
            assert_eq!(error.class(), FailureClass::Poison);
            assert!(!error.to_string().is_empty());
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    check::<LeadEvent>(bytes);
    check::<AssignmentCommand>(bytes);
});
