//! Under which address a portal is asked at the moment: the configured one, or one that it has moved to.
//!
//! The new address is kept once it has given a good answer, here and for other processes ([`PortalAddresses`]). What others
//! keep or forget is looked up once a minute, and soon after a failure. Where the new address fails, the configured one is
//! asked again ([`Plan`]); a good answer there ends the move. Where a portal may move to is decided in [`crate::moves`].

use std::sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::address::{AddressError, PortalAddresses};
use common::failure::{Failure as _, FailureClass, chain};
use common::ids::PortalName;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::envelope::Envelope;
use crate::error::PortalError;
use crate::metrics::PortalMetrics;
use crate::transport::Transport;

/// How often is looked what others have kept or forgotten: one row by its key.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// As soon as that is looked after a failure: others may know more.
const LOOK_SOON: Duration = Duration::from_secs(5);

/// As often as that the configured address is asked while the new one fails. On a bad day of the portal it only points to
/// the new one again, so this costs a request.
const ASK_CONFIGURED_EVERY: Duration = Duration::from_mins(1);

/// A request waits no longer for the store: it can go without.
const STORE_WAITS: Duration = Duration::from_secs(5);

/// Where one request goes.
pub(crate) struct Plan {
    /// The host that is asked.
    pub(crate) first: String,
    /// The host that is asked if the first is not there and surely ran nothing.
    pub(crate) second: Option<String>,
    /// The host to which the portal had moved when this was planned.
    moved_to: Option<String>,
}

/// The address of one portal, shared by all its clients in a process.
#[derive(Default)]
pub(crate) struct PortalAddress {
    kept_in: Option<Arc<dyn PortalAddresses>>,
    state: SyncMutex<State>,
    /// Held to read or write what is kept. State and store change as one, so that a look finds no word of before.
    at_store: Mutex<()>,
}

#[derive(Default)]
struct State {
    moved_to: Option<String>,
    looked_at: Option<Instant>,
    look_soon: bool,
    /// The new address failed, and the configured one was not asked.
    is_doubtful: bool,
    asked_configured_at: Option<Instant>,
    /// The remembered host that is not used, once it was said.
    ignored: Option<String>,
}

/// The portal, and what is needed to ask it.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a> {
    pub(crate) portal: &'a PortalName,
    pub(crate) transport: &'a dyn Transport,
    pub(crate) metrics: &'a PortalMetrics,
}

impl PortalAddress {
    /// An address that outlives the process.
    pub(crate) fn kept_in(addresses: Arc<dyn PortalAddresses>) -> Self {
        Self { kept_in: Some(addresses), ..Self::default() }
    }

    /// Looks up what others have kept or forgotten, if it is time. Where the store does not answer, all stays as it is.
    pub(crate) async fn look(&self, of: Of<'_>) {
        let Some(addresses) = self.kept_in.as_deref().filter(|_| self.is_time_to_look()) else { return };
        let is_first = self.lock().looked_at.is_none();
        let _at_store = if is_first {
            // Nobody asks before it is known where.
            self.at_store.lock().await
        } else {
            let Ok(at_store) = self.at_store.try_lock() else { return };
            at_store
        };
        if !self.is_time_to_look() {
            return;
        }
        let configured = of.transport.configured();
        let kept = within(addresses.moved_to(of.portal, &configured)).await;
        let mut state = self.lock();
        (state.looked_at, state.look_soon) = (Some(Instant::now()), false);
        match kept {
            Ok(kept) => state.learn(of, kept),
            Err(reason) => {
                tracing::warn!(event = "portal.address_not_read", portal = %of.portal, error = reason);
            }
        }
    }

    fn is_time_to_look(&self) -> bool {
        let state = self.lock();
        let wait = if state.look_soon { LOOK_SOON } else { LOOK_EVERY };
        state.looked_at.is_none_or(|at| at.elapsed() >= wait)
    }

    /// Where the next request goes.
    pub(crate) fn plan(&self, configured: &str) -> Plan {
        let mut state = self.lock();
        let Some(moved_to) = state.moved_to.clone() else {
            return Plan { first: configured.to_owned(), second: None, moved_to: None };
        };
        let may_ask = state.asked_configured_at.is_none_or(|at| at.elapsed() >= ASK_CONFIGURED_EVERY);
        let (first, second) = if may_ask && state.is_doubtful {
            state.is_doubtful = false;
            state.asked_configured_at = Some(Instant::now());
            (configured.to_owned(), Some(moved_to.clone()))
        } else {
            (moved_to.clone(), may_ask.then(|| configured.to_owned()))
        };
        Plan { first, second, moved_to: Some(moved_to) }
    }

    /// The next request asks at the configured address first.
    pub(crate) fn doubt(&self) {
        self.lock().is_doubtful = true;
    }

    /// The configured address is about to be asked, as the new one is not there.
    pub(crate) fn asks_again(&self) {
        self.lock().asked_configured_at = Some(Instant::now());
    }

