//! What is known of people: from what sources said and when, to what a decision goes by.
//!
//! A source that is refused, or was not heard of for long, stops nothing: working days that nobody knows count as
//! open, so that schedules alone decide; absences, dismissals and counts stay as they were last heard of. What was not
//! known is written into the decision's explanation.

use std::collections::BTreeMap;

use common::config;
use common::ids::UserId;
use distribution::{Absence, NotKnown, Presence, Roster, Routing, WorkingDay};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Given, OwnKind, RosterSource, RosterState};

/// A working day that was opened longer ago was forgotten, even where the portal still calls it open: it does so until
/// the evening, and without a schedule for two days.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(18);

/// A source that was not heard of for so many of its intervals says nothing any more.
const STALE_AFTER: i32 = 5;

/// How often sources are asked.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// All but absences.
    pub every: SignedDuration,
    /// Absences.
    pub absences: SignedDuration,
}

impl Intervals {
    /// As configured.
    #[must_use]
    pub fn of(config: &config::Roster) -> Self {
        let interval = |every| SignedDuration::try_from(every).unwrap_or(SignedDuration::from_mins(1));
        Self { every: interval(config.every), absences: interval(config.absences_every) }
    }
}

/// A working day as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownDay {
    /// Its state.
    pub state: WorkingDay,
    /// When the last one began.
    pub began: Option<Timestamp>,
}

/// What is known of the people of one portal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KnownPeople {
    active: BTreeMap<UserId, bool>,
    zones: BTreeMap<UserId, String>,
    days: BTreeMap<UserId, KnownDay>,
    open: BTreeMap<UserId, u32>,
    away: BTreeMap<UserId, Vec<Absence>>,
    pauses: BTreeMap<UserId, Vec<Absence>>,
    read_at: BTreeMap<RosterSource, Timestamp>,
    has_leads: Option<bool>,
}

impl KnownPeople {
    /// From what the store has. Facts in a form that this program does not know count as never read.
    #[must_use]
    pub fn from_store(state: RosterState) -> Self {
        let mut known = Self { has_leads: state.has_leads, ..Self::default() };
        for reading in state.readings {
            let Some((facts, at)) = reading.facts else { continue };
            let understood = match reading.source {
                RosterSource::People => take(facts, &mut known.active),
                RosterSource::TimeZones => take(facts, &mut known.zones),
                RosterSource::WorkingDays => take(facts, &mut known.days),
                RosterSource::OpenLeads => take(facts, &mut known.open),
                RosterSource::Calendar | RosterSource::Messenger => {
                    let mut away: BTreeMap<UserId, Vec<Absence>> = BTreeMap::new();
                    let understood = take(facts, &mut away);
                    for (user, absences) in away {
                        known.away.entry(user).or_default().extend(absences);
                    }
                    understood
                }
            };
            if understood {
                known.read_at.insert(reading.source, at);
            }
        }
        for own in state.own {
            let into = match own.kind {
                OwnKind::Pause => &mut known.pauses,
                OwnKind::Absence => &mut known.away,
            };
            into.entry(own.user).or_default().push(Absence(own.from, own.to));
        }
        known
    }

    /// Where people live, as far as the portal tells and the name is one.
    #[must_use]
    pub fn time_zones(&self) -> BTreeMap<UserId, TimeZone> {
        let zone = |(user, name): (&UserId, &String)| Some((*user, TimeZone::get(name).ok()?));
        self.zones.iter().filter_map(zone).collect()
    }

    /// Whether the portal keeps leads; `None` while it did not tell.
    #[must_use]
    pub fn has_leads(&self) -> Option<bool> {
        self.has_leads
    }

    /// When open leads were counted; none where they never were.
    #[must_use]
    pub fn counted_at(&self) -> Option<Timestamp> {
        self.read_at.get(&RosterSource::OpenLeads).copied()
    }

    /// Whether the portal told who is active at `after`, or later.
    #[must_use]
    pub fn is_heard_of(&self, after: Timestamp) -> bool {
        self.read_at.get(&RosterSource::People).is_some_and(|at| *at >= after)
    }

