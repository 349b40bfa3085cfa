//! How a queue chooses one of its people.
//!
//! **Rotation.** For each lead the eligible members earn one turn together, each in proportion to his weight. The
//! largest credit is chosen, the first in the list among equals, and pays the turn. People who cannot take a lead earn
//! nothing from it and lose nothing by it. Three people of weight 1, from zero:
//!
//! | lead | A, B, C after earning | chosen | A, B, C after paying |
//! |---|---|---|---|
//! | 1 | +⅓ +⅓ +⅓ | A | -⅔ +⅓ +⅓ |
//! | 2 | -⅓ +⅔ +⅔ | B | -⅓ -⅓ +⅔ |
//! | 3 | 0 0 +1 | C | 0 0 0 |
//!
//! A turn is split into as many equal parts as the weights sum to, in whole units. Where that leaves a rest, the chosen
//! pays so much less than a turn. So every sum is exact, equal parts stay equal, and nobody is favoured for long: the
//! rests go to each as often as he is chosen, which is in proportion to his weight.
//!
//! From zero, and while the same people are eligible, nobody is ever a whole lead above his share, and of `n` people
//! nobody is more than `1/2 + 1/3 + … + 1/n` leads below it.
//!
//! **Least loaded.** The fewest open leads for his weight is chosen; those who are equal in that take turns as above, and
//! the others neither earn nor pay.
//!
//! **In order.** The first in the list who is eligible; no turns are kept.
//!
//! **Own clients.** A lead that goes to somebody because its client is his is charged to him as if his credit had been the
//! largest, where the queue says so.
//!
//! **On duty.** When the only members at work are those on duty, or none is, the people on duty take turns among
//! themselves, in a ledger of their own. For who is a member too, such a lead counts as his turn in the queue: the members
//! whose working hours are over earn it with him and he pays it, so that over day and night nobody gets more than his
//! share. Members who are away earn nothing, so that nothing waits for them when they are back. Who has
//! [`DEBT_MAX`] turns to his debit already pays no more, so that long duties do not put him off the queue for weeks.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::calendar::Calendar;
use crate::eligibility::Demands;
use crate::explanation::{Candidate, CreditChange, Load, Reason, Role};
use crate::ids::UserId;
use crate::ledger::{Account, Credit, EntryKind, Ledger, LedgerEntry};
use crate::name::Name;
use crate::roster::Roster;
use crate::routing::{Fallback, Member, Person, Queue, Routing, Strategy, Weight};
use crate::sticky::Tie;

/// How many turns somebody can owe to the other members for leads that were not his by turn: those of a duty, and those of
/// his own clients.
const DEBT_MAX: i64 = 20;

/// What is known when a queue is asked.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) routing: &'a Routing,
    pub(crate) roster: &'a Roster,
    pub(crate) ledger: &'a Ledger,
    pub(crate) calendar: &'a Calendar<'a>,
    /// What the lead's rule asks for.
    pub(crate) skills: &'a [Name],
    /// Who had it before.
    pub(crate) had: &'a BTreeSet<UserId>,
    /// Since when it is held, if it is.
    pub(crate) held_since: Option<Timestamp>,
    /// Whether it goes to who has its client.
    pub(crate) keeps_clients: bool,
    /// Who has its client; `None` where that is not known.
    pub(crate) ties: Option<&'a [Tie]>,
}

impl<'a> Asked<'a> {
    pub(crate) fn demands(&self, queue: &Queue, role: Role) -> Demands<'a> {
        Demands::of_queue(queue, role, self.skills, self.had, self.held_since.is_some())
    }
}

/// What came of asking some people of a queue.
pub(crate) struct Choice {
    /// `None` when nobody may take it.
    pub(crate) chosen: Option<Arc<Person>>,
    /// What the choice does to the ledgers; empty when it changes nothing.
    pub(crate) entries: Vec<LedgerEntry>,
    /// Everybody who was asked, in the list's order.
    pub(crate) candidates: Vec<Candidate>,
    /// When one of those who may not take it may at the earliest, as far as that is known.
    pub(crate) available: Option<Timestamp>,
}

