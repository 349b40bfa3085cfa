//! The file's time: its zone, its schedules and holidays, and who follows which.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::known::Known;
use super::problem::{Place, Problems};
use super::schedules;
use super::section::{Section, Word};
use crate::routing::LocalSchedule;
use crate::schedule::{Holidays, Schedule};

/// What the file says of time, for those who refer to it.
pub(super) struct Times {
    pub(super) zone: TimeZone,
    pub(super) holidays: Holidays,
    /// The schedules that somebody follows so far, each in his zone.
    pub(super) hours: Vec<LocalSchedule>,
    schedules: Known<Schedule>,
    zone_is_given: bool,
}

impl Times {
    /// Reads `time_zone`, `calendar` and `schedules`.
    pub(super) fn read(file: &Section, problems: &mut Problems) -> Self {
        let node = file.get("time_zone");
        let zone = node.and_then(|node| schedules::read_zone(node, "`time_zone`", problems));
        let holidays = file.get("calendar").map(|node| schedules::read_holidays(node, problems));
        let schedules = match file.get("schedules") {
            Some(node) => schedules::read(node, problems),
            None => Known::new(schedules::WHAT),
        };
        Self {
            zone: zone.unwrap_or(TimeZone::UTC),
            holidays: holidays.unwrap_or_default(),
            hours: Vec::new(),
            schedules,
            zone_is_given: node.is_some(),
        }
    }

    /// The schedule with this name in the file's zone: a place in [`Routing::hours`](crate::Routing).
    pub(super) fn of_file(&mut self, word: &Word, problems: &mut Problems) -> Option<usize> {
        let schedule = self.schedules.find(word, problems)?;
        self.warn_without_zone(problems);
        Some(self.number(schedule, self.zone.clone()))
    }

    /// The same for a person; `own` is the zone he has, if it is not the file's.
    pub(super) fn of_person(
        &mut self,
        word: &Word,
        own: Option<&TimeZone>,
        problems: &mut Problems,
    ) -> Option<usize> {
        let schedule = self.schedules.find(word, problems)?;
        if own.is_none() {
            self.warn_without_zone(problems);
        }
        Some(self.number(schedule, own.unwrap_or(&self.zone).clone()))
    }

    /// Once for the file.
    fn warn_without_zone(&mut self, problems: &mut Problems) {
        if !self.zone_is_given {
            self.zone_is_given = true;
            let message = "`time_zone` is missing, so that schedules are read in UTC";
            problems.warn(Place::START, message, "write where the office is: `time_zone: Europe/Moscow`");
        }
    }

    fn number(&mut self, schedule: Arc<Schedule>, zone: TimeZone) -> usize {
        let same = |local: &LocalSchedule| Arc::ptr_eq(&local.schedule, &schedule) && local.zone == zone;
        self.hours.iter().position(same).unwrap_or_else(|| {
            self.hours.push(LocalSchedule { schedule, zone });
            self.hours.len() - 1
        })
    }
}
