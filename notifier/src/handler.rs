//! One assignment command, from reading the lead to the last step written down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bitrix24::deal::NewDeal;
use bitrix24::{LeadReader, Portal, PortalError};
use common::broker::worker::{Handler, Outcome, Received};
use common::clock::Clock;
use common::failure::{Failure, FailureClass, HandlerError};
use common::ids::{LeadId, PortalName, UserId};
use common::messages::{AssignmentCommand, AssignmentKey, Deal};
use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::Map;
use store::{AssignmentState, Done, Store};
use uuid::Uuid;

use crate::compare::Step;
use crate::metrics::NotifierMetrics;
use crate::packing::Packs;
use crate::recovery::{self, Found};
use crate::writer::{ASSIGNED, Write, WriteEnd};

/// The outcome for a lead that is gone.
pub(crate) const DELETED: &str = "deleted";
/// The outcome for a lead that a person gave to somebody else meanwhile.
pub(crate) const KEPT_BY_PERSON: &str = "kept_by_person";

/// A request whose answer was lost may go on in the portal for this long: its own limit for one
/// request. Nothing is concluded about a pack before.
///
/// Source: "Limits" of the REST documentation: a request is interrupted after 60 s.
const PACK_MAY_RUN: SignedDuration = SignedDuration::from_secs(60);

/// Handles the assignment commands of one portal.
pub(crate) struct Assign {
    pub(crate) portal: PortalName,
    pub(crate) client: Portal,
    pub(crate) reader: LeadReader,
    pub(crate) packs: Packs,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<NotifierMetrics>,
}

