//! Who may take leads at one moment, of which queue, and why others may not: for people who look. It asks what a decision
//! asks, so the two cannot disagree.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::answer::Then;
use crate::calendar::Calendar;
use crate::eligibility::Demands;
use crate::explanation::{Language, Reason, Role, reason_text};
use crate::giving::Destination;
use crate::ids::UserId;
use crate::name::Name;
use crate::roster::Roster;
use crate::routing::{Queue, Routing, Target};

/// Where somebody is, as far as leads of one queue go, or of the rules that name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// The name in the routing file.
    pub person: Name,
    /// Who they are in the portal.
    pub user: UserId,
    /// The queue; `None` for leads that a rule gives to them by name.
    pub queue: Option<Name>,
    /// As what they are asked: [`Role::Member`], [`Role::OnDuty`] or [`Role::Named`].
    pub role: Role,
    /// Why they take no leads so; `None` when they do.
    pub reason: Option<Reason>,
    /// When that changes by schedules, absences, pauses and days; `None` when they do not tell.
    pub changes_at: Option<Timestamp>,
}

impl Routing {
    /// Where everybody is, in the file's order, and for each of their queues, as a decision about a fresh lead would find
    /// it. Skills play no part: they depend on the lead.
    #[must_use]
    pub fn whereabouts(&self, roster: &Roster, now: Timestamp) -> Vec<Whereabouts> {
        let calendar = Calendar::at(self, now);
        let named = self.named();
        let mut all = Vec::new();
        for person in self.people() {
            let presence = roster.get(person.user);
            let mut add = |queue: Option<&Queue>, role, demands: Demands<'_>| {
                let reason = demands.refusal(person, presence, &calendar);
                let changes_at = match &reason {
                    Some(reason) => demands.available(reason, person, presence, &calendar),
                    None => demands.available_until(person, presence, &calendar),
                };
                let queue = queue.map(|queue| queue.name.clone());
                let (person, user) = (person.name.clone(), person.user);
                all.push(Whereabouts { person, user, queue, role, reason, changes_at });
            };
            let mut stands_in_queue = false;
            for queue in self.queues() {
                for (_, role) in queue.everybody().filter(|(member, _)| member.person.user == person.user) {
                    stands_in_queue = true;
                    add(Some(queue), role, Demands::of_anything(queue, role));
                }
            }
            if !stands_in_queue || named.contains(&person.user) {
                add(None, Role::Named, Demands::of_rule_for_anything());
            }
        }
        all
    }

    /// Whom a rule or the default names, and who gets what others did not answer.
    fn named(&self) -> BTreeSet<UserId> {
        let by_rules = self.handovers().into_iter().filter_map(|handover| match &handover.target {
            Target::Person { person, .. } => Some(person.user),
            Target::Queue(_) => None,
        });
        let mut named: BTreeSet<UserId> = by_rules.collect();
        for rules in self.queues().filter_map(|queue| queue.answer.as_ref()) {
            if let Then::To(Destination::Person(person)) = &rules.then {
                named.extend(self.person(person).map(|person| person.user));
            }
        }
        named
    }
}

impl Whereabouts {
    /// The reason in words; empty when they take leads.
    #[must_use]
    pub fn why(&self, routing: &Routing, now: Timestamp, language: Language) -> String {
        self.reason
            .as_ref()
            .map(|reason| reason_text(reason, routing.zone(), now, language))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::{Absence, NotKnown, Presence, WorkingDay};

    const ROUTING: &str = r#"
version: 1
time_zone: Europe/Moscow
schedules: { office: { days: mon-fri, hours: "09:00-18:00" } }
people:
  ivanov: { user: 11, schedule: office }
  petrov: { user: 12, schedule: office }
  duty:   { user: 20 }
queues:
  main: { members: [ivanov], on_duty: [duty] }
  pool: { members: [petrov, duty], on_duty: [duty], working_day: required, limits: { per_day: 3 } }
rules:
  - { name: Pool, when: { source: POOL }, queue: pool }
  - { name: Large, when: { amount: { over: 5 } }, assign: petrov }
default: { queue: main }
"#;

    #[test]
    fn people_are_told_apart_by_why_they_take_no_leads() {
        let at = |text: &str| format!("{text}+03:00").parse::<Timestamp>().unwrap();
        let routing = Routing::from_yaml(ROUTING, "routing.yaml").unwrap();
        let presence = |working_day, absent| Presence { working_day, absent, ..Presence::default() };
        let user = |id| UserId::new(id).unwrap();
        let mut roster = Roster::default();
        let trip = vec![Absence(at("2026-11-24T12:00"), at("2026-11-25T00:00"))];
        roster.set(user(11), presence(WorkingDay::Closed, trip));
        roster.set(user(12), presence(WorkingDay::Closed, Vec::new()));
        roster.set(user(20), Presence { day: 3, working_day: WorkingDay::Closed, ..Presence::default() });
        let told = |now| {
            let one = |one: &Whereabouts| {
                let changes = one
                    .changes_at
                    .map(|at| at.to_zoned_datetime(routing.zone().clone()).strftime("%d %H:%M").to_string());
                let why = one.why(&routing, now, Language::English);
                let queue = one.queue.as_deref().unwrap_or_default();
                format!("{} {queue} {:?}: {why} ({})", one.person, one.role, changes.unwrap_or_default())
            };
            routing.whereabouts(&roster, now).iter().map(one).collect::<Vec<_>>()
        };
        // Only the pool asks for working days, and of its members only; nothing tells when a day opens. A rule that names
        // somebody asks for none.
        let at_work = [
            "ivanov main Member:  (24 12:00)",
            "petrov pool Member: working day not open ()",
            "petrov  Named:  (24 18:00)",
            "duty main OnDuty:  ()",
            "duty pool Member: working day not open ()",
            "duty pool OnDuty: at the limit: 3 of 3 leads today (25)",
        ];
        let at_work = at_work.map(|line| line.replace("(25)", "(25 00:00)"));
        assert_eq!(told(at("2026-11-24T10:00")), at_work);
        let away = "ivanov main Member: on leave until 25 Nov (25 09:00)";
        assert_eq!(told(at("2026-11-24T13:00"))[0], away, "back when he works again");
    }

    #[test]
    fn what_was_not_known_is_said() {
        let routing = Routing::from_yaml(ROUTING, "routing.yaml").unwrap();
        let mut roster = Roster::default();
        roster.set_not_known(NotKnown::WorkingDays);
        roster.set_not_known(NotKnown::Absences);
        let fields = [("ID".to_owned(), serde_json::json!("42"))].into_iter().collect();
        let lead = crate::Lead::from_fields(&fields).unwrap();
        let now = "2026-11-24T10:00:00Z".parse().unwrap();
        let decision = crate::decide(&lead, &roster, &routing, &crate::Ledger::default(), now);
        let text = |language| decision.explanation().text(language);
        assert!(text(Language::English).contains("Not known, so decided without: working days, absences.\n"));
        assert!(
            text(Language::Russian).contains("Неизвестно, поэтому не учтено: рабочие дни, отсутствия.\n")
        );
    }
}
