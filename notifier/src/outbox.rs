//! Sends what was taken from the store to be sent at most once: packed, when nothing more important needs the portal.

use bitrix24::{Command, Portal, PortalError};
use common::failure::{Failure as _, FailureClass, chain};
use common::lifecycle::Stop;
use jiff::SignedDuration;

/// Who took something and has not ended it after this time is gone, and nobody knows whether it was sent.
pub(crate) const LOST_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// Sends the commands of one method in one request; answers of each whether it is over: it was sent, may have been, or
/// never can be. `what` names them in the log.
pub(crate) async fn send(
    portal: &Portal,
    method: &str,
    commands: &[Command],
    what: &'static str,
    stop: &Stop,
) -> Vec<bool> {
    let methods = [method];
    let permit = tokio::select! {
        permit = portal.permit(&methods) => permit,
        () = stop.requested() => return vec![false; commands.len()],
    };
    let outcomes = match permit {
        Ok(permit) => portal.batch_with(permit, commands).await,
        Err(error) => Err(error),
    };
    match outcomes {
        Ok(outcomes) => {
            if let Some(error) = outcomes.iter().find_map(|outcome| outcome.as_ref().err()) {
                tracing::warn!(event = "outbox.refused", portal = %portal.name(), what, error = chain(error));
            }
            let over = |outcome: &Result<_, PortalError>| outcome.as_ref().err().is_none_or(is_over);
            outcomes.iter().map(over).collect()
        }
        Err(error) => {
            tracing::warn!(event = "outbox.not_sent", portal = %portal.name(), what, error = chain(&error));
            vec![is_over(&error); commands.len()]
        }
    }
}

/// Whether what failed so is not sent again: it may be there, or never will.
fn is_over(error: &PortalError) -> bool {
    error.is_ambiguous() || error.is_of_one_method() || error.class() == FailureClass::Permanent
}
