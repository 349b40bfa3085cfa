//! Durations that pass only while somebody works, by schedules alone: who is away or paused is not at work, but a client
//! waits all the same.

use jiff::{SignedDuration, Timestamp};

use crate::calendar::Calendar;
use crate::routing::{Fallback, Person, Queue, Routing};

/// Intervals of work that are looked at: two years of three a day. A longer wait is none.
const INTERVALS_MAX: usize = 2_000;

impl Routing {
    /// When this person has worked for `time` since `from`; `None` when his schedule does not have so much time ahead.
    #[must_use]
    pub fn after_working_time(
        &self,
        person: &Person,
        from: Timestamp,
        time: SignedDuration,
    ) -> Option<Timestamp> {
        self.after_time_of(&[person], from, time)
    }

    /// By when a lead that is held in this queue since `since` is to be taken: its people's schedules must have been on for
    /// as long as the queue's `deadline`, one or another of them. `None` for a queue without one.
    #[must_use]
    pub fn hold_deadline(&self, queue: &Queue, since: Timestamp) -> Option<Timestamp> {
        let time = queue.hold.alarm.as_ref()?.deadline;
        let on_duty: &[_] = if queue.if_nobody.contains(&Fallback::OnDuty) { &queue.on_duty } else { &[] };
        let people: Vec<&Person> =
            queue.members.iter().chain(on_duty).map(|member| &*member.person).collect();
        // Where nobody ever works, somebody is told all the same.
        self.after_time_of(&people, since, time).or_else(|| since.checked_add(time).ok())
    }

    fn after_time_of(&self, people: &[&Person], from: Timestamp, time: SignedDuration) -> Option<Timestamp> {
        // Who has no schedule works always.
        let hours: Option<Vec<usize>> = people.iter().map(|person| person.hours).collect();
        let Some(mut hours) = hours else { return from.checked_add(time).ok() };
        hours.sort_unstable();
        hours.dedup();
        let (mut moment, mut left) = (from, time);
        for _ in 0..INTERVALS_MAX {
            let calendar = Calendar::at(self, moment);
            if let Some(end) = hours.iter().filter_map(|hours| calendar.on_until(*hours)).max() {
                let lasts = end.duration_since(moment);
                if left <= lasts {
                    return moment.checked_add(left).ok();
                }
                (moment, left) = (end, left - lasts);
            } else {
                moment = hours.iter().filter_map(|hours| calendar.next_on(*hours)).min()?;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTING: &str = r#"
version: 1
time_zone: Europe/Moscow
calendar: { holidays: [2026-11-25] }
schedules:
  office: { days: mon-fri, hours: ["09:00-13:00", "14:00-18:00"] }
  late:   { days: mon-fri, hours: "12:00-20:00" }
people:
  ivanov: { user: 11, schedule: office }
  petrov: { user: 12, schedule: late }
  always: { user: 13 }
queues:
  main: { members: [ivanov, petrov], hold: { deadline: 2h, escalate_to: always } }
  duty: { members: [ivanov], on_duty: [always], hold: { deadline: 2h, escalate_to: always } }
  none: { members: [ivanov] }
rules:
  - { name: A, when: { source: A }, queue: duty }
  - { name: B, when: { source: B }, queue: none }
default: { queue: main }
"#;

    #[test]
    fn time_passes_while_somebody_works() {
        let routing = Routing::from_yaml(ROUTING, "routing.yaml").unwrap();
        let at = |text: &str| format!("2026-11-{text}:00+03:00").parse::<Timestamp>().unwrap();
        let ivanov = routing.person("ivanov").unwrap();
        let mins = SignedDuration::from_mins;
        for (from, time, until) in [
            ("23T09:00", mins(30), "23T09:30"),
            ("23T12:50", mins(10), "23T13:00"),
            ("23T12:50", mins(30), "23T14:20"),
            ("23T17:50", mins(30), "24T09:20"),
            ("24T17:50", mins(30), "26T09:20"),
            ("21T12:00", mins(8 * 60 + 1), "24T09:01"),
        ] {
            assert_eq!(routing.after_working_time(ivanov, at(from), time), Some(at(until)), "{from}");
        }
        let always = routing.person("always").unwrap();
        assert_eq!(routing.after_working_time(always, at("21T12:00"), mins(5)), Some(at("21T12:05")));
        assert_eq!(routing.after_working_time(ivanov, at("23T09:00"), mins(60 * 24 * 365 * 30)), None);
        let deadline = |queue: &str, from| routing.hold_deadline(routing.queue(queue).unwrap(), at(from));
        assert_eq!(deadline("main", "23T19:00"), Some(at("24T10:00")), "of one or the other");
        assert_eq!(deadline("main", "23T12:30"), Some(at("23T14:30")), "nobody's lunch counts twice");
        assert_eq!(deadline("duty", "23T19:00"), Some(at("23T21:00")), "who is on duty is always there");
        assert_eq!(deadline("none", "23T19:00"), None);
    }
}
