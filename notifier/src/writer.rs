//! Writes owners and notices, many in one request, and writes down first what it is about to do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bitrix24::lead::{Written, set_owner_command, written};
use bitrix24::metrics::PackKind;
use bitrix24::notify::{Notice, NoticeResult};
use bitrix24::{Command, PackSender, Permit, Portal, PortalError};
use common::clock::Clock;
use common::failure::chain;
use common::ids::UserId;
use common::messages::AssignmentKey;
use serde_json::{Map, Value};
use store::{Done, PackItem, Store, StoreError};
use uuid::Uuid;

use crate::handler::DELETED;

/// One assignment to be written.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) key: AssignmentKey,
    pub(crate) to: UserId,
    /// False where the owner is right already.
    pub(crate) set_owner: bool,
    /// Further fields of the lead to be written with it.
    pub(crate) fields: Map<String, Value>,
    /// None where people are not told by us, or were told before.
    pub(crate) notice: Option<Notice>,
    /// Whether they were told before.
    pub(crate) told: bool,
    /// Whether something is left to do afterwards, so that the assignment is not finished by this.
    pub(crate) more_to_do: bool,
}

impl Write {
    /// Whether the lead itself is written.
    fn updates(&self) -> bool {
        self.set_owner || !self.fields.is_empty()
    }
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

    /// Writes down what is about to be sent; answers which of it may be.
    async fn claim(&self, pack: Uuid, writes: &[Write]) -> Result<BTreeSet<AssignmentKey>, StoreError> {
        let mut keys = BTreeSet::new();
        // Two copies of one command can be in one pack; one of them is enough.
        let distinct = writes.iter().filter(|write| keys.insert(&write.key));
        let items: Vec<PackItem> = (0..)
            .zip(distinct)
            .map(|(position, write)| PackItem {
                key: write.key.clone(),
                to: write.to,
                position,
                sets_owner: write.set_owner,
            })
            .collect();
        let claimed = self.store.about_to_send(pack, &items, self.clock.now()).await?;
        Ok(claimed.into_iter().collect())
    }

    async fn send_claimed(
        &self,
        permit: Permit,
        pack: Uuid,
        writes: &[&Write],
    ) -> Vec<Result<WriteEnd, PortalError>> {
        let commands: Vec<Command> = writes.iter().flat_map(|write| commands_of(write)).collect();
        let started = Instant::now();
        let outcomes = self.portal.batch_with(permit, &commands).await;
        self.portal.count_pack(PackKind::Write, writes.len(), started.elapsed());
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(error) => return self.none_ran(pack, writes, &error).await,
        };
        let mut outcomes = outcomes.into_iter();
        let now = self.clock.now();
        let mut results = Vec::with_capacity(writes.len());
        for write in writes {
            let mut next = || outcomes.next().unwrap_or(Err(PortalError::Interrupted));
            let owner = write.updates().then(&mut next).map(written);
            let notice = write.notice.as_ref().map(|_| next());
            let notice = notice.map(|notice| notice.map(|result| NoticeResult::of(&result, now)));
            results.push(judge(write, owner, notice));
        }
        self.conclude(pack, results).await
    }

    /// The request as a whole failed. If it surely did not run, its assignments are open again;
    /// otherwise they stay marked as sent, which is what recovery looks for.
    async fn none_ran(
        &self,
        pack: Uuid,
        writes: &[&Write],
        error: &PortalError,
    ) -> Vec<Result<WriteEnd, PortalError>> {
        if !error.is_ambiguous() {
            let done: Vec<Done> = writes.iter().map(|write| open_again(write)).collect();
            // If this fails, recovery finds that nothing was done.
            drop(self.write_down(pack, &done, true).await);
        }
        writes.iter().map(|_| Err(error.clone())).collect()
    }

    /// Writes down what is known and tells it.
    async fn conclude(
        &self,
        pack: Uuid,
        results: Vec<(Option<Done>, WriteEnd)>,
    ) -> Vec<Result<WriteEnd, PortalError>> {
        let all_known = results.iter().all(|(done, _)| done.is_some());
        let done: Vec<Done> = results.iter().filter_map(|(done, _)| done.clone()).collect();
        match self.write_down(pack, &done, all_known).await {
            Ok(()) => results.into_iter().map(|(_, end)| Ok(end)).collect(),
            Err(error) => results.iter().map(|_| Ok(WriteEnd::Store(error.clone()))).collect(),
        }
    }

    /// What is not written down stays marked as sent; recovery clears it up.
    async fn write_down(&self, pack: Uuid, done: &[Done], all_known: bool) -> Result<(), StoreError> {
        let stored = async {
            self.store.done(done, self.clock.now()).await?;
            if all_known { self.store.forget_pack(pack).await } else { Ok(()) }
        };
        stored.await.inspect_err(|error| {
            let portal = self.portal.name();
            tracing::error!(event = "pack.end_not_stored", portal = %portal, error = chain(error));
        })
    }
}

fn commands_of(write: &Write) -> impl Iterator<Item = Command> {
    let owner = write.updates().then(|| set_owner_command(write.key.lead, write.to, write.fields.clone()));
    owner.into_iter().chain(write.notice.as_ref().map(Notice::command))
}

fn open_again(write: &Write) -> Done {
    Done {
        key: write.key.clone(),
        to: write.to,
        owner_set: false,
        notified: false,
        notification: None,
        finished: None,
    }
}

