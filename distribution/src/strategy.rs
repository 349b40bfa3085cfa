//! How a queue chooses one of its eligible members.
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

use std::cmp::Ordering;
use std::sync::Arc;

use crate::eligibility;
use crate::explanation::{Candidate, CreditChange, Reason};
use crate::ids::UserId;
use crate::ledger::{Credit, Ledger, LedgerEntry};
use crate::roster::Roster;
use crate::routing::{Member, Person, Queue, Strategy};

/// What came of asking a queue for one of its members.
pub(crate) struct Choice {
    /// `None` when no member is eligible.
    pub(crate) chosen: Option<Arc<Person>>,
    /// What the choice does to the queue's ledger; empty when it changes nothing.
    pub(crate) entries: Vec<LedgerEntry>,
    /// Every member, in the queue's order.
    pub(crate) candidates: Vec<Candidate>,
}

/// Chooses by the queue's own strategy.
pub(crate) fn choose(queue: &Queue, roster: &Roster, ledger: &Ledger) -> Choice {
    match queue.strategy {
        Strategy::Rotation => rotation(queue, roster, ledger),
    }
}

/// A member as the lead finds him: his balance, and why he may not take it.
struct Standing<'q> {
    member: &'q Member,
    balance: Credit,
    refusal: Option<Reason>,
}

/// A turn split among the eligible.
#[derive(Clone, Copy)]
struct Split {
    /// What one part of weight earns.
    part: i64,
    /// What all parts earn together, and the chosen pays: a turn less the rest of the division.
    whole: i64,
}

fn rotation(queue: &Queue, roster: &Roster, ledger: &Ledger) -> Choice {
    let standings = standings(queue, roster, ledger);
    let eligible = || standings.iter().filter(|standing| standing.refusal.is_none());
    let split = Split::among(eligible().map(|standing| standing.member));
    // `max_by` keeps the last of equals, the list's order wants the first: so it goes through the list backwards.
    let best = eligible().rev().max_by_key(|standing| standing.compared(split));

    let mut choice = Choice {
        chosen: best.map(|best| Arc::clone(&best.member.person)),
        entries: Vec::new(),
        candidates: Vec::with_capacity(standings.len()),
    };
    for standing in &standings {
        let person = &standing.member.person;
        let (reason, credit) = standing.verdict(best, split);
        let delta = credit.after - credit.before;
        if delta != Credit::ZERO {
            choice.entries.push(LedgerEntry { ledger: queue.ledger.clone(), user: person.user, delta });
        }
        choice.candidates.push(Candidate::new(person, reason, Some(credit)));
    }
    choice
}

fn standings<'q>(queue: &'q Queue, roster: &Roster, ledger: &Ledger) -> Vec<Standing<'q>> {
    let account = ledger.account(&queue.ledger);
    let balance = |user: UserId| account.and_then(|account| account.get(&user)).copied().unwrap_or_default();
    let standing = |member: &'q Member| Standing {
        member,
        balance: balance(member.person.user),
        refusal: eligibility::refusal(&member.person, roster),
    };
    queue.members.iter().map(standing).collect()
}

impl Split {
    fn among<'q>(members: impl Iterator<Item = &'q Member>) -> Self {
        let parts: i64 = members.map(|member| i64::from(member.weight.get())).sum();
        let part = Credit::TURN.units() / parts.max(1);
        Self { part, whole: part * parts }
    }

    fn earned(self, member: &Member) -> Credit {
        Credit::from_units(self.part * i64::from(member.weight.get()))
    }
}

impl Standing<'_> {
    /// What the choice compares: the balance and what this lead earns.
    fn compared(&self, split: Split) -> Credit {
        self.balance + split.earned(self.member)
    }

    /// Why this member was taken or not, and what it does to his credit, when `best` is the one chosen.
    fn verdict(&self, best: Option<&Self>, split: Split) -> (Reason, CreditChange) {
        let before = self.balance;
        let Some(best) = best else {
            return (self.refusal.unwrap_or(Reason::SmallerCredit), CreditChange::none(before));
        };
        if let Some(refusal) = self.refusal {
            return (refusal, CreditChange::none(before));
        }
        let compared = self.compared(split);
        if std::ptr::eq(self, best) {
            let after = compared - Credit::from_units(split.whole);
            return (Reason::LargestCredit, CreditChange { before, compared, after });
        }
        let reason = match compared.cmp(&best.compared(split)) {
            Ordering::Equal => Reason::LaterInList,
            Ordering::Less | Ordering::Greater => Reason::SmallerCredit,
        };
        (reason, CreditChange { before, compared, after: compared })
    }
}