/// Asks the members.
pub(crate) fn ask_members(queue: &Queue, asked: Asked<'_>) -> Choice {
    let mut book = Book::open(&queue.ledger, asked);
    let standings = standings(&queue.members, queue, Role::Member, &book, asked);
    let is_eligible = |standing: &&Standing<'_>| standing.refusal.is_none();
    let on_duty = |standing: &Standing<'_>| {
        let user = standing.member.person.user;
        queue.on_duty.iter().any(|member| member.person.user == user)
    };
    // Looked at only where the list of those on duty is asked at all.
    let reserved = queue.if_nobody.contains(&Fallback::OnDuty)
        && standings.iter().filter(is_eligible).all(on_duty)
        && !standings.iter().all(on_duty);
    let pick = if reserved { Pick::nobody() } else { Pick::by(queue.strategy, &standings) };
    let reason = |standing: &Standing<'_>| match &standing.refusal {
        Some(refusal) => refusal.clone(),
        None if reserved => Reason::ReservedForDuty,
        None => pick.reason(queue.strategy, standing),
    };
    let candidate = |standing: &Standing<'_>| {
        let person = &standing.member.person;
        let mut candidate = Candidate::new(person, Role::Member, Some(&queue.name), reason(standing));
        candidate.credit = (queue.strategy != Strategy::InOrder).then(|| pick.credit(standing));
        candidate.load = (queue.strategy == Strategy::LeastLoaded).then(|| standing.load());
        candidate
    };
    let candidates = standings.iter().map(candidate).collect();
    if queue.strategy != Strategy::InOrder {
        pick.book(&standings, EntryKind::Turn, &mut book);
    }
    Choice {
        chosen: pick.best.map(|best| Arc::clone(&best.member.person)),
        // Who left is settled with the first lead that is given away, not with each that waits.
        entries: if pick.best.is_some() { book.entries } else { Vec::new() },
        candidates,
        available: available(queue, Role::Member, &standings, asked),
    }
}

/// Asks those on duty.
pub(crate) fn ask_on_duty(queue: &Queue, asked: Asked<'_>) -> Choice {
    let mut book = Book::open(&queue.duty_ledger, asked);
    let standings = standings(&queue.on_duty, queue, Role::OnDuty, &book, asked);
    let pick = Pick::by(Strategy::Rotation, &standings);
    pick.book(&standings, EntryKind::Turn, &mut book);
    let charge = pick.best.and_then(|best| charge_duty(queue, &best.member.person, asked));
    let candidate = |standing: &Standing<'_>| {
        let person = &standing.member.person;
        let reason = standing.refusal.clone().unwrap_or_else(|| pick.reason(Strategy::Rotation, standing));
        let mut candidate = Candidate::new(person, Role::OnDuty, Some(&queue.name), reason);
        candidate.credit = Some(pick.credit(standing));
        if candidate.reason.is_taken() {
            candidate.charge = charge.as_ref().map(|(change, _)| *change);
        }
        candidate
    };
    let candidates = standings.iter().map(candidate).collect();
    let mut entries = if pick.best.is_some() { book.entries } else { Vec::new() };
    let chosen = pick.best.map(|best| Arc::clone(&best.member.person));
    entries.extend(charge.into_iter().flat_map(|(_, entries)| entries));
    Choice { chosen, entries, candidates, available: available(queue, Role::OnDuty, &standings, asked) }
}

/// Makes a lead on duty a turn in the queue; `None` for who is no member of it, or owes enough.
fn charge_duty(queue: &Queue, person: &Person, asked: Asked<'_>) -> Option<(CreditChange, Vec<LedgerEntry>)> {
    let mut book = Book::open(&queue.ledger, asked);
    let standings = standings(&queue.members, queue, Role::Member, &book, asked);
    let payer = standings.iter().find(|standing| standing.member.person.user == person.user)?;
    if payer.owes_enough() {
        return None;
    }
    let shares = |standing: &&Standing<'_>| {
        let hours_over = matches!(standing.refusal, None | Some(Reason::OffSchedule { .. }));
        hours_over || std::ptr::eq(*standing, payer)
    };
    let turn = Turn::split(standings.iter().filter(shares).map(|standing| standing.member.weight));
    for standing in standings.iter().filter(shares) {
        let pays = if std::ptr::eq(standing, payer) { turn.whole } else { 0 };
        book.add(
            standing.member.person.user,
            turn.earned(standing.member.weight) - Credit::from_units(pays),
            EntryKind::Duty,
        );
    }
    let compared = payer.balance + turn.earned(payer.member.weight);
    let after = compared - Credit::from_units(turn.whole);
    Some((CreditChange { before: payer.balance, compared, after }, book.entries))
}

