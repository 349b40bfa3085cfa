//! Writes owners and notices, many in one request, and writes down first what it is about to do.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bitrix24::lead::{Written, set_owner_command, written};
use bitrix24::metrics::PackKind;
use bitrix24::notify::{Notice, NoticeResult};
use bitrix24::{Command, PackSender, Permit, Portal, PortalError};
use common::clock::Clock;
use common::failure::chain;
use common::ids::UserId;
use common::messages::AssignmentKey;
use serde_json::Map;
use store::{Done, PackItem, Store, StoreError};
use uuid::Uuid;

/// One assignment to be written.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) key: AssignmentKey,
    pub(crate) to: UserId,
    /// False where the owner is right already.
    pub(crate) set_owner: bool,
    /// None where people are not told by us.
    pub(crate) notice: Option<Notice>,
}

/// How that ended.
#[derive(Debug)]
pub(crate) enum WriteEnd {
    /// Owner and notice are in the portal, the outcome is written down.
    Finished(&'static str),
    /// The lead was deleted meanwhile.
    NoLead,
    /// The owner is set, the notice was not taken.
    NoticeRefused(PortalError),
    /// The owner was not taken.
    OwnerRefused(PortalError),
    /// Another copy of this command is being written by somebody else.
    Elsewhere,
    /// The store could not be asked before, or told after; what was sent is cleared up later.
    Store(StoreError),
}

/// The outcome of an assignment whose owner is set and whose notice was taken.
pub(crate) const ASSIGNED: &str = "assigned";
/// The outcome where people are not told by us.
pub(crate) const ASSIGNED_SILENTLY: &str = "assigned_silently";
/// The outcome where the portal created no notice, for example for a dismissed employee.
pub(crate) const ASSIGNED_NOT_TOLD: &str = "assigned_not_told";

/// Sends packs of assignments of one portal.
pub(crate) struct Writer {
    portal: Arc<Portal>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl Writer {
    pub(crate) fn new(portal: Arc<Portal>, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { portal, store, clock }
    }

    /// Writes down what is about to be sent; answers which of the pack may be.
    async fn claim(&self, pack: &[Write]) -> Result<BTreeSet<AssignmentKey>, StoreError> {
        let mut keys = BTreeSet::new();
        // Two copies of one command can be in one pack; one of them is enough.
        let distinct = pack.iter().filter(|write| keys.insert(&write.key));
        let items: Vec<PackItem> = (0..)
            .zip(distinct)
            .map(|(position, write)| PackItem {
                key: write.key.clone(),
                to: write.to,
                position,
                sets_owner: write.set_owner,
            })
            .collect();
        let claimed = self.store.about_to_send(Uuid::now_v7(), &items, self.clock.now()).await?;
        Ok(claimed.into_iter().collect())
    }

    async fn send_claimed(&self, permit: Permit, writes: Vec<&Write>) -> Vec<Result<WriteEnd, PortalError>> {
        self.portal.count_pack(PackKind::Write, writes.len());
        let commands: Vec<Command> = writes.iter().flat_map(|write| commands_of(write)).collect();
        let outcomes = match self.portal.batch_with(permit, &commands).await {
            Ok(outcomes) => outcomes,
            Err(error) => return self.none_ran(&writes, &error).await,
        };
        let mut outcomes = outcomes.into_iter();
        let now = self.clock.now();
        let mut results = Vec::with_capacity(writes.len());
        for write in &writes {
            let owner = write.set_owner.then(|| outcomes.next().unwrap_or(Err(PortalError::Interrupted)));
            let notice =
                write.notice.as_ref().map(|_| outcomes.next().unwrap_or(Err(PortalError::Interrupted)));
            let notice = notice.map(|notice| notice.map(|result| NoticeResult::of(&result, now)));
            results.push(judge(write, owner.map(written), notice));
        }
        let done: Vec<Done> = results.iter().filter_map(|(done, _)| done.clone()).collect();
        if let Err(error) = self.store.done(&done, now).await {
            self.end_not_stored(&error);
            return writes.iter().map(|_| Ok(WriteEnd::Store(error.clone()))).collect();
        }
        results.into_iter().map(|(_, end)| Ok(end)).collect()
    }

    /// The request as a whole failed. If it surely did not run, its assignments are open again;
    /// otherwise they stay marked as sent, which is what recovery looks for.
    async fn none_ran(&self, writes: &[&Write], error: &PortalError) -> Vec<Result<WriteEnd, PortalError>> {
        if !error.is_ambiguous() {
            let open = |write: &&Write| open_again(write, false);
            let done: Vec<Done> = writes.iter().map(open).collect();
            if let Err(error) = self.store.done(&done, self.clock.now()).await {
                self.end_not_stored(&error);
            }
        }
        writes.iter().map(|_| Err(error.clone())).collect()
    }
}

fn commands_of(write: &Write) -> impl Iterator<Item = Command> {
    let owner = write.set_owner.then(|| set_owner_command(write.key.lead, write.to, Map::new()));
    owner.into_iter().chain(write.notice.as_ref().map(Notice::command))
}

fn open_again(write: &Write, owner_set: bool) -> Done {
    Done { key: write.key.clone(), to: write.to, owner_set, notification: None, finished: None }
}

/// From the portal's two answers to what is written down and what is told to the handler. Nothing is
/// written down about an answer that leaves open whether the command ran.
fn judge(
    write: &Write,
    owner: Option<Result<Written, PortalError>>,
    notice: Option<Result<NoticeResult, PortalError>>,
) -> (Option<Done>, WriteEnd) {
    let finished = |notification, outcome| Done {
        notification,
        finished: Some(outcome),
        ..open_again(write, outcome != crate::handler::DELETED)
    };
    match (owner, notice) {
        (Some(Err(error)), _) if error.is_ambiguous() => (None, WriteEnd::OwnerRefused(error)),
        (Some(Err(error)), _) => (Some(open_again(write, false)), WriteEnd::OwnerRefused(error)),
        (Some(Ok(Written::NoLead)), _) => (Some(finished(None, crate::handler::DELETED)), WriteEnd::NoLead),
        (_, Some(Err(error))) if error.is_ambiguous() => (None, WriteEnd::NoticeRefused(error)),
        (_, Some(Err(error))) => (Some(open_again(write, true)), WriteEnd::NoticeRefused(error)),
        (_, None) => (Some(finished(None, ASSIGNED_SILENTLY)), WriteEnd::Finished(ASSIGNED_SILENTLY)),
        (_, Some(Ok(NoticeResult::Stored(id)))) => {
            let id = i64::try_from(id).ok();
            (Some(finished(id, ASSIGNED)), WriteEnd::Finished(ASSIGNED))
        }
        (_, Some(Ok(NoticeResult::SwitchedOff))) => {
            (Some(finished(None, ASSIGNED)), WriteEnd::Finished(ASSIGNED))
        }
        (_, Some(Ok(NoticeResult::NotCreated))) => {
            (Some(finished(None, ASSIGNED_NOT_TOLD)), WriteEnd::Finished(ASSIGNED_NOT_TOLD))
        }
    }
}

#[async_trait]
impl PackSender<Write, WriteEnd> for Writer {
    async fn permit(&self) -> Result<Permit, PortalError> {
        self.portal.permit().await
    }

