//! One assignment command, from reading the lead to the last step written down.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bitrix24::deal::NewDeal;
use bitrix24::{Fields, LeadReader, Portal, PortalError, PortalLead};
use common::broker::worker::{Handler, Outcome, Received};
use common::clock::Clock;
use common::failure::{Failure, FailureClass, HandlerError};
use common::ids::{LeadId, PortalName, UserId};
use common::messages::{AssignmentCommand, AssignmentKey, Deal};
use common::retry::Attempt;
use jiff::Timestamp;
use serde_json::Map;
use store::unseen_leads::{believe_missing, wait_for_right};
use store::{AssignmentState, Done, Store};

use crate::compare::Step;
use crate::lost_pack::{LostPacks, NotCleared, PACK_MAY_RUN};
use crate::metrics::NotifierMetrics;
use crate::packing::Packs;
use crate::trust::Company;
use crate::writer::{Write, WriteEnd};

/// The outcome for a lead that is gone.
pub(crate) const DELETED: &str = "deleted";
/// The outcome for a lead that a person gave to somebody else meanwhile.
pub(crate) const KEPT_BY_PERSON: &str = "kept_by_person";

/// Handles the assignment commands of one portal.
pub(crate) struct Assign {
    pub(crate) portal: PortalName,
    pub(crate) client: Portal,
    pub(crate) reader: LeadReader,
    pub(crate) packs: Packs,
    pub(crate) lost: LostPacks,
    /// Tries that a message has.
    pub(crate) attempts: u32,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<NotifierMetrics>,
    /// What is needed of a lead.
    pub(crate) fields: Arc<Fields>,
    /// How long a lead waits to which the webhook's owner has no right.
    pub(crate) waits_for_right: Duration,
    /// A lead whose message is older may have waited because it was not seen; none comes back sooner.
    pub(crate) may_have_waited: Duration,
}

