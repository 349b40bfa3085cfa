//! Asks a portal who is at work, at the roster's own rate: one router asks, all know.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitrix24::people::{DayStatus, Question, WorkingDay as PortalDay};
use bitrix24::{Portal, PortalError};
use common::clock::Clock;
use common::failure::{HandlerError, chain};
use common::ids::UserId;
use common::lifecycle::Stop;
use distribution::{Routing, WorkingDay};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use store::{Intervals, KnownDay, NewReading, RosterSource, Store};
use tokio::sync::watch;
use uuid::Uuid;

use crate::metrics::RouterMetrics;

/// Absences are asked for from yesterday, as a portal's day is not ours, to a week ahead.
const DAYS: (SignedDuration, SignedDuration) =
    (SignedDuration::from_hours(-24), SignedDuration::from_hours(7 * 24));

/// How often the portal is asked whether it keeps leads.
const MODE_EVERY: SignedDuration = SignedDuration::from_hours(24);

/// The same where it did not tell, or keeps none: somebody may be about to change that. It costs no request.
const MODE_AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// Asks one portal.
pub(crate) struct AskPeople {
    pub(crate) portal: Portal,
    pub(crate) routing: watch::Receiver<Arc<Routing>>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<RouterMetrics>,
    pub(crate) intervals: Intervals,
    pub(crate) holder: Uuid,
    /// When absences were asked for last.
    pub(crate) absences_at: Option<Timestamp>,
    /// When it is asked again whether the portal keeps leads; at once after the start.
    pub(crate) mode_due: Option<Timestamp>,
    /// Why the portal did not tell, so that it is logged once.
    pub(crate) mode_problem: Option<String>,
    /// What each source refuses, so that it is logged once.
    pub(crate) problems: BTreeMap<RosterSource, String>,
}

impl AskPeople {
    pub(crate) async fn run(mut self, stop: Stop) {
        let every = std::time::Duration::try_from(self.intervals.every).unwrap_or_default();
        loop {
            if let Err(error) = self.ask().await {
                tracing::warn!(event = "roster.not_asked", portal = %self.portal.name(), error = chain(&*error));
            }
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(every) => {}
                // New people, or something of them that counts from now on.
                changed = self.routing.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn ask(&mut self) -> Result<(), HandlerError> {
        let now = self.clock.now();
        let lease = std::time::Duration::try_from(self.intervals.every * 2).unwrap_or_default();
        if !self.store.take_roster(self.portal.name(), self.holder, now, lease).await? {
            return Ok(());
        }
        let routing = Arc::clone(&self.routing.borrow_and_update());
        let users: Vec<UserId> = routing.people().map(|person| person.user).collect();
        let absences_due =
            self.absences_at.is_none_or(|at| now.duration_since(at) >= self.intervals.absences);
        let day = |shift: SignedDuration| (now + shift).to_zoned_datetime(TimeZone::UTC).date();
        let question = Question {
            working_days: routing.asks_working_days(),
            open_leads: routing.counts_open_leads(),
            absences: absences_due.then(|| (day(DAYS.0), day(DAYS.1))),
            has_leads: self.mode_due.is_none_or(|due| due <= now),
        };
        let people = self.portal.people(&users, question, now).await?;
        if let Some(has_leads) = people.has_leads {
            self.take_mode(has_leads, now).await?;
        }
        let mut readings = vec![(RosterSource::People, people.active.map(|active| json!(active)))];
        if routing.asks_time_zones() {
            readings.push((RosterSource::TimeZones, people.time_zones.map(|zones| json!(zones))));
        }
        readings.extend(
            people
                .working_days
                .map(|days| (RosterSource::WorkingDays, days.map(|days| json!(known_days(days))))),
        );
        readings
            .extend(people.open_leads.map(|open| (RosterSource::OpenLeads, open.map(|open| json!(open)))));
        readings.extend(people.calendar.map(|away| (RosterSource::Calendar, away.map(|away| json!(away)))));
        readings.extend(people.messenger.map(|away| (RosterSource::Messenger, away.map(|away| json!(away)))));
        if absences_due {
            self.absences_at = Some(now);
        }
        let readings: Vec<NewReading> = readings
            .into_iter()
            .map(|(source, said)| NewReading { source, said: said.map_err(|error| chain(&error)) })
            .collect();
        self.store.save_readings(self.portal.name(), &readings, now).await?;
        for reading in &readings {
            self.tell(reading);
        }
        Ok(())
    }

    /// A portal that does not tell is taken for one that keeps leads, or for what it was.
    async fn take_mode(
        &mut self,
        has_leads: Result<bool, PortalError>,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        let problem = has_leads.as_ref().err().map(|error| chain(error));
        if let Some(problem) = problem.as_ref().filter(|_| problem != self.mode_problem) {
            tracing::warn!(
                event = "portal.mode_not_known", portal = %self.portal.name(), error = problem,
                "leads are distributed as if the portal kept them",
            );
        }
        self.mode_problem = problem;
        if let Ok(has_leads) = &has_leads {
            self.store.save_has_leads(self.portal.name(), *has_leads).await?;
        }
        let again = if matches!(has_leads, Ok(true)) { MODE_EVERY } else { MODE_AGAIN_AFTER };
        self.mode_due = Some(now + again);
        Ok(())
    }

    fn tell(&mut self, reading: &NewReading) {
        let (portal, source) = (self.portal.name(), reading.source);
        self.metrics.roster_asked(portal, source, reading.said.is_ok());
        match &reading.said {
            Ok(_) => {
                if self.problems.remove(&source).is_some() {
                    tracing::info!(event = "roster.source_back", portal = %portal, source = source.as_str());
                }
            }
            Err(problem) => {
                if self.problems.insert(source, problem.clone()).as_ref() != Some(problem) {
                    tracing::warn!(
                        event = "roster.source_refused", portal = %portal, source = source.as_str(), error = problem,
                        "leads are distributed without it",
                    );
                }
            }
        }
    }
}

fn known_days(days: BTreeMap<UserId, PortalDay>) -> BTreeMap<UserId, KnownDay> {
    let known = |(user, day): (UserId, PortalDay)| {
        let state = match day.status {
            DayStatus::Opened => WorkingDay::Opened,
            DayStatus::Paused => WorkingDay::Paused,
            DayStatus::Closed => WorkingDay::Closed,
            DayStatus::Expired => WorkingDay::Expired,
            DayStatus::NotKept => WorkingDay::NotKept,
        };
        (user, KnownDay { state, began: day.began })
    };
    days.into_iter().map(known).collect()
}
