//! What all lists share: conditions, pages and masks.
//!
//! The classic lists drop conditions that they do not know and count 0 rows where nothing is counted; the lists of the
//! newer controllers (`crm.item.list`, `crm.stagehistory.list`) refuse such a condition and then count nothing.

use std::borrow::Cow;
use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::methods::{ApiError, Reply};
use crate::php::Php;

/// Rows of a list.
const PAGE: usize = 50;

/// The page of a list that starts at the parameter `start`; a negative one counts nothing.
pub fn page<T>(params: &Php, rows: &[T], shown: impl Fn(&T) -> Value) -> Reply {
    let start = start(params);
    let from = usize::try_from(start).unwrap_or_default() / PAGE * PAGE;
    let page = rows.iter().skip(from).take(PAGE).map(shown).collect();
    let counted = start >= 0;
    let next = (counted && from.saturating_add(PAGE) < rows.len()).then_some(from + PAGE);
    Reply { result: Value::Array(page), total: Some(if counted { rows.len() } else { 0 }), next }
}

/// As [`page`], in the way of the controllers: `{"items":[…]}` and no total where nothing is counted.
pub fn items(params: &Php, rows: &[&Map<String, Value>], id: &str) -> Reply {
    let select = select(params);
    let all = select.is_empty() || select.iter().any(|name| name == "*");
    let wanted = |name: &str| all || name == id || select.iter().any(|selected| selected == name);
    let shown = |row: &&Map<String, Value>| {
        let fields = row.iter().filter(|(name, _)| wanted(name));
        Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
    };
    let reply = page(params, rows, shown);
    let total = reply.total.filter(|_| start(params) >= 0);
    Reply { result: json!({ "items": reply.result }), total, next: reply.next }
}

fn start(params: &Php) -> i64 {
    params.get("start").map(Php::int).unwrap_or_default()
}

/// The names that a mask has.
#[must_use]
pub fn select(params: &Php) -> Vec<String> {
    let names = params.get("select").map(Php::entries).unwrap_or_default();
    names.iter().filter_map(|(_, name)| name.text()).collect()
}

/// By what rows are sorted: numbers as numbers, all else as texts.
#[must_use]
pub fn sort_key(value: Option<&Value>) -> (i64, String) {
    let text = text_of(value).into_owned();
    (text.parse().unwrap_or_default(), text)
}

/// An argument that a controller does not take.
#[must_use]
pub fn invalid(description: &str) -> ApiError {
    ApiError::new(400, "INVALID_ARG_VALUE", description)
}

/// The conditions of a controller's list, whose rows have these fields.
///
/// # Errors
/// On a field that they do not have, and where several values are given for a comparison with one.
pub fn conditions<'a>(params: &'a Php, known: &[&str]) -> Result<Vec<Condition<'a>>, ApiError> {
    let check = |entry: &'a (String, Php)| {
        let condition = Condition::of(entry);
        let name = &entry.0;
        if !known.contains(&condition.field) {
            return Err(invalid(&format!("Invalid filter: field '{name}' is not allowed in filter")));
        }
        let takes_several = matches!(condition.prefix, "" | "=" | "!=" | "@" | "!@");
        if matches!(condition.value, Php::Array(_)) && !takes_several {
            return Err(invalid(&format!("Invalid filter: field '{name}' has invalid value")));
        }
        Ok(condition)
    };
    params.get("filter").map(Php::entries).unwrap_or_default().iter().map(check).collect()
}

/// One condition of a filter.
#[derive(Debug)]
pub struct Condition<'a> {
    /// What is glued before the field's name.
    pub prefix: &'static str,
    field: &'a str,
    /// What it is compared with.
    pub value: &'a Php,
}

impl<'a> Condition<'a> {
    /// The condition that an entry of a filter says.
    #[must_use]
    pub fn of((name, value): &'a (String, Php)) -> Self {
        const PREFIXES: [&str; 11] = ["!=", ">=", "<=", "!@", "!%", ">", "<", "@", "!", "%", "="];
        let prefix = PREFIXES.into_iter().find(|prefix| name.starts_with(prefix)).unwrap_or("");
        Self { prefix, field: &name[prefix.len()..], value }
    }

    /// On which field it is.
    #[must_use]
    pub fn field(&self) -> &'a str {
        self.field
    }

    /// Whether it holds of something with these fields; of several values one is enough.
    #[must_use]
    pub fn holds(&self, fields: &Map<String, Value>) -> bool {
        let own = fields.get(self.field);
        if let Some(Value::Array(values)) = own {
            return values.iter().any(|value| self.holds_for(&text_of(value.get("VALUE").or(Some(value)))));
        }
        self.holds_for(&text_of(own))
    }

    fn holds_for(&self, own: &str) -> bool {
        let text = self.value.text().unwrap_or_default();
        let any = || match self.value {
            Php::Array(entries) => entries.iter().any(|(_, value)| value.text().as_deref() == Some(own)),
            Php::Null | Php::Bool(_) | Php::Number(_) | Php::Text(_) => own == text,
        };
        let order = match (own.parse::<f64>(), text.parse::<f64>()) {
            (Ok(own), Ok(text)) => own.partial_cmp(&text),
            _ => Some(instant(own).cmp(&instant(&text))),
        };
        match self.prefix {
            ">" => order.is_some_and(Ordering::is_gt),
            ">=" => order.is_some_and(Ordering::is_ge),
            "<" => order.is_some_and(Ordering::is_lt),
            "<=" => order.is_some_and(Ordering::is_le),
            "!" | "!=" | "!@" => !any(),
            "%" => own.to_lowercase().contains(&text.to_lowercase()),
            "!%" => !own.to_lowercase().contains(&text.to_lowercase()),
            _ => any(),
        }
    }
}

/// A field as it is compared: what is empty is an empty text.
fn text_of(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(Value::Number(number)) => Cow::Owned(number.to_string()),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => Cow::Borrowed(""),
    }
}

/// Times with different offsets compare as times, other texts as texts.
fn instant(text: &str) -> (Option<Timestamp>, &str) {
    let time = text.parse().ok();
    (time, if time.is_some() { "" } else { text })
}
