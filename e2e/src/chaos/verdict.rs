//! Whether what the portal did and what the store says agree, rule by rule.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::fault::Fault;
use super::record::{Assignment, Balance, Dead, Decision, Entry};
use super::stage_play::{DELAYS, Disturbance, LATE, Played};
use super::story::{Lead, Owner, Portal, Request};

/// A person who takes a lead within this time before our write may lose it again (README, "What may be lost").
const WINDOW: SignedDuration = SignedDuration::from_secs(20);

/// For so long after a request its sender may still be about to write down how it ended.
const WRITING_DOWN: SignedDuration = SignedDuration::from_secs(10);

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Each lead has one owner set by us, or a person's choice, or a visible reason why not.
    OneOwner,
    /// What the store says was done, was done in the portal.
    TrueRecord,
    /// Each lead was told once, but for those in doubt: one notice for each lost answer.
    ToldOnce,
    /// The credits of a ledger sum to zero, and a lead is paid once.
    Ledger,
    /// No request is too fast.
    Limit,
    /// No lead is later than five minutes after the last fault, and then all is quiet.
    InTime,
    /// Each dead letter has its fault.
    DeadLetter,
}

impl std::fmt::Display for Rule {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::OneOwner => "one owner",
            Self::TrueRecord => "true record",
            Self::ToldOnce => "told once",
            Self::Ledger => "ledger",
            Self::Limit => "limit",
            Self::InTime => "in time",
            Self::DeadLetter => "dead letter",
        })
    }
}

/// What does not hold.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// Of which lead.
    pub lead: Option<u64>,
    /// What is wrong.
    pub text: String,
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// All that does not hold; nothing if the run passed.
    pub violations: Vec<Violation>,
    /// Leads.
    pub leads: usize,
    /// Leads by how they ended, in the store's words.
    pub ends: BTreeMap<String, usize>,
    /// Leads that nobody was given, and of which nothing says why.
    pub lost: usize,
    /// Leads that a person took and lost again within the window that is documented.
    pub taken_back: usize,
    /// Notices that were sent again, by the fault that left them in doubt.
    pub doubled: BTreeMap<Fault, usize>,
    /// Dead letters that a fault explains.
    pub dead: usize,
    /// From a lead's arrival to its first owner, sorted.
    pub waits: Vec<Duration>,
}

/// Judges a run.
pub(super) fn judge(played: &Played) -> Verdict {
    let mut judge = Judge { played, portal: Portal::of(&played.log), verdict: Verdict::default() };
    judge.verdict.leads = judge.portal.leads.len();
    if judge.verdict.leads == 0 {
        judge.wrong(Rule::OneOwner, None, "no lead came at all: nothing is proved".to_owned());
    }
    if let Err(error) = judge.leads() {
        judge.wrong(Rule::TrueRecord, None, format!("the store cannot be read: {error:#}"));
    }
    judge.notices();
    judge.limit();
    judge.verdict.waits.sort();
    judge.verdict
}

/// A ledger, a lead and its epoch.
type Turn<'a> = (&'a str, u64, u32);

struct Judge<'a> {
    played: &'a Played,
    portal: Portal<'a>,
    verdict: Verdict,
}

