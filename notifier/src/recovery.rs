//! A pack was sent and nobody saw its end: what did it do?
//!
//! The commands of a batch run one after the other, the owner of a lead before its notice. So an owner that the pack
//! has set proves that everything before it ran, notices too. What stands behind the last proof did not change the
//! portal, except perhaps for one notice: the first one behind the last owner that was set. That one is sent again.
//!
//! Proof has three conditions, which [`crate::lost_pack`] and the store keep: the owners come from one reading of
//! the leads, after the pack's request can run no longer; only what is not known of the pack is judged; and none of
//! that is sent again before all verdicts are written down. Otherwise another pack's work is taken for this one's.
//!
//! | owner at the reading | its notice stands before the last proof | verdict |
//! |---|---|---|
//! | the one from before | yes | [`Verdict::Open`], told: the update was refused, or undone |
//! | the one from before | no | [`Verdict::Open`] |
//! | the new one, set by the pack | yes, or the pack had none | [`Verdict::Done`] |
//! | the new one, set by the pack | no | [`Verdict::OwnerSet`]: its notice is in doubt, or was not reached |
//! | the new one, which it had before | yes | [`Verdict::Done`] |
//! | the new one, which it had before | no, or the pack had none | [`Verdict::Open`] |
//! | any other | | [`Verdict::ByPerson`] |
//! | not shown | as above | [`Verdict::Open`], told or not: a look at it alone will tell |

use bitrix24::lead::Owners;
use store::{Done, PackItem};

use crate::handler::KEPT_BY_PERSON;
use crate::writer::{ASSIGNED, ASSIGNED_SILENTLY};

#[cfg(test)]
mod model;

/// What a lost pack did about one of its assignments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Owner and notice, or all of it that was wanted.
    Done,
    /// The owner; the notice is sent again.
    OwnerSet,
    /// The lead is still to be given. `told` says that they have been told of it already.
    Open {
        /// Whether the notice was sent.
        told: bool,
    },
    /// A person gave the lead to somebody else.
    ByPerson,
}

impl Verdict {
    /// What is written down; `tells` says whether people are told by us.
    pub(crate) fn done(self, item: &PackItem, tells: bool) -> Done {
        let nothing = Done::nothing(item.key.clone(), item.to);
        let outcome = if tells { ASSIGNED } else { ASSIGNED_SILENTLY };
        match self {
            Self::Done => Done {
                owner_set: true,
                notified: item.notice_position.is_some(),
                finished: (!item.more_to_do).then_some(outcome),
                ..nothing
            },
            Self::OwnerSet => Done { owner_set: true, ..nothing },
            Self::Open { told } => Done { notified: told, ..nothing },
            Self::ByPerson => Done { finished: Some(KEPT_BY_PERSON), ..nothing },
        }
    }
}

/// Judges all of a pack by the owners of one reading; one verdict an item, in their order.
pub(crate) fn verdicts(items: &[PackItem], owners: &Owners) -> Vec<Verdict> {
    let has_new_owner = |item: &PackItem| owners.get(&item.key.lead) == Some(&Some(item.to));
    // An owner that was right before the pack proves nothing of the pack.
    let proof = |item: &&PackItem| sets_another_owner(item) && has_new_owner(item);
    let last_proof = items.iter().filter(proof).map(|item| item.position).max();
    let verdict = |item: &PackItem| {
        let told = item.notice_position.is_some_and(|notice| last_proof.is_some_and(|last| last > notice));
        match owners.get(&item.key.lead) {
            None => Verdict::Open { told },
            Some(owner) if *owner == Some(item.to) && sets_another_owner(item) => {
                if told || item.notice_position.is_none() { Verdict::Done } else { Verdict::OwnerSet }
            }
            Some(owner) if *owner == Some(item.to) => {
                if told {
                    Verdict::Done
                } else {
                    Verdict::Open { told }
                }
            }
            Some(owner) if *owner == item.from => Verdict::Open { told },
            Some(_) => Verdict::ByPerson,
        }
    };
    items.iter().map(verdict).collect()
}

/// Whether the pack was to give the lead to somebody who did not have it.
fn sets_another_owner(item: &PackItem) -> bool {
    item.sets_owner && item.from != Some(item.to)
}

#[cfg(test)]
mod tests {
    use common::ids::{LeadId, UserId};
    use common::messages::{AssignmentKey, Epoch};

    use super::Verdict::{ByPerson, Done, OwnerSet};
    use super::*;

    const OPEN: Verdict = Verdict::Open { told: false };
    const TOLD: Verdict = Verdict::Open { told: true };

