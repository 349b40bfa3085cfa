//! The account of turns: how many leads each person is owed, or has had too many.
//!
//! A ledger is double-entry: what one person gains the others lose, so its balances always sum to zero. It is changed
//! only by [`LedgerEntry`]s, which a decision proposes and the caller stores together with it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Neg, Sub};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::ids::UserId;
use crate::name::Name;

/// An amount of turns, exact.
///
/// **Unit**: a small part of a turn, of which [`Credit::TURN`] make one. **Range**: about ±4 million turns; sums beyond
/// stay at the end of the range. **Shape**: a whole number of units in JSON, turns in text: `+0.33`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credit(i64);

/// A change of one balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Which ledger.
    pub ledger: Name,
    /// Whose balance in it.
    pub user: UserId,
    /// What is added to it; the entries of one decision sum to zero in each ledger.
    pub delta: Credit,
    /// What for.
    pub kind: EntryKind,
}

/// What a balance was changed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A lead that a member of the queue took.
    Turn,
    /// A lead that somebody on duty took.
    Duty,
    /// Somebody left the ledger's queues: his balance goes to those who stay.
    Left,
    /// A correction by hand.
    Correction,
    /// A lead that was given back.
    Refund,
}

/// The balances of every ledger that matters to a decision. Who is in none has a balance of zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    accounts: BTreeMap<Name, Account>,
}

/// The balances of one ledger.
pub(crate) type Account = FxHashMap<UserId, Credit>;

impl Credit {
    /// Nothing owed either way.
    pub const ZERO: Self = Self(0);
    /// One turn: what a lead costs.
    ///
    /// The smallest number that every number up to 30 divides: a turn is split by the sum of a queue's weights, and so
    /// splits without a rest in most queues. It is large because a rest is left to the chosen; see `strategy`. Even for a
    /// hundred people of the largest weight that is less than a part in two million.
    pub const TURN: Self = Self(2_329_089_562_800);

    /// This many units; see the type for their size.
    #[must_use]
    pub const fn from_units(units: i64) -> Self {
        Self(units)
    }

    /// The amount in units, as it is stored.
    #[must_use]
    pub const fn units(self) -> i64 {
        self.0
    }
}

impl Ledger {
    /// A person's balance in a ledger.
    #[must_use]
    pub fn balance(&self, ledger: &str, user: UserId) -> Credit {
        self.account(ledger).and_then(|account| account.get(&user)).copied().unwrap_or_default()
    }

    /// The balances of one ledger; `None` when nothing was ever booked in it.
    pub(crate) fn account(&self, ledger: &str) -> Option<&Account> {
        self.accounts.get(ledger)
    }
}

/// Books the entries: the balances of a store's rows, or what a decision proposed.
impl Extend<LedgerEntry> for Ledger {
    fn extend<I: IntoIterator<Item = LedgerEntry>>(&mut self, entries: I) {
        for LedgerEntry { ledger, user, delta, kind: _ } in entries {
            let balance = self.accounts.entry(ledger).or_default().entry(user).or_default();
            *balance = *balance + delta;
        }
    }
}

impl FromIterator<LedgerEntry> for Ledger {
    fn from_iter<I: IntoIterator<Item = LedgerEntry>>(entries: I) -> Self {
        let mut ledger = Self::default();
        ledger.extend(entries);
        ledger
    }
}

impl Add for Credit {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Credit {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Credit {
    type Output = Self;

    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

/// In turns, rounded to hundredths, with its sign: `+0.33`, `-0.67`, `0.00`.
impl fmt::Display for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HUNDREDTH: u64 = Credit::TURN.0.unsigned_abs() / 100;
        let hundredths = (self.0.unsigned_abs() + HUNDREDTH / 2) / HUNDREDTH;
        let sign = match self.0 {
            _ if hundredths == 0 => "",
            ..0 => "-",
            0.. => "+",
        };
        write!(f, "{sign}{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credit_reads_in_turns() {
        let turn = Credit::TURN.units();
        let cases =
            [(0, "0.00"), (turn, "+1.00"), (turn / 3, "+0.33"), (-2 * turn / 3, "-0.67"), (1, "0.00")];
        for (units, text) in cases {
            assert_eq!(Credit::from_units(units).to_string(), text);
        }
        assert_eq!(Credit::from_units(i64::MIN).to_string(), "-3960076.15");
    }

    #[test]
    fn entries_add_up() {
        let user = UserId::new(7).unwrap();
        let entry = |delta| LedgerEntry {
            ledger: "main".into(),
            user,
            delta: Credit::from_units(delta),
            kind: EntryKind::Turn,
        };
        let ledger: Ledger = [entry(5), entry(-7), entry(i64::MIN)].into_iter().collect();
        assert_eq!(ledger.balance("main", user), Credit::from_units(i64::MIN));
        assert_eq!(ledger.balance("other", user), Credit::ZERO);
    }
}
