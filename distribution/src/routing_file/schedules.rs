//! The file's schedules, holidays and time zones:
//! `office: { days: [mon, tue, wed, thu, fri], hours: ["09:00-13:00", "14:00-18:00"] }`.

use jiff::civil::{Date, Time};
use jiff::tz::{self, TimeZone};

use super::known::Known;
use super::problem::{Place, Problems};
use super::section::{self, Section, Word};
use super::yaml::{Node, Value};
use crate::name::Name;
use crate::schedule::{Days, Holidays, Hours, Schedule};

/// What one of them is called in messages.
pub(super) const WHAT: &str = "schedule";

/// The keys of a schedule.
pub(super) const KEYS: &[&str] = &["days", "cycle", "hours", "holidays"];

/// The keys of `cycle`.
pub(super) const CYCLE: &[&str] = &["on", "off", "from"];

/// The keys of `calendar`.
pub(super) const CALENDAR: &[&str] = &["holidays"];

/// The days of the week.
pub(super) const DAYS: &[&str] = &["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Whether a schedule keeps holidays.
pub(super) const HOLIDAYS: &[(&str, bool)] = &[("observed", true), ("ignored", false)];

/// The longest cycle, each way.
const CYCLE_MAX: u16 = 366;

/// Reads `schedules`.
pub(super) fn read(node: &Node, problems: &mut Problems) -> Known<Schedule> {
    let entries = section::entries(node, "`schedules`", problems);
    if entries.is_empty() && !section::is_empty(node) {
        return Known::unreadable(WHAT);
    }
    let mut schedules = Known::new(WHAT);
    for (word, node) in entries {
        let schedule = schedule(&word, node, problems);
        schedules.add(word, schedule);
    }
    schedules
}

/// Reads `calendar: { holidays: [2027-01-01] }`.
pub(super) fn read_holidays(node: &Node, problems: &mut Problems) -> Holidays {
    let mut holidays = Holidays::new();
    let section = Section::read(node, "`calendar`", CALENDAR, problems);
    let Some(list) = section.and_then(|section| section.get("holidays")) else { return holidays };
    for item in section::items(list, "`holidays`", problems) {
        let Some(date) = date(item, "a holiday", problems) else { continue };
        if !holidays.insert(date) {
            problems.note(item.place, format!("`{date}` is in `holidays` twice"));
        }
    }
    holidays
}

/// Reads the name of a time zone; `what` is its key.
pub(super) fn read_zone(node: &Node, what: &str, problems: &mut Problems) -> Option<TimeZone> {
    let word = section::word(node, what, problems)?;
    let zone = TimeZone::get(&word.text).ok();
    if zone.is_none() {
        let names: Vec<String> = tz::db().available().map(|name| name.to_string()).collect();
        let message = format!("unknown time zone `{}`", word.text);
        let before = problems.count();
        problems.note_word(word.place, message, &word.text, names.iter().map(String::as_str));
        problems.add_hint(before, "write its name in the IANA database, such as Europe/Moscow");
    }
    zone
}

fn schedule(word: &Word, node: &Node, problems: &mut Problems) -> Option<Schedule> {
    let section = Section::read(node, "a schedule", KEYS, problems)?;
    let days = match (section.get("days"), section.get("cycle")) {
        (Some(node), None) => week(node, problems),
        (None, Some(node)) => cycle(node, problems),
        (both, _) => {
            let message = match both {
                Some(_) => "a schedule has both `days` and `cycle`",
                None => "a schedule has neither `days` nor `cycle`",
            };
            let hint = "write `days: [mon, tue]`, or `cycle: { on: 2, off: 2, from: 2026-11-02 }`";
            problems.note_with(section.place(), message, hint);
            None
        }
    };
    let hours = section.require("hours", problems).and_then(|node| all_hours(node, problems));
    let holidays = match section.get("holidays") {
        Some(node) => Some(holidays_kept(node, problems)?),
        None => None,
    };
    let days = days?;
    // Who works all days of the week, or shifts, is the one who is there on holidays too.
    let by_default = matches!(&days, Days::Week(days) if days.contains(&false));
    let keeps_holidays = holidays.unwrap_or(by_default);
    Some(Schedule { name: Name::from(word.text.as_str()), days, hours: hours?, keeps_holidays })
}

fn holidays_kept(node: &Node, problems: &mut Problems) -> Option<bool> {
    let word = section::word(node, "`holidays`", problems)?;
    let kept = HOLIDAYS.iter().find(|(name, _)| *name == word.text).map(|(_, kept)| *kept);
    if kept.is_none() {
        let message = format!("unknown word `{}` in `holidays`", word.text);
        problems.note_word(word.place, message, &word.text, HOLIDAYS.iter().map(|(name, _)| *name));
    }
    kept
}

/// Reads `[mon, wed]`, `mon-fri` or `[mon-wed, sat]`.
fn week(node: &Node, problems: &mut Problems) -> Option<Days> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => {
            std::slice::from_ref(node)
        }
    };
    if items.is_empty() {
        problems.note(node.place, "`days` is empty");
        return None;
    }
    let mut days = [false; 7];
    let mut right = true;
    for item in items {
        let Some(word) = section::word(item, "a day", problems) else {
            right = false;
            continue;
        };
        let ends = if let Some((first, last)) = word.text.split_once('-') {
            (day(first.trim(), &word, problems), day(last.trim(), &word, problems))
        } else {
            let only = day(&word.text, &word, problems);
            (only, only)
        };
        let (Some(first), Some(last)) = ends else {
            right = false;
            continue;
        };
        // From Friday to Monday goes over the end of the week.
        let length = (last + 7 - first) % 7;
        for day in (0..=length).map(|step| (first + step) % 7) {
            if let Some(on) = days.get_mut(day)
                && std::mem::replace(on, true)
            {
                problems.note(word.place, format!("`{}` is in `days` twice", DAYS.get(day).unwrap_or(&"")));
                right = false;
            }
        }
    }
    right.then_some(Days::Week(days))
}

