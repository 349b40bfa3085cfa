//! Who is at work, as far as the portal tells: `user.get`, `timeman.status`, `timeman.settings`,
//! `calendar.accessibility.get`, `im.user.list.get`, and counts of open leads.
//!
//! Each source has blind spots, and each may be refused by itself: a portal without time tracking, a webhook
//! whose owner may not see the working days of others. So each has its own outcome. The calendar knows every
//! absence; the messenger knows leave but no business trip, and only while it lasts. Both are asked, and who
//! is away by either is away.
//!
//! Everything is asked in batches: for ten people one request.

use std::collections::BTreeMap;

use common::ids::UserId;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::apart::Blame;
use crate::client::{Counted, Portal};
use crate::command::{Command, MAX_COMMANDS};
use crate::envelope::unsigned;
use crate::error::PortalError;

/// Rows of one page of `user.get`. Fixed by the portal; page "Features of list methods".
const USERS_A_LIST: usize = 50;

/// People whose absences are asked for in one command: their answer is long.
const USERS_A_CALENDAR: usize = 50;

/// Longer than a weekend with a holiday nobody is without a working day who keeps them and is at work.
const DAYS_OFF: SignedDuration = SignedDuration::from_hours(4 * 24);

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What is to be asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Question {
    /// The state of working days, and who keeps them.
    pub working_days: bool,
    /// Counts of leads in process.
    pub open_leads: bool,
    /// Absences that touch these days.
    pub absences: Option<(Date, Date)>,
    /// Whether the portal keeps leads.
    pub has_leads: bool,
}

/// What a source says of people; of whom it says nothing is not there.
pub type Answers<T> = Result<BTreeMap<UserId, T>, PortalError>;

/// What was answered; `None` where nothing was asked.
#[derive(Debug)]
pub struct People {
    /// Whether the portal lets them in; who is unknown to it is not let in.
    pub active: Answers<bool>,
    /// Where they live, by an IANA name; who leaves that to his browser is not there.
    pub time_zones: Answers<String>,
    /// Their working days.
    pub working_days: Option<Answers<WorkingDay>>,
    /// Their leads in process: `STATUS_SEMANTIC_ID` is `P`.
    pub open_leads: Option<Answers<u32>>,
    /// When they are away, by the calendar.
    pub calendar: Option<Answers<Vec<Away>>>,
    /// The same by the messenger.
    pub messenger: Option<Answers<Vec<Away>>>,
    /// Whether the portal keeps leads: in the simple mode of its CRM each becomes a deal at once.
    pub has_leads: Option<Result<bool, PortalError>>,
}

/// The working day of one person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkingDay {
    /// `STATUS`.
    pub status: DayStatus,
    /// When the last one began; none where there never was one.
    pub began: Option<Timestamp>,
}

/// `STATUS` of `timeman.status`, and that somebody keeps no working days (`UF_TIMEMAN` of `timeman.settings`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayStatus {
    /// It is running.
    Opened,
    /// It is interrupted.
    Paused,
    /// It is over, or there never was one.
    Closed,
    /// It was begun on an earlier day and never closed.
    Expired,
    /// He keeps none, so nothing follows from its state.
    NotKept,
}

/// A time somebody is away: the first moment, and the first at which he is back.
pub type Away = (Timestamp, Timestamp);

