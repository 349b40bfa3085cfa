//! The file's queues: `main: { members: [ivanov, { person: petrov, weight: 3 }], strategy: rotation, on_duty: [duty] }`.

use std::collections::{BTreeMap, BTreeSet};

use super::answer;
use super::people::{self, People};
use super::problem::{Place, Problems};
use super::section::{self, Section, Word};
use super::sticky;
use super::waiting;
use super::yaml::{Node, Value};
use crate::name::Name;
use crate::routing::{Fallback, Member, Queue, Strategy, WorkingDayOf};
use crate::waiting::HoldRules;

/// The keys of a queue.
pub(super) const KEYS: &[&str] = &[
    "members",
    "strategy",
    "ledger",
    "working_day",
    "absences",
    "limits",
    "on_duty",
    "if_nobody",
    "hold",
    "answer",
    "sticky",
];

/// The keys of a member.
pub(super) const MEMBER: &[&str] = &["person", "weight"];

/// What a queue can do.
pub(super) const STRATEGIES: &[(&str, Strategy)] = &[
    ("rotation", Strategy::Rotation),
    ("least_loaded", Strategy::LeastLoaded),
    ("in_order", Strategy::InOrder),
];

/// Of whom a queue wants an open working day.
pub(super) const WORKING_DAY: &[(&str, WorkingDayOf)] = &[
    ("required", WorkingDayOf::Members),
    ("required_of_all", WorkingDayOf::All),
    ("ignored", WorkingDayOf::Nobody),
];

/// Whether a queue respects absences.
pub(super) const ABSENCES: &[(&str, bool)] = &[("respected", true), ("ignored", false)];

/// The words of `if_nobody`.
pub(super) const FALLBACKS: &[(&str, Fallback)] = &[("on_duty", Fallback::OnDuty), ("hold", Fallback::Hold)];

/// The names of the queues, for those who refer to them. A queue is known by its place in the file's order.
pub(super) struct QueueNames {
    numbers: BTreeMap<String, usize>,
    /// Whether a name that is not here is a problem.
    complete: bool,
}

/// Every queue the file names.
pub(super) struct Queues {
    pub(super) names: QueueNames,
    /// In the file's order, as long as none is wrong.
    pub(super) list: Vec<Queue>,
    pub(super) places: Vec<Place>,
}

impl QueueNames {
    /// The number of the queue with this name; an unknown one is noted.
    pub(super) fn find(&self, word: &Word, problems: &mut Problems) -> Option<usize> {
        let number = self.numbers.get(&word.text).copied();
        if number.is_none() && self.complete {
            let names = self.numbers.keys().map(String::as_str);
            problems.note_word(word.place, format!("unknown queue `{}`", word.text), &word.text, names);
        }
        number
    }
}

/// Reads the section, if there is one.
pub(super) fn read(node: Option<&Node>, people: &People, problems: &mut Problems) -> Queues {
    let entries = node.map(|node| section::entries(node, "`queues`", problems)).unwrap_or_default();
    let complete = !entries.is_empty() || node.is_none_or(section::is_empty);
    let numbers = entries.iter().enumerate().map(|(number, (word, _))| (word.text.clone(), number)).collect();
    let names = QueueNames { numbers, complete };
    let mut queues = Queues { names, list: Vec::new(), places: Vec::new() };
    for (word, node) in entries {
        let reader = Reader { queue: &word, people, names: &queues.names };
        if let Some(queue) = reader.read(node, problems) {
            queues.list.push(queue);
            queues.places.push(word.place);
        }
    }
    queues
}

/// Notes the queues that hand a lead on in a circle, each circle once. Only for a list without errors.
pub(super) fn note_circles(queues: &[Queue], places: &[Place], problems: &mut Problems) {
    for (start, place) in places.iter().enumerate() {
        let (mut path, mut seen) = (vec![start], BTreeSet::new());
        if let Some(circle) = circle(queues, start, &mut path, &mut seen)
            && circle.iter().min() == Some(&start)
        {
            let names: Vec<&str> = circle
                .iter()
                .chain([&start])
                .filter_map(|number| queues.get(*number).map(|queue| queue.name.as_str()))
                .collect();
            let message = format!("`if_nobody` leads round in a circle: {}", names.join(" → "));
            problems.note_with(*place, message, "let one of them end in `hold`");
        }
    }
}

