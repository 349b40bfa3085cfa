//! Who is at work: working days (`timeman.*`), leave and business trips (`calendar.accessibility.get`,
//! `im.user.list.get`).
//!
//! The blind spots are played too: the calendar shows every absence and not its kind, the messenger shows leave but no
//! business trip, and only while it lasts; a working day can only be seen by who may manage working time.

use jiff::tz::{TimeZone, offset};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::methods::{Answer, ApiError, Reply};
use crate::php::Php;
use crate::portal::{State, portal_time};

/// A time an employee is away.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absence {
    /// Who.
    pub user: u64,
    /// The first moment.
    pub from: Timestamp,
    /// The first moment at which he is back.
    pub to: Timestamp,
    /// What it is.
    #[serde(default)]
    pub kind: AbsenceKind,
}

/// Where an absence is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbsenceKind {
    /// Leave or illness in the absence chart.
    #[default]
    Vacation,
    /// A business trip in the absence chart.
    Trip,
    /// An event in his own calendar that says he is absent.
    Calendar,
}

fn user_of(state: &State, params: &Php) -> Result<u64, ApiError> {
    let asked = params.get("USER_ID").map(Php::int).filter(|id| *id > 0);
    let caller = state.settings.webhook_user;
    let Some(user) = asked.and_then(|id| u64::try_from(id).ok()) else { return Ok(caller) };
    if user != caller && state.settings.hidden_working_days.contains(&user) {
        return Err(ApiError::nameless("User does not have access to managing other users work time"));
    }
    if state.users.contains_key(&user) { Ok(user) } else { Err(ApiError::nameless("User not found")) }
}

/// `timeman.status`: the last working day; who never had one is closed.
pub fn status(state: &State, params: &Php) -> Answer {
    let user = user_of(state, params)?;
    let day = state.working_days.get(&user).cloned();
    Ok(Reply::of(day.map_or_else(|| json!({ "STATUS": "CLOSED" }), Value::Object)))
}

/// `timeman.settings`: whether he keeps working days at all.
pub fn settings(state: &State, params: &Php) -> Answer {
    let user = user_of(state, params)?;
    let keeps = !state.settings.without_working_days.contains(&user);
    Ok(Reply::of(json!({ "UF_TIMEMAN": keeps, "UF_TM_FREE": false, "UF_TM_MIN_DURATION": "08:00:00" })))
}

/// `calendar.accessibility.get`: by user, all that overlaps the days asked for. A user without any has an empty list.
pub fn accessibility(state: &State, params: &Php) -> Answer {
    let users = numbers(params.get("users"));
    let day = |name: &str| {
        let text = params.get(name).and_then(Php::text).unwrap_or_default();
        text.parse::<jiff::civil::Date>().ok()
    };
    let (Some(from), Some(to)) = (day("from"), day("to")) else {
        return Err(ApiError::nameless("Invalid value for \"from\" or \"to\""));
    };
    let zone = TimeZone::fixed(offset(3));
    let midnight =
        |date: jiff::civil::Date| date.to_zoned_datetime(zone.clone()).map(|zoned| zoned.timestamp());
    let (Ok(from), Ok(to)) = (midnight(from), midnight(to)) else {
        return Err(ApiError::nameless("Invalid value for \"from\" or \"to\""));
    };
    let to = to + SignedDuration::from_hours(24);
    let of_user = |user: &u64| {
        let overlaps = |absence: &&Absence| absence.user == *user && absence.from < to && absence.to > from;
        let rows: Vec<Value> = state
            .absences
            .iter()
            .filter(overlaps)
            .enumerate()
            .map(|(id, absence)| row(id, absence))
            .collect();
        (user.to_string(), json!(rows))
    };
    Ok(Reply::of(Value::Object(users.iter().map(of_user).collect())))
}

/// The two shapes of a row: of the absence chart, and of a calendar.
fn row(id: usize, absence: &Absence) -> Value {
    let local = |at: Timestamp| {
        at.to_zoned_datetime(TimeZone::fixed(offset(3))).strftime("%d.%m.%Y %H:%M:%S").to_string()
    };
    if absence.kind == AbsenceKind::Calendar {
        return json!({
            "ID": id.to_string(), "NAME": "Away", "DATE_FROM": local(absence.from), "DATE_TO": local(absence.to),
            "DATE_FROM_TS_UTC": absence.from.as_second().to_string(),
            "DATE_TO_TS_UTC": absence.to.as_second().to_string(),
            "DT_SKIP_TIME": "N", "TZ_FROM": "Europe/Moscow", "ACCESSIBILITY": "absent",
        });
    }
    json!({
        "FROM_HR": true, "ID": id.to_string(), "DT_FROM": local(absence.from), "DT_TO": local(absence.to),
        "ACCESSIBILITY": "absent", "IMPORTANCE": "normal", "FROM": absence.from.as_second(),
        "TO": absence.to.as_second(),
    })
}

/// `im.user.list.get`: of those asked for, with `absent` only for leave that lasts now, and a day too long.
pub fn im_users(state: &State, params: &Php, now: Timestamp) -> Answer {
    let users = numbers(params.get("ID"));
    if users.is_empty() {
        return Err(ApiError::new(400, "ID_EMPTY", "User ID can't be empty"));
    }
    let found = users.into_iter().filter_map(|user| {
        let fields = state.users.get(&user)?;
        let leave = state.absences.iter().find(|absence| {
            absence.user == user
                && absence.kind == AbsenceKind::Vacation
                && absence.from <= now
                && now < absence.to
        });
        let until = leave.map(|absence| portal_time(absence.to + SignedDuration::from_hours(24)));
        let mut shown = Map::new();
        shown.insert("id".to_owned(), json!(user));
        shown.insert("name".to_owned(), fields.get("NAME").cloned().unwrap_or_default());
        shown.insert("active".to_owned(), fields.get("ACTIVE").cloned().unwrap_or_default());
        shown.insert("absent".to_owned(), until.map_or(json!(false), Value::String));
        Some((user, Value::Object(shown)))
    });
    let as_list = params.get("RESULT_TYPE").and_then(Php::text).is_some_and(|kind| kind == "array");
    Ok(Reply::of(if as_list {
        Value::Array(found.map(|(_, user)| user).collect())
    } else {
        Value::Object(found.map(|(id, user)| (id.to_string(), user)).collect())
    }))
}

fn numbers(list: Option<&Php>) -> Vec<u64> {
    let entries = list.map(Php::entries).unwrap_or_default();
    entries.iter().filter_map(|(_, value)| u64::try_from(value.int()).ok()).filter(|id| *id > 0).collect()
}
