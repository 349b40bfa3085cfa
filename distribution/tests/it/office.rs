//! A random office for the properties: people, schedules, queues of every strategy, shared ledgers, duty, limits, skills,
//! absences; and a naive second opinion on who may take a lead.

use std::collections::BTreeMap;

use distribution::{Absence, Presence, Roster, Routing, UserId, WorkingDay};
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::world::{self, NOW};

/// Somebody in the office. His name is `p` and his number, which is his user.
#[derive(Debug, Clone)]
pub struct Someone {
    pub weight: u32,
    pub skilled: bool,
    /// From and to which hour of each day he works; `None` for always.
    pub hours: Option<(i8, i8)>,
    pub per_hour: Option<u32>,
    pub presence: Presence,
}

/// A queue. Its name is `q` and its number.
#[derive(Debug, Clone)]
pub struct SomeQueue {
    pub strategy: &'static str,
    pub members: Vec<usize>,
    pub on_duty: Vec<usize>,
    pub shares_a_ledger: bool,
    /// Of whom an open working day is wanted.
    pub working_day: &'static str,
    pub absences: bool,
    pub per_day: Option<u32>,
    /// What it does when the person is away whose client sent the lead; empty where it does not keep clients.
    pub if_absent: &'static str,
}

#[derive(Debug, Clone)]
pub struct Office {
    pub people: Vec<Someone>,
    pub queues: Vec<SomeQueue>,
    /// Whether the leads' rule asks for the skill.
    pub asks_skill: bool,
}

prop_compose! {
    fn presence()(
        active in prop::bool::weighted(0.9),
        working_day in prop::sample::select(vec![
            WorkingDay::Opened, WorkingDay::Opened, WorkingDay::Paused, WorkingDay::Closed, WorkingDay::Expired,
        ]),
        absent in vec((-48..48_i64, 1..48_i64), 0..3),
        paused in prop::option::weighted(0.1, -2..4_i64),
        open in 0..5_u32, hour in 0..3_u32, day in 0..4_u32, released in 0..3_u32,
    ) -> Presence {
        let absence = |(from, length): (i64, i64)| Absence(NOW + from.hours(), NOW + (from + length).hours());
        Presence {
            active, working_day, open, hour, day, released,
            absent: absent.into_iter().map(absence).collect(),
            paused_until: paused.map(|hours| NOW + hours.hours()),
        }
    }
}

prop_compose! {
    fn someone()(
        weight in 1..20_u32,
        skilled in prop::bool::weighted(0.7),
        hours in prop::option::of((0..24_i8, 1..24_i8)),
        per_hour in prop::option::weighted(0.3, 1..4_u32),
        presence in presence(),
    ) -> Someone {
        let hours = hours.map(|(start, length)| (start, (start + length) % 24));
        Someone { weight, skilled, hours, per_hour, presence }
    }
}

fn queue(people: usize) -> impl Strategy<Value = SomeQueue> {
    let some = |most| prop::sample::subsequence((1..=people).collect::<Vec<_>>(), 0..=most);
    let strategy = prop::sample::select(vec!["rotation", "least_loaded", "in_order"]);
    (
        strategy,
        some(people),
        some(people.min(3)),
        any::<[bool; 2]>(),
        prop::sample::select(vec!["ignored", "required", "required_of_all"]),
        prop::option::weighted(0.3, 1..5_u32),
        1..=people,
        prop::sample::select(vec!["", "queue", "substitute", "{ wait_until_back: 4h }"]),
    )
        .prop_map(
            |(
                strategy,
                mut members,
                on_duty,
                [shares_a_ledger, absences],
                working_day,
                per_day,
                one,
                if_absent,
            )| {
                if members.is_empty() {
                    members.push(one);
                }
                SomeQueue {
                    strategy,
                    members,
                    on_duty,
                    shares_a_ledger,
                    working_day,
                    absences,
                    per_day,
                    if_absent,
                }
            },
        )
}

pub fn office() -> impl Strategy<Value = Office> {
    (vec(someone(), 1..8), any::<bool>()).prop_flat_map(|(people, asks_skill)| {
        vec(queue(people.len()), 1..4).prop_map(move |queues| Office {
            people: people.clone(),
            queues,
            asks_skill,
        })
    })
}