    fn key(lead: u64) -> AssignmentKey {
        AssignmentKey {
            portal: "acme".parse().unwrap(),
            lead: LeadId::new(lead).unwrap(),
            epoch: Epoch::FIRST,
        }
    }

    /// A pack of pairs that gives leads 1, 2, 3, … of user 1 to user 9; those in `notices` had the right owner before.
    fn pack(leads: u64, notices: &[u64]) -> Vec<PackItem> {
        let item = |lead: u64| PackItem {
            key: key(lead),
            from: UserId::new(1),
            to: UserId::new(9).unwrap(),
            position: u32::try_from(2 * lead - 2).unwrap(),
            sets_owner: !notices.contains(&lead),
            notice_position: u32::try_from(2 * lead - 1).ok(),
            more_to_do: false,
        };
        (1..=leads).map(item).collect()
    }

    /// The verdicts when the leads have these owners; 0 is a lead that is not shown.
    fn judged(pack: &[PackItem], owners: &[u64]) -> Vec<Verdict> {
        let shown = (1..).zip(owners).filter(|(_, owner)| **owner > 0);
        let owners = shown.map(|(lead, owner)| (LeadId::new(lead).unwrap(), UserId::new(*owner)));
        verdicts(pack, &owners.collect())
    }

    #[test]
    fn at_most_one_notice_of_a_pack_is_in_doubt() {
        for (owners, expected) in [
            ([1, 1, 1], [OPEN, OPEN, OPEN]),
            ([9, 1, 1], [OwnerSet, OPEN, OPEN]),
            ([9, 9, 1], [Done, OwnerSet, OPEN]),
            ([9, 9, 9], [Done, Done, OwnerSet]),
            // A person took lead 2 after the pack: lead 3 still proves that the notice of 1 ran.
            ([9, 7, 9], [Done, ByPerson, OwnerSet]),
        ] {
            assert_eq!(judged(&pack(3, &[]), &owners), expected, "{owners:?}");
        }
    }

    #[test]
    fn a_lead_with_its_old_owner_is_not_done_whatever_stands_behind_it() {
        assert_eq!(judged(&pack(3, &[]), &[1, 1, 9]), [TOLD, TOLD, OwnerSet]);
        assert_eq!(judged(&pack(3, &[]), &[0, 1, 9]), [TOLD, TOLD, OwnerSet], "not shown proves nothing");
        assert_eq!(judged(&pack(2, &[]), &[0, 0]), [OPEN, OPEN]);
    }

    #[test]
    fn an_owner_that_was_right_before_proves_nothing() {
        assert_eq!(judged(&pack(2, &[2]), &[1, 9]), [OPEN, OPEN]);
        assert_eq!(judged(&pack(2, &[2]), &[9, 9]), [OwnerSet, OPEN]);
        assert_eq!(judged(&pack(3, &[2]), &[9, 9, 9]), [Done, Done, OwnerSet]);
        assert_eq!(judged(&pack(2, &[2]), &[9, 7]), [OwnerSet, ByPerson]);
        // Given to who has it already, by a pack that was made without a look.
        let mut again = pack(2, &[]);
        again[1].from = Some(again[1].to);
        assert_eq!(judged(&again, &[1, 9]), [OPEN, OPEN]);
    }

    #[test]
    fn of_a_notice_for_several_leads_the_owners_behind_it_are_proof() {
        // Leads 1 and 2 with one notice, then 3 and 4 with one.
        let mut pack = pack(4, &[]);
        for (item, (position, notice)) in pack.iter_mut().zip([(0, 2), (1, 2), (3, 5), (4, 5)]) {
            (item.position, item.notice_position) = (position, Some(notice));
        }
        for (owners, expected) in [
            ([9, 1, 1, 1], [OwnerSet, OPEN, OPEN, OPEN]),
            ([9, 9, 1, 1], [OwnerSet, OwnerSet, OPEN, OPEN]),
            ([9, 9, 9, 1], [Done, Done, OwnerSet, OPEN]),
            ([9, 9, 9, 9], [Done, Done, OwnerSet, OwnerSet]),
            ([9, 1, 9, 1], [Done, TOLD, OwnerSet, OPEN]),
        ] {
            assert_eq!(judged(&pack, &owners), expected, "{owners:?}");
        }
    }

    #[test]
    fn without_a_notice_an_owner_is_all() {
        let mut pack = pack(3, &[3]);
        for item in &mut pack {
            item.notice_position = None;
        }
        assert_eq!(judged(&pack, &[9, 1, 9]), [Done, OPEN, OPEN]);
    }
}
