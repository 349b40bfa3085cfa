//! When somebody works: days, hours, holidays, in a time zone.
//!
//! A schedule is written in civil time, and a zone makes instants of it. An interval belongs to the day it begins on: from
//! that day's start time to its end time, on the next day when the end is not after the start. Each end is looked up in
//! the zone by itself, so a night shift is an hour longer or shorter on the nights the clocks change, and a whole day is
//! as long as the day is. A civil time that does not exist is taken as much later as the clocks jump; of one that comes
//! twice the first counts.

use std::collections::BTreeSet;
use std::fmt;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::name::Name;

/// Days on which nobody works who keeps holidays.
pub(crate) type Holidays = BTreeSet<Date>;

/// How far ahead the next working time is looked for.
const SEARCH_DAYS: u16 = 400;

/// A schedule of the routing file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) name: Name,
    pub(crate) days: Days,
    /// At least one, in order, none overlapping another.
    pub(crate) hours: Vec<Hours>,
    /// Whether nothing begins on a holiday.
    pub(crate) keeps_holidays: bool,
}

/// On which days something begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Days {
    /// On these, by their offset from Monday.
    Week([bool; 7]),
    /// `on` days from `from`, then `off` days without, and so on; before `from` it runs the same way.
    Cycle { on: u16, off: u16, from: Date },
}

/// An interval of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hours {
    pub(crate) start: Time,
    /// Midnight for the end of the day; not after `start` for a time on the next day.
    pub(crate) end: Time,
}

impl Schedule {
    /// Whether it is on at this moment.
    pub(crate) fn is_on(&self, holidays: &Holidays, zone: &TimeZone, moment: Timestamp) -> bool {
        self.covering(holidays, zone, moment).is_some()
    }

    /// `after` itself when it is on then, else when it is on next; `None` when that is not within 400 days.
    pub(crate) fn next_on(
        &self,
        holidays: &Holidays,
        zone: &TimeZone,
        after: Timestamp,
    ) -> Option<Timestamp> {
        if self.is_on(holidays, zone, after) {
            return Some(after);
        }
        let today = after.to_zoned_datetime(zone.clone()).date();
        let mut starts = self.spans(holidays, zone, today, SEARCH_DAYS).map(|(start, _)| start);
        starts.find(|start| *start > after)
    }

    /// The end of the interval that covers this moment.
    pub(crate) fn covering(
        &self,
        holidays: &Holidays,
        zone: &TimeZone,
        moment: Timestamp,
    ) -> Option<Timestamp> {
        let today = moment.to_zoned_datetime(zone.clone()).date();
        // What began yesterday may go on; nothing lasts longer.
        let days = [today.yesterday().ok(), Some(today)].into_iter().flatten();
        let mut spans = days.flat_map(|day| self.spans_of(holidays, zone, day));
        spans.find(|(start, end)| *start <= moment && moment < *end).map(|(_, end)| end)
    }

    /// The intervals that begin on `days` days from `from`, as instants, in order.
    pub(crate) fn spans(
        &self,
        holidays: &Holidays,
        zone: &TimeZone,
        from: Date,
        days: u16,
    ) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let dates = (0..i32::from(days)).filter_map(move |offset| from.checked_add(offset.days()).ok());
        dates.flat_map(move |day| self.spans_of(holidays, zone, day))
    }

    fn spans_of(
        &self,
        holidays: &Holidays,
        zone: &TimeZone,
        day: Date,
    ) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let works = self.days.contain(day) && !(self.keeps_holidays && holidays.contains(&day));
        let hours = if works { self.hours.as_slice() } else { &[] };
        hours.iter().filter_map(move |hours| {
            let last_day = if hours.end > hours.start { day } else { day.tomorrow().ok()? };
            let instant = |day: Date, time| zone.to_timestamp(day.to_datetime(time)).ok();
            let span = (instant(day, hours.start)?, instant(last_day, hours.end)?);
            // Nothing is left of an interval within an hour that the clocks leave out.
            (span.0 < span.1).then_some(span)
        })
    }
}

impl Days {
    fn contain(&self, day: Date) -> bool {
        match self {
            Self::Week(days) => days.get(offset(day.weekday())).copied().unwrap_or(false),
            Self::Cycle { on, off, from } => {
                let since = day.since(*from).map_or(0, |span| span.get_days());
                since.rem_euclid(i32::from(*on) + i32::from(*off)) < i32::from(*on)
            }
        }
    }
}

