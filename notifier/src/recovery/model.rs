//! Two notifiers, a store and a portal as a state machine: any interleaving of packs that run to any point or not at
//! all, of duplicates of commands, of senders that are late, of whoever clears up too slowly, and of a person.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use common::ids::{LeadId, UserId};
use common::messages::AssignmentKey;
use proptest::prelude::*;
use store::{Done, PackItem};

use super::verdicts;
use crate::compare::{Seen, Step, step};
use crate::handler::KEPT_BY_PERSON;
use crate::plan::{Pack as Plan, Ready, noted, of_one_pack};
use crate::wording::Wording;
use crate::writer::{ASSIGNED, Write};

const LEADS: usize = 6;
/// The owner that the decisions saw, and one who is nobody's choice.
const FROM: u64 = 1;
const PERSON: u64 = 7;

/// The owner that the decision about a lead chose.
fn to(lead: usize) -> u64 {
    9 + lead as u64 % 3
}

fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

fn index(key: &AssignmentKey) -> usize {
    usize::try_from(key.lead.get()).unwrap() - 1
}

/// What the store knows of an assignment.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    owner_set: bool,
    told: bool,
    in_pack: Option<usize>,
    finished: Option<&'static str>,
}

#[derive(Debug)]
struct Pack {
    /// As the store lists them: what is not known.
    items: Vec<PackItem>,
    /// What its sender was answered and has not written down yet: by lead, whether the owner was set.
    answered: Option<BTreeMap<usize, bool>>,
    has_run: bool,
    /// Who clears it up, by which items and owners.
    held: Option<Hold>,
}

#[derive(Debug, Clone)]
struct Hold {
    holder: usize,
    items: Vec<PackItem>,
    owners: Option<BTreeMap<LeadId, Option<UserId>>>,
}

#[derive(Debug, Clone)]
enum Action {
    /// A notifier looks at these leads, or believes what the router saw, and notes a pack of those that may be given.
    Claim {
        leads: [bool; LEADS],
        believes: bool,
    },
    /// The portal runs a pack's commands up to this one; it refuses the updates of some leads. The answer arrives, or not.
    Run {
        pack: usize,
        commands: usize,
        refused: [bool; LEADS],
        answered: bool,
    },
    /// The sender writes down what it was answered.
    Conclude(usize),
    /// Somebody begins to clear up a pack, or takes it from one who was too slow.
    Hold {
        pack: usize,
        holder: usize,
    },
    Read {
        pack: usize,
        holder: usize,
    },
    Write {
        pack: usize,
        holder: usize,
    },
    /// A person gives a lead to somebody else, or back.
    Person {
        lead: usize,
        back: bool,
    },
}

#[derive(Debug)]
struct World {
    wording: Wording,
    /// Leads that have the right owner already when they are decided.
    theirs: [bool; LEADS],
    owners: [u64; LEADS],
    notices: [usize; LEADS],
    /// Whether an update of ours ran.
    given: [bool; LEADS],
    rows: [Row; LEADS],
    packs: Vec<Pack>,
    /// Notices of something that they were told before.
    doubled: usize,
    lost: usize,
    refused: usize,
    by_person: usize,
    /// Leads that a person took while a pack with them was noted and had not run yet: the portal has no conditional
    /// write, so those may be lost to us again.
    window: BTreeSet<usize>,
}

impl World {
    fn new(theirs: [bool; LEADS], digest_over: usize) -> Self {
        Self {
            wording: Wording::plain(digest_over),
            theirs,
            owners: std::array::from_fn(|lead| if theirs[lead] { to(lead) } else { FROM }),
            notices: [0; LEADS],
            given: theirs,
            rows: [Row::default(); LEADS],
            packs: Vec::new(),
            doubled: 0,
            lost: 0,
            refused: 0,
            by_person: 0,
            window: BTreeSet::new(),
        }
    }

