//! Why a command could not do what it was told to.

use common::failure::chain;
use store::StoreError;

/// The arguments are wrong.
pub(crate) const WRONG_ARGUMENTS: u8 = 64;
/// A file cannot be read, or is wrong.
pub(crate) const WRONG_FILE: u8 = 65;

/// The database cannot be reached.
const UNREACHABLE: u8 = 69;
/// The database did not do what was asked.
const NOT_DONE: u8 = 70;

/// What is told and with which code the process ends.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn arguments(message: impl Into<String>) -> Self {
        Self { code: WRONG_ARGUMENTS, message: message.into() }
    }

    pub(crate) fn unreachable(error: &StoreError) -> Self {
        Self { code: UNREACHABLE, message: format!("the database cannot be used: {}", chain(error)) }
    }

    pub(crate) fn store(error: &StoreError) -> Self {
        Self { code: NOT_DONE, message: format!("nothing was changed: {}", chain(error)) }
    }

    pub(crate) fn file(message: impl Into<String>) -> Self {
        Self { code: WRONG_FILE, message: message.into() }
    }
}
