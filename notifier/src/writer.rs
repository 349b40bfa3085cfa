//! Writes owners and notices, many in one request, and writes down first what it is about to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitrix24::code::PortalCode;
use bitrix24::lead::{Given, Owners, UPDATE, Written, owners, owners_command, written};
use bitrix24::metrics::PackKind;
use bitrix24::notify::{Notice, NoticeResult};
use bitrix24::{Permit, Portal, PortalError};
use common::clock::Clock;
use common::failure::{Failure as _, FailureClass, chain};
use common::ids::{LeadId, UserId};
use common::messages::AssignmentKey;
use serde_json::{Map, Value};
use store::{Done, Store, StoreError};
use uuid::Uuid;

use crate::compare::{Seen, Step};
use crate::lost_pack::at_most_after;
use crate::plan::{Pack, Places, Ready, noted};
use crate::trust::Company;
use crate::wording::{News, Wording};

/// One assignment to be written.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) key: AssignmentKey,
    /// The owner the decision saw.
    pub(crate) from: Option<UserId>,
    pub(crate) to: UserId,
    /// How long ago the lead had that owner, where somebody looked.
    pub(crate) seen_ago: Option<Duration>,
    /// How many leads were seen together with it.
    pub(crate) seen_with: usize,
    /// Whether we have set the owner before.
    pub(crate) owner_set: bool,
    /// Further fields of the lead to be written with it.
    pub(crate) fields: Map<String, Value>,
    /// The lead's title, for the notice.
    pub(crate) title: String,
    /// Whether they were told before.
    pub(crate) told: bool,
    /// Whether something is left to do afterwards, so that the assignment is not finished by this.
    pub(crate) more_to_do: bool,
    /// With how many others it may be in a pack.
    pub(crate) company: Company,
}

#[cfg(test)]
impl Write {
    /// Gives a lead of user 1 to another, and nothing besides.
    pub(crate) fn plain(lead: u64, to: u64) -> Self {
        let portal = "acme".parse().expect("a name");
        let lead = LeadId::new(lead).expect("a lead");
        Self {
            key: AssignmentKey { portal, lead, epoch: common::messages::Epoch::FIRST },
            from: UserId::new(1),
            to: UserId::new(to).expect("a user"),
            seen_ago: None,
            seen_with: 1,
            owner_set: false,
            fields: Map::new(),
            title: String::new(),
            told: false,
            more_to_do: false,
            company: Company::Any,
        }
    }
}

/// How that ended.
#[derive(Debug)]
pub(crate) enum WriteEnd {
    /// Owner and notice are in the portal, the outcome is written down.
    Finished(&'static str),
    /// The portal says that there is no such lead; nothing was written.
    NoLead,
    /// Nothing is to be written.
    LeftAlone(Step),
    /// The owner is set, the notice was not taken.
    NoticeRefused(PortalError),
    /// The owner was not taken.
    OwnerRefused(PortalError),
    /// The request was refused as a whole, perhaps for the sake of another lead in it.
    NotAlone(PortalError),
    /// Another copy of this command, or another assignment of this lead, is being written by somebody else.
    Elsewhere,
    /// The store could not be asked before, or told after; what was sent is cleared up later.
    Store(StoreError),
}

/// The answer to one write.
pub(crate) type WriteResult = Result<WriteEnd, PortalError>;

/// The outcome of an assignment whose owner is set and whose notice was taken.
pub(crate) const ASSIGNED: &str = "assigned";
/// The outcome where people are not told by us.
pub(crate) const ASSIGNED_SILENTLY: &str = "assigned_silently";
/// The outcome where the portal created no notice, for example for a dismissed employee.
pub(crate) const ASSIGNED_NOT_TOLD: &str = "assigned_not_told";

/// A pack is sent within this time after it was noted, or not at all: those who clear it up count from there.
pub(crate) const CLAIM_HOLDS: Duration = Duration::from_secs(3);

/// What a request brought.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// The end of each assignment in it.
    pub(crate) ends: BTreeMap<AssignmentKey, WriteResult>,
    /// What was seen of the leads that were looked at; or why they could not be.
    pub(crate) seen: BTreeMap<LeadId, Result<Seen, PortalError>>,
    /// Whether the request as a whole was answered; a pack that was not says nothing about the time it takes.
    pub(crate) answered: bool,
    /// Whether it failed as a whole in a way for which one of its leads may be to blame.
    pub(crate) failed_as_a_whole: bool,
}

/// What became of a lead that was to be given away without a look at it before.
#[derive(Debug)]
pub(crate) enum Lone {
    /// The end.
    Ended(WriteResult),
    /// It is not what the decision saw; a look will tell.
    LookFirst,
    /// It is, and yet the write was refused for its id: the portal did not understand that the id comes from the look.
    NotUnderstood,
}

