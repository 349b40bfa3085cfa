//! Whether a person may take a lead at this moment: the one definition, for queues and for rules that name a person.

use crate::explanation::Reason;
use crate::roster::Roster;
use crate::routing::Person;

/// Why this person may not take a lead; `None` when he may.
pub(crate) fn refusal(person: &Person, roster: &Roster) -> Option<Reason> {
    if !roster.get(person.user).active {
        return Some(Reason::Inactive);
    }
    None
}
