//! The file's rules: `{ name: Large, when: { amount: { over: 500000 } }, assign: petrov }`.

use std::collections::BTreeMap;

use super::conditions::{self, FieldNames};
use super::people::People;
use super::problem::{Place, Problems};
use super::queues::Queues;
use super::section::{self, Section};
use super::yaml::Node;
use crate::name::Name;
use crate::routing::{Clause, Rule, Target};

/// Reads the section; what is wrong is noted and left out.
pub(super) fn read(
    node: &Node,
    people: &People,
    queues: &Queues,
    fields: &mut FieldNames,
    problems: &mut Problems,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut seen: BTreeMap<String, Place> = BTreeMap::new();
    let mut takes_all: Option<String> = None;
    for item in section::items(node, "`rules`", problems) {
        let Some(section) = Section::read(item, "a rule", &["name", "when", "assign", "queue"], problems)
        else {
            continue;
        };
        let name = section.require("name", problems).and_then(|node| section::word(node, "`name`", problems));
        if let Some(name) = &name
            && let Some(first) = seen.insert(name.text.clone(), name.place)
        {
            let message = format!("two rules are called `{}`, the first on line {}", name.text, first.line);
            problems.note(name.place, message);
        }
        let title = name.as_ref().map_or("a rule without a name", |name| &name.text).to_owned();
        if let Some(above) = &takes_all {
            let message = format!("`{title}` is never reached: `{above}` above it takes every lead");
            problems.note(section.place(), message);
        }
        let clauses = when(&section, fields, problems);
        if clauses.as_ref().is_some_and(Vec::is_empty) && takes_all.is_none() {
            takes_all = Some(title);
        }
        let target = target(&section, people, queues, problems);
        if let (Some(name), Some(clauses), Some(target)) = (name, clauses, target) {
            rules.push(Rule { name: Name::from(name.text), clauses, target });
        }
    }
    rules
}

fn when(section: &Section, fields: &mut FieldNames, problems: &mut Problems) -> Option<Vec<Clause>> {
    let Some(node) = section.get("when") else {
        let hint = "write `when: {}` for a rule that takes every lead";
        problems.note_with(section.place(), "`when` is missing in a rule", hint);
        return None;
    };
    conditions::read(node, fields, problems)
}

/// Reads `assign: PERSON` or `queue: NAME`, one of which must be there.
pub(super) fn target(
    section: &Section,
    people: &People,
    queues: &Queues,
    problems: &mut Problems,
) -> Option<Target> {
    match (section.get("assign"), section.get("queue")) {
        (Some(node), None) => {
            let word = section::word(node, "`assign`", problems)?;
            people.find(&word, problems).map(Target::Person)
        }
        (None, Some(node)) => {
            let word = section::word(node, "`queue`", problems)?;
            queues.find(&word, problems).map(Target::Queue)
        }
        (both, _) => {
            let message = match both {
                Some(_) => format!("{} has both `assign` and `queue`", section.what()),
                None => format!("{} sends its leads nowhere", section.what()),
            };
            let hint = "write `assign: PERSON` or `queue: NAME`";
            problems.note_with(section.place(), message, hint);
            None
        }
    }
}
