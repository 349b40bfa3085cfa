//! An explanation as one English line, for logs and for who looks at the first of it.
//!
//! `rule "Cold calls" (region: Moscow) → queue cold_calls: nobody → on duty → duty`

use std::fmt;

use super::text::{Language, Writer};
use super::{Candidate, Explanation, Outcome, Role};
use crate::name::Name;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = Writer::new(self, Language::English);
        if let Outcome::Skip { reason } = self.outcome {
            return write!(f, "skipped: {}", words.skip(reason));
        }
        if !self.cause.is_new() {
            write!(f, "{}: ", self.cause.as_str())?;
        }
        match &self.rule {
            _ if self.goes_as_asked() => f.write_str("as asked")?,
            Some(rule) => {
                write!(f, "rule \"{rule}\"")?;
                if !self.cases.is_empty() {
                    let cases: Vec<&str> = self.cases.iter().map(Name::as_str).collect();
                    write!(f, " ({})", cases.join(", "))?;
                }
            }
            None => f.write_str("default")?,
        }
        let mut steps = self.steps().peekable();
        let mut to_default = self.by_default && self.rule.is_some();
        while let Some(step) = steps.next() {
            let taken = step.iter().any(|candidate| candidate.reason.is_taken());
            match step {
                [first, ..] if first.role == Role::Named && !taken => {
                    write!(f, " → {} ({})", first.person, words.reason(&first.reason))?;
                    if std::mem::take(&mut to_default) {
                        f.write_str(" → default")?;
                    }
                    continue;
                }
                [first, ..] if first.role == Role::Member => {
                    // The oldest records name the queue only once, for all of it.
                    let queue = first.queue.as_ref().or(self.queue.as_ref());
                    write!(f, " → queue {}", queue.map_or("", Name::as_str))?;
                }
                [first, ..] if first.role == Role::OnDuty => f.write_str(" → on duty")?,
                [one] if one.role.stands_alone() => {
                    write!(f, " → {} {}", one.role.word(), one.person)?;
                    if !taken {
                        write!(f, " ({})", words.reason(&one.reason))?;
                    }
                    continue;
                }
                _ => {}
            }
            if !taken && steps.peek().is_some() {
                f.write_str(": nobody")?;
            }
        }
        match &self.outcome {
            Outcome::Assign { person, .. } => write!(f, " → {person}")?,
            Outcome::Hold { reason, until } => write!(f, " → held: {}", words.hold(*reason, *until))?,
            Outcome::Skip { .. } => {}
        }
        match self.taken().and_then(|candidate| candidate.credit) {
            Some(credit) => write!(f, " (credit {} → {})", credit.compared, credit.after),
            None => Ok(()),
        }
    }
}

impl Role {
    /// Whether who is asked as this is asked alone.
    const fn stands_alone(self) -> bool {
        matches!(self, Self::Client | Self::Substitute | Self::Successor)
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Client => "client of",
            Self::Substitute => "substitute",
            Self::Successor => "successor",
            Self::Named | Self::Member | Self::OnDuty => "",
        }
    }
}

impl Explanation {
    /// The candidates by whom was asked together: one who is named, the members of a queue, those on duty for it.
    pub(super) fn steps(&self) -> impl Iterator<Item = &[Candidate]> {
        let together = |one: &Candidate, next: &Candidate| {
            let together = one.role != Role::Named && !one.role.stands_alone();
            together && one.role == next.role && one.queue == next.queue
        };
        self.candidates.chunk_by(together)
    }
}