fn day(text: &str, word: &Word, problems: &mut Problems) -> Option<usize> {
    let day = DAYS.iter().position(|day| day.eq_ignore_ascii_case(text));
    if day.is_none() {
        problems.note_word(word.place, format!("unknown day `{text}`"), text, DAYS.iter().copied());
    }
    day
}

/// Reads `{ on: 2, off: 2, from: 2026-11-02 }`.
fn cycle(node: &Node, problems: &mut Problems) -> Option<Days> {
    let section = Section::read(node, "`cycle`", CYCLE, problems)?;
    let mut count = |key: &str| {
        let node = section.require(key, problems)?;
        let count = match &node.value {
            Value::Number(written) => written.parse().ok().filter(|count| (1..=CYCLE_MAX).contains(count)),
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        };
        if count.is_none() {
            problems.note(node.place, format!("`{key}` must be a number of days from 1 to {CYCLE_MAX}"));
        }
        count
    };
    let (on, off) = (count("on"), count("off"));
    let from = section.require("from", problems).and_then(|node| date(node, "`from`", problems));
    Some(Days::Cycle { on: on?, off: off?, from: from? })
}

fn date(node: &Node, what: &str, problems: &mut Problems) -> Option<Date> {
    let text = section::text(node, what, problems)?;
    let date = text.parse::<Date>().ok().filter(|date| date.to_string() == text);
    if date.is_none() {
        problems.note_with(
            node.place,
            format!("`{text}` is no date"),
            "write year, month and day: 2027-01-31",
        );
    }
    date
}