#[derive(Debug, thiserror::Error)]
enum AssignError {
    /// Somebody else is at it, or was when they died; their pack may still be running.
    #[error("another copy of this command was sent at {0}; how that ended is not known yet")]
    SentElsewhere(Timestamp, Duration),
    #[error("setting the owner")]
    SetOwner(#[source] PortalError),
    #[error("the owner is set; sending the notice")]
    Notify(#[source] PortalError),
    #[error("the owner is set and told; creating the deal in funnel {category}, stage {stage}")]
    Deal {
        category: u32,
        stage: String,
        #[source]
        error: PortalError,
    },
}

impl AssignError {
    fn of_deal(deal: &Deal, error: PortalError) -> Self {
        let stage = deal.stage.clone().unwrap_or_else(|| "the first".to_owned());
        Self::Deal { category: deal.category, stage, error }
    }
}

impl Failure for AssignError {
    fn class(&self) -> FailureClass {
        match self {
            Self::SentElsewhere(..) => FailureClass::Throttled,
            // Owners are set and people told all the same: it is this lead's deal alone.
            Self::Deal { error, .. } if error.is_of_one_method() => FailureClass::Permanent,
            Self::SetOwner(error) | Self::Notify(error) | Self::Deal { error, .. } => error.class(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::SentElsewhere(_, wait) => Some(*wait),
            Self::SetOwner(error) | Self::Notify(error) | Self::Deal { error, .. } => error.retry_after(),
        }
    }
}

#[async_trait]
impl Handler for Assign {
    type Payload = AssignmentCommand;

    fn lead(&self, payload: &AssignmentCommand) -> LeadId {
        payload.lead
    }

    async fn handle(&self, received: Received<AssignmentCommand>) -> Result<Outcome, HandlerError> {
        let command = &received.envelope.payload;
        let key = AssignmentKey { portal: self.portal.clone(), lead: command.lead, epoch: command.epoch };
        loop {
            match self.store.assignment(&key).await? {
                AssignmentState::Finished(_) => return Ok(Outcome::Before("done_before")),
                AssignmentState::Open { owner_set, notified, deal_sent_at, title } => {
                    let before = Before { owner_set, notified, deal_sent_at, title };
                    return self.work(&key, command, before, received.attempt.first_seen).await;
                }
                AssignmentState::Sent { pack, sent_at } => {
                    self.recover(&key, command, pack, sent_at).await?;
                }
            }
        }
    }
}

/// What earlier tries have done for sure.
#[derive(Debug)]
struct Before {
    owner_set: bool,
    notified: bool,
    /// Not for sure: when the deal was about to be created.
    deal_sent_at: Option<Timestamp>,
    /// What the lead is called, unless it was told before.
    title: Option<String>,
}

impl Assign {
    async fn work(
        &self,
        key: &AssignmentKey,
        command: &AssignmentCommand,
        before: Before,
        first_seen: Timestamp,
    ) -> Result<Outcome, HandlerError> {
        // They went out with the owner, in the same command.
        let fields =
            if before.owner_set { Map::new() } else { command.orders.set.clone().into_iter().collect() };
        let write = Write {
            key: key.clone(),
            from: command.from,
            to: command.to,
            seen_ago: command.looked_at.and_then(|at| self.clock.now().duration_since(at).try_into().ok()),
            seen_with: command.looked_at_with.unwrap_or(1),
            owner_set: before.owner_set,
            fields,
            title: before.title.unwrap_or_default(),
            told: before.notified,
            more_to_do: command.orders.deal.is_some(),
        };
        match self.packs.submit(write).await? {
            WriteEnd::Finished(outcome) => {
                if let Some(deal) = &command.orders.deal {
                    self.create_deal(key, command.to, deal, before.deal_sent_at, outcome).await?;
                }
                self.metrics.assigned(&self.portal, outcome, self.clock.now().duration_since(first_seen));
                Ok(Outcome::Done(outcome))
            }
            WriteEnd::LeftAlone(Step::Deleted) => self.finish(key, command, before.owner_set, DELETED).await,
            WriteEnd::LeftAlone(Step::KeptByPerson | Step::SetOwner | Step::OnlyNotify) => {
                self.finish(key, command, before.owner_set, KEPT_BY_PERSON).await
            }
            WriteEnd::NoLead => {
                self.metrics.ended(&self.portal, DELETED);
                Ok(Outcome::Done(DELETED))
            }
            WriteEnd::OwnerRefused(error) => Err(AssignError::SetOwner(error).into()),
            WriteEnd::NoticeRefused(error) => Err(AssignError::Notify(error).into()),
            WriteEnd::Elsewhere => Err(AssignError::SentElsewhere(self.clock.now(), Duration::ZERO).into()),
            WriteEnd::Store(error) => Err(error.into()),
        }
    }

    /// The last step: by now the owner is set and told. Where an earlier try may have created the deal, it is looked up
    /// first, and not before that try has surely ended.
    async fn create_deal(
        &self,
        key: &AssignmentKey,
        owner: UserId,
        deal: &Deal,
        sent_at: Option<Timestamp>,
        outcome: &'static str,
    ) -> Result<(), HandlerError> {
        let origin = key.to_string();
        if let Some(sent_at) = sent_at {
            let left = PACK_MAY_RUN - self.clock.now().duration_since(sent_at);
            if left.is_positive() {
                let wait = Duration::try_from(left).unwrap_or_default();
                return Err(AssignError::SentElsewhere(sent_at, wait).into());
            }
            let found =
                self.client.find_deal(&origin).await.map_err(|error| AssignError::of_deal(deal, error))?;
            if let Some(id) = found {
                return Ok(self.store.deal_created(key, id, outcome, self.clock.now()).await?);
            }
            self.store.deal_not_created(key).await?;
        }
        // A lead that is gone meanwhile has nothing to hand on but its number.
        let lead = self.reader.read(key.lead).await?.lead;
        if !self.store.about_to_create_deal(key, self.clock.now()).await? {
            return Err(AssignError::SentElsewhere(self.clock.now(), Duration::ZERO).into());
        }
        let new = NewDeal {
            origin,
            lead: key.lead,
            owner,
            category: deal.category,
            stage: deal.stage.clone(),
            fields: lead.as_ref().map(NewDeal::fields_of).unwrap_or_default(),
        };
        match self.client.add_deal(&new).await {
            Ok(id) => Ok(self.store.deal_created(key, id, outcome, self.clock.now()).await?),
            Err(error) => {
                if !error.is_ambiguous() {
                    self.store.deal_not_created(key).await?;
                }
                Err(AssignError::of_deal(deal, error).into())
            }
        }
    }

    async fn finish(
        &self,
        key: &AssignmentKey,
        command: &AssignmentCommand,
        owner_set: bool,
        outcome: &'static str,
    ) -> Result<Outcome, HandlerError> {
        let done = Done {
            key: key.clone(),
            to: command.to,
            owner_set,
            notified: false,
            notification: None,
            finished: Some(outcome),
        };
        self.store.done(&[done], self.clock.now()).await?;
        self.metrics.ended(&self.portal, outcome);
        Ok(Outcome::Done(outcome))
    }

    /// Clears up a pack whose end nobody wrote down; afterwards the assignment is finished or open.
    async fn recover(
        &self,
        key: &AssignmentKey,
        command: &AssignmentCommand,
        pack: Uuid,
        sent_at: Timestamp,
    ) -> Result<(), HandlerError> {
        let now = self.clock.now();
        let left = PACK_MAY_RUN - now.duration_since(sent_at);
        if left.is_positive() {
            let wait = Duration::try_from(left).unwrap_or_default();
            // While its sender lives it will be finished in a moment, so the first look is soon.
            let wait = if wait > Duration::from_secs(50) { Duration::ZERO } else { wait };
            return Err(AssignError::SentElsewhere(sent_at, wait).into());
        }
        let items = self.store.pack(&self.portal, pack).await?;
        // All at once, so that they are read by one request.
        let reads = items.iter().map(|item| self.reader.read(item.key.lead));
        let leads = try_join_all(reads).await?;
        let owners: BTreeMap<_, _> =
            leads.into_iter().filter_map(|read| read.lead).map(|lead| (lead.id, lead.owner)).collect();
        let found = recovery::find(key, &items, &owners);
        let done = Done {
            key: key.clone(),
            to: command.to,
            owner_set: found != Found::Nothing,
            notified: found == Found::Both,
            notification: None,
            finished: (found == Found::Both && command.orders.deal.is_none()).then_some(ASSIGNED),
        };
        let ours = self.store.recovered(pack, &done, now).await?;
        if ours && done.finished.is_some() {
            self.metrics.ended(&self.portal, ASSIGNED);
        }
        tracing::warn!(
            event = "assignment.recovered", portal = %self.portal, lead.id = key.lead.get(),
            pack = %pack, found = ?found, ours,
        );
        Ok(())
    }
}
