//! What a rule asks of a lead: `when: { source: [COLD_CALL, CALL], amount: { over: 500000 } }`.
//!
//! A value without quotes that YAML takes for a number is one only when it is written plainly. `0123`, `1e5` and
//! `1_000` are refused: as numbers they would lose what was written, and whoever means a text can quote it.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::problem::{Place, Problems};
use super::section::{self, Word};
use super::times::Times;
use super::yaml::{Node, Value};
use crate::compare;
use crate::condition::{Condition, Expected, Pattern};
use crate::fields;
use crate::name::Name;
use crate::routing::{Clause, Test};

/// How long a condition is quoted in explanations, in characters; a list of values can be much longer.
const CLAUSE_TEXT_MAX: usize = 100;

/// What can be asked besides equality.
pub(super) const OPERATORS: &[&str] = &[
    "over",
    "at_least",
    "under",
    "at_most",
    "between",
    "contains",
    "starts_with",
    "matches",
    "empty",
    "not",
    "all",
    "any",
];

/// The entries of a `when` that are no fields.
const GROUPS: &[&str] = &["all", "any", "not"];

/// When the lead came.
const RECEIVED: &str = "received";

/// Whether a word in a `when` means something else than a field.
pub(super) fn is_reserved(word: &str) -> bool {
    GROUPS.contains(&word) || word == RECEIVED
}

/// What conditions can ask about.
pub(super) struct Asks {
    pub(super) fields: FieldNames,
    pub(super) times: Times,
}

/// The words for fields that this file may use, and the codes it did use so far.
#[derive(Default)]
pub(super) struct FieldNames {
    /// The file's own short names; `None` for one whose code is wrong, which was noted.
    own: BTreeMap<String, Option<Name>>,
    /// The codes that rules ask about; a clause names its field by the place in this list.
    used: Vec<Name>,
    numbers: BTreeMap<Name, usize>,
}

impl FieldNames {
    /// Adds a short name of the file's own.
    pub(super) fn add(&mut self, name: String, code: Option<Name>) {
        self.own.insert(name, code);
    }

    /// The codes in use, by number.
    pub(super) fn into_codes(self) -> Vec<Name> {
        self.used
    }

    /// The code of the field that `word` means; an unknown word is noted.
    pub(super) fn code(&self, word: &Word, problems: &mut Problems) -> Option<Name> {
        if let Some(code) = self.own.get(&word.text) {
            return code.clone();
        }
        if let Some(code) = fields::built_in(&word.text) {
            return Some(Name::from(code));
        }
        if fields::is_code(&word.text) {
            return Some(Name::from(word.text.as_str()));
        }
        let known = self.own.keys().map(String::as_str).chain(fields::built_in_names());
        let known = known.chain(GROUPS.iter().copied()).chain([RECEIVED]);
        let message = format!("unknown field `{}`", word.text);
        problems.note_word(word.place, message, &word.text, known);
        None
    }

    /// The number of the field that `word` means; an unknown word is noted.
    pub(super) fn find(&mut self, word: &Word, problems: &mut Problems) -> Option<usize> {
        let code = self.code(word, problems)?;
        let next = self.used.len();
        let number = *self.numbers.entry(code.clone()).or_insert(next);
        if number == next {
            self.used.push(code);
        }
        Some(number)
    }
}

/// Reads a `when`; `None` when a problem was noted.
pub(super) fn read(node: &Node, asks: &mut Asks, problems: &mut Problems) -> Option<Vec<Clause>> {
    if !matches!(node.value, Value::Map(_)) {
        let hint = "write `when: { source: CALL }`, or `when: {}` for every lead";
        problems.note_with(node.place, "`when` must be a mapping of fields", hint);
        return None;
    }
    let entries = section::entries(node, "`when`", problems);
    let mut clause = |(word, node): &(Word, &Node)| {
        let test = match word.text.as_str() {
            "all" => groups(node, asks, problems).map(Test::All),
            "any" => groups(node, asks, problems).map(Test::Any),
            "not" => read(node, asks, problems).map(Test::Not),
            RECEIVED => received(node, true, asks, problems),
            _ => {
                let field = asks.fields.find(word, problems);
                let condition = condition(node, problems);
                field.zip(condition).map(|(field, condition)| Test::Field { field, condition })
            }
        };
        Some(Clause { test: test?, text: shortened(&format!("{}: {node}", word.text)) })
    };
    let clauses: Vec<Option<Clause>> = entries.iter().map(&mut clause).collect();
    clauses.into_iter().collect()
}

