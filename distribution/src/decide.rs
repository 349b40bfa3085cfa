//! The decision itself: lead, people, routing and ledger in; who gets the lead, and why, out.
//!
//! Pure and total. The same input gives the same output, and no input makes it fail: a wrong routing is refused when it
//! is loaded, and "nobody may take it" is a [`Hold`].

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use crate::calendar::Calendar;
use crate::compare;
use crate::decision::{Assignment, Decision, Hold, Orders, Skip};
use crate::eligibility::Demands;
use crate::explanation::{
    Candidate, Explanation, FORMAT, HoldReason, NOT_MATCHED_LISTED_MAX, NotMatched, Outcome, Reason, Role,
    SkipReason,
};
use crate::facts::Facts;
use crate::giving::{Cause, Destination, Giving};
use crate::ids::UserId;
use crate::lead::{FieldValue, Lead};
use crate::ledger::{Ledger, LedgerEntry};
use crate::line::{self, Needs};
use crate::name::Name;
use crate::roster::{NotKnown, Roster};
use crate::routing::{Fallback, Handover, Person, Queue, Routing, Target};
use crate::sticky::{self, ClientSought, Kept, KeptOutcome};
use crate::strategy::{self, Asked, Choice};

/// Decides who gets `lead` at the time `now`.
///
/// 1. A lead that is converted or junk is skipped, one that belongs to somebody from whom none may be taken, and one that
///    a person made for themselves.
/// 2. The first rule whose conditions are all met, and whose tree has a case for the lead, decides, else the default.
/// 3. A queue chooses one of its members by its strategy; when none may take the lead, it tries what its `if_nobody`
///    says. A person who is named takes the lead and no ledger is charged; when he may not, the rule's `if_nobody` is
///    tried, or where it has none the default decides.
/// 4. When nobody may take it, it is held.
///
/// Where a queue is `sticky`, and the client of the lead is somebody's, that person is asked before its members, as
/// [`Lead::ties`] tell. A lead may wait for him alone.
#[must_use]
pub fn decide(lead: &Lead, roster: &Roster, routing: &Routing, ledger: &Ledger, now: Timestamp) -> Decision {
    decide_giving(lead, &Giving::default(), roster, routing, ledger, now)
}

/// Decides one giving of a lead, which may be another than the first.
///
/// As [`decide`], but
/// - a robot may take a lead from anybody, also from who made it for themselves, and a lead that was not answered is taken only from who did not answer it;
/// - where [`Giving::to`] names a queue or a person of the routing, no rule is looked at; a name that is not there is
///   told in the explanation, and the rules decide;
/// - nobody who had the lead before in this round gets it;
/// - one that somebody may take is held where leads wait ahead of it that want the same people ([`Giving::ahead`]), but for
///   one that was not answered: that cannot wait;
/// - a lead that was not answered, and that nobody else may take, stays where it is; what its rule does besides was done
///   when it was given for the first time.
#[must_use]
pub fn decide_giving(
    lead: &Lead,
    giving: &Giving,
    roster: &Roster,
    routing: &Routing,
    ledger: &Ledger,
    now: Timestamp,
) -> Decision {
    let mut reasoning = Reasoning::new(routing, giving, now);
    if let Some(reason) = left_alone(lead, giving, routing) {
        return reasoning.skip(reason);
    }
    let handover = reasoning.handover(routing, lead, giving, now);
    reasoning.explanation.not_known = roster.not_known().collect();
    let calendar = Calendar::at(routing, now);
    let unanswered = giving.cause == Cause::Unanswered;
    let asked = Asked {
        routing,
        roster,
        ledger,
        calendar: &calendar,
        skills: handover.skills.as_slice(),
        had: &giving.had,
        held_since: giving.held_since,
        // Who did not answer his client's lead does not get it back.
        keeps_clients: !unanswered,
        ties: lead.ties.as_deref(),
    };
    let taken = reasoning.hand_to(&handover.target, asked);
    let needs = || Needs::of(routing, &handover, &giving.had);
    if let Some(taken) = taken.as_ref().filter(|_| !unanswered && !giving.ahead.is_empty()) {
        // Whose client it is, is asked for it first; but it may come to others while it waits.
        let kept = reasoning.kept().then(|| taken.person.clone());
        let asks = kept.iter().cloned().fold(needs(), Needs::only);
        if line::is_behind(&asks, giving, routing, roster, &calendar) {
            return reasoning.hold_behind(kept.into_iter().fold(needs(), Needs::also));
        }
    }
    match taken {
        Some(taken) => {
            let orders = handover.orders.as_deref().filter(|_| !unanswered).cloned().unwrap_or_default();
            reasoning.assign(taken, orders)
        }
        None if unanswered => reasoning.skip(SkipReason::NobodyElse),
        None => {
            let needs = reasoning.needs_of_held(needs());
            // Where they say that it may go, and it does not, they tell nothing of it.
            let tell = !needs.has_takers(routing, roster, &calendar, giving.held_since.is_some());
            reasoning.hold(tell.then_some(needs))
        }
    }
}

