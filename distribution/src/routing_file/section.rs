//! How the parts of the file are read from the tree: mappings with known keys, mappings with names of the file's own,
//! and the words and numbers in them.
//!
//! Each function notes what is wrong and returns what is usable.

use std::collections::BTreeMap;

use super::problem::{Place, Problems};
use super::yaml::{Node, Value};

/// A mapping whose keys the language knows.
pub(super) struct Section<'n> {
    place: Place,
    what: &'static str,
    values: BTreeMap<&'static str, &'n Node>,
}

/// A word in the file and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) place: Place,
    pub(super) text: String,
}

impl<'n> Section<'n> {
    /// Reads a mapping; `what` names it in messages ("a rule"). Keys that are not `known` are problems.
    pub(super) fn read(
        node: &'n Node,
        what: &'static str,
        known: &[&'static str],
        problems: &mut Problems,
    ) -> Option<Self> {
        if !matches!(node.value, Value::Map(_)) {
            let keys = known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            problems.note_with(node.place, format!("{what} must be a mapping"), format!("its keys: {keys}"));
            return None;
        }
        let mut values = BTreeMap::new();
        for (word, value) in entries(node, what, problems) {
            if let Some(key) = known.iter().find(|key| **key == word.text) {
                values.insert(*key, value);
            } else {
                let message = format!("unknown key `{}` in {what}", word.text);
                problems.note_word(word.place, message, &word.text, known.iter().copied());
            }
        }
        Some(Self { place: node.place, what, values })
    }

    /// Where the section begins.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The section's name in messages.
    pub(super) fn what(&self) -> &'static str {
        self.what
    }

    /// The value of a key that may be left out.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.values.get(key).copied()
    }

    /// The value of a key that must be there.
    pub(super) fn require(&self, key: &str, problems: &mut Problems) -> Option<&'n Node> {
        let node = self.get(key);
        if node.is_none() {
            problems.note(self.place, format!("`{key}` is missing in {}", self.what));
        }
        node
    }
}

/// The entries of a mapping, in the file's order, each key once. Nothing (`people:`) is an empty mapping.
pub(super) fn entries<'n>(node: &'n Node, what: &str, problems: &mut Problems) -> Vec<(Word, &'n Node)> {
    let mut seen: BTreeMap<String, Place> = BTreeMap::new();
    let mut words = Vec::new();
    let entries = match &node.value {
        Value::Map(entries) => entries.as_slice(),
        Value::Null => &[],
        Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
            problems.note(node.place, format!("{what} must be a mapping of names"));
            &[]
        }
    };
    for (key, value) in entries {
        let Some(text) = text(key, "a key", problems) else {
            continue;
        };
        if let Some(first) = seen.insert(text.clone(), key.place) {
            problems.note(key.place, format!("`{text}` is in {what} twice, first on line {}", first.line));
        } else {
            words.push((Word { place: key.place, text }, value));
        }
    }
    words
}

/// The items of a list; nothing (`rules:`) is an empty one.
pub(super) fn items<'n>(node: &'n Node, what: &str, problems: &mut Problems) -> &'n [Node] {
    match &node.value {
        Value::List(items) => items,
        Value::Null => &[],
        Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => {
            problems.note(node.place, format!("{what} must be a list"));
            &[]
        }
    }
}

/// Whether a list or mapping has nothing in it.
pub(super) fn is_empty(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Text(_) => false,
    }
}

/// A text without blanks around it; a number counts as the text that it is written as.
pub(super) fn text(node: &Node, what: &str, problems: &mut Problems) -> Option<String> {
    let text = match &node.value {
        Value::Text(text) | Value::Number(text) => text.trim(),
        Value::Null => "",
        Value::Bool(_) | Value::List(_) | Value::Map(_) => {
            problems.note(node.place, format!("{what} must be a text"));
            return None;
        }
    };
    if text.is_empty() {
        problems.note(node.place, format!("{what} is empty"));
        return None;
    }
    Some(text.to_owned())
}

/// A text together with its place.
pub(super) fn word(node: &Node, what: &str, problems: &mut Problems) -> Option<Word> {
    text(node, what, problems).map(|text| Word { place: node.place, text })
}
