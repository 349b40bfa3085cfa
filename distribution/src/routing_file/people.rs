//! The file's people: `ivanov: { user: 11, weight: 2 }`.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::known::Known;
use super::problem::Problems;
use super::section::{self, Section, Word};
use super::yaml::{Node, Value};
use crate::ids::UserId;
use crate::name::Name;
use crate::routing::{Person, Weight};

/// Everybody the file names.
pub(super) type People = Known<Person>;

/// What one of them is called in messages.
pub(super) const WHAT: &str = "person";

/// Reads the section.
pub(super) fn read(node: &Node, problems: &mut Problems) -> People {
    let entries = section::entries(node, "`people`", problems);
    if entries.is_empty() {
        if section::is_empty(node) {
            problems.note(node.place, "nobody is named in `people`");
        }
        return People::unreadable(WHAT);
    }
    let mut people = People::new(WHAT);
    let mut by_user: BTreeMap<UserId, String> = BTreeMap::new();
    for (word, node) in entries {
        let person = person(&word, node, &mut by_user, problems);
        people.add(word.text, person);
    }
    people
}

fn person(
    word: &Word,
    node: &Node,
    by_user: &mut BTreeMap<UserId, String>,
    problems: &mut Problems,
) -> Option<Person> {
    let section = Section::read(node, "a person", &["user", "weight"], problems)?;
    let weight = weight(&section, problems);
    let node = section.require("user", problems)?;
    let user = match &node.value {
        Value::Number(written) => written.parse::<UserId>().ok(),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    let Some(user) = user else {
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
        zone: TimeZone::UTC,
    })
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