impl Routing {
    /// What is to be found out of the lead's client before this giving of it is decided; `None` where nothing is, because it
    /// comes to no queue that asks for it.
    #[must_use]
    pub fn client_sought(
        &self,
        lead: &Lead,
        giving: &Giving,
        roster: &Roster,
        now: Timestamp,
    ) -> Option<ClientSought> {
        let asks = |queue: &Queue| queue.sticky.is_some();
        let is_left = || left_alone(lead, giving, self).is_some();
        if !self.queues.iter().any(asks) || giving.cause == Cause::Unanswered || is_left() {
            return None;
        }
        let mut reasoning = Reasoning::new(self, giving, now);
        let handover = reasoning.handover(self, lead, giving, now);
        let mut waiting = queues_of(&handover.target);
        if matches!(handover.target, Target::Person { if_nobody: None, .. }) {
            waiting.extend(queues_of(&self.default.target));
        }
        let mut reached: Vec<&Queue> = Vec::new();
        while let Some(queue) = waiting.pop().and_then(|number| self.queues.get(number)) {
            if !reached.iter().any(|known| known.name == queue.name) {
                reached.push(queue);
                waiting.extend(queues_among(&queue.if_nobody));
            }
        }
        let rules = reached.into_iter().filter_map(|queue| queue.sticky.as_ref());
        // Whom the decision passes over for the next who has the client.
        let settles = |person: &&Person| {
            roster.get(person.user).active
                && !giving.had.contains(&person.user)
                && handover.skills.iter().all(|skill| person.skills.contains(skill))
        };
        let settled_by = self.people().filter(settles).map(|person| person.user).collect();
        ClientSought::by_any(rules, settled_by, now)
    }
}

/// The queues that a target names, by their places.
fn queues_of(target: &Target) -> Vec<usize> {
    match target {
        Target::Queue(queue) => vec![*queue],
        Target::Person { if_nobody, .. } => queues_among(if_nobody.as_deref().unwrap_or_default()).collect(),
    }
}

fn queues_among(fallbacks: &[Fallback]) -> impl Iterator<Item = usize> {
    fallbacks.iter().filter_map(|fallback| match fallback {
        Fallback::Queue(queue) => Some(*queue),
        Fallback::OnDuty | Fallback::Hold => None,
    })
}

/// What the destination is in the routing.
fn named(destination: &Destination, routing: &Routing) -> Option<Handover> {
    let target = match destination {
        Destination::Queue(name) => {
            Target::Queue(routing.queues.iter().position(|queue| queue.name == *name)?)
        }
        Destination::Person(name) => {
            let person = Arc::clone(routing.person(name)?);
            Target::Person { person, if_nobody: Some(vec![Fallback::Hold]) }
        }
    };
    Some(Handover { target, skills: Vec::new(), orders: None })
}

