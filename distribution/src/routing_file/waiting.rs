//! What a queue says of leads that wait: `hold: { deadline: 2h, escalate_to: head, release_per_minute: 6 }`.

use jiff::SignedDuration;

use super::people::People;
use super::problem::Problems;
use super::queues::choice;
use super::section::{self, Section};
use super::yaml::{Node, Value};
use crate::waiting::{First, HoldAlarm, HoldRules};

/// The keys of `hold`.
pub(super) const HOLD: &[&str] = &["deadline", "escalate_to", "release_per_minute", "first"];

/// Which held leads go first.
pub(super) const FIRST: &[(&str, First)] =
    &[("oldest", First::Oldest), ("most_valuable", First::MostValuable)];

/// A duration: a number and its unit.
pub(super) const DURATION: &str = "^[0-9]+(s|m|h|d)$";

/// No wait is longer.
const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Reads the section; `None` only when a problem was noted.
pub(super) fn hold(node: &Node, people: &People, problems: &mut Problems) -> Option<HoldRules> {
    let section = Section::read(node, "`hold`", HOLD, problems)?;
    let first = choice(&section, "first", FIRST, First::default(), problems);
    let release_per_minute = match section.get("release_per_minute") {
        Some(node) => Some(number(node, "`release_per_minute`", problems)?),
        None => None,
    };
    let alarm = match (section.get("deadline"), section.get("escalate_to")) {
        (None, None) => None,
        (Some(deadline), Some(person)) => {
            let deadline = duration(deadline, "`deadline`", problems);
            let escalate_to = section::word(person, "`escalate_to`", problems)
                .and_then(|word| people.find(&word, problems));
            Some(HoldAlarm { deadline: deadline?, escalate_to: escalate_to? })
        }
        (Some(_), None) => {
            let hint = "name who is told: `escalate_to: PERSON`";
            problems.note_with(section.place(), "`deadline` without `escalate_to`", hint);
            return None;
        }
        (None, Some(_)) => {
            let hint = "say after how long he is told: `deadline: 2h`";
            problems.note_with(section.place(), "`escalate_to` without `deadline`", hint);
            return None;
        }
    };
    Some(HoldRules { alarm, release_per_minute, first: first? })
}

/// A whole number from 1.
pub(super) fn number(node: &Node, what: &str, problems: &mut Problems) -> Option<u32> {
    let number = match &node.value {
        Value::Number(written) => written.parse().ok().filter(|number| *number > 0),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    if number.is_none() {
        problems.note(node.place, format!("{what} must be a whole number from 1"));
    }
    number
}

/// A duration such as `90s`, `15m`, `4h` or `90d`.
pub(super) fn duration(node: &Node, what: &str, problems: &mut Problems) -> Option<SignedDuration> {
    let text = section::text(node, what, problems)?;
    let read = || {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds: i64 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 24 * 3600,
            _ => return None,
        };
        let number: i64 = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        let duration = SignedDuration::from_secs(number.checked_mul(seconds)?);
        Some(duration).filter(|duration| duration.is_positive() && *duration <= LONGEST)
    };
    let duration = read();
    if duration.is_none() {
        let hint = "write a number and its unit: `90s`, `15m`, `4h` or `90d`";
        problems.note_with(node.place, format!("{what}: `{text}` is no duration"), hint);
    }
    duration
}
