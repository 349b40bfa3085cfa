//! What a queue says of leads that nobody answers: `answer: { within: 15m, then: next, escalate_to: head }`.

use super::people::People;
use super::problem::Problems;
use super::queues::{QueueNames, choice};
use super::section::{self, Section};
use super::waiting::{duration, number};
use super::yaml::{Node, Value};
use crate::answer::{AnswerRules, Then};
use crate::giving::Destination;
use crate::name::Name;

/// The keys of `answer`.
pub(super) const ANSWER: &[&str] = &["within", "remind_at", "then", "rounds", "escalate_to", "missed_turn"];

/// The keys of `then`.
pub(super) const THEN: &[&str] = &["queue", "person"];

/// Whether who did not answer gets his turn back.
pub(super) const MISSED_TURN: &[(&str, bool)] = &[("pays", false), ("refunded", true)];

/// The word of `then` for the same queue.
pub(super) const NEXT: &str = "next";

/// Reads the section; `None` only when a problem was noted.
pub(super) fn answer(
    node: &Node,
    people: &People,
    queues: &QueueNames,
    problems: &mut Problems,
) -> Option<AnswerRules> {
    let section = Section::read(node, "`answer`", ANSWER, problems)?;
    let refunds = choice(&section, "missed_turn", MISSED_TURN, false, problems);
    let rounds = match section.get("rounds") {
        Some(node) => number(node, "`rounds`", problems),
        None => Some(1),
    };
    let then = match section.get("then") {
        Some(node) => then(node, people, queues, problems),
        None => Some(Then::default()),
    };
    let within = section.require("within", problems).and_then(|node| duration(node, "`within`", problems));
    let escalate_to = section
        .require("escalate_to", problems)
        .and_then(|node| section::word(node, "`escalate_to`", problems))
        .and_then(|word| people.find(&word, problems));
    let remind_at = match section.get("remind_at") {
        Some(node) => {
            let time = duration(node, "`remind_at`", problems)?;
            if within.is_some_and(|within| time >= within) {
                problems.note_with(node.place, "`remind_at` is not before `within`", "remind earlier");
                return None;
            }
            Some(time)
        }
        None => None,
    };
    Some(AnswerRules {
        within: within?,
        remind_at,
        then: then?,
        rounds: rounds?,
        escalate_to: escalate_to?,
        refunds: refunds?,
    })
}

/// Reads `next`, `{ queue: NAME }` or `{ person: NAME }`.
fn then(node: &Node, people: &People, queues: &QueueNames, problems: &mut Problems) -> Option<Then> {
    const HINT: &str = "write `next`, `{ queue: NAME }` or `{ person: NAME }`";
    if !matches!(node.value, Value::Map(_)) {
        let word = section::word(node, "`then`", problems)?;
        if word.text != NEXT {
            problems.note_with(word.place, format!("unknown word `{}` in `then`", word.text), HINT);
            return None;
        }
        return Some(Then::Next);
    }
    let section = Section::read(node, "`then`", THEN, problems)?;
    let destination = match (section.get("queue"), section.get("person")) {
        (Some(queue), None) => {
            let word = section::word(queue, "`queue`", problems)?;
            queues.find(&word, problems)?;
            Destination::Queue(Name::from(word.text))
        }
        (None, Some(person)) => {
            let word = section::word(person, "`person`", problems)?;
            Destination::Person(people.find(&word, problems)?.name.clone())
        }
        (Some(_), Some(_)) | (None, None) => {
            problems.note_with(section.place(), "`then` must say one of queue and person", HINT);
            return None;
        }
    };
    Some(Then::To(destination))
}
