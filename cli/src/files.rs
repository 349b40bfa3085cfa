//! Reading the files a command is given.

use std::path::Path;

use common::config::{Config, Reader};
use distribution::{Lead, Routing};
use jiff::Timestamp;
use jiff::civil::DateTime;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// The text of a file.
pub(crate) fn text(path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::file(format!("{}: {error}", path.display())))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        Failure::file(format!("{}: the file is not UTF-8: byte {} is wrong", path.display(), valid + 1))
    })
}

/// What the command needs of a configuration, by the environment alone where there is no file.
pub(crate) fn configuration(path: Option<&Path>) -> Result<Config, Failure> {
    Config::load(Reader::Command, path).map_err(|error| Failure::arguments(error.to_string()))
}

/// A routing file without errors.
pub(crate) fn routing(path: &Path) -> Result<Routing, Failure> {
    let text = text(path)?;
    Routing::from_yaml(&text, &path.display().to_string()).map_err(|errors| Failure::file(errors.to_string()))
}

/// A file with one lead.
pub(crate) fn lead(path: &Path) -> Result<Lead, Failure> {
    lead_in(&text(path)?).map_err(|error| Failure::file(format!("{}: {error}", path.display())))
}

/// The lead in a JSON text: its fields, or the whole answer with them under `result`.
pub(crate) fn lead_in(text: &str) -> Result<Lead, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("this is no JSON: {error}"))?;
    let Value::Object(mut object) = value else {
        return Err("a lead must be a JSON object, as `crm.lead.get` answers it".to_owned());
    };
    let fields: Map<String, Value> = match object.remove("result") {
        Some(Value::Object(result)) => result,
        Some(_) => return Err("`result` must be the lead, a JSON object".to_owned()),
        None => object,
    };
    Lead::from_fields(&fields).map_err(|error| error.to_string())
}

/// A moment as people and programs write it. Without an offset it is of the routing's time zone.
pub(crate) fn moment(text: &str, routing: &Routing) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    let civil: DateTime = text.parse().ok()?;
    routing.zone().to_timestamp(civil).ok()
}
