//! A correction by hand: somebody gets turns that the others of his queue pay, or the other way round.

use crate::ids::UserId;
use crate::ledger::{Credit, EntryKind, LedgerEntry};
use crate::routing::Routing;

/// Why a correction cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CorrectionError {
    /// There is no such queue.
    #[error("there is no such queue")]
    NoQueue,
    /// He is no member of the queue.
    #[error("he is no member of that queue")]
    NoMember,
    /// Nobody else is a member, so nobody can pay.
    #[error("he is the only member of that queue, so there is nobody who could give or take a turn")]
    NobodyElse,
}

impl Routing {
    /// The entries that change a member's balance by `credit`. The other members of the queue share the opposite in
    /// proportion to their weights; the rest of the division goes to the first of them unit by unit.
    ///
    /// # Errors
    ///
    /// When there is nobody to correct, or nobody to pay.
    pub fn correction(
        &self,
        queue: &str,
        person: &str,
        credit: Credit,
    ) -> Result<Vec<LedgerEntry>, CorrectionError> {
        let queue = self.queues().find(|one| one.name == *queue).ok_or(CorrectionError::NoQueue)?;
        let member = queue.members.iter().find(|member| member.person.name == *person);
        let user = member.ok_or(CorrectionError::NoMember)?.person.user;
        let others = || queue.members.iter().filter(|member| member.person.user != user);
        let parts: i64 = others().map(|member| i64::from(member.weight.get())).sum();
        if parts == 0 {
            return Err(CorrectionError::NobodyElse);
        }
        let entry = |user: UserId, units: i64| LedgerEntry {
            ledger: queue.ledger.clone(),
            user,
            delta: Credit::from_units(units),
            kind: EntryKind::Correction,
        };
        let (part, mut rest) = (-credit.units() / parts, -credit.units() % parts);
        let mut entries = vec![entry(user, credit.units())];
        for other in others() {
            // As many units of the rest as he has parts, while there are any.
            let weight = i64::from(other.weight.get());
            let of_rest = rest.clamp(-weight, weight);
            rest -= of_rest;
            entries.push(entry(other.person.user, part * weight + of_rest));
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing() -> Routing {
        let text = "
version: 1
people: { a: { user: 1 }, b: { user: 2 }, c: { user: 3, weight: 2 }, d: { user: 4 } }
queues: { main: { members: [a, b, c] }, alone: { members: [d] } }
default: { queue: main }
";
        Routing::from_yaml(text, "routing.yaml").unwrap()
    }

    #[test]
    fn what_one_gets_the_others_pay_by_their_weights() {
        for units in [Credit::TURN.units(), -Credit::TURN.units(), 1, -1, 2, 7] {
            let entries = routing().correction("main", "a", Credit::from_units(units)).unwrap();
            let deltas: Vec<i64> = entries.iter().map(|entry| entry.delta.units()).collect();
            assert_eq!(deltas.iter().sum::<i64>(), 0, "{deltas:?}");
            assert_eq!(deltas[0], units);
            assert!((deltas[1] * 2 - deltas[2]).abs() <= 2, "{deltas:?}");
        }
    }

    #[test]
    fn who_cannot_be_corrected_is_told_why() {
        let error = |queue, person| routing().correction(queue, person, Credit::TURN).unwrap_err();
        assert_eq!(error("mian", "a"), CorrectionError::NoQueue);
        assert_eq!(error("main", "d"), CorrectionError::NoMember);
        assert_eq!(error("alone", "d"), CorrectionError::NobodyElse);
    }
}