/// Makes a lead of his own client a turn of this member, as if his credit had been the largest; `None` for who is no member,
/// or owes enough, and where the queue keeps no turns or gives by load, which such a lead adds to by itself.
pub(crate) fn charge_client(
    queue: &Queue,
    person: &Person,
    asked: Asked<'_>,
) -> Option<(CreditChange, Vec<LedgerEntry>)> {
    if queue.strategy != Strategy::Rotation {
        return None;
    }
    let mut book = Book::open(&queue.ledger, asked);
    let standings = standings(&queue.members, queue, Role::Member, &book, asked);
    let payer = standings.iter().find(|standing| standing.member.person.user == person.user)?;
    if payer.owes_enough() {
        return None;
    }
    let pick = Pick { best: Some(payer), ..Pick::by(Strategy::Rotation, &standings) };
    pick.book(&standings, EntryKind::Turn, &mut book);
    Some((pick.credit(payer), book.entries))
}

/// A member as the lead finds him.
struct Standing<'q> {
    member: &'q Member,
    balance: Credit,
    open: u32,
    /// Why he may not take it.
    refusal: Option<Reason>,
}

fn standings<'q>(
    members: &'q [Member],
    queue: &Queue,
    role: Role,
    book: &Book<'_>,
    asked: Asked<'_>,
) -> Vec<Standing<'q>> {
    let demands = asked.demands(queue, role);
    let standing = |member: &'q Member| {
        let presence = asked.roster.get(member.person.user);
        Standing {
            member,
            balance: book.balance(member.person.user),
            open: presence.open,
            refusal: demands.refusal(&member.person, presence, asked.calendar),
        }
    };
    members.iter().map(standing).collect()
}

/// Only asked for when nobody may take the lead, but too cheap to ask twice.
fn available(queue: &Queue, role: Role, standings: &[Standing<'_>], asked: Asked<'_>) -> Option<Timestamp> {
    if standings.iter().any(|standing| standing.refusal.is_none()) {
        return None;
    }
    let demands = asked.demands(queue, role);
    let moment = |standing: &Standing<'_>| {
        let person = &standing.member.person;
        let presence = asked.roster.get(person.user);
        demands.available(standing.refusal.as_ref()?, person, presence, asked.calendar)
    };
    standings.iter().filter_map(moment).min()
}

impl Standing<'_> {
    /// Whether he owes so many turns that no more are charged to him.
    fn owes_enough(&self) -> bool {
        self.balance <= Credit::from_units(-DEBT_MAX * Credit::TURN.units())
    }

    fn load(&self) -> Load {
        Load { open: self.open, weight: self.member.weight.get() }
    }
}

impl Load {
    /// Compares `open / weight` without rounding.
    fn compare(self, other: Self) -> Ordering {
        let scaled = |load: Self, by: Self| u64::from(load.open) * u64::from(by.weight);
        scaled(self, other).cmp(&scaled(other, self))
    }
}

/// A turn split among those who take part in it.
#[derive(Clone, Copy)]
struct Turn {
    /// What one part of weight earns.
    part: i64,
    /// What all parts earn together, and the chosen pays: a turn less the rest of the division.
    whole: i64,
}

impl Turn {
    fn split(weights: impl Iterator<Item = Weight>) -> Self {
        let parts: i64 = weights.map(|weight| i64::from(weight.get())).sum();
        let part = Credit::TURN.units() / parts.max(1);
        Self { part, whole: part * parts }
    }

    fn earned(self, weight: Weight) -> Credit {
        Credit::from_units(self.part * i64::from(weight.get()))
    }
}

/// Who is chosen, and by what turn.
struct Pick<'s, 'q> {
    best: Option<&'s Standing<'q>>,
    turn: Turn,
    /// The load of those who take part in the turn; `None` when everybody does who is eligible.
    load: Option<Load>,
}

impl<'s, 'q> Pick<'s, 'q> {
    fn nobody() -> Self {
        Self { best: None, turn: Turn { part: 0, whole: 0 }, load: None }
    }

