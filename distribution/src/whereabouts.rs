//! Who is at work at one moment, and why others are not: for people who look, not for decisions.

use jiff::Timestamp;

use crate::calendar::Calendar;
use crate::eligibility::Demands;
use crate::explanation::{Language, Reason, reason_text};
use crate::ids::UserId;
use crate::name::Name;
use crate::roster::Roster;
use crate::routing::{Person, Routing};

/// Where somebody is, as far as leads go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// His name in the routing file.
    pub person: Name,
    /// Who he is in the portal.
    pub user: UserId,
    /// Why he takes no leads; `None` when he does.
    pub reason: Option<Reason>,
    /// When that changes by schedules, absences and pauses; `None` when they do not tell.
    pub changes_at: Option<Timestamp>,
}

impl Routing {
    /// Where everybody is, in the file's order. Limits of queues and skills play no part: they depend on the lead.
    #[must_use]
    pub fn whereabouts(&self, roster: &Roster, now: Timestamp) -> Vec<Whereabouts> {
        let calendar = Calendar::at(self, now);
        let one = |person: &Person| {
            let presence = roster.get(person.user);
            let demands = Demands::of_person(self.asks_working_day_of(person.user));
            let reason = demands.refusal(person, presence, &calendar);
            let changes_at = if let Some(reason) = &reason {
                demands.available(reason, person, presence, &calendar)
            } else {
                let hours_end = person.hours.and_then(|hours| calendar.on_until(hours));
                let away = presence.absent.iter().map(|absence| absence.0).filter(|from| *from > now);
                away.chain(hours_end).min()
            };
            Whereabouts { person: person.name.clone(), user: person.user, reason, changes_at }
        };
        self.people().map(one).collect()
    }

    /// Whether one of his queues wants an open working day.
    fn asks_working_day_of(&self, user: UserId) -> bool {
        self.queues()
            .filter(|queue| queue.working_day_required)
            .any(|queue| queue.members.iter().chain(&queue.on_duty).any(|member| member.person.user == user))
    }
}

impl Whereabouts {
    /// The reason in words; empty when he takes leads.
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
  pool: { members: [petrov], working_day: required }
rules: [{ name: Pool, when: { source: POOL }, queue: pool }]
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
        let told = |now| {
            let one = |one: &Whereabouts| {
                let changes = one
                    .changes_at
                    .map(|at| at.to_zoned(routing.zone().clone()).strftime("%d %H:%M").to_string());
                let why = one.why(&routing, now, Language::English);
                format!("{}: {why} ({})", one.person, changes.unwrap_or_default())
            };
            routing.whereabouts(&roster, now).iter().map(one).collect::<Vec<_>>()
        };
        // Only petrov's queue asks for working days, and nothing tells when his opens.
        let at_work = ["ivanov:  (24 12:00)", "petrov: working day not open ()", "duty:  ()"];
        assert_eq!(told(at("2026-11-24T10:00")), at_work);
        let away = "ivanov: on leave until 25 Nov (25 09:00)";
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
