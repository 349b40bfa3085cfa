//! Leads that are deliberately given again.

use async_trait::async_trait;
use common::ids::{LeadId, PortalName, UserId};
use common::messages::{AssignmentKey, Epoch};
use distribution::{Cause, Destination, Giving};
use jiff::Timestamp;

use crate::StoreError;

/// Somebody asks for a lead to be given, most often once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGiving {
    /// The name of this request; a repeated one changes nothing.
    pub asked_by: String,
    /// Why.
    pub cause: Cause,
    /// Where it is to go in place of what the rules say.
    pub to: Option<Destination>,
    /// From whom it is taken, where only from him.
    pub from: Option<UserId>,
    /// How often one person may have it in this round.
    pub rounds: u32,
    /// The giving that this one follows; none for whichever is the last. Where another has followed it, this one is not
    /// wanted any more.
    pub after: Option<Epoch>,
    /// When it was asked for.
    pub at: Timestamp,
}

impl NewGiving {
    /// What a robot asks for by the message of this id: the lead is to be given once more, by the rules or to a queue.
    #[must_use]
    pub fn of_robot(message_id: &str, queue: Option<&str>, at: Timestamp) -> Self {
        Self {
            asked_by: message_id.to_owned(),
            cause: Cause::Robot,
            to: queue.map(|queue| Destination::Queue(queue.into())),
            from: None,
            rounds: 1,
            after: None,
            at,
        }
    }
}

/// Givings that were asked for. What they ask is told to each decision about them: [`crate::Standing::giving`].
#[async_trait]
pub trait Givings: Send + Sync + 'static {
    /// What was asked for this giving of a lead; the default where nothing was. Not told is whether it is held.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn giving(&self, key: &AssignmentKey) -> Result<Giving, StoreError>;

    /// The giving that was opened for this request, if one was.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn opened_by(&self, portal: &PortalName, asked_by: &str) -> Result<Option<Epoch>, StoreError>;

    /// Whether an earlier giving of the lead is still carried out. Once it is not, it never is again: givings follow each
    /// other.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn is_too_early(&self, key: &AssignmentKey) -> Result<bool, StoreError>;

    /// Opens a giving, and answers which it is: the one after the last. A lead that waits to be decided, or is held,
    /// is not given twice: the giving that waits becomes this one. None where it is not wanted any more.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn give_again(
        &self,
        portal: &PortalName,
        lead: LeadId,
        new: &NewGiving,
    ) -> Result<Option<Epoch>, StoreError>;
}