#[derive(Debug, thiserror::Error)]
enum AssignError {
    /// Somebody else is at it, or was when they died; their pack may still be running.
    #[error("another copy of this command was sent at {0}; how that ended is not known yet")]
    SentElsewhere(Timestamp, Duration),
    #[error(
        "the request for this lead and others was refused as a whole; it is tried again with fewer of them"
    )]
    NotAlone(#[source] PortalError),
    #[error("finding out what a request without an answer has done")]
    ClearUp(#[source] PortalError),
    /// Rights were given between two requests, or the portal's lists come late.
    #[error("the lead is missing in a list and shown by itself")]
    ShownByItself,
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
            // Which of them is to blame is not known; whoever is alone in the end is judged by their own error.
            Self::NotAlone(_) | Self::ShownByItself => FailureClass::Transient,
            // It says nothing about this command, whatever it is.
            Self::ClearUp(error) if error.class() == FailureClass::Permanent => FailureClass::Transient,
            Self::ClearUp(error) | Self::SetOwner(error) | Self::Notify(error) | Self::Deal { error, .. } => {
                error.class()
            }
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::SentElsewhere(_, wait) => Some(*wait),
            Self::ShownByItself => None,
            Self::NotAlone(error)
            | Self::ClearUp(error)
            | Self::SetOwner(error)
            | Self::Notify(error)
            | Self::Deal { error, .. } => error.retry_after(),
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
                AssignmentState::Open { owner_set, notified, deal_sent_at, title, pack_at_most } => {
                    let before = Before { owner_set, notified, deal_sent_at, title, pack_at_most };
                    return self.work(&key, command, before, received.attempt).await;
                }
                AssignmentState::Sent { pack, sent_at } => {
                    match self.lost.look(&key, command.to, pack, sent_at).await {
                        Ok(()) => {}
                        Err(NotCleared::Stopping) => {
                            return Err(AssignError::SentElsewhere(sent_at, Duration::ZERO).into());
                        }
                        Err(NotCleared::Portal(error)) => return Err(AssignError::ClearUp(error).into()),
                        Err(NotCleared::Store(error)) => return Err(error.into()),
                    }
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
    /// In how large a pack it may go, after one failed as a whole.
    pack_at_most: Option<u32>,
}

impl Assign {
    async fn work(
        &self,
        key: &AssignmentKey,
        command: &AssignmentCommand,
        before: Before,
        attempt: Attempt,
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
            company: Company::of(before.pack_at_most, attempt.number >= self.attempts),
        };
        match self.packs.submit(write).await? {
            WriteEnd::Finished(outcome) => {
                if let Some(deal) = &command.orders.deal {
                    self.create_deal(key, command.to, deal, before.deal_sent_at, outcome).await?;
                }
                let took = self.clock.now().duration_since(attempt.first_seen);
                if Duration::try_from(took).is_ok_and(|took| took > self.may_have_waited) {
                    self.store.forget_unseen(&self.portal, key.lead).await?;
                }
                self.metrics.assigned(&self.portal, outcome, took);
                Ok(Outcome::Done(outcome))
            }
            WriteEnd::LeftAlone(Step::AskForIt) => match self.read_by_itself(key.lead).await? {
                // The next list shows it too.
                Some(_) => Err(AssignError::ShownByItself.into()),
                None => self.missing(key, command, before.owner_set).await,
            },
            WriteEnd::LeftAlone(Step::KeptByPerson | Step::SetOwner | Step::OnlyNotify) => {
                self.finish(key, command, before.owner_set, KEPT_BY_PERSON).await
            }
            WriteEnd::NoLead => self.missing(key, command, before.owner_set).await,
            WriteEnd::OwnerRefused(denied @ PortalError::Denied { .. }) => {
                Err(self.without_right(key.lead, AssignError::SetOwner(denied)).await)
            }
            WriteEnd::OwnerRefused(error) => Err(AssignError::SetOwner(error).into()),
            WriteEnd::NoticeRefused(error) => Err(AssignError::Notify(error).into()),
            WriteEnd::NotAlone(error) => Err(AssignError::NotAlone(error).into()),
            WriteEnd::Elsewhere => Err(AssignError::SentElsewhere(self.clock.now(), Duration::ZERO).into()),
            WriteEnd::Store(error) => Err(error.into()),
        }
    }

    /// The portal says that there is no such lead: the end, if it said so some minutes ago too.
    async fn missing(
        &self,
        key: &AssignmentKey,
        command: &AssignmentCommand,
        owner_set: bool,
    ) -> Result<Outcome, HandlerError> {
        believe_missing(&*self.store, &self.portal, key.lead, self.clock.now()).await?;
        self.finish(key, command, owner_set, DELETED).await
    }

    /// The lead waits until the webhook's owner has a right to it.
    async fn without_right(&self, lead: LeadId, said: impl Failure) -> HandlerError {
        let times = (self.clock.now(), self.waits_for_right);
        wait_for_right(&*self.store, (&self.portal, lead), said, times).await
    }

    /// What the portal says of a lead that a list left out; none when it says that there is none.
    async fn read_by_itself(&self, lead: LeadId) -> Result<Option<PortalLead>, HandlerError> {
        match self.reader.read_by_itself(lead, &self.fields).await {
            Err(denied @ PortalError::Denied { .. }) => Err(self.without_right(lead, denied).await),
            read => Ok(read?.lead),
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
        let lead = match self.reader.read(key.lead, &self.fields).await {
            Err(denied @ PortalError::Denied { .. }) => {
                return Err(self.without_right(key.lead, AssignError::of_deal(deal, denied)).await);
            }
            read => read?.lead,
        };
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
        let done = Done { owner_set, finished: Some(outcome), ..Done::nothing(key.clone(), command.to) };
        self.store.done(None, &[done], self.clock.now()).await?;
        self.metrics.ended(&self.portal, outcome);
        Ok(Outcome::Done(outcome))
    }
}
