//! Before writing: is the lead still what the decision saw?

use common::ids::UserId;

/// What was seen of a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A list leaves it out: it is not there any more, or we may not see it.
    LeftOut,
    /// It has this owner.
    OwnedBy(Option<UserId>),
}

/// What is to be done about a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Set the owner, then tell them.
    SetOwner,
    /// The owner is right already; tell them.
    OnlyNotify,
    /// A person gave it to somebody else meanwhile: theirs is the last word.
    KeptByPerson,
    /// It is to be asked for by itself.
    AskForIt,
}

/// Compares the lead as it is with the owner the decision saw and the owner it chose. `owner_set`
/// says that we have set the owner before, so that another one now is a person's doing even if it is
/// the one the decision saw.
pub(crate) fn step(seen: Seen, from: Option<UserId>, to: UserId, owner_set: bool) -> Step {
    match seen {
        Seen::LeftOut => Step::AskForIt,
        Seen::OwnedBy(owner) if owner == Some(to) => Step::OnlyNotify,
        Seen::OwnedBy(owner) if owner == from && !owner_set => Step::SetOwner,
        Seen::OwnedBy(_) => Step::KeptByPerson,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let lead = Seen::OwnedBy(owner.and_then(UserId::new));
            assert_eq!(step(lead, seen, chosen, owner_set), expected, "{owner:?} {owner_set}");
        }
        assert_eq!(step(Seen::LeftOut, seen, chosen, false), Step::AskForIt);
        assert_eq!(step(Seen::OwnedBy(None), None, chosen, false), Step::SetOwner);
    }
}