/// Reads `["09:00-13:00", "14:00-18:00"]`, or one text.
fn all_hours(node: &Node, problems: &mut Problems) -> Option<Vec<Hours>> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => {
            std::slice::from_ref(node)
        }
    };
    if items.is_empty() {
        problems.note(node.place, "`hours` is empty");
        return None;
    }
    let read: Vec<Option<(Hours, Place)>> =
        items.iter().map(|item| Some((hours(item, problems)?, item.place))).collect();
    let mut all: Vec<(Hours, Place)> = read.into_iter().collect::<Option<_>>()?;
    all.sort_by_key(|(hours, _)| hours.start);
    for pair in all.windows(2) {
        if let [(earlier, _), (later, place)] = pair
            && earlier.minutes().1 > later.minutes().0
        {
            problems.note(*place, format!("`{later}` overlaps `{earlier}`"));
            return None;
        }
    }
    // What goes over midnight meets the first interval of the next day, if that is a working day.
    if let (Some((first, place)), Some((last, _))) = (all.first(), all.last())
        && all.len() > 1
        && last.minutes().1 - 24 * 60 > first.minutes().0
    {
        problems.note(*place, format!("`{last}` of the day before overlaps `{first}`"));
        return None;
    }
    Some(all.into_iter().map(|(hours, _)| hours).collect())
}

/// Reads `09:00-13:00`.
fn hours(node: &Node, problems: &mut Problems) -> Option<Hours> {
    let text = section::text(node, "`hours`", problems)?;
    // A dash that an editor has made longer.
    let (start, end) = match text.split_once(['-', '–', '—']) {
        Some((start, end)) => (clock(start), clock(end)),
        None => (None, None),
    };
    let (Some(start), Some(end)) = (start, end) else {
        let hint = "write hours and minutes of start and end: \"09:00-18:00\"";
        problems.note_with(node.place, format!("`{text}` are no working hours"), hint);
        return None;
    };
    if start == end && !(start == Time::midnight() && text.contains("24:00"))
        || text.trim_start().starts_with("24")
    {
        let hint = "write \"00:00-24:00\" for the whole day";
        problems.note_with(node.place, format!("`{text}` are no working hours"), hint);
        return None;
    }
    Some(Hours { start, end })
}

