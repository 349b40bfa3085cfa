//! The pure part of deciding a lead: from the lead, the people and the credits of this moment to what is written down.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bitrix24::PortalLead;
use common::config::TimelineEntries;
use common::ids::{LeadId, UserId};
use common::messages::{Deal, Orders};
use distribution::{
    Cause, ClientWent, Credit, Decision, EntryKind, First, Hold, HoldReason, Language, Lead, Ledger,
    LedgerEntry, Routing, TieOf, decide_giving,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use store::{Balances, InLine, Intervals, KnownPeople, Line, NewDecision, Standing, Verdict};

use crate::pool::{CALL_AGAIN_AFTER, LOOK_AGAIN_AFTER};

/// What a decision goes by, beside the lead and how people stand.
#[derive(Clone, Copy)]
pub(crate) struct By<'a> {
    pub(crate) routing: &'a Routing,
    pub(crate) people: &'a KnownPeople,
    pub(crate) intervals: Intervals,
    /// What the lead's timeline tells.
    pub(crate) timeline: TimelineEntries,
    /// When the lead was first heard of.
    pub(crate) first_seen: Timestamp,
    pub(crate) now: Timestamp,
}

/// What was decided.
pub(crate) struct Made {
    pub(crate) new: NewDecision,
    /// Where the lead of a known client goes.
    pub(crate) client_went: Option<ClientWent>,
    /// Whether it is new, and waits only for those that have waited before it.
    pub(crate) joins_line: bool,
}

impl By<'_> {
    /// Decides. A lead that is not there is deleted.
    pub(crate) fn decide(self, lead: Option<&(Lead, PortalLead)>, standing: &Standing) -> Made {
        let Self { routing, people, intervals, timeline, first_seen, now } = self;
        let Some((lead, read)) = lead else {
            let new = deleted(routing.version(), first_seen, now);
            return Made { new, client_went: None, joins_line: false };
        };
        let roster = people.roster(routing, &standing.given, intervals, now);
        let ledger = ledger(&standing.balances);
        let lead = &with_owners(lead, &standing.owners);
        let decision = decide_giving(lead, &standing.giving, &roster, routing, &ledger, now);
        let explanation = decision.explanation();
        let client_went = explanation.client_went();
        let mut joins_line = false;
        let mut new = NewDecision {
            from: lead.owner,
            queue: explanation.queue.as_ref().map(ToString::to_string),
            timeline: language(timeline).map(|language| explanation.text(language)),
            ..skip(explanation.summary(), json!(explanation), routing.version(), first_seen, now)
        };
        match decision {
            Decision::Assign(assign) => {
                new.verdict = Verdict::Assign { to: assign.user, person: assign.person.to_string() };
                new.rule = assign.rule.as_ref().map(ToString::to_string);
                new.entries = assign.entries.iter().map(stored).collect();
                new.orders = orders(assign.orders);
                new.title = Some(read.title.clone());
                new.loser = loser(lead.owner, assign.user, standing.giving.cause, routing);
                let queue = new.queue.as_deref().and_then(|queue| routing.queue(queue));
                new.to_be_answered = queue.is_some_and(|queue| queue.answer.is_some());
            }
            Decision::Hold(hold) => {
                new.verdict = Verdict::Hold { look_again_at: look_again_at(&hold, now), until: hold.until };
                let queue = hold.queue.as_deref().and_then(|queue| routing.queue(queue));
                new.deadline = queue.and_then(|queue| routing.hold_deadline(queue, now));
                new.amount = lead.amount();
                let behind = hold.reason == HoldReason::BehindOthers;
                let waited = standing.giving.held_since.is_some();
                joins_line = behind && !waited;
                // One that was called and found others ahead of it gives them some time.
                let call_again_at = if behind && waited { now + CALL_AGAIN_AFTER } else { now };
                new.line = hold.needs.map(|needs| Line { needs, call_again_at });
                // It waits for one person, so the pool must not ask whether those of the queue may take it.
                if hold.reason == HoldReason::OwnersAbsence {
                    new.queue = None;
                }
            }
            Decision::Skip(_) => {}
        }
        Made { new, client_went, joins_line }
    }
}

/// Who loses the lead to a robot and does not know it. Of a lead that was not answered its timer tells; who only keeps leads
/// until they are distributed lost nothing.
fn loser(owner: Option<UserId>, to: UserId, cause: Cause, routing: &Routing) -> Option<UserId> {
    let is_person =
        |user: UserId| routing.people().any(|person| person.user == user) || !routing.is_service_user(user);
    owner.filter(|owner| cause == Cause::Robot && *owner != to && is_person(*owner))
}

