//! The file's rules: `{ name: Large, when: { amount: { over: 500000 } }, assign: petrov }`.

use std::collections::BTreeMap;

use super::conditions::{self, Asks};
use super::handover::{self, Names};
use super::problem::{Place, Problems};
use super::section::{self, Section, Word};
use super::yaml::{Node, Value};
use crate::condition::Expected;
use crate::name::Name;
use crate::routing::{Case, Clause, Route, Rule, Tree};

/// The keys of a rule.
pub(super) const KEYS: &[&str] =
    &["name", "when", "by", "cases", "else", "assign", "queue", "if_nobody", "skills", "deal", "set"];

/// The keys of a case.
pub(super) const CASE: &[&str] =
    &["by", "cases", "else", "assign", "queue", "if_nobody", "skills", "deal", "set"];

/// The rules that are right, and where each begins.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) list: Vec<Rule>,
    pub(super) places: Vec<Place>,
}

/// Reads the section; what is wrong is noted and left out.
pub(super) fn read(node: &Node, names: &Names, asks: &mut Asks, problems: &mut Problems) -> Rules {
    let mut rules = Rules::default();
    let mut seen: BTreeMap<String, Place> = BTreeMap::new();
    for item in section::items(node, "`rules`", problems) {
        let Some(section) = Section::read(item, "a rule", KEYS, problems) else {
            continue;
        };
        let name = section.require("name", problems).and_then(|node| section::word(node, "`name`", problems));
        if let Some(name) = &name
            && let Some(first) = seen.insert(name.text.clone(), name.place)
        {
            let message = format!("two rules are called `{}`, the first on line {}", name.text, first.line);
            problems.note(name.place, message);
        }
        let clauses = when(&section, asks, problems);
        let route = Routes { names, asks }.read(&section, problems);
        if let (Some(name), Some(clauses), Some(route)) = (name, clauses, route) {
            rules.list.push(Rule { name: Name::from(name.text), clauses, route });
            rules.places.push(section.place());
        }
    }
    rules
}

fn when(section: &Section, asks: &mut Asks, problems: &mut Problems) -> Option<Vec<Clause>> {
    let Some(node) = section.get("when") else {
        // A tree says by itself which leads it takes.
        if section.get("by").is_some() {
            return Some(Vec::new());
        }
        let hint = "write `when: {}` for a rule that takes every lead";
        problems.note_with(section.place(), "`when` is missing in a rule", hint);
        return None;
    };
    conditions::read(node, asks, problems)
}

/// What trees are read with.
struct Routes<'f> {
    names: &'f Names<'f>,
    asks: &'f mut Asks,
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
            return handover::read(section, self.names, &self.asks.fields, problems).map(Route::To);
        };
        let of_cases = handover::KEYS.iter().filter_map(|key| Some((key, section.get(key)?)));
        for (key, node) in of_cases {
            let hint = "put it into a case, or under `else`";
            problems.note_with(node.place, format!("{} has both `by` and `{key}`", section.what()), hint);
        }
        let word = section::word(by, "`by`", problems);
        let field = word.as_ref().and_then(|word| self.asks.fields.find(word, problems));
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
        let section = Section::read(node, "a case", CASE, problems)?;
        let route = self.read(&section, problems)?;
        Some(Case { value, text: Name::from(format!("{}: {label}", by?.text)), route })
    }
}