/// A way from the end of `path` back to `start`. What was seen and led nowhere is not tried again, or many queues that
/// name each other would be tried in every order.
fn circle(
    queues: &[Queue],
    start: usize,
    path: &mut Vec<usize>,
    seen: &mut BTreeSet<usize>,
) -> Option<Vec<usize>> {
    let last = queues.get(*path.last()?)?;
    for fallback in &last.if_nobody {
        let Fallback::Queue(next) = *fallback else { continue };
        if next == start {
            return Some(path.clone());
        }
        if seen.insert(next) {
            path.push(next);
            let found = circle(queues, start, path, seen);
            path.pop();
            if found.is_some() {
                return found;
            }
        }
    }
    None
}

struct Reader<'f> {
    queue: &'f Word,
    people: &'f People,
    names: &'f QueueNames,
}

impl Reader<'_> {
    fn read(&self, node: &Node, problems: &mut Problems) -> Option<Queue> {
        let section = Section::read(node, "a queue", KEYS, problems)?;
        let strategy = choice(&section, "strategy", STRATEGIES, Strategy::Rotation, problems);
        let working_day = choice(&section, "working_day", WORKING_DAY, WorkingDayOf::Nobody, problems);
        let absences = choice(&section, "absences", ABSENCES, true, problems);
        let ledger = match section.get("ledger") {
            Some(node) => section::word(node, "`ledger`", problems).map(|word| Name::from(word.text)),
            None => Some(Name::from(self.queue.text.as_str())),
        };
        let limits = people::limits(&section, problems);
        let node = section.require("members", problems)?;
        let members = self.members(node, "members", problems);
        let on_duty = match section.get("on_duty") {
            Some(node) => self.members(node, "on_duty", problems),
            None => Vec::new(),
        };
        let if_nobody = self.if_nobody(&section, problems);
        let hold = match section.get("hold") {
            Some(node) => waiting::hold(node, self.people, problems),
            None => Some(HoldRules::default()),
        };
        let answer = match section.get("answer") {
            Some(node) => Some(answer::answer(node, self.people, self.names, problems)?),
            None => None,
        };
        let sticky = match section.get("sticky") {
            Some(node) => Some(sticky::sticky(node, problems)?),
            None => None,
        };
        let ledger = ledger?;
        Some(Queue {
            name: Name::from(self.queue.text.as_str()),
            duty_ledger: Name::from(format!("{ledger} (on duty)")),
            ledger,
            strategy: strategy?,
            members,
            working_day: working_day?,
            absences_respected: absences?,
            limits,
            on_duty,
            if_nobody: if_nobody?,
            hold: hold?,
            answer,
            sticky,
        })
    }

    /// Reads `members` or `on_duty`.
    fn members(&self, node: &Node, key: &str, problems: &mut Problems) -> Vec<Member> {
        let items = section::items(node, &format!("`{key}`"), problems);
        let queue = &self.queue.text;
        if section::is_empty(node) {
            problems.note(
                node.place,
                match key {
                    "members" => format!("queue `{queue}` has no members"),
                    _ => format!("nobody is on duty for queue `{queue}`"),
                },
            );
        }
        let mut members = Vec::with_capacity(items.len());
        let mut seen: BTreeMap<Name, Place> = BTreeMap::new();
        for item in items {
            let Some(member) = member(item, self.people, problems) else {
                continue;
            };
            let name = &member.person.name;
            if let Some(first) = seen.insert(name.clone(), item.place) {
                let message = match key {
                    "members" => {
                        format!("`{name}` is in queue `{queue}` twice, first on line {}", first.line)
                    }
                    _ => format!("`{name}` is on duty twice, first on line {}", first.line),
                };
                problems.note_with(item.place, message, "give him a weight instead");
            }
            members.push(member);
        }
        members
    }

    fn if_nobody(&self, section: &Section, problems: &mut Problems) -> Option<Vec<Fallback>> {
        let on_duty = section.get("on_duty");
        let Some(node) = section.get("if_nobody") else {
            return Some(if on_duty.is_some() {
                vec![Fallback::OnDuty, Fallback::Hold]
            } else {
                vec![Fallback::Hold]
            });
        };
        let fallbacks = fallbacks(node, self.names, problems)?;
        let asks_duty = fallbacks.contains(&Fallback::OnDuty);
        match on_duty {
            None if asks_duty => {
                let message = format!("nobody is on duty for queue `{}`", self.queue.text);
                problems.note_with(node.place, message, "name them: `on_duty: [PERSON]`");
            }
            Some(on_duty) if !asks_duty => {
                let message = "`on_duty` is never asked, because `if_nobody` does not name it";
                problems.warn(on_duty.place, message, "write `if_nobody: [on_duty, hold]`");
            }
            _ => {}
        }
        Some(fallbacks)
    }
}