/// Reads `{ within: office }`, or `{ not: { within: office } }`.
fn received(node: &Node, within: bool, asks: &mut Asks, problems: &mut Problems) -> Option<Test> {
    if let Value::Map(entries) = &node.value
        && let [(key, value)] = entries.as_slice()
    {
        let key = section::word(key, "a key", problems)?;
        match key.text.as_str() {
            "within" => {
                let word = section::word(value, "`within`", problems)?;
                return Some(Test::Received { hours: asks.times.of_file(&word, problems)?, within });
            }
            "not" => return received(value, !within, asks, problems),
            unknown => {
                let message = format!("unknown key `{unknown}` in `received`");
                problems.note_word(key.place, message, unknown, ["within", "not"].into_iter());
                return None;
            }
        }
    }
    let hint = "write `received: { within: SCHEDULE }`";
    problems.note_with(node.place, "`received` must name a schedule", hint);
    None
}

/// Reads the list of `all` or `any`, each item like a `when`.
fn groups(node: &Node, asks: &mut Asks, problems: &mut Problems) -> Option<Vec<Vec<Clause>>> {
    let items =
        some_items(node, "a list of conditions such as `[{ source: CALL }, { city: Tver }]`", problems)?;
    let groups: Vec<Option<Vec<Clause>>> = items.iter().map(|item| read(item, asks, problems)).collect();
    groups.into_iter().collect()
}

/// The items of a list that must not be empty.
fn some_items<'n>(node: &'n Node, expected: &str, problems: &mut Problems) -> Option<&'n [Node]> {
    match &node.value {
        Value::List(items) if !items.is_empty() => Some(items),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            problems.note(node.place, format!("this must be {expected}"));
            None
        }
    }
}

fn shortened(text: &str) -> Name {
    match text.char_indices().nth(CLAUSE_TEXT_MAX) {
        Some((end, _)) => Name::from(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Name::from(text),
    }
}

fn condition(node: &Node, problems: &mut Problems) -> Option<Condition> {
    match &node.value {
        Value::Map(entries) => {
            let [(key, value)] = entries.as_slice() else {
                let message = "a condition must have exactly one key";
                problems.note_with(node.place, message, "for a range write `{ between: [LOW, HIGH] }`");
                return None;
            };
            operator(&section::word(key, "a key", problems)?, value, problems)
        }
        Value::List(items) if items.is_empty() => {
            problems.note(node.place, "this list of values is empty, so nothing can match");
            None
        }
        Value::List(items) => {
            let expected: Vec<Option<Expected>> = items.iter().map(|item| expected(item, problems)).collect();
            expected.into_iter().collect::<Option<_>>().map(Condition::AnyOf)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
            Some(Condition::AnyOf(vec![expected(node, problems)?]))
        }
    }
}

fn operator(word: &Word, node: &Node, problems: &mut Problems) -> Option<Condition> {
    match word.text.as_str() {
        "over" => number(node, problems).map(Condition::Over),
        "at_least" => number(node, problems).map(Condition::AtLeast),
        "under" => number(node, problems).map(Condition::Under),
        "at_most" => number(node, problems).map(Condition::AtMost),
        "between" => between(node, problems),
        "contains" => part(node, problems).map(Condition::Contains),
        "starts_with" => part(node, problems).map(Condition::StartsWith),
        "matches" => pattern(node, problems).map(Condition::Matches),
        "all" => conditions(node, problems).map(Condition::All),
        "any" => conditions(node, problems).map(Condition::Any),
        "empty" => match node.value {
            Value::Bool(empty) => Some(Condition::Empty(empty)),
            Value::Null | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
                problems.note(node.place, "`empty` must be true or false");
                None
            }
        },
        "not" => condition(node, problems).map(|inner| Condition::Not(Box::new(inner))),
        unknown => {
            let message = format!("unknown key `{unknown}` in a condition");
            problems.note_word(word.place, message, unknown, OPERATORS.iter().copied());
            None
        }
    }
}

