//! The file's queues: `main: { members: [ivanov, { person: petrov, weight: 3 }], strategy: rotation }`.

use std::collections::BTreeMap;

use super::known::Known;
use super::people::{self, People};
use super::problem::{Place, Problems};
use super::section::{self, Section, Word};
use super::yaml::{Node, Value};
use crate::name::Name;
use crate::routing::{Member, Queue, Strategy};

/// Every queue the file names.
pub(super) type Queues = Known<Queue>;

/// What one of them is called in messages.
pub(super) const WHAT: &str = "queue";

/// Reads the section.
pub(super) fn read(node: &Node, people: &People, problems: &mut Problems) -> Queues {
    let entries = section::entries(node, "`queues`", problems);
    if entries.is_empty() && !section::is_empty(node) {
        return Queues::unreadable(WHAT);
    }
    let mut queues = Queues::new(WHAT);
    for (word, node) in entries {
        let queue = queue(&word, node, people, problems);
        queues.add(word.text, queue);
    }
    queues
}

fn queue(word: &Word, node: &Node, people: &People, problems: &mut Problems) -> Option<Queue> {
    let section = Section::read(node, "a queue", &["members", "strategy"], problems)?;
    let strategy = match section.get("strategy") {
        Some(node) => strategy(node, problems),
        None => Some(Strategy::Rotation),
    };
    let node = section.require("members", problems)?;
    let items = section::items(node, "`members`", problems);
    if section::is_empty(node) {
        problems.note(node.place, format!("queue `{}` has no members", word.text));
    }
    let mut members = Vec::with_capacity(items.len());
    let mut seen: BTreeMap<Name, Place> = BTreeMap::new();
    for item in items {
        let Some(member) = member(item, people, problems) else {
            continue;
        };
        let name = &member.person.name;
        if let Some(first) = seen.insert(name.clone(), item.place) {
            let message = format!("`{name}` is in queue `{}` twice, first on line {}", word.text, first.line);
            problems.note_with(item.place, message, "give him a weight instead");
        }
        members.push(member);
    }
    let name = Name::from(word.text.as_str());
    Some(Queue { ledger: name.clone(), name, strategy: strategy?, members })
}

fn strategy(node: &Node, problems: &mut Problems) -> Option<Strategy> {
    let word = section::word(node, "`strategy`", problems)?;
    match word.text.as_str() {
        "rotation" => Some(Strategy::Rotation),
        unknown => {
            let message = format!("unknown strategy `{unknown}`");
            problems.note_word(word.place, message, unknown, ["rotation"].into_iter());
            None
        }
    }
}

/// Reads `ivanov` or `{ person: ivanov, weight: 3 }`.
fn member(node: &Node, people: &People, problems: &mut Problems) -> Option<Member> {
    if !matches!(node.value, Value::Map(_)) {
        let person = people.find(&section::word(node, "a member", problems)?, problems)?;
        return Some(Member { weight: person.weight, person });
    }
    let section = Section::read(node, "a member", &["person", "weight"], problems)?;
    let weight = people::weight(&section, problems);
    let word = section::word(section.require("person", problems)?, "`person`", problems)?;
    let person = people.find(&word, problems)?;
    Some(Member { weight: weight.unwrap_or(person.weight), person })
}
