//! Who works at one moment, by the schedules alone.
//!
//! Many people follow few schedules, so each schedule is looked up once for a moment, and only when somebody asks.

use std::cell::OnceCell;

use jiff::Timestamp;

use crate::routing::{LocalSchedule, Routing};

/// The schedules of a routing at one moment.
pub(crate) struct Calendar<'r> {
    routing: &'r Routing,
    moment: Timestamp,
    on: Vec<OnceCell<bool>>,
    next: Vec<OnceCell<Option<Timestamp>>>,
}

impl<'r> Calendar<'r> {
    pub(crate) fn at(routing: &'r Routing, moment: Timestamp) -> Self {
        let count = routing.hours.len();
        Self { routing, moment, on: vec![OnceCell::new(); count], next: vec![OnceCell::new(); count] }
    }

    pub(crate) fn moment(&self) -> Timestamp {
        self.moment
    }

    /// Whether a schedule, by its place in [`Routing::hours`], is on. One that is not there is.
    pub(crate) fn is_on(&self, hours: usize) -> bool {
        let (Some(on), Some(local)) = (self.on.get(hours), self.routing.hours.get(hours)) else {
            return true;
        };
        *on.get_or_init(|| local.schedule.is_on(&self.routing.holidays, &local.zone, self.moment))
    }

    /// Until when it is on; `None` when it is not on.
    pub(crate) fn on_until(&self, hours: usize) -> Option<Timestamp> {
        let LocalSchedule { schedule, zone } = self.routing.hours.get(hours)?;
        schedule.covering(&self.routing.holidays, zone, self.moment)
    }

    /// When it is on again.
    pub(crate) fn next_on(&self, hours: usize) -> Option<Timestamp> {
        *self.next.get(hours)?.get_or_init(|| self.next_on_after(hours, self.moment))
    }

    /// When it is on after another moment, that moment included.
    pub(crate) fn next_on_after(&self, hours: usize, after: Timestamp) -> Option<Timestamp> {
        let LocalSchedule { schedule, zone } = self.routing.hours.get(hours)?;
        schedule.next_on(&self.routing.holidays, zone, after)
    }
}