    fn by(strategy: Strategy, standings: &'s [Standing<'q>]) -> Self {
        let eligible = || standings.iter().filter(|standing| standing.refusal.is_none());
        let load = match strategy {
            Strategy::InOrder => return Self { best: eligible().next(), ..Self::nobody() },
            Strategy::Rotation => None,
            Strategy::LeastLoaded => eligible().map(Standing::load).min_by(|one, other| one.compare(*other)),
        };
        let pick = Self { best: None, turn: Turn { part: 0, whole: 0 }, load };
        let parties = || standings.iter().filter(|standing| pick.takes_part(standing));
        let turn = Turn::split(parties().map(|standing| standing.member.weight));
        // `max_by` keeps the last of equals, the list's order wants the first: so it goes through the list backwards.
        let best =
            parties().rev().max_by_key(|standing| standing.balance + turn.earned(standing.member.weight));
        Self { best, turn, load }
    }

    fn takes_part(&self, standing: &Standing<'_>) -> bool {
        let equal = |load: Load| standing.load().compare(load) == Ordering::Equal;
        standing.refusal.is_none() && self.load.is_none_or(equal)
    }

    fn is_best(&self, standing: &Standing<'_>) -> bool {
        self.best.is_some_and(|best| std::ptr::eq(standing, best))
    }

    /// What this lead does to the credit of a member.
    fn credit(&self, standing: &Standing<'_>) -> CreditChange {
        let before = standing.balance;
        if self.best.is_none() || !self.takes_part(standing) {
            return CreditChange::none(before);
        }
        let compared = before + self.turn.earned(standing.member.weight);
        let pays = if self.is_best(standing) { self.turn.whole } else { 0 };
        CreditChange { before, compared, after: compared - Credit::from_units(pays) }
    }

    /// Why an eligible member was taken or not.
    fn reason(&self, strategy: Strategy, standing: &Standing<'_>) -> Reason {
        let Some(best) = self.best else { return Reason::LaterInList };
        match strategy {
            Strategy::Rotation if self.is_best(standing) => Reason::LargestCredit,
            Strategy::LeastLoaded if self.is_best(standing) => Reason::LeastLoaded,
            Strategy::InOrder if self.is_best(standing) => Reason::FirstInList,
            Strategy::InOrder => Reason::LaterInList,
            Strategy::Rotation | Strategy::LeastLoaded if !self.takes_part(standing) => Reason::MoreLoaded,
            Strategy::Rotation | Strategy::LeastLoaded => {
                match self.credit(standing).compared.cmp(&self.credit(best).compared) {
                    Ordering::Equal => Reason::LaterInList,
                    Ordering::Less | Ordering::Greater => Reason::SmallerCredit,
                }
            }
        }
    }

    fn book(&self, standings: &[Standing<'_>], kind: EntryKind, book: &mut Book<'_>) {
        for standing in standings {
            let credit = self.credit(standing);
            book.add(standing.member.person.user, credit.after - credit.before, kind);
        }
    }
}

/// One ledger while a choice is made: its balances, without those who left its queues, and what is booked.
struct Book<'a> {
    ledger: &'a Name,
    account: Option<&'a Account>,
    /// What those who stay get from those who left.
    settled: BTreeMap<UserId, Credit>,
    entries: Vec<LedgerEntry>,
}

impl<'a> Book<'a> {
    fn open(ledger: &'a Name, asked: Asked<'a>) -> Self {
        let account = asked.ledger.account(ledger);
        let mut book = Self { ledger, account, settled: BTreeMap::new(), entries: Vec::new() };
        if let (Some(account), Some(parties)) = (account, asked.routing.parties.get(ledger)) {
            let left = |(user, balance): (&UserId, &Credit)| {
                (*balance != Credit::ZERO && !parties.contains(user)).then_some((*user, *balance))
            };
            let left: BTreeMap<UserId, Credit> = account.iter().filter_map(left).collect();
            if !left.is_empty() {
                let stay: BTreeSet<UserId> = parties.iter().copied().collect();
                book.settle(left, &stay);
            }
        }
        book
    }

    /// Brings those who left to zero. What they had is dealt to the others in equal parts, the rest unit by unit.
    fn settle(&mut self, left: BTreeMap<UserId, Credit>, stay: &BTreeSet<UserId>) {
        let total: i64 = left.values().map(|balance| balance.units()).sum();
        let count = i64::try_from(stay.len()).unwrap_or(i64::MAX).max(1);
        let (part, mut rest) = (total / count, total % count);
        for (user, balance) in left {
            self.add(user, -balance, EntryKind::Left);
        }
        for &user in stay {
            let unit = rest.signum();
            rest -= unit;
            let share = Credit::from_units(part + unit);
            self.settled.insert(user, share);
            self.add(user, share, EntryKind::Left);
        }
    }

    fn balance(&self, user: UserId) -> Credit {
        let booked = self.account.and_then(|account| account.get(&user)).copied().unwrap_or_default();
        if self.settled.is_empty() {
            booked
        } else {
            booked + self.settled.get(&user).copied().unwrap_or_default()
        }
    }

    fn add(&mut self, user: UserId, delta: Credit, kind: EntryKind) {
        if delta != Credit::ZERO {
            self.entries.push(LedgerEntry { ledger: self.ledger.clone(), user, delta, kind });
        }
    }
}
