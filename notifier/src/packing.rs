//! From single writes to packs: one task a portal, which decides what goes into the next request.
//!
//! Each write needs a look at its lead not long before, because a person may have taken it since. A lone write
//! brings its look with it, in the same request. Of many, those that the router has read a moment ago are
//! written, and the looks at those that have waited ride along, so that they cost no request either.
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
use crate::metrics::NotifierMetrics;
use crate::pace::Pace;
use crate::plan::{Pack, Ready, fitting, of_one_pack};
use crate::trust::{Company, Guard, Trust};
use crate::writer::{Lone, Sent, Write, WriteEnd, WriteResult, Writer};

/// What was seen of a lead is believed for the time of six packs, and this long at least and at most; what the
/// router saw for the shortest of it. A person who takes a lead in that time loses it again.
const LOOK_HOLDS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(20));

/// The weight of the newest gap between packs in their average.
const SMOOTHING: f64 = 0.3;

/// How long a pack that is not full waits for more, where there are many; and how long where none have come.
const LINGER: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(1));

/// Lists of leads to be looked at in one request.
const LISTS: usize = 2;

/// Submits writes and waits for their ends.
pub(crate) struct Packs {
    queue: mpsc::Sender<Waiting>,
}

impl Packs {
    /// Starts the task.
    pub(crate) fn new(writer: Arc<Writer>, queue: usize, metrics: Arc<NotifierMetrics>) -> Self {
        let (sender, incoming) = mpsc::channel(queue.max(1));
        let packing = Packing {
            writer,
            metrics,
            incoming,
            open: true,
            new: VecDeque::new(),
            ready: VecDeque::new(),
            answers: BTreeMap::new(),
            leads: BTreeSet::new(),
            looking: 0,
            under_way: JoinSet::new(),
            pace: Pace::new(),
            trust: Trust::default(),
            guard: Guard::default(),
            bustle: Bustle::new(LINGER.0),
            last_closed: None,
            last_added: Instant::now(),
            gap: Duration::from_millis(500),
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
    /// Until when what was seen is believed.
    until: Instant,
    /// Whether the look was the router's: a lone write is better off with its own.
    by_router: bool,
}

/// What a request that has ended brings back.
enum Back {
    Pack { sent: Sent, looked_at: Vec<New>, leads: usize, took: Duration, limited: bool },
    Lone { lone: Lone, write: Write, since: Instant, took: Duration },
}

struct Packing {
    writer: Arc<Writer>,
    metrics: Arc<NotifierMetrics>,
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
    trust: Trust,
    guard: Guard,
    bustle: Bustle,
    last_closed: Option<Instant>,
    last_added: Instant,
    /// The time between packs, smoothed.
    gap: Duration,
}

impl Packing {
    /// Runs until nobody can submit any more and all is answered.
    async fn run(mut self) {
        loop {
            self.take_in();
            let waits = self.new.len() + self.ready.len();
            let all_looked_at = self.ready.is_empty() && self.looks_wanted() == 0;
            if waits == 0 || all_looked_at || self.under_way.len() >= self.pace.packs() {
                if !self.open && waits == 0 && self.under_way.is_empty() {
                    return;
                }
                self.something(None).await;
                continue;
            }
            // However long it might pay to wait for more: not where none come any more.
            let linger = self.oldest() + self.bustle.linger(self.writer.portal().has_plenty());
            let quiet = if self.looking > 0 { self.oldest() + LINGER.0 } else { self.last_added + LINGER.1 };
            let until = linger.min(quiet);
            if !self.has_enough() && Instant::now() < until && self.open {
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
        // What was seen too long ago is looked at again.
        let now = Instant::now();
        let (believed, old): (VecDeque<Checked>, VecDeque<Checked>) =
            std::mem::take(&mut self.ready).into_iter().partition(|seen| seen.until > now);
        self.ready = believed;
        for Checked { ready, since, .. } in old.into_iter().rev() {
            self.new.push_front(New { write: ready.write, since, look_first: false });
        }
    }

    fn add(&mut self, waiting: Waiting) {
        let Waiting { write, answer } = waiting;
        if !self.leads.insert(write.key.lead) {
            // A caller that went away does not want its answer.
            drop(answer.send(Ok(WriteEnd::Elsewhere)));
            return;
        }
        self.answers.insert(write.key.clone(), answer);
        let since = Instant::now();
        self.last_added = since;
        self.bustle.saw(write.seen_with);
        match write.seen_ago.and_then(|ago| LOOK_HOLDS.0.checked_sub(ago)).filter(|_| !write.owner_set) {
            Some(left) => {
                let ready = Ready { write, set_owner: true };
                self.ready.push_back(Checked { ready, since, until: since + left, by_router: true });
            }
            None => self.new.push_back(New { write, since, look_first: false }),
        }
    }

    /// Since when somebody waits for the next pack.
    fn oldest(&self) -> Instant {
        let new = self.new.front().map(|new| new.since).into_iter();
        let oldest = new.chain(self.ready.front().map(|ready| ready.since)).min();
        oldest.max(self.last_closed).unwrap_or_else(Instant::now)
    }

    /// Whether a pack would be full: of writes, or of looks where too few may be written.
    fn has_enough(&self) -> bool {
        self.ready.len() >= self.full() || (self.looking == 0 && self.new.len() >= LISTS * LEADS_A_LIST)
    }

    /// How many writes make a pack full.
    fn full(&self) -> usize {
        let commands_each = if self.writer.wording.tells() { 2 } else { 1 };
        self.pace.leads(self.tight_seconds()).min(MAX_COMMANDS / commands_each)
    }

    /// How long what was seen is believed.
    fn look_holds(&self) -> Duration {
        (6 * self.gap).clamp(LOOK_HOLDS.0, LOOK_HOLDS.1)
    }

    /// How many leads are to be looked at with the next pack: for the packs that will be sent as long as that is
    /// believed, but many at once, because each list takes a command from the writes.
    fn looks_wanted(&self) -> usize {
        let packs = self.look_holds().as_millis() / self.gap.as_millis().max(1);
        let packs = usize::try_from(packs)
            .unwrap_or(usize::MAX)
            .saturating_sub(1)
            .clamp(3, 2 * self.pace.packs().max(2));
        let room = (packs * self.full()).saturating_sub(self.ready.len() + self.looking);
        if room < self.full() { 0 } else { room.min(self.new.len()).min(LISTS * LEADS_A_LIST) }
    }

    fn tight_seconds(&self) -> Option<f64> {
        let methods = self.writer.portal().methods();
        matches!(methods.pace(UPDATE), MethodPace::Tight(_)).then(|| methods.tight_seconds())
    }

    fn close_pack(&mut self, permit: Permit) {
        let now = Instant::now();
        if let Some(last) = self.last_closed.replace(now) {
            let gap = now.duration_since(last).min(LOOK_HOLDS.0);
            self.gap = self.gap.mul_f64(1.0 - SMOOTHING) + gap.mul_f64(SMOOTHING);
        }
        if let Some((from, lone)) = self.lone() {
            self.bustle.saw(1);
            self.send_lone(permit, from, lone);
            return;
        }
        let leads = self.pace.leads(self.tight_seconds());
        let looks = self.looks_wanted();
        let look_at: Vec<New> = self.new.drain(..looks).collect();
        let room = MAX_COMMANDS - looks.div_ceil(LEADS_A_LIST);
        let wording = &self.writer.wording;
        let (mut ready, later) =
            of_one_pack(std::mem::take(&mut self.ready), |checked| &checked.ready, wording);
        let leads = leads.min(self.trust.leads(ready.iter().map(|checked| &checked.ready.write)));
        let writes = fitting(ready.iter().map(|checked| &checked.ready), wording, room, leads);
        let writes: Vec<Ready> = ready.drain(..writes).map(|checked| checked.ready).collect();
        self.ready = later.into_iter().chain(ready).collect();
        self.bustle.saw(writes.len().max(look_at.len()));
        if writes.is_empty() && look_at.is_empty() {
            // What was seen became too old while the permit came, and enough is being looked at.
            return;
        }
        self.send_pack(permit, writes, look_at);
    }

    /// The only one that waits, if it can be given away together with a look at it.
    fn lone(&mut self) -> Option<(UserId, New)> {
        if self.looking > 0 || self.new.len() + self.ready.len() != 1 || !self.guard.is_understood() {
            return None;
        }
        let may = |write: &Write| write.from.filter(|_| !write.owner_set);
        if let Some(from) = self.new.front().filter(|new| !new.look_first).and_then(|new| may(&new.write)) {
            return Some((from, self.new.pop_front()?));
        }
        let from =
            self.ready.front().filter(|seen| seen.by_router).and_then(|seen| may(&seen.ready.write))?;
        let Checked { ready, since, .. } = self.ready.pop_front()?;
        Some((from, New { write: ready.write, since, look_first: false }))
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
        let limited = items.iter().any(|ready| ready.write.company != Company::Any);
        let writer = Arc::clone(&self.writer);
        self.under_way.spawn(async move {
            let started = Instant::now();
            let pack = Pack::of(items, &writer.wording);
            // In a task of its own, so that a panic in it is an end like any other.
            let sending = tokio::spawn(async move { writer.send(permit, pack, &lists).await });
            let sent = sending.await.unwrap_or_default();
            (keys, Back::Pack { sent, looked_at: look_at, leads, took: started.elapsed(), limited })
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
            Back::Lone { lone: Lone::NotUnderstood, write, since, .. } => {
                keys.remove(&write.key);
                self.guard.refused(&write.key);
                self.metrics.written_plainly(self.writer.portal().name());
                self.new.push_front(New { write, since, look_first: true });
            }
            Back::Lone { lone: Lone::Ended(end), write, took, .. } => {
                let unknown = end.as_ref().is_err_and(PortalError::is_ambiguous);
                self.pace.ended(1, (!unknown).then_some(took));
                keys.remove(&write.key);
                self.answer(&write.key, end);
            }
            Back::Pack { mut sent, looked_at, leads, took, limited } => {
                self.looking -= looked_at.len();
                if leads > 0 {
                    self.pace.ended(leads, sent.answered.then_some(took));
                    self.trust.ended(sent.failed_as_a_whole, limited);
                }
                for (key, end) in std::mem::take(&mut sent.ends) {
                    keys.remove(&key);
                    self.guard.ended(&key, &end);
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
            Ok(other @ (Step::KeptByPerson | Step::AskForIt)) => {
                return self.answer(&write.key, Ok(WriteEnd::LeftAlone(other)));
            }
            Err(error) => return self.answer(&write.key, Err(error)),
        };
        let (ready, until) = (Ready { write, set_owner }, Instant::now() + self.look_holds());
        self.ready.push_back(Checked { ready, since, until, by_router: false });
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
