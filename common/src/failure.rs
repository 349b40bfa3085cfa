//! How anything that goes wrong is classified, so that one table can say what becomes of the message.
//!
//! Every error enum of the stages implements [`Failure`] beside its definition, with a `match` that
//! names all its variants. The table from class to ack, delay or dead letter is in
//! [`crate::broker::settle`]; nothing else decides that.

use std::fmt;
use std::time::Duration;

/// What a failure means for the message that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureClass {
    /// Not now, through no fault of the message: we are too fast for the portal, or our own store is
    /// away. Wait as long as told. Does not count as an attempt, only age limits it.
    Throttled,
    /// Something of this moment: a timeout, a 5xx, a lost connection, a panic. Counts as an attempt.
    Transient,
    /// The portal refuses everybody (wrong secret, manual block). Consuming stops until it is mended.
    Blocked,
    /// This message can never work, whatever we wait for.
    Permanent,
    /// We cannot even read the message.
    Poison,
}

impl FailureClass {
    /// All classes, for metrics that start at zero.
    pub const ALL: [Self; 5] =
        [Self::Throttled, Self::Transient, Self::Blocked, Self::Permanent, Self::Poison];

    /// The word used in logs, metrics, message headers and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::Blocked => "blocked",
            Self::Permanent => "permanent",
            Self::Poison => "poison",
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error that knows its class.
pub trait Failure: std::error::Error + Send + Sync + 'static {
    /// The class of this failure.
    fn class(&self) -> FailureClass;

    /// The least time to wait before the next try, where somebody told us.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// Whether the message may be put off however long it was before: what it waits for began only now, or has a limit of
    /// its own.
    fn is_patient(&self) -> bool {
        false
    }
}

/// What a handler fails with: any error that knows its class.
pub type HandlerError = Box<dyn Failure>;

impl<E: Failure> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Box::new(error)
    }
}

/// The whole chain of causes in one line, for logs and dead letters: `reading lead 42: timed out`.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
