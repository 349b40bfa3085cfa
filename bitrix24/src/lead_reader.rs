//! Reads leads for many callers at once with as few requests as the budget demands.
//!
//! Each caller asks for one lead; a [`Packer`] in front closes a pack when it may be sent. One lead
//! is read by `crm.lead.get`, 2 to 50 by one list, more by one batch of lists, in one request. What a list leaves
//! out is asked for by itself, fifty in a request: it may be hidden. One lead that spoils the answer for all is
//! found and read apart.
//! How a lead is read stands in [`crate::lead`], how packs are closed in [`crate::pack`], who is read apart in
//! [`crate::apart`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use common::ids::LeadId;
use tokio::time::Instant;

use crate::apart::{Ask, Blame, Group, Suspects, apart};
use crate::client::{Permit, Portal};
use crate::command::MAX_COMMANDS;
use crate::error::PortalError;
use crate::fields::Fields;
use crate::lead::{GET, LIST, PortalLead};
use crate::metrics::PackKind;
use crate::pack::{PackLimits, PackSender, Packer};

/// Leads read by one request at the most: twenty lists in a batch. A full lead is about 3 KB, so the
/// answer stays far below [`crate::size::LARGE_ANSWER_BYTES`], and twenty lists by id far below the
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
    packer: Packer<Wish, Read>,
    in_use: Arc<AtomicUsize>,
}

/// What was read of a lead.
#[derive(Debug, Clone)]
pub struct Read {
    /// None when the portal says of this very lead that there is none.
    pub lead: Option<PortalLead>,
    /// How many leads the request was for, this one included.
    pub together: usize,
}

/// Which lead is to be read, and what of it.
#[derive(Debug, Clone)]
struct Wish {
    lead: LeadId,
    fields: Arc<Fields>,
    /// A list has left it out already.
    by_itself: bool,
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
        let packs = LeadPacks { portal, in_use: Arc::clone(&in_use), suspects: Suspects::default() };
        Self { packer: Packer::new(Arc::new(packs), limits), in_use }
    }

    /// Counts a lead as in use, for as long as the guard lives; while there are many, no more are read.
    #[must_use]
    pub fn in_use(&self) -> InUse {
        self.in_use.fetch_add(1, Ordering::Relaxed);
        InUse(Arc::clone(&self.in_use))
    }

    /// Reads these fields of the lead as they are after this call began, and perhaps more.
    ///
    /// # Errors
    /// As [`Portal::get_lead`]. A request that fails for no lead's sake, fails for every lead in it.
    pub async fn read(&self, lead: LeadId, fields: &Arc<Fields>) -> Result<Read, PortalError> {
        self.packer.submit(Wish { lead, fields: Arc::clone(fields), by_itself: false }).await
    }

    /// As [`LeadReader::read`], of a lead that a list has left out: it is asked for by itself, together with others.
    ///
    /// # Errors
    /// As [`LeadReader::read`].
    pub async fn read_by_itself(&self, lead: LeadId, fields: &Arc<Fields>) -> Result<Read, PortalError> {
        self.packer.submit(Wish { lead, fields: Arc::clone(fields), by_itself: true }).await
    }
}

struct LeadPacks {
    portal: Portal,
    in_use: Arc<AtomicUsize>,
    suspects: Suspects<LeadId>,
}

/// The methods by which leads are read.
const METHODS: [&str; 2] = [GET, LIST];

/// These fields of leads, as a list shows them; one alone is asked for by itself.
struct Listed<'p> {
    portal: &'p Portal,
    fields: &'p Fields,
}

#[async_trait]
impl Ask<LeadId, Shown> for Listed<'_> {
    async fn ask(
        &self,
        permit: Permit,
        ids: &[LeadId],
    ) -> Result<Vec<Result<Shown, PortalError>>, PortalError> {
        let (portal, fields) = (self.portal, self.fields);
        if let [id] = ids {
            return match portal.get_lead_with(permit, *id, fields).await {
                Ok(lead) => Ok(vec![Ok(lead.map_or(Shown::Missing, Shown::Lead))]),
                // That is about this lead, and the others are still to be asked for.
                Err(error @ PortalError::Denied { .. }) => Ok(vec![Err(error)]),
                // What spoils the answer may be a text that nobody needs, and a list shows only what is asked for.
                Err(error) if Blame::of(&error) == Blame::Content && portal.unreadable().is_none() => {
                    let listed = match portal.permit(&[LIST]).await {
                        Ok(permit) => portal.get_leads_with(permit, ids, fields).await,
                        Err(_) => Ok(Vec::new()),
                    };
                    match listed.ok().and_then(|mut listed| listed.pop()) {
                        Some(Ok(Some(lead))) => Ok(vec![Ok(Shown::Lead(lead))]),
                        Some(_) | None => Err(error),
                    }
                }
                Err(error) => Err(error),
            };
        }
        let listed = portal.get_leads_with(permit, ids, fields).await?;
        let shown =
            listed.into_iter().map(|outcome| outcome.map(|lead| lead.map_or(Shown::LeftOut, Shown::Lead)));
        Ok(shown.collect())
    }
}

