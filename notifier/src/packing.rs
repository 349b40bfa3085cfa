//! From single writes to packs: one task a portal, which decides what goes into the next request.
//!
//! Each write needs a look at its lead before, because a person may have taken it since the decision. A lone
//! write brings its look with it, in the same request. Of many, the looks ride along with the writes of those
//! looked at before, so that they cost no request either.
//!
//! As with reads, the permission to send is taken first and the pack closed then. There are never two packs
//! under way with the same lead. How large and how many packs are is in [`crate::pace`], what a pack is made of
//! in [`crate::plan`], and what happens to it in [`crate::writer`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bitrix24::command::MAX_COMMANDS;
use bitrix24::lead::{LEADS_A_LIST, UPDATE};
use bitrix24::{Bustle, Pace as MethodPace, Permit, PortalError};
use common::ids::{LeadId, UserId};
use common::messages::AssignmentKey;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::compare::{Seen, Step, step};
use crate::pace::Pace;
use crate::plan::{Pack, Ready, fitting};
use crate::writer::{Lone, Sent, Write, WriteEnd, WriteResult, Writer};

/// What was seen of a lead is believed for this long: the packs under way and those behind them.
const LOOK_HOLDS: Duration = Duration::from_secs(10);

/// How long a pack that is not full waits for more, where there are many.
const LINGER: Duration = Duration::from_millis(300);

/// Lists of leads to be looked at beside writes; without writes, the first number of lists.
const LISTS: (usize, usize) = (10, 2);

/// Submits writes and waits for their ends.
pub(crate) struct Packs {
    queue: mpsc::Sender<Waiting>,
}

impl Packs {
    /// Starts the task.
    pub(crate) fn new(writer: Arc<Writer>, queue: usize) -> Self {
        let (sender, incoming) = mpsc::channel(queue.max(1));
        let packing = Packing {
            writer,
            incoming,
            open: true,
            new: VecDeque::new(),
            ready: VecDeque::new(),
            answers: BTreeMap::new(),
            leads: BTreeSet::new(),
            looking: 0,
            under_way: JoinSet::new(),
            pace: Pace::new(),
            bustle: Bustle::new(LINGER),
        };
        tokio::spawn(packing.run());
        Self { queue: sender }
    }

    /// Submits `write` and waits for its end.
    ///
    /// # Errors
    /// What the request as a whole failed with; [`PortalError::Interrupted`] when it ended without an answer.
    pub(crate) async fn submit(&self, write: Write) -> WriteResult {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Waiting { write, answer }).await.map_err(|_| PortalError::Interrupted)?;
        answered.await.map_err(|_| PortalError::Interrupted)?
    }
}

struct Waiting {
    write: Write,
    answer: oneshot::Sender<WriteResult>,
}

/// A write whose lead was not looked at yet, or too long ago.
struct New {
    write: Write,
    since: Instant,
    /// Whether a look is needed for itself: one that came with the write found something else.
    look_first: bool,
}

struct Checked {
    ready: Ready,
    since: Instant,
    seen_at: Instant,
}

/// What a request that has ended brings back.
enum Back {
    Pack { sent: Sent, looked_at: Vec<New>, leads: usize, took: Duration },
    Lone { lone: Lone, write: Write, since: Instant, took: Duration },
}

struct Packing {
    writer: Arc<Writer>,
    incoming: mpsc::Receiver<Waiting>,
    open: bool,
    new: VecDeque<New>,
    ready: VecDeque<Checked>,
    /// Who waits for the end of what is here or under way.
    answers: BTreeMap<AssignmentKey, oneshot::Sender<WriteResult>>,
    leads: BTreeSet<LeadId>,
    /// Leads that are being looked at.
    looking: usize,
    under_way: JoinSet<(Vec<AssignmentKey>, Back)>,
    pace: Pace,
    bustle: Bustle,
}

