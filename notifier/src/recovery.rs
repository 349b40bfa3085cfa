//! A pack was sent and nobody saw its end: what did it do?
//!
//! The commands of a batch run one after the other, owner before notice. So an owner that is set
//! proves that everything before it ran. What is behind the last proof did not change the portal,
//! except perhaps for one notice: the first one behind the last owner that was set. That one is sent
//! again, all others are not.

use std::collections::BTreeMap;

use common::ids::{LeadId, UserId};
use common::messages::AssignmentKey;
use store::PackItem;

/// What a lost pack did about one of its assignments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Owner and notice.
    Both,
    /// The owner; whether the notice was sent cannot be known, so it is sent again.
    OwnerOnly,
    /// Nothing that can be seen.
    Nothing,
}

/// Finds it out from the owners that the leads of the pack have now.
pub(crate) fn find(
    key: &AssignmentKey,
    pack: &[PackItem],
    owners: &BTreeMap<LeadId, Option<UserId>>,
) -> Found {
    let has_new_owner = |item: &PackItem| owners.get(&item.key.lead) == Some(&Some(item.to));
    let Some(own) = pack.iter().find(|item| item.key == *key) else { return Found::Nothing };
    // An owner that was right before the pack proves nothing of the pack.
    let proof = |item: &&PackItem| item.sets_owner && has_new_owner(item);
    let last_proof = pack.iter().filter(proof).map(|item| item.position).max();
    let set_here = own.sets_owner && has_new_owner(own);
    match own.notice_position {
        Some(notice) if last_proof.is_some_and(|last| last > notice) => Found::Both,
        None if set_here => Found::Both,
        Some(_) | None if set_here => Found::OwnerOnly,
        Some(_) | None => Found::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use common::messages::Epoch;

    use super::*;

    fn key(lead: u64) -> AssignmentKey {
        AssignmentKey {
            portal: "acme".parse().unwrap(),
            lead: LeadId::new(lead).unwrap(),
            epoch: Epoch::FIRST,
        }
    }

    /// A pack of pairs that gives leads 1, 2, 3, … to user 9; those in `notices` had the right owner before.
    fn pack(leads: u64, notices: &[u64]) -> Vec<PackItem> {
        let item = |lead: u64| PackItem {
            key: key(lead),
            to: UserId::new(9).unwrap(),
            position: u32::try_from(2 * lead - 2).unwrap(),
            sets_owner: !notices.contains(&lead),
            notice_position: u32::try_from(2 * lead - 1).ok(),
        };
        (1..=leads).map(item).collect()
    }

    fn found(pack: &[PackItem], owners: &[u64]) -> Vec<Found> {
        let owners = owners.iter().enumerate();
        let owners = owners
            .map(|(index, owner)| (LeadId::new(index as u64 + 1).unwrap(), UserId::new(*owner)))
            .collect::<BTreeMap<_, _>>();
        pack.iter().map(|item| find(&item.key, pack, &owners)).collect()
    }

    #[test]
    fn at_most_one_notice_of_a_pack_is_in_doubt() {
        use Found::{Both, Nothing, OwnerOnly};
        for (owners, expected) in [
            ([1, 1, 1], [Nothing, Nothing, Nothing]),
            ([9, 1, 1], [OwnerOnly, Nothing, Nothing]),
            ([9, 9, 1], [Both, OwnerOnly, Nothing]),
            ([9, 9, 9], [Both, Both, OwnerOnly]),
            // A person took lead 2 after the pack: lead 3 still proves that the notice of 1 ran.
            ([9, 7, 9], [Both, Both, OwnerOnly]),
        ] {
            assert_eq!(found(&pack(3, &[]), &owners), expected, "{owners:?}");
        }
    }

    #[test]
    fn an_owner_that_was_right_before_proves_nothing() {
        use Found::{Nothing, OwnerOnly};
        assert_eq!(found(&pack(2, &[2]), &[1, 9]), [Nothing, Nothing]);
        assert_eq!(found(&pack(2, &[2]), &[9, 9]), [OwnerOnly, Nothing]);
    }
    #[test]
    fn of_a_notice_for_several_leads_the_owners_behind_it_are_proof() {
        use Found::{Both, Nothing, OwnerOnly};
        // Leads 1 and 2 with one notice, then 3 and 4 with one.
        let mut pack = pack(4, &[]);
        for (item, (position, notice)) in pack.iter_mut().zip([(0, 2), (1, 2), (3, 5), (4, 5)]) {
            (item.position, item.notice_position) = (position, Some(notice));
        }
        for (owners, expected) in [
            ([9, 1, 1, 1], [OwnerOnly, Nothing, Nothing, Nothing]),
            ([9, 9, 1, 1], [OwnerOnly, OwnerOnly, Nothing, Nothing]),
            ([9, 9, 9, 1], [Both, Both, OwnerOnly, Nothing]),
            ([9, 9, 9, 9], [Both, Both, OwnerOnly, OwnerOnly]),
        ] {
            assert_eq!(found(&pack, &owners), expected, "{owners:?}");
        }
    }

    #[test]
    fn without_a_notice_an_owner_is_all() {
        let mut pack = pack(2, &[]);
        for item in &mut pack {
            item.notice_position = None;
        }
        assert_eq!(found(&pack, &[9, 1]), [Found::Both, Found::Nothing]);
    }
}