    fn from(&self, lead: usize) -> u64 {
        if self.theirs[lead] { to(lead) } else { FROM }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Claim { leads, believes } => self.claim(*leads, *believes),
            Action::Run { pack, commands, refused, answered } => {
                self.run(*pack, *commands, *refused, *answered);
            }
            Action::Conclude(pack) => self.conclude(*pack),
            Action::Hold { pack, holder } => self.hold(*pack, *holder),
            Action::Read { pack, holder } => self.read(*pack, *holder),
            Action::Write { pack, holder } => self.write(*pack, *holder),
            Action::Person { lead, back } => {
                self.owners[*lead] = if *back { self.from(*lead) } else { PERSON };
                self.by_person += 1;
                let waits =
                    |pack: &Pack| !pack.has_run && pack.items.iter().any(|item| index(&item.key) == *lead);
                if self.packs.iter().any(waits) {
                    self.window.insert(*lead);
                }
            }
        }
    }

    fn claim(&mut self, leads: [bool; LEADS], believes: bool) {
        let mut ready = VecDeque::new();
        for lead in (0..LEADS).filter(|lead| leads[*lead]) {
            let row = self.rows[lead];
            if row.finished.is_some() || row.in_pack.is_some() {
                continue;
            }
            let from = user(self.from(lead));
            let write = Write {
                from: Some(from),
                owner_set: row.owner_set,
                told: row.told,
                ..Write::plain(lead as u64 + 1, to(lead))
            };
            let seen = Seen::OwnedBy(Some(user(self.owners[lead])));
            let set_owner = match step(seen, Some(from), user(to(lead)), row.owner_set) {
                Step::SetOwner => true,
                // The router does not compare.
                Step::OnlyNotify => believes && self.theirs[lead] && !row.owner_set,
                Step::KeptByPerson | Step::AskForIt => {
                    self.rows[lead].finished = Some(KEPT_BY_PERSON);
                    continue;
                }
            };
            ready.push_back(Ready { write, set_owner });
        }
        let (ready, _) = of_one_pack(ready, |ready| ready, &self.wording);
        let plan = Plan::of(ready.into(), &self.wording);
        let items = noted(plan.items().zip(plan.commands(&self.wording).1));
        for item in &items {
            self.rows[index(&item.key)].in_pack = Some(self.packs.len());
        }
        self.packs.push(Pack { items, answered: None, has_run: false, held: None });
    }

    fn run(&mut self, pack: usize, commands: usize, refused: [bool; LEADS], answered: bool) {
        let Some(pack) = self.packs.get_mut(pack).filter(|pack| !pack.has_run) else { return };
        pack.has_run = true;
        let (mut results, mut told) = (BTreeMap::new(), BTreeMap::<u32, Vec<usize>>::new());
        let runs = |place: u32| answered || (place as usize) < commands;
        for item in &pack.items {
            let lead = index(&item.key);
            results.insert(lead, true);
            if let Some(notice) = item.notice_position.filter(|place| runs(*place)) {
                told.entry(notice).or_default().push(lead);
            }
            if !item.sets_owner || !runs(item.position) {
                continue;
            }
            if refused[lead] {
                self.refused += 1;
                results.insert(lead, false);
            } else {
                assert!(
                    self.owners[lead] != PERSON || self.window.contains(&lead),
                    "a person's choice is overwritten"
                );
                self.owners[lead] = to(lead);
                self.given[lead] = true;
            }
        }
        for leads in told.into_values() {
            self.doubled += usize::from(leads.iter().any(|lead| self.notices[*lead] > 0));
            for lead in leads {
                self.notices[lead] += 1;
            }
        }
        self.lost += usize::from(!answered);
        pack.answered = answered.then_some(results);
    }

    fn conclude(&mut self, pack: usize) {
        let Some(Pack { items, answered, held, .. }) = self.packs.get_mut(pack) else { return };
        let Some(results) = answered.take() else { return };
        if held.is_some() {
            // It is too late; whoever holds it may know less.
            self.lost += 1;
            return;
        }
        for item in std::mem::take(items) {
            let lead = index(&item.key);
            let owner_set = results[&lead];
            let nothing = Done::nothing(item.key, item.to);
            let done = Done { owner_set, notified: true, finished: owner_set.then_some(ASSIGNED), ..nothing };
            self.note(pack, &done);
        }
    }

    /// What the store does.
    fn note(&mut self, pack: usize, done: &Done) {
        let row = &mut self.rows[index(&done.key)];
        if row.finished.is_some() || row.in_pack != Some(pack) {
            return;
        }
        row.owner_set |= done.owner_set;
        row.told |= done.notified;
        row.finished = done.finished;
        row.in_pack = None;
    }

    fn hold(&mut self, number: usize, holder: usize) {
        let Some(pack) = self.packs.get_mut(number).filter(|pack| pack.has_run) else { return };
        pack.held = Some(Hold { holder, items: pack.items.clone(), owners: None });
    }

    fn read(&mut self, pack: usize, holder: usize) {
        let hold = self.packs.get_mut(pack).and_then(|pack| pack.held.as_mut());
        let Some(hold) = hold.filter(|hold| hold.holder == holder) else { return };
        let owner = |item: &PackItem| (item.key.lead, UserId::new(self.owners[index(&item.key)]));
        hold.owners = Some(hold.items.iter().map(owner).collect());
    }

    fn write(&mut self, number: usize, holder: usize) {
        let Some(pack) = self.packs.get_mut(number) else { return };
        let Some(Hold { items, owners: Some(owners), .. }) =
            pack.held.take_if(|hold| hold.holder == holder && hold.owners.is_some())
        else {
            return;
        };
        pack.items.clear();
        // If its sender was answered, they are too late now.
        self.lost += usize::from(pack.answered.take().is_some());
        for (item, verdict) in items.iter().zip(verdicts(&items, &owners)) {
            self.note(number, &verdict.done(item, true));
        }
    }

    /// All that is left is done, without further faults.
    fn finish(&mut self) {
        // Each round tells of at least one lead that is somebody's already.
        for _ in 0..LEADS + 2 {
            for pack in 0..self.packs.len() {
                self.run(pack, 0, [false; LEADS], false);
                self.conclude(pack);
                self.hold(pack, 0);
                self.read(pack, 0);
                self.write(pack, 0);
            }
            self.claim([true; LEADS], false);
            self.run(self.packs.len() - 1, usize::MAX, [false; LEADS], true);
            self.conclude(self.packs.len() - 1);
        }
    }

    fn check(&self) {
        for lead in 0..LEADS {
            let row = &self.rows[lead];
            let story = || format!("lead {lead} of {self:?}");
            assert!(row.finished.is_some(), "is never finished: {}", story());
            if row.finished == Some(ASSIGNED) {
                assert!(self.given[lead], "is called assigned and was never given: {}", story());
                assert!(self.notices[lead] > 0, "is called assigned and nobody was told: {}", story());
            }
            if self.owners[lead] != to(lead) && row.finished == Some(ASSIGNED) {
                assert!(self.by_person > 0, "is called assigned and has another owner: {}", story());
            }
        }
        // A person who gives a lead back, or an update that is refused, takes a proof away.
        let may_be = self.lost + self.refused + self.by_person;
        assert!(self.doubled <= may_be, "notices too many: {self:?}");
    }
}

