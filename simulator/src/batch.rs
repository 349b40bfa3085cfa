//! `batch`: up to 50 commands, one after the other, each able to use what those before it brought.
//!
//! Source: "Batch requests" of the REST documentation. The answer's containers are PHP arrays: `[]`
//! when empty, a list when their keys happen to be 0, 1, 2, …

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::limits::Hit;
use crate::methods::{self, ApiError, Reply};
use crate::php::{Php, array};
use crate::portal::State;

/// Commands that run; those behind get an error.
const COMMANDS_MAX: usize = 50;

/// What a batch brought, to be looked into by `$result[…]`.
#[derive(Default)]
struct Brought {
    result: Vec<(String, Value)>,
    error: Vec<(String, Value)>,
    total: Vec<(String, Value)>,
    next: Vec<(String, Value)>,
    time: Vec<(String, Value)>,
}

/// A batch that runs, a command at a time: others may come between.
pub struct Run {
    halt: bool,
    commands: std::vec::IntoIter<(usize, (String, Php))>,
    brought: Brought,
    hit: Hit,
}

impl Run {
    /// Begins a batch.
    #[must_use]
    pub fn new(params: &Php) -> Self {
        let commands = params.get("cmd").map(Php::entries).unwrap_or_default();
        let commands: Vec<_> = commands.iter().cloned().enumerate().collect();
        Self {
            halt: params.get("halt").is_some_and(Php::truthy),
            commands: commands.into_iter(),
            brought: Brought::default(),
            hit: Hit::default(),
        }
    }

    /// Runs the next command; answers what it took, and none when there is none.
    pub fn step(&mut self, state: &mut State, now: Timestamp) -> Option<Duration> {
        let (index, (key, command)) = self.commands.next()?;
        // What is no text is passed over without a word.
        let Php::Text(command) = command else { return Some(Duration::ZERO) };
        let (method, query) = command.split_once('?').unwrap_or((&command, ""));
        let method = method.to_ascii_lowercase();
        *state.stats.commands.entry(method.clone()).or_default() += 1;
        if index == 0 {
            *state.stats.led_by.entry(method.clone()).or_default() += 1;
        }
        let refused = if index >= COMMANDS_MAX {
            Some(ApiError::new(400, "ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded"))
        } else if method == "batch" {
            let text = "Method is not allowed for batch usage";
            Some(ApiError::new(405, "ERROR_BATCH_METHOD_NOT_ALLOWED", text))
        } else {
            crate::faults::command(state, &method)
        };
        let (answer, took) = if let Some(error) = refused {
            (Err(error), Duration::ZERO)
        } else {
            let params = Php::from_query(query);
            let params = if state.settings.batch_references { self.brought.resolve(&params) } else { params };
            methods::run(state, &mut self.hit, &method, &params, now)
        };
        if answer.is_err() && self.halt {
            self.commands = Vec::new().into_iter();
        }
        self.brought.add(&key, &method, answer, took, state, now);
        Some(took)
    }

    /// What all of them brought.
    #[must_use]
    pub fn finish(self) -> Reply {
        Reply::of(self.brought.into_json())
    }
}

impl Brought {
    fn add(
        &mut self,
        key: &str,
        method: &str,
        answer: methods::Answer,
        took: Duration,
        state: &mut State,
        now: Timestamp,
    ) {
        match answer {
            Ok(reply) => {
                self.result.push((key.to_owned(), reply.result));
                self.total.extend(reply.total.map(|total| (key.to_owned(), json!(total))));
                self.next.extend(reply.next.map(|next| (key.to_owned(), json!(next))));
                self.time.push((key.to_owned(), crate::rest::time_of(state, Some(method), took, now)));
            }
            Err(error) => {
                *state.stats.errors.entry(error.code.clone()).or_default() += 1;
                self.error.push((key.to_owned(), error.to_json()));
            }
        }
    }

    fn into_json(self) -> Value {
        json!({
            "result": array(self.result),
            "result_error": array(self.error),
            "result_total": array(self.total),
            "result_next": array(self.next),
            "result_time": array(self.time),
        })
    }

    /// Replaces references in all texts of the parameters.
    fn resolve(&self, params: &Php) -> Php {
        match params {
            Php::Array(entries) => {
                Php::Array(entries.iter().map(|(key, value)| (key.clone(), self.resolve(value))).collect())
            }
            Php::Text(text) => self.resolve_text(text),
            Php::Null | Php::Bool(_) | Php::Number(_) => params.clone(),
        }
    }

    /// A reference runs from `$` to the next white space. Alone it becomes whatever it names; inside a
    /// text it is replaced only by texts and numbers.
    fn resolve_text(&self, text: &str) -> Php {
        if text.starts_with('$')
            && !text.contains(char::is_whitespace)
            && let Some(value) = self.look_up(text)
        {
            return from_json(value);
        }
        let words = text.split_inclusive(char::is_whitespace).map(|word| {
            let start = word.find('$');
            let reference = start.map(|start| word[start..].trim_end());
            let found =
                reference.and_then(|reference| self.look_up(reference)).and_then(|value| match value {
                    Value::String(text) => Some(text.clone()),
                    Value::Number(number) => Some(number.to_string()),
                    Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
                });
            match (reference, found) {
                (Some(reference), Some(found)) => word.replace(reference, &found),
                _ => word.to_owned(),
            }
        });
        Php::Text(words.collect())
    }

    /// `$result[key][path]…`; where the path ends early, the last level there is.
    fn look_up(&self, reference: &str) -> Option<&Value> {
        let (name, path) = reference.strip_prefix('$')?.split_once('[')?;
        let container = match name.to_ascii_lowercase().as_str() {
            "result" => &self.result,
            "error" => &self.error,
            "total" => &self.total,
            "next" => &self.next,
            _ => return None,
        };
        let mut path = path.strip_suffix(']')?.split("][");
        let first = path.next()?;
        let mut value = &container.iter().find(|(key, _)| key == first)?.1;
        for part in path {
            let inner = match value {
                Value::Array(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
                Value::Object(map) => map.get(part),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
            };
            let Some(inner) = inner else { break };
            value = inner;
        }
        Some(value)
    }
}

fn from_json(value: &Value) -> Php {
    serde_json::from_value(value.clone()).unwrap_or(Php::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brought() -> Brought {
        let result = vec![
            ("a".to_owned(), json!({"ID": "7", "LIST": ["x", "y"]})),
            ("none".to_owned(), json!([])),
            ("yes".to_owned(), json!(true)),
        ];
        Brought { result, ..Brought::default() }
    }

    #[test]
    fn references_are_replaced_as_the_portal_does() {
        let brought = brought();
        for (text, expected) in [
            ("$result[a][ID]", json!("7")),
            ("$RESULT[a][LIST][1]", json!("y")),
            ("$result[none][0][ID]", json!([])),
            ("$result[yes]", json!(true)),
            ("lead $result[a][ID] is new", json!("lead 7 is new")),
            ("lead $result[yes] is new", json!("lead $result[yes] is new")),
            ("$result[unknown][ID]", json!("$result[unknown][ID]")),
            ("costs 5$ only", json!("costs 5$ only")),
        ] {
            assert_eq!(brought.resolve_text(text).to_json(), expected, "{text}");
        }
    }

    #[test]
    fn containers_are_php_arrays() {
        let json = Brought { error: vec![("0".to_owned(), json!({"error": ""}))], ..brought() }.into_json();
        assert!(json["result"].is_object());
        assert_eq!(json["result_error"], json!([{"error": ""}]));
        assert_eq!(json["result_total"], json!([]));
    }
}