/// Sends packs of assignments of one portal.
pub(crate) struct Writer {
    portal: Portal,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    pub(crate) wording: Wording,
}

impl Writer {
    pub(crate) fn new(
        portal: Portal,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        wording: Wording,
    ) -> Self {
        Self { portal, store, clock, wording }
    }

    pub(crate) fn portal(&self) -> &Portal {
        &self.portal
    }

    /// Waits until a pack may be sent.
    pub(crate) async fn permit(&self) -> Result<Permit, PortalError> {
        self.portal.permit(&[UPDATE]).await
    }

    /// Writes down what is about to be sent; answers which of it may be.
    async fn claim(
        &self,
        pack: Uuid,
        items: impl Iterator<Item = (&Ready, Places)>,
    ) -> Result<BTreeSet<AssignmentKey>, StoreError> {
        let noted_at = self.clock.now();
        let started = Instant::now();
        let items = noted(items);
        let claimed = self.store.about_to_send(pack, &items, noted_at).await?;
        if started.elapsed() > CLAIM_HOLDS {
            let unsent = items.into_iter().filter(|item| claimed.contains(&item.key));
            let unsent: Vec<Done> = unsent.map(|item| Done::nothing(item.key, item.to)).collect();
            self.write_down(pack, &unsent).await?;
            return Ok(BTreeSet::new());
        }
        Ok(claimed.into_iter().collect())
    }

