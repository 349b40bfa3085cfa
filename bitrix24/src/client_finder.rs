//! Finds the clients of leads for many callers at once: [`crate::clients`] behind a [`Packer`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::ids::LeadId;
use distribution::Tie;

use crate::apart::{Blame, Suspects};
use crate::client::{Permit, Portal};
use crate::clients::Sought;
use crate::error::PortalError;
use crate::pack::{PackLimits, PackSender, Packer};

/// Leads whose clients are sought together: enough to fill the requests of every round.
const LEADS_A_PACK: usize = 200;

/// Packs under way at once; each is some requests, one after the other.
const PACKS_IN_FLIGHT: usize = 4;

/// How long a lead waits for others while there are many, as those that are read do.
const LINGER: Duration = Duration::from_secs(1);

/// Callers that wait to be packed.
const QUEUE: usize = 1000;

/// Finds clients in one portal.
pub struct ClientFinder {
    packer: Packer<Sought, Vec<Tie>>,
}

impl ClientFinder {
    /// A finder for `portal`. One a process is enough, and more pack worse.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(portal: Portal) -> Self {
        let limits =
            PackLimits { max_pack: LEADS_A_PACK, in_flight: PACKS_IN_FLIGHT, queue: QUEUE, linger: LINGER };
        Self { packer: Packer::new(Arc::new(Packs { portal, suspects: Suspects::default() }), limits) }
    }

    /// Who has the client. No request is made where there is nothing to know him by.
    ///
    /// # Errors
    /// As [`Portal::ties_with`].
    pub async fn find(&self, sought: Sought) -> Result<Vec<Tie>, PortalError> {
        if sought.knows_nothing() {
            return Ok(Vec::new());
        }
        self.packer.submit(sought).await
    }
}

struct Packs {
    portal: Portal,
    suspects: Suspects<LeadId>,
}

#[async_trait]
impl PackSender<Sought, Vec<Tie>> for Packs {
    async fn permit(&self) -> Result<Permit, PortalError> {
        self.portal.permit(&[]).await
    }

    fn has_plenty(&self) -> bool {
        self.portal.has_plenty()
    }

    async fn send(&self, permit: Permit, pack: Vec<Sought>) -> Vec<Result<Vec<Tie>, PortalError>> {
        let mut permit = Some(permit);
        // Groups come in another order than the pack, and a lead may be in it twice.
        let numbered = pack.into_iter().enumerate().collect();
        let mut ends: Vec<(usize, Result<Vec<Tie>, PortalError>)> = Vec::new();
        for group in self.suspects.groups(numbered, |(_, sought)| sought.lead, self.portal.read_at()) {
            let sought: Vec<Sought> = group.items.iter().map(|(_, sought)| sought.clone()).collect();
            let found = async {
                let permit = match permit.take() {
                    Some(permit) => permit,
                    None => self.portal.permit(&[]).await?,
                };
                self.portal.ties_with(permit, &sought).await
            };
            let leads = sought.iter().map(|sought| sought.lead);
            let outcomes = match found.await {
                Ok(outcomes) => {
                    self.suspects.passed(leads);
                    outcomes
                }
                Err(error) => {
                    if Blame::of(&error) != Blame::Nobody {
                        self.suspects.failed(&group, leads);
                    }
                    sought.iter().map(|_| Err(error.clone())).collect()
                }
            };
            ends.extend(group.items.iter().map(|(number, _)| *number).zip(outcomes));
        }
        ends.sort_by_key(|(number, _)| *number);
        ends.into_iter().map(|(_, end)| end).collect()
    }
}