/// Where the lead would stand in line.
pub(crate) fn in_line(routing: &Routing, lead: &Lead, first_seen: Timestamp) -> InLine {
    let most_valuable = routing.queues().filter(|queue| queue.hold.first == First::MostValuable);
    InLine {
        first_seen,
        amount: lead.amount(),
        most_valuable: most_valuable.map(|queue| queue.name.to_string()).collect(),
    }
}

/// When a held lead is looked at again: in a minute, or sooner where somebody may take it sooner.
fn look_again_at(hold: &Hold, now: Timestamp) -> Timestamp {
    let soon = now + LOOK_AGAIN_AFTER;
    if hold.reason == HoldReason::OwnersAbsence {
        // Nobody else gets it, whoever comes meanwhile.
        return hold.until.unwrap_or(soon);
    }
    hold.until.map_or(soon, |until| until.min(soon))
}

fn language(timeline: TimelineEntries) -> Option<Language> {
    match timeline {
        TimelineEntries::None => None,
        TimelineEntries::En => Some(Language::English),
        TimelineEntries::Ru => Some(Language::Russian),
    }
}

/// The lead with what was decided of its client's other leads, and is not seen in the portal yet.
fn with_owners<'l>(lead: &'l Lead, owners: &BTreeMap<LeadId, UserId>) -> Cow<'l, Lead> {
    if owners.is_empty() {
        return Cow::Borrowed(lead);
    }
    let mut lead = lead.clone();
    for tie in lead.ties.iter_mut().flatten() {
        if let TieOf::Lead(other) = tie.of
            && let Some(owner) = owners.get(&other)
        {
            tie.owner = *owner;
        }
    }
    Cow::Owned(lead)
}

fn deleted(routing_version: u64, first_seen: Timestamp, now: Timestamp) -> NewDecision {
    let reason = "skipped: the lead no longer exists in the portal".to_owned();
    skip(reason, json!({ "outcome": "skip", "reason": "deleted" }), routing_version, first_seen, now)
}

/// A decision that changes nothing, for no more than a reason.
fn skip(
    reason: String,
    explanation: Value,
    routing_version: u64,
    first_seen: Timestamp,
    now: Timestamp,
) -> NewDecision {
    NewDecision {
        verdict: Verdict::Skip,
        from: None,
        queue: None,
        rule: None,
        reason,
        explanation,
        routing_version,
        orders: Orders::default(),
        title: None,
        timeline: None,
        deadline: None,
        to_be_answered: false,
        loser: None,
        amount: None,
        line: None,
        entries: Vec::new(),
        first_seen,
        decided_at: now,
    }
}

fn orders(orders: distribution::Orders) -> Orders {
    let deal = orders.deal.map(|deal| Deal { category: deal.category, stage: deal.stage });
    Orders { set: orders.set, deal }
}

fn ledger(balances: &Balances) -> Ledger {
    let entries = balances.iter().flat_map(|(ledger, people)| {
        people.iter().map(|(user, credit)| LedgerEntry {
            ledger: ledger.as_str().into(),
            user: *user,
            delta: Credit::from_units(*credit),
            // What a balance was booked for plays no part in a decision.
            kind: EntryKind::Turn,
        })
    });
    entries.collect()
}

fn stored(entry: &LedgerEntry) -> store::LedgerEntry {
    store::LedgerEntry {
        ledger: entry.ledger.to_string(),
        user: entry.user,
        delta: entry.delta.units(),
        kind: entry.kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_had_the_lead_is_told_and_who_only_kept_it_is_not() {
        let text =
            "version: 1\nservice_users: [7]\npeople: { anna: { user: 11 } }\ndefault: { assign: anna }\n";
        let routing = Routing::from_yaml(text, "routing.yaml").unwrap().with_webhook_user(user(9));
        let told =
            |owner: Option<u64>, cause| loser(owner.map(user), user(11), cause, &routing).map(UserId::get);
        assert_eq!(told(Some(12), Cause::Robot), Some(12), "also who is not in the file");
        for (owner, cause) in [
            (None, Cause::Robot),
            (Some(11), Cause::Robot),
            (Some(1), Cause::Robot),
            (Some(7), Cause::Robot),
            (Some(9), Cause::Robot),
            (Some(12), Cause::New),
            (Some(12), Cause::Unanswered),
        ] {
            assert_eq!(told(owner, cause), None, "{owner:?} {cause:?}");
        }
    }

    fn user(id: u64) -> UserId {
        UserId::new(id).unwrap()
    }
}