/// `9:00`, `09:00`; `24:00` is the midnight at the day's end.
fn clock(text: &str) -> Option<Time> {
    let (hour, minute) = text.trim().split_once(':')?;
    let digits = |text: &str, least| {
        let right = (least..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        if right { text.parse::<i8>().ok() } else { None }
    };
    match (digits(hour, 1)?, digits(minute, 2)?) {
        (24, 0) => Some(Time::midnight()),
        (hour, minute) => Time::new(hour, minute, 0, 0).ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::yaml;
    use super::*;

    fn problems(read: impl Fn(&Node, &mut Problems), text: &str) -> Vec<String> {
        let mut problems = Problems::default();
        let node = yaml::parse(text, &mut problems).unwrap();
        read(&node, &mut problems);
        problems.into_list().iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn wrong(schedule: &str, expected: &[&str]) {
        let text = format!("s: {schedule}\n");
        assert_eq!(problems(|node, problems| drop(read(node, problems)), &text), expected, "{schedule}");
    }

    fn hours_of(text: &str) -> Option<Hours> {
        let mut problems = Problems::default();
        let node = yaml::parse(&format!("{text:?}"), &mut problems)?;
        hours(&node, &mut problems)
    }

    #[test]
    fn what_is_wrong_with_a_schedule_is_named() {
        wrong("{ days: mon-fri, hours: [9:00-18:00, 20:00–22:00] }", &[]);
        wrong("{ days: [fri-mon], hours: [\"21:00-09:00\"], holidays: observed }", &[]);
        wrong(
            "{ days: [mo, tue], hours: [] }",
            &["1:13: unknown day `mo`; did you mean `mon`?", "1:30: `hours` is empty"],
        );
        wrong(
            "{ days: [mon, mon-wed], hours: 25:00-26:00 }",
            &[
                "1:18: `mon` is in `days` twice",
                "1:35: `25:00-26:00` are no working hours; write hours and minutes of start and end: \"09:00-18:00\"",
            ],
        );
        wrong(
            "{ hours: [\"09:00-09:00\"] }",
            &[
                "1:4: a schedule has neither `days` nor `cycle`; write `days: [mon, tue]`, or `cycle: { on: 2, off: 2, from: 2026-11-02 }`",
                "1:14: `09:00-09:00` are no working hours; write \"00:00-24:00\" for the whole day",
            ],
        );
        wrong(
            "{ days: mon, hours: [09:00-12:00, 11:00-13:00] }",
            &["1:38: `11:00-13:00` overlaps `09:00-12:00`"],
        );
        wrong(
            "{ days: mon, hours: [08:00-12:00, 20:00-09:00] }",
            &["1:25: `20:00-09:00` of the day before overlaps `08:00-12:00`"],
        );
        wrong(
            "{ cycle: { on: 0, off: 400, from: 2026-02-30 }, hours: 9-18, holidays: kept }",
            &[
                "1:19: `on` must be a number of days from 1 to 366",
                "1:27: `off` must be a number of days from 1 to 366",
                "1:38: `2026-02-30` is no date; write year, month and day: 2027-01-31",
                "1:59: `9-18` are no working hours; write hours and minutes of start and end: \"09:00-18:00\"",
                "1:75: unknown word `kept` in `holidays`; known: `observed`, `ignored`",
            ],
        );
        wrong(
            "{ days: mon, cycle: { on: 2 }, hours: 24:00-12:00 }",
            &[
                "1:4: a schedule has both `days` and `cycle`; write `days: [mon, tue]`, or `cycle: { on: 2, off: 2, from: 2026-11-02 }`",
                "1:42: `24:00-12:00` are no working hours; write \"00:00-24:00\" for the whole day",
            ],
        );
    }

    #[test]
    fn what_is_wrong_with_holidays_and_zones_is_named() {
        let holidays = |text| problems(|node, problems| drop(read_holidays(node, problems)), text);
        assert_eq!(holidays("holidays: [2027-01-01, \"2027-01-07\"]"), [""; 0]);
        assert_eq!(
            holidays("holidays: [2027-01-01, 1.1.2027, 2027-01-01]"),
            [
                "1:24: `1.1.2027` is no date; write year, month and day: 2027-01-31",
                "1:34: `2027-01-01` is in `holidays` twice",
            ]
        );
        assert_eq!(
            holidays("holiday: []"),
            ["1:1: unknown key `holiday` in `calendar`; did you mean `holidays`?"]
        );
        let zone = |text| problems(|node, problems| drop(read_zone(node, "`time_zone`", problems)), text);
        assert_eq!(zone("Europe/Moscow"), [""; 0]);
        assert_eq!(
            zone("Europe/Moskow"),
            ["1:1: unknown time zone `Europe/Moskow`; did you mean `Europe/Moscow`?"]
        );
        assert_eq!(
            zone("the office"),
            [
                "1:1: unknown time zone `the office`; write its name in the IANA database, such as Europe/Moscow"
            ]
        );
    }

    #[test]
    fn who_works_every_day_works_on_holidays() {
        let keeps = |text: &str| {
            let mut problems = Problems::default();
            let node = yaml::parse(&format!("{{ s: {text} }}"), &mut problems).unwrap();
            let known = read(&node, &mut problems);
            known.entries().next().map(|(schedule, _)| schedule.keeps_holidays)
        };
        assert_eq!(keeps("{ days: mon-fri, hours: 09:00-18:00 }"), Some(true));
        assert_eq!(keeps("{ days: mon-sun, hours: 09:00-18:00 }"), Some(false));
        assert_eq!(keeps("{ cycle: { on: 1, off: 3, from: 2026-11-02 }, hours: 09:00-18:00 }"), Some(false));
        assert_eq!(keeps("{ days: mon-sun, hours: 09:00-18:00, holidays: observed }"), Some(true));
    }

    proptest! {
        #[test]
        fn printed_hours_read_back(start in 0..1440_i64, length in 1..=1440_i64) {
            let time = |minute: i64| Time::midnight() + jiff::Span::new().minutes(minute % 1440);
            let hours = Hours { start: time(start), end: time(start + length) };
            let whole_day_from_elsewhere = hours.start == hours.end && hours.start != Time::midnight();
            prop_assert_eq!(hours_of(&hours.to_string()), (!whole_day_from_elsewhere).then_some(hours));
        }
    }
}
