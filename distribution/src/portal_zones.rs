//! People who live where the portal says: `time_zone: portal`.
//!
//! Until the portal has told, and where it has none of somebody, he lives in the file's zone. What it told makes another
//! routing of the same version; nothing else of it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::ids::UserId;
use crate::routing::{Handover, LocalSchedule, Person, Route, Routing, Target};

impl Routing {
    /// Whether anybody lives where the portal says.
    #[must_use]
    pub fn asks_time_zones(&self) -> bool {
        self.people.iter().any(|person| person.zone_of_portal)
    }

    /// The same routing with these people in these zones, as far as they live where the portal says.
    #[must_use]
    pub fn with_portal_zones(&self, zones: &BTreeMap<UserId, TimeZone>) -> Self {
        let mut routing = self.clone();
        let mut moved: BTreeMap<UserId, Arc<Person>> = BTreeMap::new();
        for person in self.people.iter().filter(|person| person.zone_of_portal) {
            let zone = zones.get(&person.user).unwrap_or(&self.zone);
            if *zone != person.zone {
                let hours = person.hours.and_then(|hours| routing.hours_in(hours, zone));
                let person = Person { zone: zone.clone(), hours, ..Person::clone(person) };
                moved.insert(person.user, Arc::new(person));
            }
        }
        let swap = |person: &mut Arc<Person>| {
            if let Some(other) = moved.get(&person.user) {
                *person = Arc::clone(other);
            }
        };
        routing.people.iter_mut().for_each(swap);
        for queue in &mut routing.queues {
            queue.members.iter_mut().chain(&mut queue.on_duty).for_each(|member| swap(&mut member.person));
        }
        routing.rules.iter_mut().for_each(|rule| swap_in_route(&mut rule.route, &swap));
        swap_in_handover(&mut routing.default, &swap);
        routing
    }

    /// The place of a schedule in another zone.
    fn hours_in(&mut self, hours: usize, zone: &TimeZone) -> Option<usize> {
        let schedule = Arc::clone(&self.hours.get(hours)?.schedule);
        let local = LocalSchedule { schedule, zone: zone.clone() };
        let known = self.hours.iter().position(|known| *known == local);
        Some(known.unwrap_or_else(|| {
            self.hours.push(local);
            self.hours.len() - 1
        }))
    }
}

fn swap_in_route(route: &mut Route, swap: &impl Fn(&mut Arc<Person>)) {
    match route {
        Route::To(handover) => swap_in_handover(handover, swap),
        Route::By(tree) => {
            let cases = tree.cases.iter_mut().chain(tree.otherwise.as_deref_mut());
            cases.for_each(|case| swap_in_route(&mut case.route, swap));
        }
    }
}

fn swap_in_handover(handover: &mut Handover, swap: &impl Fn(&mut Arc<Person>)) {
    match &mut handover.target {
        Target::Person { person, .. } => swap(person),
        Target::Queue(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{Decision, Lead, Ledger, Roster, decide};

    const ROUTING: &str = r#"
version: 1
time_zone: Europe/Moscow
schedules: { office: { days: mon-sun, hours: "09:00-18:00" } }
people:
  ivanov: { user: 11, schedule: office, time_zone: portal }
  petrov: { user: 12, schedule: office, time_zone: Asia/Omsk }
  duty:   { user: 20 }
queues: { main: { members: [ivanov, petrov], on_duty: [duty] } }
rules:
  - { name: Named, when: { source: NAMED }, assign: ivanov }
  - { name: Tree, by: city, cases: { Tver: { assign: ivanov } } }
default: { queue: main }
"#;

    #[test]
    fn who_lives_where_the_portal_says_works_by_its_clocks() {
        let file = Routing::from_yaml(ROUTING, "routing.yaml").unwrap();
        assert!(file.asks_time_zones());
        let user = |id| UserId::new(id).unwrap();
        let zone = |name| TimeZone::get(name).unwrap();
        // Petrov's own zone is said by the file, so the portal's does not count.
        let zones = [(user(11), zone("Asia/Vladivostok")), (user(12), zone("Asia/Vladivostok"))].into();
        let moved = file.with_portal_zones(&zones);
        let taker = |routing: &Routing, at: &str, field: &str, value: &str| {
            let fields = serde_json::json!({ "ID": "1", field: value });
            let lead = Lead::from_fields(fields.as_object().unwrap()).unwrap();
            let now: Timestamp = at.parse().unwrap();
            match decide(&lead, &Roster::default(), routing, &Ledger::default(), now) {
                Decision::Assign(assignment) => assignment.person.to_string(),
                Decision::Hold(_) | Decision::Skip(_) => "nobody".to_owned(),
            }
        };
        // Half past nine in Vladivostok, half past two in Moscow; then half past nine in Moscow.
        for (at, in_file, in_portal) in [
            ("2026-11-22T23:30:00Z", "duty", "ivanov"),
            ("2026-11-23T04:30:00Z", "petrov", "ivanov"),
            ("2026-11-23T08:30:00Z", "ivanov", "petrov"),
        ] {
            assert_eq!(taker(&file, at, "SOURCE_ID", "WEB"), in_file, "{at}");
            assert_eq!(taker(&moved, at, "SOURCE_ID", "WEB"), in_portal, "{at}");
            for (field, value) in [("SOURCE_ID", "NAMED"), ("ADDRESS_CITY", "Tver")] {
                let expected = if in_portal == "ivanov" { "ivanov" } else { "petrov" };
                assert_eq!(taker(&moved, at, field, value), expected, "{at} {field}");
            }
        }
        // His day begins there too, and he comes back when the portal takes its word back.
        let at: Timestamp = "2026-11-23T15:00:00Z".parse().unwrap();
        let day = |routing: &Routing| routing.person("ivanov").unwrap().day_start(at).to_string();
        assert_eq!((day(&file), day(&moved)), ("2026-11-22T21:00:00Z".into(), "2026-11-23T14:00:00Z".into()));
        let back = moved.with_portal_zones(&BTreeMap::new());
        assert_eq!(day(&back), day(&file));
        assert_eq!(taker(&back, "2026-11-23T08:30:00Z", "SOURCE_ID", "WEB"), "ivanov");
    }
}
