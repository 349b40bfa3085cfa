//! Whether a person may take a lead at this moment: the one definition, for members of queues, for people on duty and
//! for those whom a rule names.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::calendar::Calendar;
use crate::explanation::{Limit, Reason, Role};
use crate::ids::UserId;
use crate::name::Name;
use crate::roster::Presence;
use crate::routing::{Limits, Person, Queue};

/// What a lead and the queue that hands it out ask of people.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demands<'r> {
    skills: &'r [Name],
    working_day: bool,
    absences: bool,
    limits: Limits,
    /// Who had the lead before.
    had: &'r BTreeSet<UserId>,
    /// How many held leads one person is given in a minute, where the lead is one.
    release_per_minute: Option<u32>,
}

/// Nobody had it.
static NOBODY: BTreeSet<UserId> = BTreeSet::new();

impl<'r> Demands<'r> {
    /// Of who is named by a rule.
    pub(crate) fn of_rule(skills: &'r [Name], had: &'r BTreeSet<UserId>) -> Self {
        Self {
            skills,
            working_day: false,
            absences: true,
            limits: Limits::default(),
            had,
            release_per_minute: None,
        }
    }

    /// Of who is named by a rule, for a lead of which nothing is known.
    pub(crate) fn of_rule_for_anything() -> Self {
        Self::of_rule(&[], &NOBODY)
    }

    /// Of who is asked as this for a fresh lead of a queue of which nothing is known.
    pub(crate) fn of_anything(queue: &Queue, role: Role) -> Self {
        Self::of_queue(queue, role, &[], &NOBODY, false)
    }

    /// Of who is asked as this for a lead of a queue; `held` says that it was held until now.
    pub(crate) fn of_queue(
        queue: &Queue,
        role: Role,
        skills: &'r [Name],
        had: &'r BTreeSet<UserId>,
        held: bool,
    ) -> Self {
        Self {
            release_per_minute: queue.hold.release_per_minute.filter(|_| held),
            skills,
            working_day: queue.working_day.binds(role),
            absences: queue.absences_respected,
            limits: queue.limits,
            had,
        }
    }

    /// Why this person may not take a lead; `None` when he may. What lasts longest comes first.
    pub(crate) fn refusal(
        &self,
        person: &Person,
        presence: &Presence,
        calendar: &Calendar<'_>,
    ) -> Option<Reason> {
        let now = calendar.moment();
        if !presence.active {
            return Some(Reason::Inactive);
        }
        if self.had.contains(&person.user) {
            return Some(Reason::HadBefore);
        }
        if let Some(skill) = self.skills.iter().find(|skill| !person.skills.contains(*skill)) {
            return Some(Reason::LacksSkill { skill: skill.clone() });
        }
        if self.absences
            && let Some(until) = back(presence, now)
        {
            return Some(Reason::Absent { until });
        }
        if let Some(until) = presence.paused_until.filter(|until| now < *until) {
            return Some(Reason::Paused { until });
        }
        if let Some(hours) = person.hours.filter(|hours| !calendar.is_on(*hours)) {
            return Some(Reason::OffSchedule { until: calendar.next_on(hours) });
        }
        if self.working_day && !presence.working_day.lets_work() {
            return Some(Reason::WorkingDay { state: presence.working_day });
        }
        let max = self.release_per_minute.filter(|max| presence.released >= *max);
        let released = max.map(|max| {
            let (limit, count) = (Limit::ReleasePerMinute, presence.released);
            Reason::AtLimit { limit, max, count }
        });
        at_limit(&person.limits, presence).or_else(|| at_limit(&self.limits, presence)).or(released)
    }

    /// When who may take one may not any more, as far as absences and schedules tell; `None` when they do not.
    pub(crate) fn available_until(
        &self,
        person: &Person,
        presence: &Presence,
        calendar: &Calendar<'_>,
    ) -> Option<Timestamp> {
        let hours_end = person.hours.and_then(|hours| calendar.on_until(hours));
        let away = presence.absent.iter().map(|absence| absence.0).filter(|from| *from > calendar.moment());
        away.filter(|_| self.absences).chain(hours_end).min()
    }

    /// How many such leads somebody who may take one may take, within the limits.
    pub(crate) fn places(&self, person: &Person, presence: &Presence) -> u32 {
        let left = |limits: &Limits| {
            let of = |max: Option<u32>, count: u32| max.map(|max| max.saturating_sub(count));
            [
                of(limits.per_hour, presence.hour),
                of(limits.open, presence.open),
                of(limits.per_day, presence.day),
            ]
        };
        let released = self.release_per_minute.map(|max| max.saturating_sub(presence.released));
        let all = left(&person.limits).into_iter().chain(left(&self.limits)).chain([released]);
        all.flatten().min().unwrap_or(u32::MAX)
    }

    /// When he may take one at the earliest, as far as absences, pauses, schedules and days tell; `None` when they do not.
    pub(crate) fn available(
        &self,
        refusal: &Reason,
        person: &Person,
        presence: &Presence,
        calendar: &Calendar<'_>,
    ) -> Option<Timestamp> {
        let mut moment = match refusal {
            Reason::Absent { until }
            | Reason::Paused { until }
            | Reason::OffSchedule { until: Some(until) } => *until,
            Reason::AtLimit { limit: Limit::PerDay, .. } => person.next_day(calendar.moment())?,
            Reason::Inactive
            | Reason::HadBefore
            | Reason::LacksSkill { .. }
            | Reason::OffSchedule { until: None }
            | Reason::WorkingDay { .. }
            | Reason::AtLimit { limit: Limit::Open | Limit::PerHour | Limit::ReleasePerMinute, .. }
            | Reason::Named
            | Reason::LargestCredit
            | Reason::LeastLoaded
            | Reason::FirstInList
            | Reason::SmallerCredit
            | Reason::MoreLoaded
            | Reason::LaterInList
            | Reason::ReservedForDuty
            | Reason::SameClient
            | Reason::StandsIn => return None,
        };
        // Each may end within another: who is back from leave at midnight works from nine. An end lies behind every
        // moment it ends, so this goes forward only; the bound is for absences without number.
        for _ in 0..1000 {
            let away = self.absences.then(|| back(presence, moment)).flatten();
            let later = match (away, presence.paused_until.filter(|until| moment < *until), person.hours) {
                (Some(until), _, _) | (None, Some(until), _) => until,
                (None, None, Some(hours)) => calendar.next_on_after(hours, moment)?,
                (None, None, None) => moment,
            };
            if later == moment {
                return Some(moment);
            }
            moment = later;
        }
        None
    }
}

/// When he is back, if he is away: absences that touch or overlap are one.
fn back(presence: &Presence, moment: Timestamp) -> Option<Timestamp> {
    let mut back = moment;
    while let Some(absence) = presence.absent.iter().find(|absence| absence.0 <= back && back < absence.1) {
        back = absence.1;
    }
    (back > moment).then_some(back)
}

fn at_limit(limits: &Limits, presence: &Presence) -> Option<Reason> {
    let reached = |max: Option<u32>, count: u32, limit| {
        let max = max.filter(|max| count >= *max)?;
        Some(Reason::AtLimit { limit, max, count })
    };
    reached(limits.per_hour, presence.hour, Limit::PerHour)
        .or_else(|| reached(limits.open, presence.open, Limit::Open))
        .or_else(|| reached(limits.per_day, presence.day, Limit::PerDay))
}