/// Why the lead is none of our business, if it is not.
fn left_alone(lead: &Lead, giving: &Giving, routing: &Routing) -> Option<SkipReason> {
    let of_maker = || giving.cause == Cause::New && routing.leaves_to_maker(lead);
    already_final(lead)
        .or_else(|| already_taken(lead, giving, routing))
        .or_else(|| of_maker().then_some(SkipReason::MadeByHand))
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

/// A person has chosen somebody already.
fn already_taken(lead: &Lead, giving: &Giving, routing: &Routing) -> Option<SkipReason> {
    let taken = match giving.cause {
        Cause::New => !routing.only_from.as_ref()?.contains(&lead.owner?),
        Cause::Robot => false,
        Cause::Unanswered => lead.owner != giving.from,
    };
    taken.then_some(SkipReason::Taken)
}

/// Somebody who takes the lead, and what that does to the ledgers.
struct Taken {
    person: Name,
    user: UserId,
    queue: Option<Name>,
    entries: Vec<LedgerEntry>,
}

/// What is known of the reasons so far; it ends in a decision.
struct Reasoning {
    explanation: Explanation,
    /// When one of those who may not take it may at the earliest.
    available: Option<Timestamp>,
    /// Which queues were asked, so that none is asked twice.
    asked: Vec<Name>,
    /// Set when it waits for the person whose client it is.
    waits: Option<Waits>,
}

/// Until when it waits for the person whose client it is, if that is known.
struct Waits {
    until: Option<Timestamp>,
    person: Option<Name>,
}

impl Reasoning {
    fn new(routing: &Routing, giving: &Giving, now: Timestamp) -> Self {
        let explanation = Explanation {
            format: FORMAT,
            decided_at: now,
            routing_version: routing.version,
            outcome: Outcome::Hold { reason: HoldReason::NobodyEligible, until: None },
            cause: giving.cause,
            to: giving.to.clone(),
            rule: None,
            cases: Vec::new(),
            not_matched: Vec::new(),
            not_matched_total: 0,
            by_default: false,
            client: None,
            queue: None,
            candidates: Vec::new(),
            not_known: Vec::new(),
            time_zone: routing.zone.iana_name().map(Name::from),
        };
        Self { explanation, available: None, asked: Vec::new(), waits: None }
    }

    /// Where the lead goes: as asked, or by the first rule that matches, or by default.
    fn handover<'r>(
        &mut self,
        routing: &'r Routing,
        lead: &Lead,
        giving: &Giving,
        now: Timestamp,
    ) -> Cow<'r, Handover> {
        match giving.to.as_ref().and_then(|to| named(to, routing)) {
            Some(handover) => Cow::Owned(handover),
            None => Cow::Borrowed(self.first_matching(routing, lead, now).unwrap_or(&routing.default)),
        }
    }

    /// Goes through the rules in the file's order, up to the first that matches.
    fn first_matching<'r>(
        &mut self,
        routing: &'r Routing,
        lead: &Lead,
        now: Timestamp,
    ) -> Option<&'r Handover> {
        let facts = Facts::of(lead, routing, now);
        let why = &mut self.explanation;
        // The first rules are asked one by one, because the explanation says what they want; of the others only those
        // that the lead can meet.
        let listed = routing.rules.len().min(NOT_MATCHED_LISTED_MAX);
        for place in (0..listed).chain(routing.rule_index.candidates(&facts, listed)) {
            let Some(rule) = routing.rules.get(place) else { continue };
            match rule.matches(&facts) {
                Ok(matched) => {
                    why.rule = Some(rule.name.clone());
                    why.cases = matched.cases;
                    why.not_matched_total = place;
                    return Some(matched.handover);
                }
                Err(condition) if place < listed => {
                    why.not_matched.push(NotMatched { rule: rule.name.clone(), condition });
                }
                Err(_) => {}
            }
        }
        why.not_matched_total = routing.rules.len();
        why.by_default = true;
        None
    }

    /// Asks a target, and where that may not take the lead what it falls back to.
    fn hand_to(&mut self, target: &Target, asked: Asked<'_>) -> Option<Taken> {
        let (person, if_nobody) = match target {
            Target::Queue(queue) => return self.ask(*queue, asked),
            Target::Person { person, if_nobody } => (person, if_nobody),
        };
        let demands = Demands::of_rule(asked.skills, asked.had);
        let presence = asked.roster.get(person.user);
        let Some(refusal) = demands.refusal(person, presence, asked.calendar) else {
            self.explanation.candidates.push(Candidate::new(person, Role::Named, None, Reason::Named));
            return Some(Taken::by(person, None, Vec::new()));
        };
        self.may_at(demands.available(&refusal, person, presence, asked.calendar));
        self.explanation.candidates.push(Candidate::new(person, Role::Named, None, refusal));
        if let Some(fallbacks) = if_nobody {
            return self.fall_back(fallbacks, None, asked);
        }
        if self.explanation.by_default {
            return None;
        }
        self.explanation.by_default = true;
        self.hand_to(&asked.routing.default.target, asked)
    }

    /// Asks the queue with this number, then whatever it falls back to.
    fn ask(&mut self, queue: usize, asked: Asked<'_>) -> Option<Taken> {
        let queue = asked.routing.queues.get(queue)?;
        if self.asked.contains(&queue.name) {
            return None;
        }
        self.asked.push(queue.name.clone());
        let kept = self.keep(queue, asked);
        if kept.is_some() || self.waits.is_some() {
            return kept;
        }
        self.take_from(strategy::ask_members(queue, asked), queue)
            .or_else(|| self.fall_back(&queue.if_nobody, Some(queue), asked))
    }

    /// Asks the person whose client it is, where the queue wants that.
    fn keep(&mut self, queue: &Queue, asked: Asked<'_>) -> Option<Taken> {
        let rules = queue.sticky.as_ref().filter(|_| asked.keeps_clients)?;
        let Some(ties) = asked.ties else {
            if !self.explanation.not_known.contains(&NotKnown::Clients) {
                self.explanation.not_known.push(NotKnown::Clients);
            }
            return None;
        };
        let Kept { outcome, candidates, client } = sticky::ask_own(queue, rules, ties, asked);
        let last = candidates.last().map(|candidate| candidate.person.clone());
        self.explanation.candidates.extend(candidates);
        self.explanation.client = client.or_else(|| self.explanation.client.take());
        match outcome {
            KeptOutcome::Goes(person, entries) => Some(Taken::by(&person, Some(&queue.name), entries)),
            KeptOutcome::Waits(until) => {
                self.waits = Some(Waits { until, person: last });
                None
            }
            KeptOutcome::Otherwise => None,
        }
    }

    fn fall_back(
        &mut self,
        fallbacks: &[Fallback],
        queue: Option<&Queue>,
        asked: Asked<'_>,
    ) -> Option<Taken> {
        for fallback in fallbacks {
            let taken = match (fallback, queue) {
                (Fallback::OnDuty, Some(queue)) => self.take_from(strategy::ask_on_duty(queue, asked), queue),
                (Fallback::Queue(other), _) => self.ask(*other, asked),
                (Fallback::OnDuty, None) | (Fallback::Hold, _) => return None,
            };
            if taken.is_some() || self.waits.is_some() {
                return taken;
            }
        }
        None
    }

    fn take_from(&mut self, choice: Choice, queue: &Queue) -> Option<Taken> {
        let candidates = &mut self.explanation.candidates;
        if candidates.is_empty() {
            *candidates = choice.candidates;
        } else {
            candidates.extend(choice.candidates);
        }
        self.may_at(choice.available);
        choice.chosen.map(|person| Taken::by(&person, Some(&queue.name), choice.entries))
    }

    fn may_at(&mut self, moment: Option<Timestamp>) {
        self.available = [self.available, moment].into_iter().flatten().min();
    }

    fn assign(self, taken: Taken, orders: Orders) -> Decision {
        let Taken { person, user, queue, entries } = taken;
        let mut explanation = self.explanation;
        explanation.outcome = Outcome::Assign { person: person.clone(), user };
        explanation.queue.clone_from(&queue);
        let rule = explanation.rule.clone();
        Decision::Assign(Assignment { person, user, queue, rule, entries, orders, explanation })
    }

    /// Whether somebody takes it because its client is his.
    fn kept(&self) -> bool {
        let role = self.explanation.taken().map(|taken| taken.role);
        matches!(role, Some(Role::Client | Role::Substitute | Role::Successor))
    }

    /// What a lead needs that is held: it may wait for one person.
    fn needs_of_held(&self, needs: Needs) -> Needs {
        match self.waits.as_ref().and_then(|waits| waits.person.clone()) {
            Some(person) => needs.only(person),
            None => needs,
        }
    }

    /// Somebody may take it, but not before others; who that is will be seen then.
    fn hold_behind(self, needs: Needs) -> Decision {
        let (reason, until, queue) = (HoldReason::BehindOthers, None, needs.queue().cloned());
        let mut explanation = self.explanation;
        explanation.outcome = Outcome::Hold { reason, until };
        explanation.queue.clone_from(&queue);
        explanation.candidates.clear();
        explanation.client = None;
        Decision::Hold(Hold { queue, reason, until, needs: Some(needs), explanation })
    }

    fn hold(self, needs: Option<Needs>) -> Decision {
        let (reason, until) = match self.waits {
            Some(Waits { until, .. }) => (HoldReason::OwnersAbsence, until),
            None => (HoldReason::NobodyEligible, self.available),
        };
        let queue = self.asked.into_iter().next();
        let mut explanation = self.explanation;
        explanation.outcome = Outcome::Hold { reason, until };
        explanation.queue.clone_from(&queue);
        Decision::Hold(Hold { queue, reason, until, needs, explanation })
    }

    fn skip(self, reason: SkipReason) -> Decision {
        let mut explanation = self.explanation;
        explanation.outcome = Outcome::Skip { reason };
        Decision::Skip(Skip { reason, explanation })
    }
}

impl Taken {
    fn by(person: &Person, queue: Option<&Name>, entries: Vec<LedgerEntry>) -> Self {
        Self { person: person.name.clone(), user: person.user, queue: queue.cloned(), entries }
    }
}