impl Office {
    /// Its routing file; lead `q2` goes to queue `q2`.
    pub fn yaml(&self) -> String {
        let mut schedules = Vec::new();
        let mut people = Vec::new();
        for (number, someone) in (1..).zip(&self.people) {
            let mut keys = vec![format!("user: {number}"), format!("weight: {}", someone.weight)];
            if let Some((start, end)) = someone.hours {
                schedules.push(format!(
                    "  h{number}: {{ days: mon-sun, hours: \"{start:02}:00-{end:02}:00\" }}\n"
                ));
                keys.push(format!("schedule: h{number}"));
            }
            if someone.skilled {
                keys.push("skills: [moscow]".to_owned());
            }
            if let Some(limit) = someone.per_hour {
                keys.push(format!("limits: {{ per_hour: {limit} }}"));
            }
            if number > 1 {
                keys.push(format!("substitute: p{0}, successor: p{0}", number - 1));
            }
            people.push(format!("  p{number}: {{ {} }}\n", keys.join(", ")));
        }
        let names = |people: &[usize]| {
            people.iter().map(|number| format!("p{number}")).collect::<Vec<_>>().join(", ")
        };
        let (mut queues, mut cases) = (Vec::new(), Vec::new());
        let skills = if self.asks_skill { ", skills: [moscow]" } else { "" };
        for (number, queue) in (1..).zip(&self.queues) {
            let mut keys = vec![
                format!("members: [{}]", names(&queue.members)),
                format!("strategy: {}", queue.strategy),
            ];
            if !queue.on_duty.is_empty() {
                keys.push(format!("on_duty: [{}]", names(&queue.on_duty)));
            }
            if queue.shares_a_ledger {
                keys.push("ledger: shared".to_owned());
            }
            keys.push(format!("working_day: {}", queue.working_day));
            if !queue.absences {
                keys.push("absences: ignored".to_owned());
            }
            if !queue.if_absent.is_empty() {
                keys.push(format!("sticky: {{ by: phone, if_absent: {} }}", queue.if_absent));
            }
            if let Some(limit) = queue.per_day {
                keys.push(format!("limits: {{ per_day: {limit} }}"));
            }
            queues.push(format!("  q{number}: {{ {} }}\n", keys.join(", ")));
            cases.push(format!("      q{number}: {{ queue: q{number}{skills} }}\n"));
        }
        let [schedules, people, queues, cases] =
            [schedules, people, queues, cases].map(|lines| lines.concat());
        format!(
            "version: 1\ntime_zone: UTC\nschedules:\n{schedules}people:\n{people}queues:\n{queues}rules:\n  - name: by source\n    by: source\n    cases:\n{cases}default: {{ assign: p1 }}\n"
        )
    }

    pub fn routing(&self) -> Routing {
        world::routing(&self.yaml())
    }

    /// With further absentees, by a mask of numbers.
    pub fn roster(&self, away: u32) -> Roster {
        let presence = |(number, someone): (u64, &Someone)| {
            let active = someone.presence.active && away & (1 << number) == 0;
            (world::user(number), Presence { active, ..someone.presence.clone() })
        };
        (1..).zip(&self.people).map(presence).collect()
    }

    /// Whether this person may take a lead of this queue, or takes it on duty, said a second time and without any of the
    /// crate's words.
    pub fn may_take(
        &self,
        (person, on_duty): (usize, bool),
        queue: &SomeQueue,
        away: u32,
        now: Timestamp,
    ) -> bool {
        let someone = &self.people[person - 1];
        let here = &someone.presence;
        let away_by_mask = away & (1 << person) != 0;
        let absent = here.absent.iter().any(|absence| absence.0 <= now && now < absence.1);
        let hour = now.to_zoned_datetime(jiff::tz::TimeZone::UTC).hour();
        let at_work = someone.hours.is_none_or(|(start, end)| {
            if start < end { (start..end).contains(&hour) } else { hour >= start || hour < end }
        });
        here.active
            && !away_by_mask
            && (someone.skilled || !self.asks_skill)
            && !(queue.absences && absent)
            && here.paused_until.is_none_or(|until| until <= now)
            && at_work
            && (queue.working_day == "ignored"
                || queue.working_day == "required" && on_duty
                || here.working_day == WorkingDay::Opened)
            && someone.per_hour.is_none_or(|limit| here.hour < limit)
            && queue.per_day.is_none_or(|limit| here.day < limit)
    }
}

/// Leads one after the other: which queue, who else is away, how much later than the one before.
pub fn leads() -> impl Strategy<Value = Vec<(usize, u32, SignedDuration)>> {
    let lead = (0..3_usize, any::<u32>(), 0..180_i64);
    vec(lead, 1..60).prop_map(|leads| {
        let lead = |(queue, mask, minutes): (usize, u32, i64)| {
            (queue, mask & mask.rotate_left(7), SignedDuration::from_mins(minutes))
        };
        leads.into_iter().map(lead).collect()
    })
}

/// The sum of each ledger's balances, in units.
pub fn sums(entries: &[distribution::LedgerEntry]) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for entry in entries {
        *sums.entry(entry.ledger.to_string()).or_default() += entry.delta.units();
    }
    sums
}

/// The number of a person's user.
pub fn number(user: UserId) -> usize {
    usize::try_from(user.get()).unwrap()
}