/// What a command was sent for.
#[derive(Clone, Copy)]
enum Asks<'a> {
    Active(&'a [UserId]),
    Day(UserId),
    Open(UserId),
    Calendar(&'a [UserId]),
    Messenger(&'a [UserId]),
    Mode,
}

impl<'a> Asks<'a> {
    fn command(self, absences: Option<(Date, Date)>) -> Command {
        let of_user = |user: UserId| json!({ "USER_ID": user.get() });
        match self {
            Self::Active(list) => {
                let params =
                    json!({ "FILTER": { "ID": numbers(list) }, "select": ["ID", "ACTIVE", "TIME_ZONE"] });
                Command::of("user.get", &params)
            }
            Self::Day(user) => Command::of("timeman.status", &of_user(user)),
            Self::Open(user) => {
                let filter = json!({ "ASSIGNED_BY_ID": user.get(), "STATUS_SEMANTIC_ID": "P" });
                Command::of("crm.lead.list", &json!({ "filter": filter, "select": ["ID"], "start": 0 }))
            }
            Self::Calendar(list) => {
                let mut params = json!({ "users": numbers(list) });
                if let Some((from, to)) = absences {
                    (params["from"], params["to"]) = (json!(from.to_string()), json!(to.to_string()));
                }
                Command::of("calendar.accessibility.get", &params)
            }
            Self::Messenger(list) => {
                Command::of("im.user.list.get", &json!({ "ID": numbers(list), "RESULT_TYPE": "array" }))
            }
            Self::Mode => Command::of(MODE, &json!({})),
        }
    }

    /// The same for each person by himself; nothing where it is for one.
    fn each(self) -> Vec<Self> {
        let each = |list: &'a [UserId]| if list.len() > 1 { list.chunks(1) } else { [].chunks(1) };
        match self {
            Self::Active(list) => each(list).map(Self::Active).collect(),
            Self::Calendar(list) => each(list).map(Self::Calendar).collect(),
            Self::Messenger(list) => each(list).map(Self::Messenger).collect(),
            Self::Day(_) | Self::Open(_) | Self::Mode => Vec::new(),
        }
    }
}

/// Says whether the CRM keeps leads: 1 yes, 2 no, it is simple.
///
/// Source: page "Get Current CRM Mode" (`crm.settings.mode.get`).
const MODE: &str = "crm.settings.mode.get";

/// Its answer where every lead becomes a deal at once.
const SIMPLE: u64 = 2;

fn numbers(users: &[UserId]) -> Vec<u64> {
    users.iter().map(|user| user.get()).collect()
}

/// A mode that nobody knows is none in which leads are kept from us.
fn keeps_leads(mode: &Value) -> Result<bool, PortalError> {
    let mode = unsigned(mode);
    let unexpected = || PortalError::Unexpected { method: MODE.to_owned(), expected: "the number of a mode" };
    Ok(mode.ok_or_else(unexpected)? != SIMPLE)
}

impl Portal {
    /// Asks what the portal knows of these people, in as few requests as it takes. `now` is when it is asked.
    ///
    /// # Errors
    /// When a request fails as a whole. What a source refuses is in its own outcome.
    pub async fn people(
        &self,
        users: &[UserId],
        question: Question,
        now: Timestamp,
    ) -> Result<People, PortalError> {
        let mut asked: Vec<Asks<'_>> = users.chunks(USERS_A_LIST).map(Asks::Active).collect();
        for user in users {
            asked.extend(question.working_days.then_some(Asks::Day(*user)));
            asked.extend(question.open_leads.then_some(Asks::Open(*user)));
        }
        if question.absences.is_some() {
            let lists = users.chunks(USERS_A_CALENDAR);
            asked.extend(lists.flat_map(|list| [Asks::Calendar(list), Asks::Messenger(list)]));
        }
        // In the same request, so it costs nothing; what it answers has nothing to do with people.
        asked.extend(question.has_leads.then_some(Asks::Mode));
        let mut has_leads = None;
        let mut said = self.said(&asked, question.absences).await?;
        // One person's name may spoil the answer about all others in a list.
        let spoilt = |outcome: &Counted| {
            outcome.outcome.as_ref().is_err_and(|error| Blame::of(error) == Blame::Content)
        };
        let (whole, apart): (Vec<_>, Vec<_>) =
            said.drain(..).partition(|(asks, outcome)| !spoilt(outcome) || asks.each().is_empty());
        let each: Vec<Asks<'_>> = apart.into_iter().flat_map(|(asks, _)| asks.each()).collect();
        said = whole;
        said.extend(self.said(&each, question.absences).await?);

        let (mut active, mut zones) = (Source::default(), Source::default());
        let (mut days, mut open) = (Source::default(), Source::default());
        let (mut calendar, mut messenger) = (Source::default(), Source::default());
        for (asks, Counted { outcome, total }) in said {
            match asks {
                Asks::Active(list) => {
                    zones.take(outcome.clone().map(|rows| live_in(&rows)));
                    active.take(outcome.map(|rows| are_active(list, &rows)));
                }
                Asks::Day(user) => days.take(outcome.map(|day| of_one(user, working_day(&day)))),
                Asks::Open(user) => {
                    let count = total.map(|total| u32::try_from(total).unwrap_or(u32::MAX));
                    open.take(outcome.map(|_| of_one(user, count)));
                }
                Asks::Calendar(_) => calendar.take(outcome.map(|rows| in_calendar(&rows))),
                Asks::Messenger(_) => messenger.take(outcome.map(|rows| in_messenger(&rows, now))),
                Asks::Mode => has_leads = Some(outcome.and_then(|mode| keeps_leads(&mode))),
            }
        }
        let mut days = days.done();
        if let Ok(days) = &mut days {
            self.leave_out_who_keeps_none(days, now).await?;
        }
        Ok(People {
            active: active.done(),
            time_zones: zones.done(),
            working_days: question.working_days.then_some(days),
            open_leads: question.open_leads.then(|| open.done()),
            calendar: question.absences.map(|_| calendar.done()),
            messenger: question.absences.map(|_| messenger.done()),
            has_leads,
        })
    }

    /// What was answered to each, in as few requests as it takes; one that spoils the answer of the others fails alone.
    async fn said<'a>(
        &self,
        asked: &[Asks<'a>],
        absences: Option<(Date, Date)>,
    ) -> Result<Vec<(Asks<'a>, Counted)>, PortalError> {
        let mut said = Vec::with_capacity(asked.len());
        for part in asked.chunks(MAX_COMMANDS) {
            let commands: Vec<Command> = part.iter().map(|asks| asks.command(absences)).collect();
            let permit = self.permit(&[]).await?;
            said.extend(part.iter().copied().zip(self.batch_apart(permit, &commands).await?));
        }
        Ok(said)
    }

    /// Who keeps no working days has none that is open. Only who has had none for long can be meant, so only of them is
    /// asked.
    async fn leave_out_who_keeps_none(
        &self,
        days: &mut BTreeMap<UserId, WorkingDay>,
        now: Timestamp,
    ) -> Result<(), PortalError> {
        let long_ago = |began: Timestamp| now.duration_since(began) > DAYS_OFF;
        let meant =
            days.iter().filter(|(_, day)| day.status == DayStatus::Closed && day.began.is_none_or(long_ago));
        let users: Vec<UserId> = meant.map(|(user, _)| *user).collect();
        for part in users.chunks(MAX_COMMANDS) {
            let of_user = |user: &UserId| Command::of("timeman.settings", &json!({ "USER_ID": user.get() }));
            let commands: Vec<Command> = part.iter().map(of_user).collect();
            let permit = self.permit(&[]).await?;
            for (user, Counted { outcome, .. }) in part.iter().zip(self.batch_apart(permit, &commands).await?)
            {
                // Whose settings are refused counts as one who keeps them.
                let kept =
                    outcome.ok().and_then(|settings| settings.get("UF_TIMEMAN").and_then(Value::as_bool));
                if let Some(day) = days.get_mut(user).filter(|_| kept == Some(false)) {
                    day.status = DayStatus::NotKept;
                }
            }
        }
        Ok(())
    }
}

/// What one source has said so far.
struct Source<T> {
    answers: BTreeMap<UserId, T>,
    error: Option<PortalError>,
}

impl<T> Default for Source<T> {
    fn default() -> Self {
        Self { answers: BTreeMap::new(), error: None }
    }
}

impl<T> Source<T> {
    fn take(&mut self, said: Result<BTreeMap<UserId, T>, PortalError>) {
        match said {
            Ok(answers) => self.answers.extend(answers),
            Err(error) => self.error = Some(error),
        }
    }

    /// A person of whom it cannot say anything is one thing, a source that says nothing of anybody another.
    fn done(self) -> Answers<T> {
        match self.error {
            Some(error) if self.answers.is_empty() => Err(error),
            Some(_) | None => Ok(self.answers),
        }
    }
}

fn of_one<T>(user: UserId, said: Option<T>) -> BTreeMap<UserId, T> {
    said.map(|said| (user, said)).into_iter().collect()
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Dismissed people are shown as not active; who is no employee is not shown at all.
fn are_active(asked: &[UserId], shown: &Value) -> BTreeMap<UserId, bool> {
    let mut active: BTreeMap<UserId, bool> = asked.iter().map(|user| (*user, false)).collect();
    for row in rows(shown) {
        let user = row.get("ID").and_then(unsigned).and_then(UserId::new);
        let is_active = match row.get("ACTIVE") {
            Some(Value::Bool(active)) => *active,
            Some(Value::String(text)) => matches!(text.as_str(), "Y" | "1" | "true"),
            Some(Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_)) | None => false,
        };
        if let Some(user) = user {
            active.insert(user, is_active);
        }
    }
    active
}

/// An empty one is the browser's affair.
fn live_in(shown: &Value) -> BTreeMap<UserId, String> {
    let zone = |row: &Value| {
        let user = row.get("ID").and_then(unsigned).and_then(UserId::new)?;
        let zone = row.get("TIME_ZONE")?.as_str()?.trim();
        (!zone.is_empty()).then(|| (user, zone.to_owned()))
    };
    rows(shown).filter_map(zone).collect()
}

fn working_day(day: &Value) -> Option<WorkingDay> {
    let status = match day.get("STATUS")?.as_str()? {
        "OPENED" => DayStatus::Opened,
        "PAUSED" => DayStatus::Paused,
        "CLOSED" => DayStatus::Closed,
        "EXPIRED" => DayStatus::Expired,
        _ => return None,
    };
    let began = day.get("TIME_START").and_then(Value::as_str).and_then(|text| text.parse().ok());
    Some(WorkingDay { status, began })
}

/// By user, in two shapes: rows of the absence chart, and of calendars.
fn in_calendar(shown: &Value) -> BTreeMap<UserId, Vec<Away>> {
    let Some(people) = shown.as_object() else { return BTreeMap::new() };
    let of_user = |(id, busy): (&String, &Value)| {
        let user = id.parse().ok().and_then(UserId::new)?;
        let absent = |row: &&Value| row.get("ACCESSIBILITY").and_then(Value::as_str) == Some("absent");
        Some((user, rows(busy).filter(absent).filter_map(away).collect()))
    };
    people.iter().filter_map(of_user).collect()
}

fn away(row: &Value) -> Option<Away> {
    let moment = |name: &str| {
        let value: &Value = row.get(name)?;
        let seconds = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())?;
        Timestamp::from_second(seconds).ok()
    };
    let (from, to) = moment("FROM")
        .zip(moment("TO"))
        .or_else(|| moment("DATE_FROM_TS_UTC").zip(moment("DATE_TO_TS_UTC")))?;
    // The end of whole days is the beginning of the last one.
    let by_days = row.get("DT_SKIP_TIME").and_then(Value::as_str) == Some("Y")
        || row.get("DT_TO").and_then(Value::as_str).is_some_and(|text| !text.contains(':'));
    Some((from, if by_days { to.checked_add(DAY).ok()? } else { to }))
}

/// Only leave, only while it lasts, and a day too long. Since when is not told, and it began.
fn in_messenger(shown: &Value, now: Timestamp) -> BTreeMap<UserId, Vec<Away>> {
    let of_user = |row: &Value| {
        let user = row.get("id").or_else(|| row.get("ID")).and_then(unsigned).and_then(UserId::new)?;
        let until: Option<Timestamp> =
            row.get("absent").and_then(Value::as_str).and_then(|text| text.parse().ok());
        let end = until.map(|until| until.checked_sub(DAY).ok().filter(|end| *end > now).unwrap_or(until));
        Some((user, end.map(|end| (Timestamp::UNIX_EPOCH, end)).into_iter().collect()))
    };
    rows(shown).filter_map(of_user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: u64) -> UserId {
        UserId::new(id).unwrap()
    }

    #[test]
    fn a_portal_in_simple_mode_keeps_no_leads() {
        let keeps = |mode: Value| keeps_leads(&mode).ok();
        assert_eq!([keeps(json!(1)), keeps(json!("1")), keeps(json!(3))], [Some(true); 3]);
        assert_eq!([keeps(json!(2)), keeps(json!("2"))], [Some(false); 2]);
        assert_eq!([keeps(json!(null)), keeps(json!([])), keeps(json!("x"))], [None; 3]);
    }

    #[test]
    fn the_portals_shapes_are_read() {
        let shown = json!([
            { "ID": "11", "ACTIVE": true, "TIME_ZONE": "Asia/Omsk" },
            { "ID": 12, "ACTIVE": false, "TIME_ZONE": "" },
        ]);
        assert_eq!(live_in(&shown), [(user(11), "Asia/Omsk".to_owned())].into());
        let active = are_active(&[user(11), user(12), user(13)], &shown);
        assert_eq!(active, [(user(11), true), (user(12), false), (user(13), false)].into());
        let opened = json!({ "STATUS": "OPENED", "TIME_START": "2026-11-23T09:00:00+03:00" });
        let day = working_day(&opened).unwrap();
        assert_eq!((day.status, day.began), (DayStatus::Opened, "2026-11-23T06:00:00Z".parse().ok()));
        assert_eq!(working_day(&json!({ "STATUS": "CLOSED" })).unwrap().began, None);
        assert!(
            [json!([]), json!({ "STATUS": "NEW" }), json!(null)].iter().all(|day| working_day(day).is_none())
        );
    }

    #[test]
    fn absences_come_in_two_shapes_and_whole_days_end_with_their_last() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let shown = json!({
            "11": [
                { "FROM_HR": true, "DT_FROM": "02.12.2024", "DT_TO": "03.12.2024", "ACCESSIBILITY": "absent",
                  "FROM": 1_733_097_600, "TO": 1_733_184_000 },
                { "DATE_FROM_TS_UTC": "1733100000", "DATE_TO_TS_UTC": "1733103600", "ACCESSIBILITY": "absent" },
                { "DATE_FROM_TS_UTC": "1733100000", "DATE_TO_TS_UTC": "1733103600", "ACCESSIBILITY": "busy" },
            ],
            "12": [],
        });
        let away = in_calendar(&shown);
        let expected = vec![(at(1_733_097_600), at(1_733_270_400)), (at(1_733_100_000), at(1_733_103_600))];
        assert_eq!(away, [(user(11), expected), (user(12), Vec::new())].into());
        assert!(in_calendar(&json!([])).is_empty(), "an empty map is a list");
    }

    #[test]
    fn the_messenger_counts_a_day_too_many() {
        let now: Timestamp = "2026-11-23T09:00:00Z".parse().unwrap();
        let shown = json!([
            { "id": 11, "absent": "2026-11-26T00:00:00+00:00" },
            { "id": 12, "absent": false },
            { "id": 13, "absent": "2026-11-23T12:00:00+00:00" },
        ]);
        let until = |text: &str| vec![(Timestamp::UNIX_EPOCH, text.parse().unwrap())];
        let expected = [
            (user(11), until("2026-11-25T00:00:00Z")),
            (user(12), Vec::new()),
            (user(13), until("2026-11-23T12:00:00Z")),
        ];
        assert_eq!(in_messenger(&shown, now), expected.into());
    }
}