fn action() -> impl Strategy<Value = Action> {
    let leads = || any::<[bool; LEADS]>();
    let (pack, holder) = (0..6_usize, 1..3_usize);
    let few = prop::array::uniform6(prop::bool::weighted(0.1));
    prop_oneof![
        3 => (leads(), any::<bool>()).prop_map(|(leads, believes)| Action::Claim { leads, believes }),
        4 => (pack.clone(), 0..12_usize, few, prop::bool::weighted(0.3))
            .prop_map(|(pack, commands, refused, answered)| Action::Run { pack, commands, refused, answered }),
        2 => pack.clone().prop_map(Action::Conclude),
        3 => (pack.clone(), holder.clone()).prop_map(|(pack, holder)| Action::Hold { pack, holder }),
        3 => (pack.clone(), holder.clone()).prop_map(|(pack, holder)| Action::Read { pack, holder }),
        3 => (pack, holder).prop_map(|(pack, holder)| Action::Write { pack, holder }),
        1 => (0..LEADS, prop::bool::weighted(0.3)).prop_map(|(lead, back)| Action::Person { lead, back }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_what_is_called_assigned_is_and_each_lost_answer_doubles_at_most_one_notice(
        theirs in prop::array::uniform6(prop::bool::weighted(0.3)),
        digest_over in 1..4_usize,
        actions in prop::collection::vec(action(), 0..60)
    ) {
        let mut world = World::new(theirs, digest_over);
        for action in &actions {
            world.act(action);
        }
        world.finish();
        world.check();
    }

    #[test]
    fn without_a_person_and_refusals_every_lead_is_given_and_told(
        theirs in prop::array::uniform6(prop::bool::weighted(0.3)),
        digest_over in 1..4_usize,
        actions in prop::collection::vec(action(), 0..60)
    ) {
        let mut world = World::new(theirs, digest_over);
        for action in actions {
            match action {
                Action::Person { .. } => {}
                Action::Run { pack, commands, answered, .. } => {
                    world.act(&Action::Run { pack, commands, refused: [false; LEADS], answered });
                }
                other @ (Action::Claim { .. } | Action::Conclude(_) | Action::Hold { .. } | Action::Read { .. }
                    | Action::Write { .. }) => world.act(&other),
            }
        }
        world.finish();
        world.check();
        prop_assert!(world.rows.iter().all(|row| row.finished == Some(ASSIGNED)));
    }
}
