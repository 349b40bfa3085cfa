//! What a queue says of leads whose client is known: `sticky: { by: [contact, phone], within: 90d, if_absent: queue }`.

use super::problem::Problems;
use super::queues::choice;
use super::section::{self, Section};
use super::waiting::duration;
use super::yaml::{Node, Value};
use crate::name::Name;
use crate::sticky::{IfAbsent, StickyRules, TieBy};

/// The keys of `sticky`.
pub(super) const STICKY: &[&str] = &["by", "within", "if_absent", "turn"];

/// The keys of `if_absent`.
pub(super) const IF_ABSENT: &[&str] = &["wait_until_back"];

/// By what a client is recognised.
pub(super) const BY: &[(&str, TieBy)] = &[
    ("contact", TieBy::Contact),
    ("company", TieBy::Company),
    ("phone", TieBy::Phone),
    ("email", TieBy::Email),
];

/// The words of `if_absent`.
pub(super) const ABSENT: &[(&str, IfAbsent)] =
    &[("queue", IfAbsent::Queue), ("substitute", IfAbsent::Substitute)];

/// Whether a lead of his own client counts as somebody's turn.
pub(super) const TURN: &[(&str, bool)] = &[("pays", true), ("free", false)];

/// A country code in digits.
pub(super) const COUNTRY_CODE: &str = "^[1-9][0-9]{0,2}$";

/// Reads the section; `None` only when a problem was noted.
pub(super) fn sticky(node: &Node, problems: &mut Problems) -> Option<StickyRules> {
    let section = Section::read(node, "`sticky`", STICKY, problems)?;
    let by = section.require("by", problems).and_then(|node| by(node, problems));
    let within = match section.get("within") {
        Some(node) => Some(duration(node, "`within`", problems)?),
        None => None,
    };
    let if_absent = match section.get("if_absent") {
        Some(node) => if_absent(node, problems),
        None => Some(IfAbsent::default()),
    };
    let pays = choice(&section, "turn", TURN, true, problems);
    Some(StickyRules { by: by?, within, if_absent: if_absent?, pays: pays? })
}

/// Reads a list of words, or one.
fn by(node: &Node, problems: &mut Problems) -> Option<Vec<TieBy>> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => {
            std::slice::from_ref(node)
        }
    };
    if items.is_empty() {
        problems.note_with(
            node.place,
            "`by` is empty",
            "write what a client is recognised by: `by: [contact, phone]`",
        );
        return None;
    }
    let mut found = Vec::new();
    for item in items {
        let word = section::word(item, "an entry of `by`", problems)?;
        let Some((_, by)) = BY.iter().find(|(name, _)| *name == word.text) else {
            let message = format!("unknown word `{}` in `by`", word.text);
            problems.note_word(word.place, message, &word.text, BY.iter().map(|(name, _)| *name));
            return None;
        };
        if found.contains(by) {
            problems.note(word.place, format!("`{}` is in `by` twice", word.text));
            return None;
        }
        found.push(*by);
    }
    Some(found)
}

/// Reads `queue`, `substitute` or `{ wait_until_back: 4h }`.
fn if_absent(node: &Node, problems: &mut Problems) -> Option<IfAbsent> {
    if !matches!(node.value, Value::Map(_)) {
        let word = section::word(node, "`if_absent`", problems)?;
        let found = ABSENT.iter().find(|(name, _)| *name == word.text);
        if found.is_none() {
            let message = format!("unknown word `{}` in `if_absent`", word.text);
            let hint = "write `queue`, `substitute` or `{ wait_until_back: 4h }`";
            problems.note_with(word.place, message, hint);
        }
        return found.map(|(_, if_absent)| *if_absent);
    }
    let section = Section::read(node, "`if_absent`", IF_ABSENT, problems)?;
    let node = section.require("wait_until_back", problems)?;
    duration(node, "`wait_until_back`", problems).map(IfAbsent::WaitUntilBack)
}

/// Reads `country_code: 7`.
pub(super) fn country_code(node: &Node, problems: &mut Problems) -> Option<Name> {
    let text = match &node.value {
        Value::Number(text) | Value::Text(text) => text.as_str(),
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => "",
    };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || text.starts_with('0') || !(1..=3).contains(&text.len()) {
        let hint = "it is that of phone numbers that are written without one, such as `country_code: 7`";
        problems.note_with(node.place, "`country_code` must be one to three digits", hint);
        return None;
    }
    Some(Name::from(text))
}
