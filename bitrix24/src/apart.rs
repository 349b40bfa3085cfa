//! One among many that spoils the answer for all: how it is found.
//!
//! An answer is one text. A lead whose text cannot be encoded, or is too large, takes the whole answer with it, and the
//! others must not suffer for it. So where a request fails for what may be one of its parts, it is asked in halves, at
//! once, down to the one ([`apart`]). Where it took too long or broke off, that may be the portal's moment as well: then
//! its parts go in smaller groups the next time they come, and only if the portal has answered something else meanwhile
//! ([`Suspects`]). So a portal that is down does not get more requests than before.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use common::failure::{Failure, FailureClass};
use tokio::time::Instant;

use crate::client::{Counted, Permit, Portal};
use crate::code::PortalCode;
use crate::command::Command;
use crate::error::PortalError;

/// Who may be to blame that a request failed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// Something in it, surely enough to look at once.
    Content,
    /// Its size, or the portal's moment.
    Time,
    /// Nothing in it.
    Nobody,
}

impl Blame {
    pub(crate) fn of(error: &PortalError) -> Self {
        match error {
            PortalError::Unreadable { .. }
            | PortalError::Excessive { .. }
            | PortalError::Unexpected { .. }
            | PortalError::Refused { code: PortalCode::WrongEncoding, .. }
            | PortalError::Status { status: 400 | 413 | 414, .. } => Self::Content,
            PortalError::Refused { code, .. } if *code != PortalCode::ConnectionError => {
                match error.class() {
                    FailureClass::Permanent => Self::Content,
                    FailureClass::Transient => Self::Time,
                    FailureClass::Throttled | FailureClass::Blocked | FailureClass::Poison => Self::Nobody,
                }
            }
            PortalError::Status { status: 408 | 500.., .. }
            | PortalError::Lost { .. }
            | PortalError::Unanswered { .. } => Self::Time,
            PortalError::Refused { .. }
            | PortalError::Status { .. }
            | PortalError::Elsewhere { .. }
            | PortalError::OutOfReach { .. }
            | PortalError::NotSent { .. }
            | PortalError::NotRun { .. }
            | PortalError::BatchSize { .. }
            | PortalError::MethodBlocked { .. }
            | PortalError::Denied { .. }
            | PortalError::Budget { .. }
            | PortalError::Interrupted => Self::Nobody,
        }
    }
}

/// Asks for several things by one request, as often as wanted: only what changes nothing.
#[async_trait]
pub(crate) trait Ask<T, A>: Sync {
    /// One request; as many outcomes as `items`, in their order.
    async fn ask(&self, permit: Permit, items: &[T]) -> Result<Vec<Result<A, PortalError>>, PortalError>;
}

/// Requests that one pack may become. One bad lead of a thousand takes 21; where there are many bad ones, the rest waits for
/// its next try.
const REQUESTS_MAX: usize = 60;

/// Asks for all of `items`, in halves where something in them may have made the request fail. Answers each, in their order.
///
/// So many failures in a row as it takes to come from all to one end it, so that a portal that can read nothing of what we
/// ask gets some requests more and not a multiple. All that was not asked for then has the last failure.
pub(crate) async fn apart<T: Sync, A>(
    portal: &Portal,
    permit: Permit,
    methods: &[&str],
    items: &[T],
    asks: &impl Ask<T, A>,
) -> Vec<Result<A, PortalError>> {
    let mut outcomes = Vec::with_capacity(items.len());
    let mut permit = Some(permit);
    let mut left = vec![items];
    let most = items.len().max(1).ilog2() + 2;
    let (mut failures, mut requests) = (0, 0);
    while let Some(part) = left.pop() {
        let may = match permit.take() {
            Some(permit) => Ok(permit),
            None => portal.permit(methods).await,
        };
        let asked = match may {
            Ok(permit) => asks.ask(permit, part).await,
            Err(error) => Err(error),
        };
        let error = match asked {
            Ok(answers) => {
                (failures, requests) = (0, requests + 1);
                outcomes.extend(answers);
                continue;
            }
            Err(error) => error,
        };
        failures += 1;
        requests += 1;
        let by_content = Blame::of(&error) == Blame::Content && portal.unreadable().is_none();
        if by_content && part.len() > 1 && failures < most && requests < REQUESTS_MAX {
            let (first, second) = part.split_at(part.len().div_ceil(2));
            left.extend([second, first]);
        } else if by_content && part.len() == 1 {
            outcomes.push(Err(error));
        } else {
            // Nothing that is left would fare better.
            let rest = part.len() + left.drain(..).map(<[T]>::len).sum::<usize>();
            outcomes.extend(std::iter::repeat_n(error, rest).map(Err));
        }
    }
    outcomes
}

/// Commands of a batch.
struct Commands<'p>(&'p Portal);

#[async_trait]
impl Ask<Command, Counted> for Commands<'_> {
    async fn ask(
        &self,
        permit: Permit,
        items: &[Command],
    ) -> Result<Vec<Result<Counted, PortalError>>, PortalError> {
        let blocked = self.0.blocked(items);
        Ok(self.0.batch_of_allowed(permit, items, &blocked).await?.into_iter().map(Ok).collect())
    }
}

