//! Parses an answer into a JSON value within a budget of memory and depth: [`parse`].
//!
//! `serde_json` has no such limit. Each value is charged before it is made, in one pass, so what is refused never was in
//! memory. The charge is that of the types as they are on a 64-bit machine, and rather too high. How large the budget is
//! stands in [`crate::size`].

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::size::{DEPTH_MAX, Excess};

/// What an allocation costs beside its content.
const ALLOCATION: usize = 16;

/// An element of a list: a list grows by doubling.
const ELEMENT: usize = 2 * size_of::<Value>();

/// A node of a map: there is one for one to eleven members, and a map that grew in order has six in each.
const NODE: usize = 11 * (size_of::<Value>() + size_of::<String>()) + 2 * ALLOCATION;
const MEMBERS_A_NODE: usize = 6;

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoValue {
    /// It is no JSON.
    Unreadable,
    /// It is more than may be had.
    Excessive(Excess),
}

/// Reads `text` into a value that takes at most `memory` bytes.
pub(crate) fn parse(text: &[u8], memory: usize) -> Result<Value, NoValue> {
    let budget = Budget { memory, left: Cell::new(memory), excess: Cell::new(None) };
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = Node { budget: &budget, depth: 0 }.deserialize(&mut json);
    match value.and_then(|value| json.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(_) => Err(budget.excess.get().map_or(NoValue::Unreadable, NoValue::Excessive)),
    }
}

struct Budget {
    memory: usize,
    left: Cell<usize>,
    excess: Cell<Option<Excess>>,
}

impl Budget {
    fn charge<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let Some(left) = self.left.get().checked_sub(bytes) else {
            return Err(self.exceeded(Excess::Memory(self.memory)));
        };
        self.left.set(left);
        Ok(())
    }

    fn text<E: Error>(&self, text: &str) -> Result<String, E> {
        self.charge(ALLOCATION + text.len())?;
        Ok(text.to_owned())
    }

    fn exceeded<E: Error>(&self, excess: Excess) -> E {
        self.excess.set(Some(excess));
        E::custom(excess)
    }
}

/// A value that is to be read.
#[derive(Clone, Copy)]
struct Node<'b> {
    budget: &'b Budget,
    depth: u32,
}

impl Node<'_> {
    /// What stands in this one.
    fn inner<E: Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(self.budget.exceeded(Excess::Depth));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.budget.text(text).map(Value::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        self.budget.charge(ALLOCATION)?;
        let mut elements = Vec::new();
        while let Some(element) = list.next_element_seed(inner)? {
            self.budget.charge(ELEMENT)?;
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut members = Map::new();
        for number in 0_usize.. {
            let Some(name) = map.next_key_seed(Name(self.budget))? else { break };
            if number.is_multiple_of(MEMBERS_A_NODE) {
                self.budget.charge(NODE)?;
            }
            let member = map.next_value_seed(inner)?;
            members.insert(name, member);
        }
        Ok(Value::Object(members))
    }
}

/// The name of a member.
struct Name<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<String, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        self.0.text(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::size::Limits;

    const MEMORY: usize = 12 * 1024 * 1024;

    fn list_of(element: &str, bytes: usize) -> String {
        format!(r#"{{"result":[{}{element}]}}"#, format!("{element},").repeat(bytes / (element.len() + 1)))
    }

    #[test]
    fn what_would_take_too_much_is_refused_whatever_it_is_made_of() {
        let many_members: Vec<String> = (0..200_000).map(|number| format!(r#""{number}":0,"#)).collect();
        for text in [
            list_of(r#"{"a":0}"#, 4_000_000),
            list_of("{}", 4_000_000),
            list_of("[]", 4_000_000),
            list_of("0", 4_000_000),
            list_of("null", 4_000_000),
            list_of(r#""""#, 4_000_000),
            list_of(r#"[[[[{"":""}]]]]"#, 4_000_000),
            format!("{{{}\"a\":0}}", many_members.concat()),
        ] {
            let start = text.chars().take(40).collect::<String>();
            assert_eq!(
                parse(text.as_bytes(), MEMORY),
                Err(NoValue::Excessive(Excess::Memory(MEMORY))),
                "{start}"
            );
        }
        let text = list_of(r#"{"a":0}"#, 100_000);
        assert!(parse(text.as_bytes(), MEMORY).is_ok(), "a few are no matter");
    }

    #[test]
    fn the_largest_answer_that_is_asked_for_has_room() {
        let field = |number| (format!("UF_CRM_{number}"), json!("some 30 characters of any text"));
        let mut lead: Map<String, Value> = (1_700_000_000..1_700_000_050).map(field).collect();
        lead.insert(
            "PHONE".to_owned(),
            json!([{ "ID": "1", "VALUE": "+7 916 123-45-67", "TYPE_ID": "PHONE" }]),
        );
        let lead = Value::Object(lead).to_string();
        assert!(lead.len() > 2_500, "{}", lead.len());
        let page = format!("[{}{lead}]", format!("{lead},").repeat(49));
        let pages: Vec<String> = (0..20).map(|page_of| format!(r#""c{page_of:02}":{page}"#)).collect();
        let answer = format!(r#"{{"result":{{"result":{{{}}},"result_error":[]}}}}"#, pages.join(","));
        let limits = Limits::of("batch");
        assert!(answer.len() < limits.bytes, "{}", answer.len());
        let value = parse(answer.as_bytes(), limits.memory).unwrap();
        assert_eq!(value["result"]["result"]["c19"].as_array().unwrap().len(), 50);
    }

    #[test]
    fn depth_has_a_limit() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(32).as_bytes(), MEMORY).is_ok());
        for depth in [33, 1_000_000] {
            assert_eq!(parse(nested(depth).as_bytes(), MEMORY), Err(NoValue::Excessive(Excess::Depth)));
        }
        let objects = r#"{"a":"#.repeat(33) + "0" + &"}".repeat(33);
        assert_eq!(parse(objects.as_bytes(), MEMORY), Err(NoValue::Excessive(Excess::Depth)));
    }

    #[test]
    fn what_is_no_json_is_unreadable() {
        for text in ["", "<html>", "[1", "[1] x", r#"{"a":1,}"#, "{1:2}", "1e999", "\"\u{1}\""] {
            assert_eq!(parse(text.as_bytes(), MEMORY), Err(NoValue::Unreadable), "{text}");
        }
        assert_eq!(parse(b"\"\xff\"", MEMORY), Err(NoValue::Unreadable));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(|number| json!(number)),
            any::<u64>().prop_map(|number| json!(number)),
            any::<f64>().prop_map(|number| json!(number)),
            any::<String>().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                prop::collection::vec((any::<String>(), inner), 0..14)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_reads_what_serde_json_reads(value in any_json()) {
            let text = value.to_string();
            prop_assert_eq!(parse(text.as_bytes(), MEMORY).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
        }
    }
}