    /// The roster for a decision by this routing, with what people were given by us.
    #[must_use]
    pub fn roster(
        &self,
        routing: &Routing,
        given: &BTreeMap<UserId, Given>,
        intervals: Intervals,
        now: Timestamp,
    ) -> Roster {
        let is_known = |source: RosterSource, every: SignedDuration| {
            self.read_at.get(&source).is_some_and(|at| now.duration_since(*at) <= every * STALE_AFTER)
        };
        let days_known = is_known(RosterSource::WorkingDays, intervals.every);
        let presence = |user: UserId| {
            let given = given.get(&user).copied().unwrap_or_default();
            let day = self.days.get(&user).filter(|_| days_known);
            Presence {
                active: self.active.get(&user).copied().unwrap_or(true),
                working_day: day.map_or(WorkingDay::Unknown, |day| day.at(now)),
                absent: self.away.get(&user).cloned().unwrap_or_default(),
                paused_until: self.paused_until(user, now),
                open: self.open.get(&user).copied().unwrap_or_default().saturating_add(given.reserved),
                hour: given.hour,
                day: given.day,
                released: given.released,
            }
        };
        let mut roster: Roster =
            routing.people().map(|person| (person.user, presence(person.user))).collect();
        let sources = [
            (true, RosterSource::People, intervals.every, NotKnown::People),
            (routing.asks_time_zones(), RosterSource::TimeZones, intervals.every, NotKnown::TimeZones),
            (routing.asks_working_days(), RosterSource::WorkingDays, intervals.every, NotKnown::WorkingDays),
            // The messenger alone knows no business trip.
            (true, RosterSource::Calendar, intervals.absences, NotKnown::Absences),
            (routing.counts_open_leads(), RosterSource::OpenLeads, intervals.every, NotKnown::OpenLeads),
        ];
        for (asked, source, every, what) in sources {
            if asked && !is_known(source, every) {
                roster.set_not_known(what);
            }
        }
        roster
    }

    fn paused_until(&self, user: UserId, now: Timestamp) -> Option<Timestamp> {
        let pauses = self.pauses.get(&user)?.iter();
        pauses.filter(|pause| pause.0 <= now && now < pause.1).map(|pause| pause.1).max()
    }

    /// Whether somebody may take leads now who could not by what was known `before`, or may take more.
    #[must_use]
    pub fn lets_more_than(&self, before: &Self) -> bool {
        let users = self.active.keys().chain(self.days.keys()).chain(self.open.keys());
        let users = users.chain(before.away.keys()).chain(before.pauses.keys());
        let works = |day: Option<&KnownDay>| day.is_none_or(|day| day.state.lets_work());
        users.into_iter().any(|user| {
            let came_back = |is: Option<&Vec<Absence>>, was: Option<&Vec<Absence>>| {
                was.is_some_and(|was| was.iter().any(|absence| !is.is_some_and(|is| is.contains(absence))))
            };
            (self.active.get(user) > before.active.get(user))
                // One that was forgotten is still called open, so a new one tells by its beginning.
                || (works(self.days.get(user)) && self.days.get(user) != before.days.get(user))
                || self.open.get(user) < before.open.get(user)
                || came_back(self.away.get(user), before.away.get(user))
                || came_back(self.pauses.get(user), before.pauses.get(user))
        })
    }
}

impl KnownDay {
    fn at(self, now: Timestamp) -> WorkingDay {
        let forgotten = self.began.is_some_and(|began| now.duration_since(began) > FORGOTTEN_AFTER);
        if self.state == WorkingDay::Opened && forgotten { WorkingDay::Expired } else { self.state }
    }
}