impl Portal {
    /// As a batch of commands that change nothing, but one whose answer spoils that of the others has its failure alone.
    ///
    /// # Errors
    /// When nothing was answered, or something failed that no command is to blame for.
    pub(crate) async fn batch_apart(
        &self,
        permit: Permit,
        commands: &[Command],
    ) -> Result<Vec<Counted>, PortalError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let outcomes = apart(self, permit, &[], commands, &Commands(self)).await;
        let whole = |error: &&PortalError| Blame::of(error) != Blame::Content;
        let mut failed = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).peekable();
        let nothing = outcomes.iter().all(Result::is_err);
        let first = failed.peek().copied();
        if let Some(error) = failed.find(whole).or(first.filter(|_| nothing && commands.len() > 1)) {
            return Err(error.clone());
        }
        let counted = |outcome: Result<Counted, PortalError>| {
            outcome.unwrap_or_else(|error| Counted { outcome: Err(error), total: None })
        };
        Ok(outcomes.into_iter().map(counted).collect())
    }
}

/// The most that are remembered: what some packs carry.
const SUSPECTS_MAX: usize = 10_000;

/// After this time a suspect that did not come again is forgotten; longer than the longest wait between two tries.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(2);

/// Those whose request failed for its size or the portal's moment, by what is asked for.
#[derive(Debug)]
pub(crate) struct Suspects<K>(Mutex<BTreeMap<K, Suspect>>);

#[derive(Debug, Clone, Copy)]
struct Suspect {
    /// When its last request failed.
    at: Instant,
    /// With how many it may go the next time.
    together: usize,
}

/// Those that go in one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group<R> {
    pub(crate) items: Vec<R>,
    /// Whether it is a smaller one, because they failed before.
    careful: bool,
}

impl<K> Default for Suspects<K> {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

impl<K: Ord + Copy> Suspects<K> {
    /// In which groups a pack goes, if the portal was read last at `read_at`.
    pub(crate) fn groups<R>(
        &self,
        pack: Vec<R>,
        key: impl Fn(&R) -> K,
        read_at: Option<Instant>,
    ) -> Vec<Group<R>> {
        let known = self.lock();
        let mut by_size: BTreeMap<usize, Vec<R>> = BTreeMap::new();
        for item in pack {
            let suspect = known.get(&key(&item)).filter(|suspect| read_at > Some(suspect.at));
            by_size.entry(suspect.map_or(usize::MAX, |suspect| suspect.together)).or_default().push(item);
        }
        drop(known);
        let mut groups = Vec::new();
        // Those who are beyond suspicion first.
        for (size, items) in by_size.into_iter().rev() {
            let careful = size != usize::MAX;
            let mut items = items.into_iter().peekable();
            while items.peek().is_some() {
                groups.push(Group { items: items.by_ref().take(size).collect(), careful });
            }
        }
        groups
    }

    /// These of a group did not get their answer: the second time they go in halves of it, and then in fifths of that, so
    /// that of a thousand each is alone at the sixth try, which is the last.
    pub(crate) fn failed<R>(&self, group: &Group<R>, keys: impl IntoIterator<Item = K>) {
        let (at, size) = (Instant::now(), group.items.len());
        let mut known = self.lock();
        for key in keys {
            let before = known.get(&key).map(|suspect| suspect.together);
            let together = match before {
                Some(_) if group.careful => size.div_ceil(5),
                // Nothing was answered since then, so that says nothing more.
                Some(before) => before,
                None => size.div_ceil(2),
            };
            known.insert(key, Suspect { at, together });
        }
        if known.len() > SUSPECTS_MAX {
            known.retain(|_, suspect| suspect.at.elapsed() < FORGOTTEN_AFTER);
        }
        while known.len() > SUSPECTS_MAX {
            known.pop_first();
        }
    }

    /// These got theirs.
    pub(crate) fn passed(&self, keys: impl IntoIterator<Item = K>) {
        let mut known = self.lock();
        if !known.is_empty() {
            for key in keys {
                known.remove(&key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, Suspect>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of the groups in which these go, and the groups.
    fn groups(
        suspects: &Suspects<u64>,
        pack: u64,
        read_at: Option<Instant>,
    ) -> (Vec<usize>, Vec<Group<u64>>) {
        let groups = suspects.groups((0..pack).collect(), |id| *id, read_at);
        (groups.iter().map(|group| group.items.len()).collect(), groups)
    }

    #[tokio::test(start_paused = true)]
    async fn who_fails_with_a_thousand_others_is_alone_at_the_sixth_try() {
        let suspects = Suspects::default();
        let mut sizes = Vec::new();
        for _ in 0..6 {
            let (_, groups) = groups(&suspects, 1000, Some(Instant::now()));
            let of_the_bad = groups.into_iter().find(|group| group.items.contains(&700)).unwrap();
            sizes.push(of_the_bad.items.len());
            suspects.failed(&of_the_bad, of_the_bad.items.iter().copied());
            let all_others = (0..1000).filter(|id| !of_the_bad.items.contains(id));
            suspects.passed(all_others);
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        assert_eq!(sizes, [1000, 500, 100, 20, 4, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_portal_that_answers_nothing_gets_no_more_requests_than_before() {
        let suspects = Suspects::default();
        let read_at = Some(Instant::now());
        for _ in 0..6 {
            tokio::time::advance(Duration::from_secs(5)).await;
            let (sizes, groups) = groups(&suspects, 1000, read_at);
            assert_eq!(sizes, [1000]);
            suspects.failed(&groups[0], 0..1000);
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(groups(&suspects, 1000, Some(Instant::now())).0, [500, 500]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_remembered_has_a_limit() {
        let suspects = Suspects::default();
        let many: Vec<u64> = (0..20_000).collect();
        let group = Group { items: many.clone(), careful: false };
        suspects.failed(&group, many);
        assert_eq!(suspects.lock().len(), SUSPECTS_MAX);
    }
}