    async fn send(&self, permit: Permit, pack: Vec<Write>) -> Vec<Result<WriteEnd, PortalError>> {
        let mut claimed = match self.claim(&pack).await {
            Ok(claimed) => claimed,
            Err(error) => return pack.iter().map(|_| Ok(WriteEnd::Store(error.clone()))).collect(),
        };
        let ours: Vec<Option<&Write>> =
            pack.iter().map(|write| claimed.remove(&write.key).then_some(write)).collect();
        let writes: Vec<&Write> = ours.iter().copied().flatten().collect();
        let nothing_to_send = writes.iter().all(|write| !write.set_owner && write.notice.is_none());
        let ends = if writes.is_empty() {
            Vec::new()
        } else if nothing_to_send {
            self.finish_silently(&writes).await
        } else {
            self.send_claimed(permit, writes).await
        };
        let mut ends = ends.into_iter();
        let end = |write: Option<&Write>| match write {
            Some(_) => ends.next().unwrap_or(Err(PortalError::Interrupted)),
            None => Ok(WriteEnd::Elsewhere),
        };
        ours.into_iter().map(end).collect()
    }
}

impl Writer {
    /// Owners that are right already, and people who are not told by us: no request is needed.
    async fn finish_silently(&self, writes: &[&Write]) -> Vec<Result<WriteEnd, PortalError>> {
        let finished = |write: &&Write| Done { finished: Some(ASSIGNED_SILENTLY), ..open_again(write, true) };
        let done: Vec<Done> = writes.iter().map(finished).collect();
        let stored = self.store.done(&done, self.clock.now()).await;
        let end = |_: &&Write| match &stored {
            Ok(()) => Ok(WriteEnd::Finished(ASSIGNED_SILENTLY)),
            Err(error) => Ok(WriteEnd::Store(error.clone())),
        };
        writes.iter().map(end).collect()
    }

    /// What was sent stays marked as sent; recovery clears it up.
    fn end_not_stored(&self, error: &StoreError) {
        let portal = self.portal.name();
        tracing::error!(event = "pack.end_not_stored", portal = %portal, error = chain(error));
    }
}
