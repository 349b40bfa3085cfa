//! Timers of leads that are to be answered.

use async_trait::async_trait;
use common::ids::{LeadId, PortalName, UserId};
use common::messages::AssignmentKey;
use distribution::{AnswerTimes, Name};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::{Notice, StoreError};

/// The timer of a giving at which something is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerTimer {
    /// Of which giving.
    pub key: AssignmentKey,
    /// The queue that gave it.
    pub queue: Name,
    /// Who got the lead.
    pub owner: UserId,
    /// What it is about.
    pub state: TimerState,
}

/// What is to be done about a timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimerState {
    /// Nothing any more: he never became the owner, or the lead was given again for another reason.
    Over,
    /// It starts: he is the owner since then.
    Starts(Timestamp),
    /// He is to be reminded, if he has not answered since then.
    Remind(Timestamp),
    /// His time is over; he may have answered since then.
    Due(Timestamp),
    /// The lead has another owner now: his name in the routing file.
    Taken(String),
    /// Nobody else may take it.
    NobodyElse,
}

/// A timer that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningTimer {
    /// Of which giving.
    pub key: AssignmentKey,
    /// Who got the lead.
    pub owner: UserId,
    /// Since when he is the owner.
    pub since: Timestamp,
}

/// Timers of leads that are to be answered. A decision begins them: [`crate::NewDecision::to_be_answered`].
#[async_trait]
pub trait Answers: Send + Sync + 'static {
    /// Takes or keeps the right to look after a portal's timers.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn take_answers(
        &self,
        portal: &PortalName,
        holder: Uuid,
        now: Timestamp,
        lease: SignedDuration,
    ) -> Result<bool, StoreError>;

    /// Timers at which something is to be done, up to `limit`. A lead that was to be given away before `retry_before`, and
    /// of which nothing was decided since, is due again.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn answer_timers(
        &self,
        portal: &PortalName,
        now: Timestamp,
        retry_before: Timestamp,
        limit: u32,
    ) -> Result<Vec<AnswerTimer>, StoreError>;

    /// Whether any timer of the portal runs.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn answers_run(&self, portal: &PortalName) -> Result<bool, StoreError>;

    /// The timers of these leads that run.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn running_answer_timers(
        &self,
        portal: &PortalName,
        leads: &[LeadId],
    ) -> Result<Vec<RunningTimer>, StoreError>;

    /// Starts a timer.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn start_answer_timer(
        &self,
        key: &AssignmentKey,
        since: Timestamp,
        times: AnswerTimes,
    ) -> Result<(), StoreError>;

    /// Reminds the owner, once.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn remind(&self, key: &AssignmentKey, notice: &Notice, now: Timestamp) -> Result<(), StoreError>;

    /// Notes that the lead is to be given to somebody else.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn note_missed(&self, key: &AssignmentKey, now: Timestamp) -> Result<(), StoreError>;

    /// Ends a timer; answers whether there was one. With it goes a notice, and the turn that the giving cost is given back
    /// where `refund` is set.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn end_answer_timer(
        &self,
        key: &AssignmentKey,
        notice: Option<&Notice>,
        refund: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
}
