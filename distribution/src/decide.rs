//! The decision itself: lead, people, routing and ledger in; who gets the lead, and why, out.
//!
//! Pure and total. The same input gives the same output, and no input makes it fail: a wrong routing is refused when it
//! is loaded, and "nobody may take it" is a [`Hold`].

use jiff::Timestamp;

use crate::compare;
use crate::decision::{Assignment, Decision, Hold, Orders, Skip};
use crate::eligibility;
use crate::explanation::{
    Candidate, Explanation, FORMAT, HoldReason, NOT_MATCHED_LISTED_MAX, NotMatched, Outcome, Reason,
    SkipReason,
};
use crate::facts::Facts;
use crate::lead::{FieldValue, Lead};
use crate::ledger::{Ledger, LedgerEntry};
use crate::name::Name;
use crate::roster::Roster;
use crate::routing::{Person, Queue, Routing, Target};
use crate::strategy;

/// Decides who gets `lead` at the time `now`.
///
/// 1. A lead that is converted or junk is skipped.
/// 2. The first rule whose conditions are all met, and whose tree has a case for the lead, decides, else the default.
/// 3. A queue chooses one of its members by its strategy. A person who is named takes the lead and no ledger is
///    charged; when he may not take it, the default decides.
/// 4. When nobody may take it, it is held.
#[must_use]
pub fn decide(lead: &Lead, roster: &Roster, routing: &Routing, ledger: &Ledger, now: Timestamp) -> Decision {
    let mut reasoning = Reasoning::new(routing, now);
    if let Some(reason) = already_final(lead) {
        return reasoning.skip(reason);
    }
    let target = match reasoning.first_matching(routing, lead) {
        Some(target) => target,
        None => &routing.default,
    };
    reasoning.hand_to(target, Asked { routing, roster, ledger })
}

/// The portal's own verdict on the lead, whatever its stages are called.
fn already_final(lead: &Lead) -> Option<SkipReason> {
    let FieldValue::Text(semantics) = lead.field("STATUS_SEMANTIC_ID") else {
        return None;
    };
    match compare::fold(semantics).as_str() {
        "s" => Some(SkipReason::Converted),
        "f" => Some(SkipReason::Junk),
        _ => None,
    }
}

/// What a target is asked with.
#[derive(Clone, Copy)]
struct Asked<'a> {
    routing: &'a Routing,
    roster: &'a Roster,
    ledger: &'a Ledger,
}

/// What is known of the reasons so far; it ends in a decision.
struct Reasoning {
    decided_at: Timestamp,
    routing_version: u64,
    rule: Option<Name>,
    cases: Vec<Name>,
    not_matched: Vec<NotMatched>,
    not_matched_total: usize,
    by_default: bool,
    queue: Option<Name>,
    candidates: Vec<Candidate>,
}

impl Reasoning {
    fn new(routing: &Routing, now: Timestamp) -> Self {
        Self {
            decided_at: now,
            routing_version: routing.version,
            rule: None,
            cases: Vec::new(),
            not_matched: Vec::new(),
            not_matched_total: 0,
            by_default: false,
            queue: None,
            candidates: Vec::new(),
        }
    }

    /// Goes through the rules in the file's order, up to the first that matches.
    fn first_matching<'r>(&mut self, routing: &'r Routing, lead: &Lead) -> Option<&'r Target> {
        let facts = Facts::of(lead, &routing.fields);
        for rule in &routing.rules {
            let condition = match rule.matches(&facts) {
                Ok(matched) => {
                    self.rule = Some(rule.name.clone());
                    self.cases = matched.cases;
                    return Some(matched.target);
                }
                Err(condition) => condition,
            };
            self.not_matched_total += 1;
            if self.not_matched.len() < NOT_MATCHED_LISTED_MAX {
                self.not_matched.push(NotMatched { rule: rule.name.clone(), condition });
            }
        }
        self.by_default = true;
        None
    }

    /// Gives the lead to `target`, or where that may not take it to the default, or to nobody.
    fn hand_to(mut self, target: &Target, asked: Asked<'_>) -> Decision {
        let person = match target {
            Target::Queue(queue) => return self.ask(queue, asked),
            Target::Person(person) => person,
        };
        let Some(refusal) = eligibility::refusal(person, asked.roster) else {
            self.candidates.push(Candidate::new(person, Reason::Named, None));
            return self.assign(person, Vec::new());
        };
        self.candidates.push(Candidate::new(person, refusal, None));
        if self.by_default {
            return self.hold();
        }
        self.by_default = true;
        self.hand_to(&asked.routing.default, asked)
    }

    fn ask(mut self, queue: &Queue, asked: Asked<'_>) -> Decision {
        let choice = strategy::choose(queue, asked.roster, asked.ledger);
        self.queue = Some(queue.name.clone());
        self.candidates.extend(choice.candidates);
        match choice.chosen {
            Some(person) => self.assign(&person, choice.entries),
            None => self.hold(),
        }
    }

    fn assign(self, person: &Person, entries: Vec<LedgerEntry>) -> Decision {
        Decision::Assign(Assignment {
            person: person.name.clone(),
            user: person.user,
            queue: self.queue.clone(),
            rule: self.rule.clone(),
            entries,
            orders: Orders::default(),
            explanation: self.conclude(Outcome::Assign { person: person.name.clone(), user: person.user }),
        })
    }

    fn hold(self) -> Decision {
        let reason = HoldReason::NobodyEligible;
        let queue = self.queue.clone();
        let until = None;
        Decision::Hold(Hold {
            queue,
            reason,
            until,
            explanation: self.conclude(Outcome::Hold { reason, until }),
        })
    }

    fn skip(self, reason: SkipReason) -> Decision {
        Decision::Skip(Skip { reason, explanation: self.conclude(Outcome::Skip { reason }) })
    }

    fn conclude(self, outcome: Outcome) -> Explanation {
        Explanation {
            format: FORMAT,
            decided_at: self.decided_at,
            routing_version: self.routing_version,
            outcome,
            rule: self.rule,
            cases: self.cases,
            not_matched: self.not_matched,
            not_matched_total: self.not_matched_total,
            by_default: self.by_default,
            queue: self.queue,
            candidates: self.candidates,
        }
    }
}