fn conditions(node: &Node, problems: &mut Problems) -> Option<Vec<Condition>> {
    let items = some_items(node, "a list of conditions such as `[{ over: 1000 }, { not: 5000 }]`", problems)?;
    let conditions: Vec<Option<Condition>> = items.iter().map(|item| condition(item, problems)).collect();
    conditions.into_iter().collect()
}

fn pattern(node: &Node, problems: &mut Problems) -> Option<Pattern> {
    let Value::Text(text) = &node.value else {
        problems.note(node.place, "`matches` must be a regular expression in quotes");
        return None;
    };
    let pattern = Pattern::new(text);
    if let Err(why) = &pattern {
        problems.note(node.place, format!("this is no regular expression: {why}"));
    }
    pattern.ok()
}

fn between(node: &Node, problems: &mut Problems) -> Option<Condition> {
    let Value::List(ends) = &node.value else {
        problems.note(node.place, "`between` must be a list of two numbers: [LOW, HIGH]");
        return None;
    };
    let [low, high] = ends.as_slice() else {
        problems.note(node.place, "`between` must be a list of two numbers: [LOW, HIGH]");
        return None;
    };
    let (low, high) = (number(low, problems), number(high, problems));
    let (low, high) = (low?, high?);
    if low > high {
        let hint = format!("write [{high}, {low}]");
        problems.note_with(node.place, "nothing is between these: the first is the larger", hint);
        return None;
    }
    Some(Condition::Between(low, high))
}

/// Reads a value that a field may equal.
pub(super) fn expected(node: &Node, problems: &mut Problems) -> Option<Expected> {
    match &node.value {
        Value::Bool(flag) => Some(Expected::Flag(*flag)),
        Value::Number(written) => plain_number(written, node.place, problems).map(Expected::Number),
        Value::Text(text) if !text.trim().is_empty() => Some(Expected::Text(compare::fold(text))),
        Value::Null | Value::Text(_) => {
            let hint = "to ask for an empty field write `{ empty: true }`";
            problems.note_with(node.place, "a value is missing", hint);
            None
        }
        Value::List(_) | Value::Map(_) => {
            problems.note(node.place, "each item of a list must be a text, a number, true or false");
            None
        }
    }
}

/// Reads the text of `contains` or `starts_with`.
fn part(node: &Node, problems: &mut Problems) -> Option<String> {
    match expected(node, problems)? {
        Expected::Text(text) => Some(text),
        // A plain number has the text it is written as.
        Expected::Number(_) => section::text(node, "this", problems),
        Expected::Flag(_) => {
            problems.note(node.place, "this must be a text");
            None
        }
    }
}

/// Reads the number of `over`, `between` and their like.
fn number(node: &Node, problems: &mut Problems) -> Option<Decimal> {
    match &node.value {
        Value::Number(written) => plain_number(written, node.place, problems),
        Value::Text(text) => {
            let hint = match compare::number(text.trim()) {
                Some(number) => format!("write {number} without quotes"),
                None => "write it in digits, such as 500000 or 0.5".to_owned(),
            };
            problems.note_with(node.place, format!("`{text}` is not a number"), hint);
            None
        }
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => {
            problems.note(node.place, "a number is expected here");
            None
        }
    }
}

fn plain_number(written: &str, place: Place, problems: &mut Problems) -> Option<Decimal> {
    let number = compare::number(written);
    if number.is_none() {
        let digits = written.strip_prefix(['-', '+']).unwrap_or(written);
        let message = if digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("{written} would lose its leading zero")
        } else {
            format!("{written} is not a plain number")
        };
        let hint = format!("write \"{written}\" for a text, or the number in plain digits");
        problems.note_with(place, message, hint);
    }
    number
}