    /// Sends a pack, and with it a look at other leads.
    pub(crate) async fn send(&self, permit: Permit, mut pack: Pack, look_at: &[Vec<LeadId>]) -> Sent {
        let mut sent = Sent { answered: true, ..Sent::default() };
        let id = Uuid::now_v7();
        let (commands, mut places) = pack.commands(&self.wording);
        // What is not sent proves nothing, if the end of the others is not seen.
        let blocked = self.portal.blocked(&commands);
        let is_sent = |place: &usize| commands.get(*place).is_some_and(|command| blocked.allows(command));
        for place in &mut places {
            place.update = place.update.filter(is_sent);
            place.notice = place.notice.filter(is_sent);
        }
        match self.claim(id, pack.items().zip(places)).await {
            Ok(claimed) => {
                for ready in pack.retain(|ready| claimed.contains(&ready.write.key)) {
                    sent.ends.insert(ready.write.key, Ok(WriteEnd::Elsewhere));
                }
            }
            Err(error) => {
                for ready in pack.retain(|_| false) {
                    sent.ends.insert(ready.write.key, Ok(WriteEnd::Store(error.clone())));
                }
            }
        }
        let (mut commands, places) = pack.commands(&self.wording);
        let writes = commands.len();
        commands.extend(look_at.iter().map(|leads| owners_command(leads)));
        let items: Vec<&Ready> = pack.items().collect();
        let started = Instant::now();
        let outcomes = match commands.as_slice() {
            // Owners that are right already, and nobody to be told: no request is needed.
            [] => Ok(Vec::new()),
            commands => self.portal.batch_without(permit, commands, &blocked).await,
        };
        if writes > 0 {
            self.portal.count_pack(PackKind::Write, items.len(), started.elapsed());
        }
        let mut outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(error) => {
                sent.answered = !error.is_ambiguous();
                sent.failed_as_a_whole = error.may_be_due_to_a_part();
                sent.ends.extend(self.none_ran(id, &items, &error).await);
                let unseen = look_at.iter().flatten().map(|lead| (*lead, Err(error.clone())));
                sent.seen.extend(unseen);
                return sent;
            }
        };
        let looks = outcomes.split_off(writes.min(outcomes.len()));
        for (leads, outcome) in look_at.iter().zip(looks) {
            sent.seen.extend(seen(leads, owners(leads, outcome)));
        }
        let now = self.clock.now();
        let result = |place: Option<usize>| {
            let outcome =
                |place: usize| outcomes.get(place).cloned().unwrap_or(Err(PortalError::Interrupted));
            place.map(outcome)
        };
        let judged = items.iter().zip(places).map(|(ready, places)| {
            let owner = result(places.update).map(written);
            let notice =
                result(places.notice).map(|notice| notice.map(|result| NoticeResult::of(&result, now)));
            judge(ready, owner, notice)
        });
        let judged = judged.collect();
        sent.ends.extend(self.conclude(id, &items, judged).await);
        sent
    }

    /// Gives one lead away, if its owner still is who the decision saw: in one request with the look at it.
    pub(crate) async fn send_lone(&self, permit: Permit, from: UserId, write: Write) -> Lone {
        let id = Uuid::now_v7();
        let ready = Ready { write, set_owner: true };
        let write = &ready.write;
        let news = (!write.told).then_some(News { key: &write.key, title: &write.title });
        let notice = news.and_then(|news| self.wording.notice(write.to, news));
        let places = Places { update: Some(0), notice: notice.is_some().then_some(1) };
        match self.claim(id, std::iter::once((&ready, places))).await {
            Ok(claimed) if claimed.is_empty() => return Lone::Ended(Ok(WriteEnd::Elsewhere)),
            Ok(_) => {}
            Err(error) => return Lone::Ended(Ok(WriteEnd::Store(error))),
        }
        let started = Instant::now();
        let notice = notice.as_ref().map(Notice::command);
        let given = self
            .portal
            .give_with(permit, write.key.lead, (from, write.to), write.fields.clone(), notice)
            .await;
        self.portal.count_pack(PackKind::Write, 1, started.elapsed());
        let ends = match given {
            // Written down or not: recovery finds that nothing was done.
            Ok(Given::Still { written, .. }) if is_not_understood(&written) => {
                return match self.write_down(id, &[open_again(write)]).await {
                    Ok(_) => Lone::NotUnderstood,
                    Err(error) => Lone::Ended(Ok(WriteEnd::Store(error))),
                };
            }
            Ok(Given::Still { written, then }) => {
                let now = self.clock.now();
                let notice = then.map(|then| then.map(|result| NoticeResult::of(&result, now)));
                self.conclude(id, &[&ready], vec![judge(&ready, Some(written), notice)]).await
            }
            // If this cannot be written down, recovery finds that nothing was done.
            Ok(Given::Otherwise) => match self.write_down(id, &[open_again(write)]).await {
                Ok(_) => return Lone::LookFirst,
                Err(error) => return Lone::Ended(Ok(WriteEnd::Store(error))),
            },
            Err(error) => self.none_ran(id, &[&ready], &error).await,
        };
        let end = ends.into_iter().next().map(|(_, end)| end);
        Lone::Ended(end.unwrap_or(Err(PortalError::Interrupted)))
    }

    /// The request as a whole failed. If it surely did not run, its assignments are open again;
    /// otherwise they stay marked as sent, which is what recovery looks for.
    async fn none_ran(
        &self,
        pack: Uuid,
        items: &[&Ready],
        error: &PortalError,
    ) -> Vec<(AssignmentKey, WriteResult)> {
        if !error.is_ambiguous() {
            let pack_at_most = error.may_be_due_to_a_part().then(|| at_most_after(items.len()));
            let open = |ready: &&Ready| Done { pack_at_most, ..open_again(&ready.write) };
            let done: Vec<Done> = items.iter().map(open).collect();
            // If this fails, recovery finds that nothing was done.
            drop(self.write_down(pack, &done).await);
        }
        // Alone it may be refused for good; of many, only one of them is to blame.
        let not_alone = items.len() > 1 && error.class() == FailureClass::Permanent;
        let end = || if not_alone { Ok(WriteEnd::NotAlone(error.clone())) } else { Err(error.clone()) };
        items.iter().map(|ready| (ready.write.key.clone(), end())).collect()
    }

    /// Writes down what is known and tells it.
    async fn conclude(
        &self,
        pack: Uuid,
        items: &[&Ready],
        results: Vec<(Option<Done>, WriteEnd)>,
    ) -> Vec<(AssignmentKey, WriteResult)> {
        let done: Vec<Done> = results.iter().filter_map(|(done, _)| done.clone()).collect();
        let keys = items.iter().map(|ready| ready.write.key.clone());
        match self.write_down(pack, &done).await {
            Ok(written) => {
                let end = |(key, (done, end)): (AssignmentKey, (Option<Done>, WriteEnd))| {
                    // Somebody has cleared it up meanwhile.
                    let late = done.is_some() && !written.contains(&key);
                    (key, Ok(if late { WriteEnd::Elsewhere } else { end }))
                };
                keys.zip(results).map(end).collect()
            }
            Err(error) => keys.map(|key| (key, Ok(WriteEnd::Store(error.clone())))).collect(),
        }
    }

    /// What is not written down stays marked as sent; recovery clears it up. Answers what was written.
    async fn write_down(&self, pack: Uuid, done: &[Done]) -> Result<BTreeSet<AssignmentKey>, StoreError> {
        let written = self.store.done(Some(pack), done, self.clock.now()).await.inspect_err(|error| {
            let portal = self.portal.name();
            tracing::error!(event = "pack.end_not_stored", portal = %portal, error = chain(error));
        })?;
        Ok(written.into_iter().collect())
    }
}

