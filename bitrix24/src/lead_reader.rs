//! Reads leads for many callers at once with as few requests as the budget demands.
//!
//! Each caller asks for one lead; a [`Packer`] in front closes a pack when it may be sent. One lead
//! is read by `crm.lead.get`, 2 to 50 by one list, more by one batch of lists, always in one request.
//! How a lead is read stands in [`crate::lead`], how packs are closed in [`crate::pack`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use common::ids::LeadId;
use tokio::time::Instant;

use crate::client::{Permit, Portal};
use crate::error::PortalError;
use crate::lead::{GET, LIST, PortalLead};
use crate::metrics::PackKind;
use crate::pack::{PackLimits, PackSender, Packer};

/// Leads read by one request at the most: twenty lists in a batch. A full lead is about 3 KB, so the
/// answer stays far below [`crate::transport::MAX_BODY_BYTES`], and twenty lists by id far below the
/// 60 s after which the cloud cuts a request.
pub const MAX_LEADS_A_REQUEST: usize = 1000;

/// Requests under way at once. With answers after 2 s at the latest, four keep up with the two
/// requests a second of the standard plan.
const PACKS_IN_FLIGHT: usize = 4;

/// How long a lead waits for others while there are many: about as long as a router takes to decide the
/// leads of a full request, which then come back for the next one.
const LINGER: Duration = Duration::from_secs(1);

/// Callers that wait to be packed: what the four packs under way can take away at once.
const QUEUE: usize = MAX_LEADS_A_REQUEST * PACKS_IN_FLIGHT;

/// While so many leads that were read are in use, the next are not read: they come all the fuller.
const IN_USE_ENOUGH: usize = 50;

/// Reads single leads of one portal, together.
pub struct LeadReader {
    packer: Packer<LeadId, Read>,
    in_use: Arc<AtomicUsize>,
}

/// What was read of a lead.
#[derive(Debug, Clone)]
pub struct Read {
    /// None when it does not exist any more.
    pub lead: Option<PortalLead>,
    /// How many leads the request was for, this one included.
    pub together: usize,
}

/// A lead that was read is in use as long as this lives.
#[derive(Debug)]
pub struct InUse(Arc<AtomicUsize>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl LeadReader {
    /// A reader for `portal`. One a process is enough, and more pack worse.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(portal: Portal) -> Self {
        let limits = PackLimits {
            max_pack: MAX_LEADS_A_REQUEST,
            in_flight: PACKS_IN_FLIGHT,
            queue: QUEUE,
            linger: LINGER,
        };
        let in_use = Arc::new(AtomicUsize::new(0));
        let packs = LeadPacks { portal, in_use: Arc::clone(&in_use) };
        Self { packer: Packer::new(Arc::new(packs), limits), in_use }
    }

    /// Counts a lead as in use, for as long as the guard lives; while there are many, no more are read.
    #[must_use]
    pub fn in_use(&self) -> InUse {
        self.in_use.fetch_add(1, Ordering::Relaxed);
        InUse(Arc::clone(&self.in_use))
    }

    /// Reads the lead as it is after this call began.
    ///
    /// # Errors
    /// As [`Portal::get_lead`]. A request that fails, fails for every lead in it.
    pub async fn read(&self, id: LeadId) -> Result<Read, PortalError> {
        self.packer.submit(id).await
    }
}

struct LeadPacks {
    portal: Portal,
    in_use: Arc<AtomicUsize>,
}

#[async_trait]
impl PackSender<LeadId, Read> for LeadPacks {
    async fn permit(&self) -> Result<Permit, PortalError> {
        self.portal.permit(&[GET, LIST]).await
    }

    fn has_plenty(&self) -> bool {
        self.portal.has_plenty()
    }

    fn is_in_no_hurry(&self) -> bool {
        self.in_use.load(Ordering::Relaxed) >= IN_USE_ENOUGH
    }

    async fn send(&self, permit: Permit, pack: Vec<LeadId>) -> Vec<Result<Read, PortalError>> {
        let distinct: Vec<LeadId> = pack.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let started = Instant::now();
        let outcomes = match distinct.as_slice() {
            [id] => vec![self.portal.get_lead_with(permit, *id).await],
            ids => match self.portal.get_leads_with(permit, ids).await {
                Ok(outcomes) => outcomes,
                Err(error) => ids.iter().map(|_| Err(error.clone())).collect(),
            },
        };
        self.portal.count_pack(PackKind::Read, distinct.len(), started.elapsed());
        // A lead may be wanted by several callers.
        let together = distinct.len();
        let outcomes = outcomes.into_iter().map(|outcome| outcome.map(|lead| Read { lead, together }));
        let outcomes: BTreeMap<LeadId, _> = distinct.into_iter().zip(outcomes).collect();
        pack.iter().map(|id| outcomes.get(id).cloned().unwrap_or(Err(PortalError::Interrupted))).collect()
    }
}
