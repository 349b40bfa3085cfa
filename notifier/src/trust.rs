//! What failures have taught about writes: how large packs may be again, and whether the portal takes guarded writes.

use common::messages::AssignmentKey;

use crate::writer::{Write, WriteEnd, WriteResult};

/// With how many others a lead may be in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Company {
    /// With any number.
    Any,
    /// In a pack of so many, or of more where [`Trust`] has grown: it was in one that failed as a whole.
    AtMost(usize),
    /// By itself: it was in one that failed, and nobody will try again. Whoever is to blame must not take the last
    /// try from others.
    Alone,
}

impl Company {
    /// From what the store knows of failed packs.
    pub(crate) fn of(pack_at_most: Option<u32>, last_try: bool) -> Self {
        match pack_at_most {
            None => Self::Any,
            Some(_) if last_try => Self::Alone,
            Some(at_most) => Self::AtMost(usize::try_from(at_most).unwrap_or(usize::MAX)),
        }
    }
}

/// How far packs that were made smaller after a failure may grow again.
///
/// One lead can make every pack fail that it is in, so leads of a pack that failed as a whole come back in packs of
/// half the size, and in the end alone. But after a portal was away for an hour, thousands of leads come back like
/// that. So each pack of such leads that succeeds lets the next be twice as large, and a failure ends that.
#[derive(Debug)]
pub(crate) struct Trust(usize);

/// More than any pack needs: from one lead to a full pack are six steps.
const TRUST_MAX: usize = 64;

impl Default for Trust {
    fn default() -> Self {
        Self(1)
    }
}

impl Trust {
    /// How many of these, from the first on, may be in one pack.
    pub(crate) fn leads<'a>(&self, waiting: impl Iterator<Item = &'a Write>) -> usize {
        let (mut count, mut at_most) = (0, usize::MAX);
        for write in waiting {
            at_most = at_most.min(self.at_most(write.company));
            if count >= at_most {
                break;
            }
            count += 1;
        }
        // A pack that only looks at others has none.
        count.max(1)
    }

    fn at_most(&self, company: Company) -> usize {
        match company {
            Company::Any => usize::MAX,
            Company::AtMost(at_most) => at_most.saturating_mul(self.0),
            Company::Alone => 1,
        }
    }

    /// A pack has ended; `limited` says that it had leads of packs that had failed.
    pub(crate) fn ended(&mut self, failed_as_a_whole: bool, limited: bool) {
        if failed_as_a_whole {
            self.0 = 1;
        } else if limited {
            self.0 = (self.0 * 2).min(TRUST_MAX);
        }
    }
}

/// Whether lone leads can be written together with the look at them, which needs a portal that takes a command's
/// parameter from the result of another.
///
/// A write that was refused for its id, while the look showed the lead, is written the plain way; if the portal takes
/// that, it was the reference that it did not understand, and no more is tried until the process starts anew.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    refused: Option<AssignmentKey>,
    not_understood: bool,
}

impl Guard {
    pub(crate) fn is_understood(&self) -> bool {
        !self.not_understood
    }

    pub(crate) fn refused(&mut self, key: &AssignmentKey) {
        self.refused = Some(key.clone());
    }

    /// A lead was written the plain way.
    pub(crate) fn ended(&mut self, key: &AssignmentKey, end: &WriteResult) {
        if self.refused.as_ref() != Some(key) {
            return;
        }
        self.refused = None;
        if matches!(end, Ok(WriteEnd::Finished(_) | WriteEnd::NoticeRefused(_))) {
            self.not_understood = true;
            tracing::warn!(
                event = "portal.references_not_understood", portal = %key.portal,
                "a lone lead takes a request more from here on",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use bitrix24::PortalError;
    use common::ids::LeadId;
    use common::messages::Epoch;

    use super::*;

    fn key(lead: u64) -> AssignmentKey {
        let lead = LeadId::new(lead).unwrap();
        AssignmentKey { portal: "acme".parse().unwrap(), lead, epoch: Epoch::FIRST }
    }

    fn write(company: Company) -> Write {
        Write { company, ..Write::plain(1, 9) }
    }

    /// How many of the leads with these limits are in one pack; 0 is none.
    fn leads(trust: &Trust, limits: &[u32]) -> usize {
        let limit = |limit: &u32| write(Company::of((*limit > 0).then_some(*limit), false));
        let writes: Vec<Write> = limits.iter().map(limit).collect();
        trust.leads(writes.iter())
    }

    #[test]
    fn leads_of_a_failed_pack_come_back_in_smaller_ones_which_grow_with_each_success() {
        let mut trust = Trust::default();
        assert_eq!(leads(&trust, &[0; 30]), 30);
        assert_eq!(leads(&trust, &[12; 30]), 12);
        assert_eq!(leads(&trust, &[0, 0, 2, 0]), 2, "no smaller one is in a larger pack");
        assert_eq!(leads(&trust, &[0, 0, 0, 2]), 3, "it waits for the next");
        assert_eq!(leads(&trust, &[1, 0]), 1);
        assert_eq!(leads(&trust, &[]), 1);
        trust.ended(false, true);
        trust.ended(false, false);
        assert_eq!(leads(&trust, &[3; 30]), 6);
        trust.ended(false, true);
        assert_eq!(leads(&trust, &[3; 30]), 12);
        let last = write(Company::of(Some(12), true));
        assert_eq!(trust.leads([&last, &last].into_iter()), 1, "the last try is alone");
        trust.ended(true, false);
        assert_eq!(leads(&trust, &[3; 30]), 3);
    }

    #[test]
    fn a_portal_that_takes_the_plain_write_does_not_understand_the_guarded_one() {
        let mut guard = Guard::default();
        guard.refused(&key(1));
        guard.ended(&key(2), &Ok(WriteEnd::Finished("assigned")));
        guard.ended(&key(1), &Err(PortalError::Interrupted));
        assert!(guard.is_understood(), "the plain one was not taken either");
        guard.refused(&key(3));
        guard.ended(&key(3), &Ok(WriteEnd::Finished("assigned")));
        assert!(!guard.is_understood());
    }
}