/// From the portal's two answers to what is written down and what is told to the handler. Nothing is
/// written down about an answer that leaves open whether the command ran. A notice that was taken is
/// written down whatever became of the owner: it must not be sent twice.
fn judge(
    write: &Write,
    owner: Option<Result<Written, PortalError>>,
    notice: Option<Result<NoticeResult, PortalError>>,
) -> (Option<Done>, WriteEnd) {
    let notification = match notice {
        Some(Ok(NoticeResult::Stored(id))) => i64::try_from(id).ok(),
        Some(Ok(NoticeResult::SwitchedOff | NoticeResult::NotCreated) | Err(_)) | None => None,
    };
    let known = Done { notified: matches!(notice, Some(Ok(_))), notification, ..open_again(write) };
    let finished = |outcome| {
        let ends = outcome == DELETED || !write.more_to_do;
        Some(Done { owner_set: outcome != DELETED, finished: ends.then_some(outcome), ..known.clone() })
    };
    let assigned = |outcome| (finished(outcome), WriteEnd::Finished(outcome));
    match (owner, notice) {
        (Some(Err(error)), _) if error.is_ambiguous() => (None, WriteEnd::OwnerRefused(error)),
        (Some(Err(error)), _) => (Some(known), WriteEnd::OwnerRefused(error)),
        (Some(Ok(Written::NoLead)), _) => (finished(DELETED), WriteEnd::NoLead),
        (_, Some(Err(error))) if error.is_ambiguous() => (None, WriteEnd::NoticeRefused(error)),
        (_, Some(Err(error))) => (Some(Done { owner_set: true, ..known }), WriteEnd::NoticeRefused(error)),
        (_, Some(Ok(NoticeResult::NotCreated))) => assigned(ASSIGNED_NOT_TOLD),
        (_, None) if !write.told => assigned(ASSIGNED_SILENTLY),
        (_, None | Some(Ok(NoticeResult::Stored(_) | NoticeResult::SwitchedOff))) => assigned(ASSIGNED),
    }
}

#[async_trait]
impl PackSender<Write, WriteEnd> for Writer {
    async fn permit(&self) -> Result<Permit, PortalError> {
        self.portal.permit().await
    }

    async fn send(&self, permit: Permit, writes: Vec<Write>) -> Vec<Result<WriteEnd, PortalError>> {
        let pack = Uuid::now_v7();
        let mut claimed = match self.claim(pack, &writes).await {
            Ok(claimed) => claimed,
            Err(error) => return writes.iter().map(|_| Ok(WriteEnd::Store(error.clone()))).collect(),
        };
        let ours: Vec<Option<&Write>> =
            writes.iter().map(|write| claimed.remove(&write.key).then_some(write)).collect();
        let to_send: Vec<&Write> = ours.iter().copied().flatten().collect();
        let ends = if to_send.is_empty() {
            Vec::new()
        } else if to_send.iter().all(|write| !write.updates() && write.notice.is_none()) {
            // Owners that are right already, and nobody to be told: no request is needed.
            self.conclude(pack, to_send.iter().map(|write| judge(write, None, None)).collect()).await
        } else {
            self.send_claimed(permit, pack, &to_send).await
        };
        let mut ends = ends.into_iter();
        let end = |write: Option<&Write>| match write {
            Some(_) => ends.next().unwrap_or(Err(PortalError::Interrupted)),
            None => Ok(WriteEnd::Elsewhere),
        };
        ours.into_iter().map(end).collect()
    }
}

#[cfg(test)]
mod tests {
    use bitrix24::code::PortalCode;
    use common::messages::Epoch;

    use super::*;

    fn write(told: bool) -> Write {
        let lead = common::ids::LeadId::new(42).unwrap();
        let key = AssignmentKey { portal: "acme".parse().unwrap(), lead, epoch: Epoch::FIRST };
        let fields = Map::new();
        Write {
            key,
            to: UserId::new(9).unwrap(),
            set_owner: true,
            fields,
            notice: None,
            told,
            more_to_do: false,
        }
    }

    fn refused() -> PortalError {
        PortalError::Refused {
            method: "crm.lead.update".to_owned(),
            status: None,
            code: PortalCode::OperationTimeLimit,
            description: String::new(),
        }
    }

    #[test]
    fn a_notice_that_was_taken_is_remembered_when_the_owner_was_refused() {
        let (done, end) = judge(&write(false), Some(Err(refused())), Some(Ok(NoticeResult::Stored(7))));
        let done = done.unwrap();
        assert!(matches!(end, WriteEnd::OwnerRefused(_)));
        assert_eq!((done.owner_set, done.notified, done.finished), (false, true, None));
        // The next try sends no notice, and the assignment counts as told.
        let (done, _) = judge(&write(true), Some(Ok(Written::Done)), None);
        assert_eq!(done.unwrap().finished, Some(ASSIGNED));
    }

    #[test]
    fn what_may_have_run_is_not_written_down() {
        let lost = || PortalError::Unanswered { method: "x".to_owned() };
        assert!(judge(&write(false), Some(Err(lost())), None).0.is_none());
        assert!(judge(&write(false), Some(Ok(Written::Done)), Some(Err(lost()))).0.is_none());
        let (done, _) = judge(&write(false), Some(Ok(Written::Done)), Some(Err(refused())));
        assert_eq!(done.map(|done| (done.owner_set, done.finished)), Some((true, None)));
    }
}