impl Packing {
    /// Runs until nobody can submit any more and all is answered.
    async fn run(mut self) {
        loop {
            self.take_in();
            let waits = self.new.len() + self.ready.len();
            let only_looked_at = self.ready.is_empty() && self.looking >= self.ahead();
            if waits == 0 || only_looked_at || self.under_way.len() >= self.pace.packs() {
                if !self.open && waits == 0 && self.under_way.is_empty() {
                    return;
                }
                self.something(None).await;
                continue;
            }
            let oldest = self.new.front().map(|new| new.since).into_iter();
            let oldest = oldest.chain(self.ready.front().map(|ready| ready.since)).min();
            let until =
                oldest.unwrap_or_else(Instant::now) + self.bustle.linger(self.writer.portal().has_plenty());
            if waits < self.full() && Instant::now() < until && self.open {
                self.something(Some(until)).await;
                continue;
            }
            let permit = self.writer.permit().await;
            self.take_in();
            match permit {
                Ok(permit) => self.close_pack(permit),
                Err(error) => self.give_up(&error),
            }
        }
    }

    /// Waits for a write, the end of a pack, or the moment.
    async fn something(&mut self, until: Option<Instant>) {
        let moment = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = moment => {}
            waiting = self.incoming.recv(), if self.open => match waiting {
                Some(waiting) => self.add(waiting),
                None => self.open = false,
            },
            Some(back) = self.under_way.join_next() => self.back(back.ok()),
        }
    }

    fn take_in(&mut self) {
        while let Ok(waiting) = self.incoming.try_recv() {
            self.add(waiting);
        }
        while let Some(back) = self.under_way.try_join_next() {
            self.back(back.ok());
        }
    }

    fn add(&mut self, waiting: Waiting) {
        let Waiting { write, answer } = waiting;
        if self.leads.insert(write.key.lead) {
            self.answers.insert(write.key.clone(), answer);
            self.new.push_back(New { write, since: Instant::now(), look_first: false });
        } else {
            // A caller that went away does not want its answer.
            drop(answer.send(Ok(WriteEnd::Elsewhere)));
        }
    }

    /// How many writes make a pack full.
    fn full(&self) -> usize {
        let leads = self.pace.leads(self.tight_seconds());
        if self.writer.wording.tells() {
            leads.min(MAX_COMMANDS / 2 - 1)
        } else {
            leads.min(MAX_COMMANDS - 1)
        }
    }

    /// How many leads are looked at before they are written: enough for all packs that may be under way while
    /// the answer comes.
    fn ahead(&self) -> usize {
        (self.pace.packs() + 1) * self.pace.leads(self.tight_seconds())
    }

    fn tight_seconds(&self) -> Option<f64> {
        let methods = self.writer.portal().methods();
        matches!(methods.pace(UPDATE), MethodPace::Tight(_)).then(|| methods.tight_seconds())
    }

    fn close_pack(&mut self, permit: Permit) {
        let now = Instant::now();
        // What was seen too long ago is looked at again.
        while self.ready.front().is_some_and(|checked| now.duration_since(checked.seen_at) > LOOK_HOLDS) {
            let Some(old) = self.ready.pop_front() else { break };
            self.new.push_front(New { write: old.ready.write, since: old.since, look_first: true });
        }
        if self.ready.is_empty()
            && self.looking == 0
            && let [only] = self.new.make_contiguous()
            && let Some(from) = only.write.from.filter(|_| !only.look_first && !only.write.owner_set)
        {
            self.bustle.closed(1);
            if let Some(new) = self.new.pop_front() {
                self.send_lone(permit, from, new);
            }
            return;
        }
        let leads = self.pace.leads(self.tight_seconds());
        let room = if self.new.is_empty() { MAX_COMMANDS } else { MAX_COMMANDS - LISTS.1 };
        let ready = self.ready.iter().map(|checked| &checked.ready);
        let writes = fitting(ready, &self.writer.wording, room, leads);
        let writes: Vec<Ready> = self.ready.drain(..writes).map(|checked| checked.ready).collect();
        let lists = if writes.is_empty() { LISTS.0 } else { LISTS.1 };
        let wanted = self.ahead().saturating_sub(self.ready.len() + self.looking).min(lists * LEADS_A_LIST);
        let look_at: Vec<New> = self.new.drain(..wanted.min(self.new.len())).collect();
        self.bustle.closed(writes.len().max(look_at.len()));
        if writes.is_empty() && look_at.is_empty() {
            // All that waits is being looked at by a pack under way: the permit is lost.
            return;
        }
        self.send_pack(permit, writes, look_at);
    }

    fn send_pack(&mut self, permit: Permit, items: Vec<Ready>, look_at: Vec<New>) {
        self.looking += look_at.len();
        let keys = items.iter().map(|ready| &ready.write).chain(look_at.iter().map(|new| &new.write));
        let keys: Vec<AssignmentKey> = keys.map(|write| write.key.clone()).collect();
        let lists: Vec<Vec<LeadId>> = look_at
            .chunks(LEADS_A_LIST)
            .map(|chunk| chunk.iter().map(|new| new.write.key.lead).collect())
            .collect();
        let leads = items.len();
        let writer = Arc::clone(&self.writer);
        self.under_way.spawn(async move {
            let started = Instant::now();
            let pack = Pack::of(items, &writer.wording);
            // In a task of its own, so that a panic in it is an end like any other.
            let sending = tokio::spawn(async move { writer.send(permit, pack, &lists).await });
            let sent = sending.await.unwrap_or_default();
            (keys, Back::Pack { sent, looked_at: look_at, leads, took: started.elapsed() })
        });
    }

    fn send_lone(&mut self, permit: Permit, from: UserId, new: New) {
        let New { write, since, .. } = new;
        let keys = vec![write.key.clone()];
        let writer = Arc::clone(&self.writer);
        self.under_way.spawn(async move {
            let started = Instant::now();
            let sent = write.clone();
            let sending = tokio::spawn(async move { writer.send_lone(permit, from, sent).await });
            let lone = sending.await.unwrap_or(Lone::Ended(Err(PortalError::Interrupted)));
            (keys, Back::Lone { lone, write, since, took: started.elapsed() })
        });
    }

    /// A request has ended.
    fn back(&mut self, back: Option<(Vec<AssignmentKey>, Back)>) {
        // Only a task that was aborted brings nothing, and nobody aborts them.
        let Some((keys, back)) = back else { return };
        let mut keys: BTreeSet<AssignmentKey> = keys.into_iter().collect();
        match back {
            Back::Lone { lone: Lone::LookFirst, write, since, .. } => {
                keys.remove(&write.key);
                self.new.push_front(New { write, since, look_first: true });
            }
            Back::Lone { lone: Lone::Ended(end), write, took, .. } => {
                let unknown = end.as_ref().is_err_and(PortalError::is_ambiguous);
                self.pace.ended(1, (!unknown).then_some(took));
                keys.remove(&write.key);
                self.answer(&write.key, end);
            }
            Back::Pack { mut sent, looked_at, leads, took } => {
                self.looking -= looked_at.len();
                if leads > 0 {
                    self.pace.ended(leads, sent.answered.then_some(took));
                }
                for (key, end) in std::mem::take(&mut sent.ends) {
                    keys.remove(&key);
                    self.answer(&key, end);
                }
                for new in looked_at {
                    if let Some(seen) = sent.seen.remove(&new.write.key.lead) {
                        keys.remove(&new.write.key);
                        self.looked_at(new, seen);
                    }
                }
            }
        }
        for key in keys {
            self.answer(&key, Err(PortalError::Interrupted));
        }
    }

    fn looked_at(&mut self, new: New, seen: Result<Seen, PortalError>) {
        let New { write, since, .. } = new;
        let set_owner = match seen.map(|seen| step(seen, write.from, write.to, write.owner_set)) {
            Ok(Step::SetOwner) => true,
            Ok(Step::OnlyNotify) => false,
            Ok(other @ (Step::KeptByPerson | Step::Deleted)) => {
                return self.answer(&write.key, Ok(WriteEnd::LeftAlone(other)));
            }
            Err(error) => return self.answer(&write.key, Err(error)),
        };
        self.ready.push_back(Checked { ready: Ready { write, set_owner }, since, seen_at: Instant::now() });
    }

    /// Nothing may be sent: everybody who waits is told.
    fn give_up(&mut self, error: &PortalError) {
        let new = self.new.drain(..).map(|new| new.write.key);
        let keys: Vec<_> = new.chain(self.ready.drain(..).map(|checked| checked.ready.write.key)).collect();
        for key in keys {
            self.answer(&key, Err(error.clone()));
        }
    }

    fn answer(&mut self, key: &AssignmentKey, end: WriteResult) {
        self.leads.remove(&key.lead);
        if let Some(answer) = self.answers.remove(key) {
            // A caller that went away does not want its answer.
            drop(answer.send(end));
        }
    }
}