/// What the portal shows of a lead.
#[derive(Debug, Clone)]
enum Shown {
    Lead(PortalLead),
    /// The portal says that there is none.
    Missing,
    /// A list does not have it.
    LeftOut,
}

#[async_trait]
impl PackSender<Wish, Read> for LeadPacks {
    async fn permit(&self) -> Result<Permit, PortalError> {
        self.portal.permit(&METHODS).await
    }

    fn has_plenty(&self) -> bool {
        self.portal.has_plenty()
    }

    fn is_in_no_hurry(&self) -> bool {
        self.in_use.load(Ordering::Relaxed) >= IN_USE_ENOUGH
    }

    async fn send(&self, permit: Permit, pack: Vec<Wish>) -> Vec<Result<Read, PortalError>> {
        let mut fields = Fields::default();
        for wish in &pack {
            fields.add(&wish.fields);
        }
        let of = |by_itself: bool| {
            let wishes = pack.iter().filter(move |wish| wish.by_itself == by_itself);
            wishes.map(|wish| wish.lead).collect::<BTreeSet<_>>()
        };
        // A lead may be wanted by several callers.
        let mut left_out = of(true);
        let listed: Vec<LeadId> = of(false).into_iter().filter(|lead| !left_out.contains(lead)).collect();
        let together = listed.len() + left_out.len();
        let mut outcomes: BTreeMap<LeadId, Result<Option<PortalLead>, PortalError>> = BTreeMap::new();
        let mut permit = Some(permit);
        for group in self.suspects.groups(listed, |lead| *lead, self.portal.read_at()) {
            for (lead, shown) in self.read_group(permit.take(), group, &fields).await {
                match shown {
                    Ok(Shown::Lead(found)) => drop(outcomes.insert(lead, Ok(Some(found)))),
                    Ok(Shown::Missing) => drop(outcomes.insert(lead, Ok(None))),
                    Ok(Shown::LeftOut) => drop(left_out.insert(lead)),
                    Err(error) => drop(outcomes.insert(lead, Err(error))),
                }
            }
        }
        let left_out: Vec<LeadId> = left_out.into_iter().collect();
        for ids in left_out.chunks(MAX_COMMANDS) {
            outcomes.extend(ids.iter().copied().zip(self.read_each(permit.take(), ids, &fields).await));
        }
        let read = |outcome: &Result<Option<PortalLead>, PortalError>| {
            outcome.clone().map(|lead| Read { lead, together })
        };
        let outcome = |wish: &Wish| outcomes.get(&wish.lead).map_or(Err(PortalError::Interrupted), read);
        pack.iter().map(outcome).collect()
    }
}

impl LeadPacks {
    async fn read_group(
        &self,
        permit: Option<Permit>,
        group: Group<LeadId>,
        fields: &Fields,
    ) -> Vec<(LeadId, Result<Shown, PortalError>)> {
        let ids = &group.items;
        let permit = match permit {
            Some(permit) => permit,
            None => match self.portal.permit(&METHODS).await {
                Ok(permit) => permit,
                Err(error) => return ids.iter().map(|id| (*id, Err(error.clone()))).collect(),
            },
        };
        let started = Instant::now();
        let asks = Listed { portal: &self.portal, fields };
        let shown = apart(&self.portal, permit, &METHODS, ids, &asks).await;
        self.portal.count_pack(PackKind::Read, ids.len(), started.elapsed());
        let is_suspect = |shown: &Result<Shown, PortalError>| {
            shown.as_ref().is_err_and(|error| Blame::of(error) != Blame::Nobody)
        };
        let of = |suspect: bool| {
            let outcomes = ids.iter().zip(&shown).filter(move |(_, shown)| is_suspect(shown) == suspect);
            outcomes.map(|(id, _)| *id)
        };
        self.suspects.passed(of(false));
        self.suspects.failed(&group, of(true));
        ids.iter().copied().zip(shown).collect()
    }

    /// Those that a list has left out.
    async fn read_each(
        &self,
        permit: Option<Permit>,
        ids: &[LeadId],
        fields: &Fields,
    ) -> Vec<Result<Option<PortalLead>, PortalError>> {
        let asked = async {
            let permit = match permit {
                Some(permit) => permit,
                None => self.portal.permit(&[GET]).await?,
            };
            self.portal.get_each_with(permit, ids, fields).await
        };
        asked.await.unwrap_or_else(|error| ids.iter().map(|_| Err(error.clone())).collect())
    }
}