/// Monday is 0.
pub(crate) fn offset(weekday: Weekday) -> usize {
    usize::try_from(weekday.to_monday_zero_offset()).unwrap_or(0)
}

impl Hours {
    /// Start and end in minutes of the day; an end on the next day is beyond 24 hours.
    pub(crate) fn minutes(self) -> (i32, i32) {
        let minutes = |time: Time| i32::from(time.hour()) * 60 + i32::from(time.minute());
        let (start, end) = (minutes(self.start), minutes(self.end));
        (start, if end > start { end } else { end + 24 * 60 })
    }
}

/// As in the routing file: `09:00-13:00`, `21:00-24:00`.
impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", self.start.strftime("%H:%M"))?;
        if self.end == Time::midnight() {
            f.write_str("24:00")
        } else {
            write!(f, "{}", self.end.strftime("%H:%M"))
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn hours(texts: &[(i8, i8, i8, i8)]) -> Vec<Hours> {
        let time = |hour: i8, minute| Time::constant(hour % 24, minute, 0, 0);
        texts.iter().map(|(a, b, c, d)| Hours { start: time(*a, *b), end: time(*c, *d) }).collect()
    }

    fn week(days: &str, hours: Vec<Hours>) -> Schedule {
        let mut on = [false; 7];
        on.iter_mut().zip(days.chars()).for_each(|(on, c)| *on = c == 'x');
        Schedule { name: "s".into(), days: Days::Week(on), hours, keeps_holidays: true }
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_office_with_a_break_and_a_holiday() {
        let office = week("xxxxx--", hours(&[(9, 0, 13, 0), (14, 0, 18, 0)]));
        let (moscow, holidays) = (zone("Europe/Moscow"), Holidays::from([date(2026, 11, 24)]));
        let next = |moment: &str| office.next_on(&holidays, &moscow, at(moment)).unwrap().to_string();
        for (moment, on) in [
            ("2026-11-23T05:59:59Z", false),
            ("2026-11-23T06:00:00Z", true),
            ("2026-11-23T10:00:00Z", false),
            ("2026-11-23T11:00:00Z", true),
            ("2026-11-23T15:00:00Z", false),
            ("2026-11-24T07:00:00Z", false),
            ("2026-11-28T07:00:00Z", false),
        ] {
            assert_eq!(office.is_on(&holidays, &moscow, at(moment)), on, "{moment}");
        }
        assert_eq!(next("2026-11-23T06:30:00Z"), "2026-11-23T06:30:00Z");
        assert_eq!(next("2026-11-23T10:00:00Z"), "2026-11-23T11:00:00Z");
        assert_eq!(next("2026-11-23T15:00:00Z"), "2026-11-25T06:00:00Z", "the holiday is left out");
        assert_eq!(next("2026-11-27T15:00:00Z"), "2026-11-30T06:00:00Z");
    }

    #[test]
    fn a_night_belongs_to_the_day_it_begins_on() {
        let nights = week("----x--", hours(&[(21, 0, 9, 0)]));
        let (utc, none) = (TimeZone::UTC, Holidays::new());
        assert!(nights.is_on(&none, &utc, at("2026-11-28T08:59:00Z")), "Saturday morning");
        assert!(!nights.is_on(&none, &utc, at("2026-11-27T08:59:00Z")), "Friday morning");
        // A holiday takes away what begins on it, not what began the day before.
        let holidays = Holidays::from([date(2026, 11, 28)]);
        assert!(nights.is_on(&holidays, &utc, at("2026-11-28T08:59:00Z")));
    }

    #[test]
    fn two_on_two_off_from_a_date_and_before_it() {
        let days = Days::Cycle { on: 2, off: 2, from: date(2026, 11, 2) };
        let on: Vec<bool> = (-4..6).map(|day| days.contain(date(2026, 11, 2) + day.days())).collect();
        assert_eq!(on, [true, true, false, false, true, true, false, false, true, true]);
    }

    #[test]
    fn a_night_is_as_long_as_the_clocks_make_it() {
        let nights = week("xxxxxxx", hours(&[(21, 0, 9, 0)]));
        let (berlin, none) = (zone("Europe/Berlin"), Holidays::new());
        let length = |day| {
            let (start, end) = nights.spans(&none, &berlin, day, 1).next().unwrap();
            end.duration_since(start).as_hours()
        };
        assert_eq!(
            [date(2026, 3, 27), date(2026, 3, 28), date(2026, 10, 23), date(2026, 10, 24)].map(length),
            [12, 11, 12, 13]
        );
        // 02:30 does not exist on that night, and nothing is left of the hour around it.
        let gap = week("xxxxxxx", hours(&[(2, 0, 3, 0)]));
        assert_eq!(gap.spans(&none, &berlin, date(2026, 3, 29), 1).count(), 0);
        // 02:30 comes twice on that one; the first counts, and the interval ends once.
        let twice = week("xxxxxxx", hours(&[(2, 30, 4, 0)]));
        let (start, end) = twice.spans(&none, &berlin, date(2026, 10, 25), 1).next().unwrap();
        assert_eq!((start, end), (at("2026-10-25T00:30:00Z"), at("2026-10-25T03:00:00Z")));
    }

    #[test]
    fn every_moment_of_every_year_is_within_a_whole_day() {
        let always = week("xxxxxxx", hours(&[(0, 0, 24, 0)]));
        for name in
            ["Europe/Moscow", "America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut", "Pacific/Apia", "UTC"]
        {
            let zone = zone(name);
            let mut end = zone.to_timestamp(date(2008, 1, 1).at(0, 0, 0, 0)).unwrap();
            for (start, next) in always.spans(&Holidays::new(), &zone, date(2008, 1, 1), 366 * 12) {
                assert_eq!(start, end, "{name}");
                end = next;
            }
        }
    }

    #[test]
    fn the_ends_of_time_are_no_panic() {
        let always = week("xxxxxxx", hours(&[(0, 0, 24, 0)]));
        for moment in [Timestamp::MIN, Timestamp::MAX] {
            for name in ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"] {
                let _: (bool, _) = (
                    always.is_on(&Holidays::new(), &zone(name), moment),
                    always.next_on(&Holidays::new(), &zone(name), moment),
                );
            }
        }
    }

    #[test]
    fn a_schedule_that_is_never_on_again_has_no_next() {
        let never = week("-------", hours(&[(9, 0, 18, 0)]));
        assert_eq!(never.next_on(&Holidays::new(), &TimeZone::UTC, at("2026-11-23T00:00:00Z")), None);
    }

    prop_compose! {
        fn schedules()(
            days in prop::array::uniform7(any::<bool>()),
            cycle in prop::option::of((1..4_u16, 1..4_u16)),
            start in 0..96_i16, length in 1..=96_i16, keeps_holidays: bool,
        ) -> Schedule {
            let time = |quarter: i16| Time::midnight() + (i64::from(quarter % 96) * 15).minutes();
            let days = match cycle {
                Some((on, off)) => Days::Cycle { on, off, from: date(2026, 2, 1) },
                None => Days::Week(days),
            };
            let hours = vec![Hours { start: time(start), end: time(start + length) }];
            Schedule { name: "s".into(), days, hours, keeps_holidays }
        }
    }

    proptest! {
        #[test]
        fn on_is_what_the_spans_cover_and_next_is_the_first_such_moment(
            schedule in schedules(),
            name in prop::sample::select(vec!["Europe/Berlin", "America/Sao_Paulo", "Asia/Beirut", "UTC"]),
            minute in 0..60 * 24 * 400_i64,
        ) {
            let (zone, holidays) = (zone(name), Holidays::from([date(2026, 3, 29), date(2026, 6, 1)]));
            let moment = at("2026-01-10T00:00:00Z") + minute.minutes();
            let spans: Vec<_> = schedule.spans(&holidays, &zone, date(2026, 1, 1), 440).collect();
            let covered = |moment: Timestamp| spans.iter().any(|(start, end)| *start <= moment && moment < *end);
            prop_assert_eq!(schedule.is_on(&holidays, &zone, moment), covered(moment));
            match schedule.next_on(&holidays, &zone, moment) {
                Some(next) => {
                    prop_assert!(next >= moment && covered(next));
                    prop_assert!(next == moment || !spans.iter().any(|(start, _)| moment < *start && *start < next));
                }
                None => prop_assert!(spans.iter().all(|(_, end)| *end <= moment)),
            }
        }
    }
}
