//! Where a rule, a case or the default sends a lead, and with what:
//! `{ queue: main, skills: [regions], deal: { category: 5, stage: "C5:NEW" }, set: { status: IN_PROCESS } }`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::conditions::FieldNames;
use super::nearest;
use super::people::{self, People};
use super::problem::Problems;
use super::queues::{self, QueueNames};
use super::section::{self, Section};
use super::yaml::{Node, Value};
use crate::compare;
use crate::decision::{DealOrder, Orders};
use crate::name::Name;
use crate::routing::{Fallback, Handover, Target};

/// The keys of it.
pub(super) const KEYS: &[&str] = &["assign", "queue", "if_nobody", "skills", "deal", "set"];

/// The keys of `deal`.
pub(super) const DEAL: &[&str] = &["category", "stage"];

/// Fields that `set` cannot write: what they hold is decided elsewhere.
const NOT_SETTABLE: [(&str, &str); 2] =
    [("ASSIGNED_BY_ID", "the owner is set by `assign` or `queue`"), ("ID", "an id never changes")];

/// The names that a target can have.
pub(super) struct Names<'f> {
    pub(super) people: &'f People,
    pub(super) queues: &'f QueueNames,
}

/// Reads it from the section of a rule, a case or the default.
pub(super) fn read(
    section: &Section,
    names: &Names,
    fields: &FieldNames,
    problems: &mut Problems,
) -> Option<Handover> {
    let target = target(section, names, problems);
    let skills = skills(section, names.people, problems);
    let deal = section.get("deal").and_then(|node| deal(node, problems));
    let set = section.get("set").map(|node| set(node, fields, problems)).unwrap_or_default();
    let orders = Orders { set, deal };
    let orders = (orders != Orders::default()).then(|| Arc::new(orders));
    Some(Handover { target: target?, skills, orders })
}

/// Reads `assign: PERSON` or `queue: NAME`, one of which must be there.
fn target(section: &Section, names: &Names, problems: &mut Problems) -> Option<Target> {
    match (section.get("assign"), section.get("queue")) {
        (Some(node), None) => {
            if let Some(skills) = section.get("skills") {
                problems.note_with(
                    skills.place,
                    "`skills` beside `assign`: the person is named already",
                    "leave them out",
                );
            }
            let if_nobody = match section.get("if_nobody") {
                Some(node) => Some(of_person(node, names, problems)?),
                None => None,
            };
            let word = section::word(node, "`assign`", problems)?;
            let person = names.people.find(&word, problems)?;
            Some(Target::Person { person, if_nobody })
        }
        (None, Some(node)) => {
            if let Some(if_nobody) = section.get("if_nobody") {
                let hint = "write it into the queue";
                problems.note_with(
                    if_nobody.place,
                    "`if_nobody` beside `queue`: the queue has its own",
                    hint,
                );
            }
            let word = section::word(node, "`queue`", problems)?;
            names.queues.find(&word, problems).map(Target::Queue)
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

/// Reads the `if_nobody` of a person, who has nobody on duty for him.
fn of_person(node: &Node, names: &Names, problems: &mut Problems) -> Option<Vec<Fallback>> {
    let fallbacks = queues::fallbacks(node, names.queues, problems)?;
    if fallbacks.contains(&Fallback::OnDuty) {
        let hint = "name a queue: `if_nobody: [{ queue: NAME }]`";
        problems.note_with(node.place, "`on_duty` beside `assign`: only a queue has people on duty", hint);
        return None;
    }
    Some(fallbacks)
}

fn skills(section: &Section, people: &People, problems: &mut Problems) -> Vec<Name> {
    let Some(node) = section.get("skills") else { return Vec::new() };
    let words = people::skills(node, problems);
    for word in &words {
        let known = || people.entries().flat_map(|(person, _)| person.skills.iter().map(Name::as_str));
        // A skill that nobody has yet is no mistake: such leads wait. One that is nearly another probably is.
        if !known().any(|skill| skill == word.text)
            && let Some(near) = nearest::nearest(&word.text, known())
        {
            let message = format!("nobody has the skill `{}`, so nobody can take these leads", word.text);
            problems.warn(word.place, message, format!("did you mean `{near}`?"));
        }
    }
    words.into_iter().map(|word| Name::from(word.text)).collect()
}

/// Reads `{ category: 5, stage: "C5:NEW" }`.
fn deal(node: &Node, problems: &mut Problems) -> Option<DealOrder> {
    let section = Section::read(node, "`deal`", DEAL, problems)?;
    let node = section.require("category", problems)?;
    let category: Option<u32> = match &node.value {
        Value::Number(written) => written.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    let Some(category) = category else {
        let hint = "it is the number of the funnel; 0 is the portal's first";
        problems.note_with(node.place, "`category` must be a whole number from 0", hint);
        return None;
    };
    let stage = match section.get("stage") {
        Some(node) => Some((section::text(node, "`stage`", problems)?, node.place)),
        None => None,
    };
    if let Some((stage, place)) = &stage {
        // `C5:NEW` in funnel 5, `NEW` in the first.
        let of =
            stage.split_once(':').map(|(funnel, _)| funnel.strip_prefix('C').and_then(|of| of.parse().ok()));
        let right = match of {
            Some(of) => of == Some(category),
            None => category == 0,
        };
        if !right {
            let hint = match category {
                0 => "stages of funnel 0 have no prefix, such as `NEW`".to_owned(),
                _ => format!("its stages begin with `C{category}:`, such as `C{category}:NEW`"),
            };
            problems.note_with(*place, format!("`{stage}` is no stage of funnel {category}"), hint);
            return None;
        }
    }
    Some(DealOrder { category, stage: stage.map(|(stage, _)| stage) })
}

/// Reads `{ status: IN_PROCESS, UF_CRM_TEAM: [1, 2] }`.
fn set(node: &Node, fields: &FieldNames, problems: &mut Problems) -> BTreeMap<String, Json> {
    let mut set = BTreeMap::new();
    for (word, node) in section::entries(node, "`set`", problems) {
        let Some(code) = fields.code(&word, problems) else { continue };
        if let Some((_, why)) = NOT_SETTABLE.iter().find(|(fixed, _)| *fixed == code.as_str()) {
            problems.note(word.place, format!("`{}` cannot be set: {why}", word.text));
            continue;
        }
        let Some(value) = field_value(node, problems) else { continue };
        if set.insert(String::from(code), value).is_some() {
            problems.note(word.place, format!("`{}` names a field that is set already", word.text));
        }
    }
    set
}

fn field_value(node: &Node, problems: &mut Problems) -> Option<Json> {
    match &node.value {
        Value::List(items) => {
            items.iter().map(|item| scalar(item, problems)).collect::<Option<_>>().map(Json::Array)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => {
            scalar(node, problems)
        }
    }
}

fn scalar(node: &Node, problems: &mut Problems) -> Option<Json> {
    match &node.value {
        Value::Null => Some(Json::Null),
        Value::Bool(flag) => Some(Json::Bool(*flag)),
        // The portal takes numbers as text; so none loses a digit on its way.
        Value::Number(written) if compare::number(written).is_some() => Some(Json::String(written.clone())),
        Value::Text(text) => Some(Json::String(text.clone())),
        Value::Number(written) => {
            let hint = format!("write \"{written}\" for a text, or the number in plain digits");
            problems.note_with(node.place, format!("{written} is not a plain number"), hint);
            None
        }
        Value::List(_) | Value::Map(_) => {
            problems
                .note(node.place, "a field is set to a text, a number, true, false, null or a list of these");
            None
        }
    }
}