/// Whether the facts are in the form we know.
fn take<T: serde::de::DeserializeOwned>(facts: Value, into: &mut BTreeMap<UserId, T>) -> bool {
    serde_json::from_value(facts).map(|facts| *into = facts).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{OwnAbsence, Reading};

    const ROUTING: &str = "
version: 1
people:
  ivanov: { user: 11 }
  petrov: { user: 12, limits: { open: 5 } }
queues:
  main: { members: [ivanov, petrov], strategy: rotation, working_day: required }
default: { queue: main }
";

    fn at(text: &str) -> Timestamp {
        format!("2026-11-23T{text}:00Z").parse().unwrap()
    }

    fn user(id: u64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn reading(source: RosterSource, facts: Value, read_at: Timestamp) -> Reading {
        Reading { source, facts: Some((facts, read_at)), problem: None }
    }

    fn roster(state: &RosterState, now: Timestamp) -> Roster {
        let routing = Routing::from_yaml(ROUTING, "routing.yaml").unwrap();
        let given = [(user(12), Given { hour: 1, day: 2, reserved: 3, released: 0 })].into();
        let intervals =
            Intervals { every: SignedDuration::from_mins(1), absences: SignedDuration::from_mins(10) };
        KnownPeople::from_store(state.clone()).roster(&routing, &given, intervals, now)
    }

    fn state(read_at: Timestamp) -> RosterState {
        let days = json!({
            "11": { "state": "OPENED", "began": "2026-11-23T06:00:00Z" },
            "12": { "state": "CLOSED", "began": null },
        });
        let away = json!({ "11": [["2026-11-23T12:00:00Z", "2026-11-23T13:00:00Z"]] });
        RosterState {
            readings: vec![
                reading(RosterSource::People, json!({ "11": true, "12": false }), read_at),
                reading(RosterSource::WorkingDays, days, read_at),
                reading(RosterSource::OpenLeads, json!({ "11": 7, "12": 4 }), read_at),
                reading(RosterSource::Calendar, away, read_at),
            ],
            own: Vec::new(),
            has_leads: None,
        }
    }

    #[test]
    fn what_sources_said_becomes_presence() {
        let roster = roster(&state(at("09:00")), at("09:01"));
        let (ivanov, petrov) = (roster.get(user(11)), roster.get(user(12)));
        assert_eq!((ivanov.active, ivanov.working_day, ivanov.open), (true, WorkingDay::Opened, 7));
        assert_eq!(ivanov.absent, [Absence(at("12:00"), at("13:00"))]);
        assert_eq!((petrov.active, petrov.working_day), (false, WorkingDay::Closed));
        assert_eq!((petrov.open, petrov.hour, petrov.day), (7, 1, 2), "with what is not visible yet");
        assert_eq!(roster.not_known().count(), 0);
    }

    #[test]
    fn old_news_of_working_days_is_none_and_all_of_it_is_said() {
        let state = state(at("09:00"));
        let roster = roster(&state, at("09:06"));
        assert_eq!(roster.get(user(12)).working_day, WorkingDay::Unknown);
        assert_eq!((roster.get(user(12)).active, roster.get(user(11)).open), (false, 7), "the last word");
        let not_known: Vec<_> = roster.not_known().collect();
        assert_eq!(not_known, [NotKnown::People, NotKnown::WorkingDays, NotKnown::OpenLeads]);
        let never: Vec<_> = super::tests::roster(&RosterState::default(), at("09:00")).not_known().collect();
        assert_eq!(never, [NotKnown::People, NotKnown::WorkingDays, NotKnown::Absences, NotKnown::OpenLeads]);
    }

    #[test]
    fn a_day_that_was_opened_yesterday_was_forgotten() {
        let mut state = state(at("23:59"));
        state.readings[1].facts.as_mut().unwrap().1 = "2026-11-24T00:01:00Z".parse().unwrap();
        let roster = roster(&state, "2026-11-24T00:01:00Z".parse().unwrap());
        assert_eq!(roster.get(user(11)).working_day, WorkingDay::Expired);
    }

    #[test]
    fn own_pauses_count_while_they_last() {
        let mut state = state(at("09:00"));
        state.own.push(OwnAbsence {
            user: user(11),
            kind: OwnKind::Pause,
            from: at("09:00"),
            to: at("09:45"),
            reason: None,
            author: "olga".to_owned(),
        });
        assert_eq!(roster(&state, at("09:01")).get(user(11)).paused_until, Some(at("09:45")));
        let with = KnownPeople::from_store(state.clone());
        assert_eq!(with.paused_until(user(11), at("09:45")), None);
        state.own.clear();
        let without = KnownPeople::from_store(state);
        assert!(without.lets_more_than(&with) && !with.lets_more_than(&without));
    }
}