/// Reads the list of `if_nobody`: `[on_duty, { queue: reserve }, hold]`.
pub(super) fn fallbacks(node: &Node, names: &QueueNames, problems: &mut Problems) -> Option<Vec<Fallback>> {
    let mut fallbacks = Vec::new();
    let mut held = false;
    for item in section::items(node, "`if_nobody`", problems) {
        if std::mem::replace(&mut held, false) {
            problems.warn(
                item.place,
                "this is never reached: `hold` before it ends the list",
                "put `hold` last",
            );
        }
        let fallback = match &item.value {
            Value::Map(_) => {
                let section = Section::read(item, "an entry of `if_nobody`", &["queue"], problems)?;
                let word = section::word(section.require("queue", problems)?, "`queue`", problems)?;
                Fallback::Queue(names.find(&word, problems)?)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                let word = section::word(item, "an entry of `if_nobody`", problems)?;
                match FALLBACKS.iter().find(|(name, _)| *name == word.text) {
                    Some((_, fallback)) => *fallback,
                    None if names.numbers.contains_key(&word.text) => {
                        let message = format!("`{}` is a queue", word.text);
                        problems.note_with(
                            word.place,
                            message,
                            format!("write `{{ queue: {} }}`", word.text),
                        );
                        return None;
                    }
                    None => {
                        let message = format!("unknown word `{}` in `if_nobody`", word.text);
                        problems.note_word(
                            word.place,
                            message,
                            &word.text,
                            FALLBACKS.iter().map(|(name, _)| *name),
                        );
                        return None;
                    }
                }
            }
        };
        held = fallback == Fallback::Hold;
        fallbacks.push(fallback);
    }
    Some(fallbacks)
}

/// Reads a key with one of a few words; `None` when it is another, which is noted.
pub(super) fn choice<T: Copy>(
    section: &Section,
    key: &str,
    known: &[(&'static str, T)],
    default: T,
    problems: &mut Problems,
) -> Option<T> {
    let Some(node) = section.get(key) else { return Some(default) };
    let word = section::word(node, &format!("`{key}`"), problems)?;
    let found = known.iter().find(|(name, _)| *name == word.text).map(|(_, value)| *value);
    if found.is_none() {
        let message = match key {
            "strategy" => format!("unknown strategy `{}`", word.text),
            _ => format!("unknown word `{}` in `{key}`", word.text),
        };
        problems.note_word(word.place, message, &word.text, known.iter().map(|(name, _)| *name));
    }
    found
}

/// Reads `ivanov` or `{ person: ivanov, weight: 3 }`.
fn member(node: &Node, people: &People, problems: &mut Problems) -> Option<Member> {
    if !matches!(node.value, Value::Map(_)) {
        let person = people.find(&section::word(node, "a member", problems)?, problems)?;
        return Some(Member { weight: person.weight, person });
    }
    let section = Section::read(node, "a member", MEMBER, problems)?;
    let weight = people::weight(&section, problems);
    let word = section::word(section.require("person", problems)?, "`person`", problems)?;
    let person = people.find(&word, problems)?;
    Some(Member { weight: weight.unwrap_or(person.weight), person })
}
