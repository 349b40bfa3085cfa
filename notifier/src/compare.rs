//! Before writing: is the lead still what the decision saw?

use bitrix24::PortalLead;
use common::ids::UserId;

/// What is to be done about a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Set the owner, then tell them.
    SetOwner,
    /// The owner is right already; tell them.
    OnlyNotify,
    /// A person gave it to somebody else meanwhile: theirs is the last word.
    KeptByPerson,
    /// There is no such lead any more.
    Deleted,
}

/// Compares the lead as it is with the owner the decision saw and the owner it chose. `owner_set`
/// says that we have set the owner before, so that another one now is a person's doing even if it is
/// the one the decision saw.
pub(crate) fn step(lead: Option<&PortalLead>, from: Option<UserId>, to: UserId, owner_set: bool) -> Step {
    match lead {
        None => Step::Deleted,
        Some(lead) if lead.owner == Some(to) => Step::OnlyNotify,
        Some(lead) if lead.owner == from && !owner_set => Step::SetOwner,
        Some(_) => Step::KeptByPerson,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(owner: Option<u64>) -> PortalLead {
        PortalLead {
            id: common::ids::LeadId::new(42).unwrap(),
            owner: owner.and_then(UserId::new),
            title: String::new(),
            fields: serde_json::Map::new(),
        }
    }

    #[test]
    fn a_persons_choice_is_kept() {
        let (seen, chosen) = (UserId::new(1), UserId::new(9).unwrap());
        for (owner, owner_set, expected) in [
            (Some(1), false, Step::SetOwner),
            (Some(9), false, Step::OnlyNotify),
            (Some(9), true, Step::OnlyNotify),
            (Some(7), false, Step::KeptByPerson),
            (Some(7), true, Step::KeptByPerson),
            (Some(1), true, Step::KeptByPerson),
            (None, false, Step::KeptByPerson),
        ] {
            let lead = lead(owner);
            assert_eq!(step(Some(&lead), seen, chosen, owner_set), expected, "{owner:?} {owner_set}");
        }
        assert_eq!(step(None, seen, chosen, false), Step::Deleted);
        assert_eq!(step(Some(&lead(None)), None, chosen, false), Step::SetOwner);
    }
}
