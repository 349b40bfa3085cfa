//! Whether a portal answers anything that can be read.
//!
//! A warning that PHP prints before the JSON, or a page of a proxy, makes every answer unreadable, and so does far too much of
//! anything: then nothing is known
//! to be wrong with any message, and nothing works. One such answer says little, as do none at all.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::PortalError;

/// So many answers in a row, and for so long: fewer may be one lead's fault, or a moment's.
const IN_A_ROW: u32 = 5;
const LASTS: Duration = Duration::from_mins(1);

/// What one portal answered of late, as this process has seen it.
#[derive(Debug, Default)]
pub(crate) struct Readability(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    /// Answers in a row that could not be read, and when the first of them came.
    unreadable: Option<(u32, Instant)>,
    /// When an answer was read last.
    read_at: Option<Instant>,
}

/// For how long nothing could be read, and how many answers that were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable {
    /// Since the first of them.
    pub lasts: Duration,
    /// Answers, all in a row.
    pub answers: u32,
}

impl Readability {
    /// A request has ended; one that brought no answer says nothing. A refusal can be read.
    pub(crate) fn heard<T>(&self, result: &Result<T, PortalError>) {
        let now = Instant::now();
        let mut heard = self.lock();
        match result {
            Ok(_) | Err(PortalError::Refused { .. } | PortalError::Elsewhere { .. }) => {
                *heard = Heard { unreadable: None, read_at: Some(now) };
            }
            Err(
                PortalError::Unreadable { .. } | PortalError::Excessive { .. } | PortalError::Status { .. },
            ) => {
                let (answers, since) = heard.unreadable.unwrap_or((0, now));
                heard.unreadable = Some((answers.saturating_add(1), since));
            }
            Err(_) => {}
        }
    }

    /// When an answer was read last.
    pub(crate) fn read_at(&self) -> Option<Instant> {
        self.lock().read_at
    }

    /// What is wrong, if it is not only a moment's fault.
    pub(crate) fn unreadable(&self) -> Option<Unreadable> {
        let (answers, since) = self.lock().unreadable?;
        let lasts = since.elapsed();
        (answers >= IN_A_ROW && lasts >= LASTS).then_some(Unreadable { lasts, answers })
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_many_unreadable_answers_over_some_time_are_more_than_a_moments_fault() {
        let readability = Readability::default();
        let unreadable: Result<(), _> = Err(PortalError::Unreadable { method: "batch".to_owned() });
        for _ in 0..10 {
            readability.heard(&unreadable);
        }
        assert_eq!(readability.unreadable(), None, "not for long yet");
        tokio::time::advance(LASTS).await;
        assert_eq!(readability.unreadable(), Some(Unreadable { lasts: LASTS, answers: 10 }));
        readability.heard(&Err::<(), _>(PortalError::Interrupted));
        assert!(readability.unreadable().is_some(), "no answer at all says nothing");
        readability.heard(&Ok(()));
        readability.heard(&unreadable);
        tokio::time::advance(2 * LASTS).await;
        assert_eq!(readability.unreadable(), None, "one answer is not enough");
    }
}
