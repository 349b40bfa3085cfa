//! Notes what a robot asks for in the store, before the robot is answered.
//!
//! An event that is lost with the broker is found by the scan, as its lead has no decision. A robot's call is found nowhere:
//! the lead was decided long ago. So the call is noted as what it is, a giving that is asked for; the router that takes the
//! message finds it by the message's id, and publishes the message again where nothing came of it. Where the store does not
//! answer the call is accepted all the same, into the broker or the spool alone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::failure::chain;
use common::ids::{LeadId, PortalName};
use store::{Givings, NewGiving};
use tokio::time::Instant;

/// How long a robot waits for the store; a decision that is written at this moment takes some ten milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the store is left alone after it did not answer, so that robots do not wait for it one by one.
const LEFT_ALONE: Duration = Duration::from_secs(10);

/// Notes calls.
pub(crate) struct Calls {
    store: Arc<dyn Givings>,
    /// Until when the store is not asked.
    quiet_until: Mutex<Option<Instant>>,
}

impl Calls {
    pub(crate) fn new(store: Arc<dyn Givings>) -> Self {
        Self { store, quiet_until: Mutex::new(None) }
    }

    /// Notes a call, if the store answers.
    pub(crate) async fn note(&self, portal: &PortalName, lead: LeadId, call: &NewGiving) {
        let quiet = *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner);
        if quiet.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let error = match tokio::time::timeout(PATIENCE, self.store.give_again(portal, lead, call)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        let until = Instant::now() + LEFT_ALONE;
        *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        tracing::warn!(
            event = "call.not_noted", portal = %portal, lead.id = lead.get(), id = call.asked_by, error,
            "it is with the broker or in the spool alone",
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use common::messages::{AssignmentKey, Epoch};
    use distribution::Giving;
    use store::StoreError;

    use super::*;

    /// A store that never answers.
    #[derive(Default)]
    struct Silent(AtomicU32);

    #[async_trait]
    impl Givings for Silent {
        async fn giving(&self, _: &AssignmentKey) -> Result<Giving, StoreError> {
            std::future::pending().await
        }

        async fn is_too_early(&self, _: &AssignmentKey) -> Result<bool, StoreError> {
            std::future::pending().await
        }

        async fn give_again(
            &self,
            _: &PortalName,
            _: LeadId,
            _: &NewGiving,
        ) -> Result<Option<Epoch>, StoreError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }

        async fn opened_by(&self, _: &PortalName, _: &str) -> Result<Option<Epoch>, StoreError> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_costs_one_robot_a_second() {
        let store = Arc::new(Silent::default());
        let calls = Calls::new(Arc::clone(&store) as _);
        let (portal, lead) = ("acme".parse().unwrap(), LeadId::new(42).unwrap());
        let call = NewGiving::of_robot("1", None, jiff::Timestamp::UNIX_EPOCH);
        let started = Instant::now();
        for _ in 0..100 {
            calls.note(&portal, lead, &call).await;
        }
        assert_eq!((started.elapsed(), store.0.load(Ordering::Relaxed)), (PATIENCE, 1));
        tokio::time::advance(LEFT_ALONE).await;
        calls.note(&portal, lead, &call).await;
        assert_eq!(store.0.load(Ordering::Relaxed), 2, "it is asked again");
    }
}