impl Judge<'_> {
    fn wrong(&mut self, rule: Rule, lead: Option<u64>, text: String) {
        self.verdict.violations.push(Violation { rule, lead, text });
    }

    fn leads(&mut self) -> anyhow::Result<()> {
        let record = &self.played.record;
        let decisions: Vec<Decision> = record.all("decisions")?;
        let assignments: Vec<Assignment> = record.all("assignments")?;
        let dead: Vec<Dead> = record.all("dead_letters")?;
        let (entries, balances) = (record.all("ledger_entries")?, record.all("ledger_balances")?);
        self.dead_letters(&dead);
        self.ledger(&entries, &balances);
        let dead: BTreeSet<u64> = dead.iter().filter_map(|dead| dead.lead_id).collect();
        let leads = std::mem::take(&mut self.portal.leads);
        for (id, lead) in &leads {
            let decisions: Vec<&Decision> = decisions.iter().filter(|row| row.lead_id == *id).collect();
            let assignments: Vec<&Assignment> = assignments.iter().filter(|row| row.lead_id == *id).collect();
            self.end(*id, lead, &decisions, &assignments, dead.contains(id));
            for assignment in &assignments {
                self.truth(*id, lead, assignment);
            }
            self.owners(*id, lead, &assignments);
        }
        self.portal.leads = leads;
        Ok(())
    }

    /// How it ended, by the store's last word.
    fn end(
        &mut self,
        id: u64,
        lead: &Lead,
        decisions: &[&Decision],
        assignments: &[&Assignment],
        is_dead: bool,
    ) {
        let is_assigned = decisions.last().is_some_and(|decision| decision.outcome == "assign");
        let carried_out = assignments.last().and_then(|assignment| assignment.outcome.as_deref());
        let end = match decisions.last() {
            _ if is_dead && carried_out.is_none() => "dead letter",
            Some(decision) if is_assigned => {
                let told = "decided, and nothing came of it";
                if decision.to_user.is_none() { told } else { carried_out.unwrap_or(told) }
            }
            Some(decision) => decision.outcome.as_str(),
            None => "never decided",
        };
        *self.verdict.ends.entry(end.to_owned()).or_default() += 1;
        if end == "never decided" || end == "decided, and nothing came of it" {
            self.verdict.lost += 1;
            self.wrong(Rule::OneOwner, Some(id), end.to_owned());
        }
        let Some(first) = lead.owners.iter().find(|owner| owner.changes()) else { return };
        let wait = Duration::try_from(first.at.duration_since(lead.added)).unwrap_or_default();
        self.verdict.waits.push(wait);
        let ours = lead.owners.iter().find(|owner| owner.changes() && owner.request.is_some());
        let late = ours.is_some_and(|owner| owner.at > self.played.faults_end + LATE);
        if late {
            self.wrong(Rule::InTime, Some(id), format!("given {wait:?} after it came"));
        }
    }

    /// Whether what the store says of it happened.
    fn truth(&mut self, id: u64, lead: &Lead, assignment: &Assignment) {
        let Assignment { epoch, to_user, outcome, .. } = assignment;
        let set = |owner: &&Owner| owner.request.is_some() && owner.to == to_user.to_string();
        let ours = lead.owners.iter().find(set);
        let by_hand = lead.owners.iter().rposition(|owner| owner.request.is_none());
        let lie = match outcome.as_deref() {
            Some("assigned" | "assigned_silently" | "assigned_not_told") if ours.is_none() => {
                self.verdict.lost += 1;
                format!(
                    "the store says that epoch {epoch} is given to {to_user}; the portal was never asked to"
                )
            }
            Some("kept_by_person") if by_hand.is_none() => {
                "kept for a person, but no person took it".to_owned()
            }
            Some("kept_by_person") => {
                let later = lead.owners.iter().skip(by_hand.unwrap_or_default());
                match later.filter(|owner| owner.request.is_some()).find(|owner| owner.changes()) {
                    Some(owner) => format!("kept for a person, but given to {} after that", owner.to),
                    None => return,
                }
            }
            Some("deleted") if !lead.is_deleted => "recorded as deleted, but it was not".to_owned(),
            Some(_) | None => return,
        };
        self.wrong(Rule::TrueRecord, Some(id), lie);
    }

    /// Whether it was given once, and what people did was kept.
    fn owners(&mut self, id: u64, lead: &Lead, assignments: &[&Assignment]) {
        let ours = lead.owners.iter().filter(|owner| owner.request.is_some() && owner.changes());
        let mut given = 0;
        for owner in ours {
            given += 1;
            let began = owner.request.and_then(|request| self.portal.requests.get(&request));
            let began = began.map_or(owner.at, |request| request.began);
            let taken = lead.owners.iter().rfind(|other| other.request.is_none() && other.at <= owner.at);
            let Some(taken) = taken.filter(|taken| taken.to == owner.from) else { continue };
            if began.duration_since(taken.at) <= WINDOW {
                self.verdict.taken_back += 1;
                // It counts for the person's taking, not for another giving of ours.
                given = given.min(1);
            } else {
                let after = owner.at.duration_since(taken.at);
                self.wrong(
                    Rule::OneOwner,
                    Some(id),
                    format!("taken from a person {after:#} after they took it"),
                );
            }
        }
        if given > assignments.len().max(1) {
            self.wrong(Rule::OneOwner, Some(id), format!("given {given} times"));
        }
        let is_told = assignments.iter().any(|assignment| assignment.outcome.as_deref() == Some("assigned"));
        let told = self.portal.notices.iter().filter(|notice| notice.leads.contains(&id)).count();
        if is_told && told == 0 {
            self.wrong(Rule::ToldOnce, Some(id), "given and never told".to_owned());
        }
        let strangers: Vec<u64> = self
            .portal
            .notices
            .iter()
            .filter(|notice| notice.leads.contains(&id))
            .map(|notice| notice.user)
            .filter(|user| assignments.iter().all(|assignment| assignment.to_user != *user))
            .collect();
        if !strangers.is_empty() {
            self.wrong(Rule::ToldOnce, Some(id), format!("told to {strangers:?}, who never got it"));
        }
    }

    /// Notices that were sent again: at most one of each request, and only of one whose end may not have been known.
    fn notices(&mut self) {
        let mut repeated: BTreeMap<Option<u64>, Vec<usize>> = BTreeMap::new();
        for (place, notice) in self.portal.notices.iter().enumerate() {
            let later = &self.portal.notices[place + 1..];
            if later.iter().any(|other| other.leads.iter().any(|lead| notice.leads.contains(lead))) {
                repeated.entry(notice.request).or_default().push(place);
            }
        }
        for (request, places) in repeated {
            let leads: BTreeSet<u64> =
                places.iter().flat_map(|place| self.portal.notices[*place].leads.clone()).collect();
            let lead = leads.first().copied();
            let number = request.unwrap_or_default();
            let known = request.and_then(|request| self.portal.requests.get(&request));
            let Some(fault) = known.and_then(|request| self.in_doubt(request)) else {
                let text = format!("request {number} was heard, and its notices were sent again: {leads:?}");
                self.wrong(Rule::ToldOnce, lead, text);
                continue;
            };
            *self.verdict.doubled.entry(fault).or_default() += places.len();
            if places.len() > 1 {
                let text = format!("{} notices of request {number} were sent again: {leads:?}", places.len());
                self.wrong(Rule::ToldOnce, lead, text);
            }
        }
    }

    /// The fault because of which the end of a request may not be known.
    fn in_doubt(&self, request: &Request) -> Option<Fault> {
        if request.fault.is_some() {
            return request.fault;
        }
        let meets =
            |from: Timestamp, to: Timestamp| from <= request.ended + WRITING_DOWN && to >= request.began;
        let disturbances = self.played.disturbances.iter().filter(|done| meets(done.from, done.to));
        let may_hide_it = |done: &&Disturbance| {
            let kills_sender = done.fault == Fault::StageKilled && done.what.starts_with("notifier");
            kills_sender || done.fault == Fault::DatabaseStopped
        };
        let mut faults = disturbances.filter(may_hide_it).map(|done| done.fault);
        faults.next().or(request.is_unheard.then_some(Fault::StageKilled))
    }

    fn ledger(&mut self, entries: &[Entry], balances: &[Balance]) {
        let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
        let mut of_people: BTreeMap<(&str, u64), i64> = BTreeMap::new();
        for balance in balances {
            *sums.entry(&balance.ledger).or_default() += balance.credit;
            *of_people.entry((&balance.ledger, balance.user_id)).or_default() -= balance.credit;
        }
        let mut of_leads: BTreeMap<Turn<'_>, Vec<(u64, i64)>> = BTreeMap::new();
        for entry in entries {
            *of_people.entry((&entry.ledger, entry.user_id)).or_default() += entry.delta;
            let (Some(lead), Some(epoch)) = (entry.lead_id, entry.epoch) else { continue };
            of_leads.entry((&entry.ledger, lead, epoch)).or_default().push((entry.user_id, entry.delta));
        }
        for (ledger, sum) in sums.into_iter().filter(|(_, sum)| *sum != 0) {
            self.wrong(Rule::Ledger, None, format!("the credits of {ledger} sum to {sum}"));
        }
        for ((ledger, user), rest) in of_people.into_iter().filter(|(_, rest)| *rest != 0) {
            let text = format!("the entries of user {user} in {ledger} differ from the balance by {rest}");
            self.wrong(Rule::Ledger, None, text);
        }
        for ((ledger, lead, epoch), entries) in of_leads {
            let sum: i64 = entries.iter().map(|(_, delta)| delta).sum();
            let users: BTreeSet<u64> = entries.iter().map(|(user, _)| *user).collect();
            if users.len() < entries.len() || sum != 0 {
                let text = format!("epoch {epoch} in {ledger}: sums to {sum}, of {entries:?}");
                self.wrong(Rule::Ledger, Some(lead), text);
            }
        }
    }

    fn dead_letters(&mut self, dead: &[Dead]) {
        for letter in dead {
            // Nobody is refused for good here, and nothing unreadable is sent: only a row of failures explains it.
            if letter.class == "transient" && letter.attempt >= DELAYS.len() {
                self.verdict.dead += 1;
            } else {
                let Dead { queue, class, reason, attempt, .. } = letter;
                let queue = queue.as_deref().unwrap_or("an unknown queue");
                let text = format!("{class}, from {queue}, attempt {attempt}: {reason}");
                self.wrong(Rule::DeadLetter, letter.lead_id, text);
            }
        }
    }

    fn limit(&mut self) {
        let refused = self.played.stats.refused;
        if refused > 0 {
            self.wrong(Rule::Limit, None, format!("{refused} requests were refused as too fast"));
        }
        if self.played.quiet.is_none() {
            let text = format!("not quiet after the faults ended: {}", self.played.unquiet);
            self.wrong(Rule::InTime, None, text);
        }
    }
}

#[cfg(test)]
mod tests;