/// Whether a write whose lead was seen right before was refused as if there were no such lead, or no number of one.
fn is_not_understood(written: &Result<Written, PortalError>) -> bool {
    match written {
        Ok(Written::NoLead) => true,
        Err(PortalError::Refused { code, status, .. }) => {
            use PortalCode::{Argument, ArgumentValue, Empty, MissingArgument};
            matches!(code, Empty | Argument | MissingArgument | ArgumentValue)
                && code.class(*status) == FailureClass::Permanent
        }
        Ok(Written::Done) | Err(_) => false,
    }
}

/// What a list of owners says about each of the leads.
fn seen(
    leads: &[LeadId],
    owners: Result<Owners, PortalError>,
) -> impl Iterator<Item = (LeadId, Result<Seen, PortalError>)> {
    leads.iter().map(move |lead| {
        let seen = owners.as_ref().map_err(PortalError::clone);
        (*lead, seen.map(|owners| owners.get(lead).map_or(Seen::LeftOut, |owner| Seen::OwnedBy(*owner))))
    })
}

fn open_again(write: &Write) -> Done {
    Done::nothing(write.key.clone(), write.to)
}

/// From the portal's two answers to what is written down and what is told to the handler. Nothing is
/// written down about an answer that leaves open whether the command ran. A notice that was taken is
/// written down whatever became of the owner: it must not be sent twice.
fn judge(
    ready: &Ready,
    owner: Option<Result<Written, PortalError>>,
    notice: Option<Result<NoticeResult, PortalError>>,
) -> (Option<Done>, WriteEnd) {
    let write = &ready.write;
    let notification = match notice {
        Some(Ok(NoticeResult::Stored(id))) => i64::try_from(id).ok(),
        Some(Ok(NoticeResult::SwitchedOff | NoticeResult::NotCreated) | Err(_)) | None => None,
    };
    let known = Done { notified: matches!(notice, Some(Ok(_))), notification, ..open_again(write) };
    let assigned = |outcome| {
        let finished = (!write.more_to_do).then_some(outcome);
        (Some(Done { owner_set: true, finished, ..known.clone() }), WriteEnd::Finished(outcome))
    };
    match (owner, notice) {
        (Some(Err(error)), _) if error.is_ambiguous() => (None, WriteEnd::OwnerRefused(error)),
        (Some(Err(error)), _) => (Some(known), WriteEnd::OwnerRefused(error)),
        // Whether that is believed, the handler decides.
        (Some(Ok(Written::NoLead)), _) => (Some(known), WriteEnd::NoLead),
        (_, Some(Err(error))) if error.is_ambiguous() => (None, WriteEnd::NoticeRefused(error)),
        // The portal has no notices, or the webhook no right to them: nobody can be told, and leads go on.
        (_, Some(Err(error))) if error.is_of_one_method() => {
            tracing::error!(event = "notice.refused", lead.id = write.key.lead.get(), error = chain(&error));
            assigned(ASSIGNED_NOT_TOLD)
        }
        (_, Some(Err(error))) => (Some(Done { owner_set: true, ..known }), WriteEnd::NoticeRefused(error)),
        (_, Some(Ok(NoticeResult::NotCreated))) => assigned(ASSIGNED_NOT_TOLD),
        (_, None) if !write.told => assigned(ASSIGNED_SILENTLY),
        (_, None | Some(Ok(NoticeResult::Stored(_) | NoticeResult::SwitchedOff))) => assigned(ASSIGNED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(told: bool) -> Ready {
        let write = Write { told, ..Write::plain(42, 9) };
        Ready { write, set_owner: true }
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
    fn a_lead_that_is_said_to_be_missing_stays_open_and_its_notice_counts() {
        let (done, end) = judge(&write(false), Some(Ok(Written::NoLead)), Some(Ok(NoticeResult::Stored(7))));
        assert!(matches!(end, WriteEnd::NoLead));
        let done = done.map(|done| (done.owner_set, done.notified, done.finished));
        assert_eq!(done, Some((false, true, None)));
    }

    #[test]
    fn a_portal_without_notices_is_distributed_in_all_the_same() {
        let missing = PortalError::Refused {
            method: "im.notify.personal.add".to_owned(),
            status: None,
            code: PortalCode::InsufficientScope,
            description: String::new(),
        };
        let (done, end) = judge(&write(false), Some(Ok(Written::Done)), Some(Err(missing.clone())));
        assert!(matches!(end, WriteEnd::Finished(ASSIGNED_NOT_TOLD)), "{end:?}");
        assert_eq!(done.map(|done| (done.owner_set, done.notified)), Some((true, false)));
        // The same words about the owner are not the notice's.
        let (_, end) = judge(&write(false), Some(Err(missing)), None);
        assert!(matches!(end, WriteEnd::OwnerRefused(_)), "{end:?}");
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
