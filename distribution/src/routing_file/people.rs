//! The file's people: `ivanov: { user: 11, weight: 2, schedule: office, skills: [moscow], limits: { per_hour: 4 } }`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;

use super::known::Known;
use super::problem::Problems;
use super::schedules;
use super::section::{self, Section, Word};
use super::times::Times;
use super::yaml::{Node, Value};
use crate::ids::UserId;
use crate::name::Name;
use crate::routing::{Limits, Person, Weight};

/// Everybody the file names.
pub(super) type People = Known<Person>;

/// What one of them is called in messages.
pub(super) const WHAT: &str = "person";

/// The keys of a person.
pub(super) const KEYS: &[&str] =
    &["user", "weight", "schedule", "time_zone", "skills", "limits", "substitute", "successor"];

/// A person's `time_zone` that the portal tells.
pub(super) const PORTAL: &str = "portal";

/// The keys of `limits`.
pub(super) const LIMITS: &[&str] = &["open", "per_hour", "per_day"];

/// Reads the section.
pub(super) fn read(node: &Node, times: &mut Times, problems: &mut Problems) -> People {
    let entries = section::entries(node, "`people`", problems);
    if entries.is_empty() {
        if section::is_empty(node) {
            problems.note(node.place, "nobody is named in `people`");
        }
        return People::unreadable(WHAT);
    }
    let mut people = People::new(WHAT);
    let mut by_user: BTreeMap<UserId, String> = BTreeMap::new();
    let mut others = Vec::new();
    for (word, node) in entries {
        let person = person(&word, node, &mut by_user, &mut others, times, problems);
        people.add(word, person);
    }
    // They may stand below who names them.
    for other in others {
        people.find(&other, problems);
    }
    people
}

fn person(
    word: &Word,
    node: &Node,
    by_user: &mut BTreeMap<UserId, String>,
    others: &mut Vec<Word>,
    times: &mut Times,
    problems: &mut Problems,
) -> Option<Person> {
    let section = Section::read(node, "a person", KEYS, problems)?;
    let weight = weight(&section, problems);
    let zone_of_portal = section
        .get("time_zone")
        .is_some_and(|node| matches!(&node.value, Value::Text(text) if text.trim() == PORTAL));
    let zone = section
        .get("time_zone")
        .filter(|_| !zone_of_portal)
        .and_then(|node| schedules::read_zone(node, "`time_zone`", problems));
    let hours = hours(&section, zone.as_ref(), times, problems);
    let skills = section.get("skills").map(|node| skills(node, problems)).unwrap_or_default();
    let limits = limits(&section, problems);
    let mut other = |key: &str| {
        let other = section::word(section.get(key)?, &format!("`{key}`"), problems)?;
        if other.text == word.text {
            problems.note(other.place, format!("`{}` cannot be his own {key}", word.text));
            return None;
        }
        let name = Name::from(other.text.as_str());
        others.push(other);
        Some(name)
    };
    let (substitute, successor) = (other("substitute"), other("successor"));
    let node = section.require("user", problems)?;
    let Some(user) = user(node) else {
        let hint = "it is the number in the address of his page in the portal, such as `user: 11`";
        problems.note_with(node.place, "`user` must be a whole number from 1", hint);
        return None;
    };
    if let Some(other) = by_user.insert(user, word.text.clone()) {
        problems.note(node.place, format!("`{}` and `{other}` are the same user {user}", word.text));
    }
    Some(Person {
        name: Name::from(word.text.as_str()),
        user,
        weight: weight.unwrap_or(Weight::ONE),
        zone: zone.unwrap_or_else(|| times.zone.clone()),
        zone_of_portal,
        skills: skills.into_iter().map(|word| Name::from(word.text)).collect(),
        limits,
        substitute,
        successor,
        hours,
    })
}

/// A user's number.
pub(super) fn user(node: &Node) -> Option<UserId> {
    match &node.value {
        Value::Number(written) => written.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    }
}

fn hours(
    section: &Section,
    zone: Option<&TimeZone>,
    times: &mut Times,
    problems: &mut Problems,
) -> Option<usize> {
    let word = section::word(section.get("schedule")?, "`schedule`", problems)?;
    times.of_person(&word, zone, problems)
}

/// Reads a list of skills, each once.
pub(super) fn skills(node: &Node, problems: &mut Problems) -> Vec<Word> {
    let mut seen = BTreeSet::new();
    let mut skills = Vec::new();
    for item in section::items(node, "`skills`", problems) {
        let Some(word) = section::word(item, "a skill", problems) else { continue };
        if seen.insert(word.text.clone()) {
            skills.push(word);
        } else {
            problems.note(word.place, format!("`{}` is in `skills` twice", word.text));
        }
    }
    skills
}

/// Reads the `limits` of a section that may have them.
pub(super) fn limits(section: &Section, problems: &mut Problems) -> Limits {
    let limits = section.get("limits").and_then(|node| Section::read(node, "`limits`", LIMITS, problems));
    let Some(limits) = limits else { return Limits::default() };
    let mut limit = |key: &str| {
        let node = limits.get(key)?;
        let limit = match &node.value {
            Value::Number(written) => written.parse().ok().filter(|limit| *limit > 0),
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        };
        if limit.is_none() {
            problems.note(node.place, format!("`{key}` must be a whole number from 1"));
        }
        limit
    };
    Limits { open: limit("open"), per_hour: limit("per_hour"), per_day: limit("per_day") }
}

/// Reads the `weight` of a section that has one.
pub(super) fn weight(section: &Section, problems: &mut Problems) -> Option<Weight> {
    let node = section.get("weight")?;
    let weight = match &node.value {
        Value::Number(written) => written.parse().ok().and_then(Weight::new),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    if weight.is_none() {
        problems.note(node.place, format!("`weight` must be a whole number from 1 to {}", Weight::MAX));
    }
    weight
}
