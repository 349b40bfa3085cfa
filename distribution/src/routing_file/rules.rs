//! The file's rules: `{ name: Large, when: { amount: { over: 500000 } }, assign: petrov }`.

use std::collections::BTreeMap;

use super::conditions::{self, FieldNames};
use super::people::People;
use super::problem::{Place, Problems};
use super::queues::Queues;
use super::section::{self, Section, Word};
use super::yaml::{Node, Value};
use crate::condition::Expected;
use crate::name::Name;
use crate::routing::{Case, Clause, Route, Rule, Target, Tree};

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
        let Some(section) = Section::read(
            item,
            "a rule",
            &["name", "when", "by", "cases", "else", "assign", "queue"],
            problems,
        ) else {
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
        let route = Routes { people, queues, fields }.read(&section, problems);
        // Whatever is wrong with the target, a rule without conditions and cases takes every lead.
        let takes_each = route.as_ref().map_or(section.get("by").is_none(), Route::takes_all);
        if clauses.as_ref().is_some_and(Vec::is_empty) && takes_each {
            takes_all.get_or_insert(title);
        }
        if let (Some(name), Some(clauses), Some(route)) = (name, clauses, route) {
            rules.push(Rule { name: Name::from(name.text), clauses, route });
        }
    }
    rules
}

fn when(section: &Section, fields: &mut FieldNames, problems: &mut Problems) -> Option<Vec<Clause>> {
    let Some(node) = section.get("when") else {
        // A tree says by itself which leads it takes.
        if section.get("by").is_some() {
            return Some(Vec::new());
        }
        let hint = "write `when: {}` for a rule that takes every lead";
        problems.note_with(section.place(), "`when` is missing in a rule", hint);
        return None;
    };
    conditions::read(node, fields, problems)
}

/// What trees are read with.
struct Routes<'f> {
    people: &'f People,
    queues: &'f Queues,
    fields: &'f mut FieldNames,
}

impl Routes<'_> {
    /// Reads where a rule or a case leads: to a target, or on by a field.
    fn read(&mut self, section: &Section, problems: &mut Problems) -> Option<Route> {
        let Some(by) = section.get("by") else {
            for (key, node) in ["cases", "else"].into_iter().filter_map(|key| Some((key, section.get(key)?)))
            {
                let hint = "write `by: FIELD` beside it";
                problems.note_with(node.place, format!("`{key}` without `by` in {}", section.what()), hint);
            }
            return target(section, self.people, self.queues, problems).map(Route::To);
        };
        for (key, node) in ["assign", "queue"].into_iter().filter_map(|key| Some((key, section.get(key)?))) {
            let hint = "put it into a case, or under `else`";
            problems.note_with(node.place, format!("{} has both `by` and `{key}`", section.what()), hint);
        }
        let word = section::word(by, "`by`", problems);
        let field = word.as_ref().and_then(|word| self.fields.find(word, problems));
        let cases =
            section.require("cases", problems).and_then(|node| self.cases(word.as_ref(), node, problems));
        let otherwise = match section.get("else") {
            Some(node) => Some(Box::new(self.case(word.as_ref(), "else", None, node, problems)?)),
            None => None,
        };
        let none = Name::from(format!("{}: none of the cases", word?.text));
        Some(Route::By(Tree { field: field?, cases: cases?, otherwise, none }))
    }

    fn cases(&mut self, by: Option<&Word>, node: &Node, problems: &mut Problems) -> Option<Vec<Case>> {
        let Value::Map(entries) = &node.value else {
            let hint = "such as `cases: { Moscow: { assign: ivanov } }`";
            problems.note_with(node.place, "`cases` must be a mapping of values", hint);
            return None;
        };
        if entries.is_empty() {
            problems.note(node.place, "`cases` is empty");
        }
        let mut cases: Vec<Option<Case>> = Vec::new();
        let mut seen: Vec<(Expected, Place)> = Vec::new();
        for (key, node) in entries {
            let value = conditions::expected(key, problems);
            if let Some(value) = &value {
                if let Some((_, first)) = seen.iter().find(|(before, _)| before == value) {
                    problems.note(
                        key.place,
                        format!("`{key}` is in `cases` twice, first on line {}", first.line),
                    );
                }
                seen.push((value.clone(), key.place));
            }
            let case = self.case(by, &key.to_string(), value, node, problems);
            cases.push(case.filter(|case| case.value.is_some()));
        }
        cases.into_iter().collect()
    }

    fn case(
        &mut self,
        by: Option<&Word>,
        label: &str,
        value: Option<Expected>,
        node: &Node,
        problems: &mut Problems,
    ) -> Option<Case> {
        let section = Section::read(node, "a case", &["by", "cases", "else", "assign", "queue"], problems)?;
        let route = self.read(&section, problems)?;
        Some(Case { value, text: Name::from(format!("{}: {label}", by?.text)), route })
    }
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