    /// What a request has brought that went as planned and ended at the host `at`.
    pub(crate) async fn heard(
        &self,
        of: Of<'_>,
        plan: &Plan,
        at: &str,
        result: &Result<Envelope, PortalError>,
    ) {
        match result {
            Ok(_) => {
                of.metrics.points_elsewhere(of.portal, false);
                let is_configured = at == of.transport.configured();
                match &plan.moved_to {
                    Some(moved_to) if is_configured => self.came_back(of, moved_to).await,
                    None if is_configured => {}
                    Some(moved_to) if moved_to == at => self.lock().is_doubtful = false,
                    Some(_) | None => self.moved(of, at).await,
                }
            }
            Err(error) => {
                if matches!(error, PortalError::Elsewhere { .. } | PortalError::OutOfReach { .. }) {
                    of.metrics.points_elsewhere(of.portal, true);
                }
                let says_nothing = says_nothing(error);
                let mut state = self.lock();
                state.look_soon |= says_nothing || is_not_there(error);
                state.is_doubtful |= says_nothing && state.moved_to.as_deref() == Some(at);
            }
        }
    }

    async fn moved(&self, of: Of<'_>, to: &str) {
        let configured = of.transport.configured();
        let _at_store = self.at_store.lock().await;
        let from = {
            let mut state = self.lock();
            if state.moved_to.as_deref() == Some(to) {
                // Another request was quicker.
                return;
            }
            state.set(of, Some(to.to_owned())).unwrap_or_else(|| configured.clone())
        };
        of.metrics.renamed(of.portal);
        tracing::error!(
            event = "portal.renamed", portal = %of.portal, from, to,
            "the portal has a new address and works there; put it into the configuration",
        );
        if let Some(addresses) = &self.kept_in {
            written(of, within(addresses.moved(of.portal, &configured, to)).await);
        }
    }

    async fn came_back(&self, of: Of<'_>, from: &str) {
        let configured = of.transport.configured();
        let _at_store = self.at_store.lock().await;
        {
            let mut state = self.lock();
            if state.moved_to.as_deref() != Some(from) {
                return;
            }
            state.set(of, None);
        }
        tracing::warn!(
            event = "portal.address_forgotten", portal = %of.portal, from, to = configured,
            "the portal answers at its configured address again",
        );
        if let Some(addresses) = &self.kept_in {
            written(of, within(addresses.came_back(of.portal, &configured, from)).await);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Answers where the portal had moved to before.
    fn set(&mut self, of: Of<'_>, moved_to: Option<String>) -> Option<String> {
        of.metrics.moved(of.portal, moved_to.is_some());
        (self.is_doubtful, self.asked_configured_at) = (false, None);
        std::mem::replace(&mut self.moved_to, moved_to)
    }

    /// What the store has.
    fn learn(&mut self, of: Of<'_>, kept: Option<String>) {
        let configured = of.transport.configured();
        let usable = kept.filter(|host| *host != configured).filter(|host| {
            let may_be_there = of.transport.may_be_at(host);
            if !may_be_there && self.ignored.as_ref() != Some(host) {
                tracing::error!(
                    event = "portal.address_ignored", portal = %of.portal, host,
                    "a portal is not followed to this remembered address; if it is there, put it into the configuration, and \
                     forget it with `rota portal forget-address`",
                );
                self.ignored = Some(host.clone());
            }
            may_be_there
        });
        if usable != self.moved_to {
            tracing::info!(
                event = "portal.address_learned", portal = %of.portal,
                host = usable.as_ref().unwrap_or(&configured),
                "what is remembered of the portal's address has changed; it is asked at this host",
            );
            self.set(of, usable);
        }
    }
}

/// What the store answers, if it does so in time, or why not.
async fn within<T>(answer: impl Future<Output = Result<T, AddressError>>) -> Result<T, String> {
    match timeout(STORE_WAITS, answer).await {
        Ok(answer) => answer.map_err(|error| chain(&error)),
        Err(_) => Err(format!("the store did not answer within {} s", STORE_WAITS.as_secs())),
    }
}

fn written(of: Of<'_>, result: Result<(), String>) {
    if let Err(reason) = result {
        tracing::warn!(event = "portal.address_not_kept", portal = %of.portal, error = reason);
    }
}

/// Whether the portal is not at the host that was asked, as far as this answer goes, and the request surely did not run: no
/// connection, a redirect, or an answer that refuses everything, as that of a page, or of somebody else's portal, does.
pub(crate) fn is_not_there(error: &PortalError) -> bool {
    let is_refused = error.class() == FailureClass::Blocked && !error.is_of_one_method();
    (is_refused || matches!(error, PortalError::NotSent { .. })) && !error.is_ambiguous()
}

/// Whether this may have come from anybody: no answer, or none of the REST API.
fn says_nothing(error: &PortalError) -> bool {
    matches!(
        error,
        PortalError::Lost { .. }
            | PortalError::Unreadable { .. }
            | PortalError::Excessive { .. }
            | PortalError::Status { .. }
    )
}
