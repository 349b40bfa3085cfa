//! Setting keys of a tree from the environment.

use serde_json::{Map, Value};

use super::{ConfigError, VARIABLE_PREFIX};

/// Puts a variable's value into the tree: `ROTA__PORTALS__0__NAME` is `portals[0].name`.
pub(super) fn set(tree: &mut Value, variable: &str, value: &str) -> Result<(), ConfigError> {
    let path = variable.strip_prefix(VARIABLE_PREFIX).unwrap_or(variable).to_lowercase();
    let mut place = tree;
    for part in path.split("__") {
        place = if let Ok(index) = part.parse::<usize>() {
            entry(place, index)
                .ok_or_else(|| ConfigError::one(format!("{variable}: there is no entry {index} to set")))?
        } else {
            key(place, part).ok_or_else(|| ConfigError::one(format!("{variable} sets nothing")))?
        };
    }
    *place = Value::String(value.to_owned());
    Ok(())
}

/// The entry of a list, or the one just after its end; what is no list becomes one.
fn entry(place: &mut Value, index: usize) -> Option<&mut Value> {
    if !place.is_array() {
        *place = Value::Array(Vec::new());
    }
    let list = place.as_array_mut()?;
    if index == list.len() {
        list.push(Value::Null);
    }
    list.get_mut(index)
}

/// The value of a key; what is no map becomes one.
fn key<'a>(place: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    Some(place.as_object_mut()?.entry(name).or_insert(Value::Null))
}
