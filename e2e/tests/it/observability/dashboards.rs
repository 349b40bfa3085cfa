//! What is in the dashboards' files, as Prometheus gets it: Grafana's variables are replaced.

use serde_json::Value;

use super::files_in;

/// One query of a panel, or of a variable (then the panel's name is `$name`).
#[derive(Debug, Clone)]
pub struct Query {
    pub dashboard: String,
    pub panel: String,
    pub text: String,
    /// The labels that the legend shows.
    pub shows: Vec<String>,
    /// On a good day there is nothing to see, and the panel's description says so.
    pub normally_empty: bool,
}

/// Grafana's variables and what they become here. A window of five minutes has seen all that a test did. Longer names
/// come before those with which they start.
const VARIABLES: [(&str, &str); 8] = [
    ("$__rate_interval", "5m"),
    ("$__interval_ms", "60000"),
    ("$__interval", "1m"),
    ("$__range_ms", "900000"),
    ("$__range_s", "900"),
    ("$__range", "15m"),
    ("${portal}", e2e::harness::PORTAL),
    ("$portal", e2e::harness::PORTAL),
];

/// The queries of all dashboards, or what is wrong with their files.
pub fn queries() -> Result<Vec<Query>, String> {
    let mut queries = Vec::new();
    for (dashboard, text) in files_in("deploy/grafana/dashboards", "json") {
        let file: Value = serde_json::from_str(&text).map_err(|error| format!("{dashboard}: {error}"))?;
        let before = queries.len();
        for variable in list(&file, "/templating/list") {
            queries.extend(of_variable(&dashboard, variable)?);
        }
        for panel in list(&file, "/panels") {
            // A folded row holds its panels itself.
            for panel in std::iter::once(panel).chain(list(panel, "/panels")) {
                queries.extend(of_panel(&dashboard, panel)?);
            }
        }
        if queries.len() == before {
            return Err(format!("{dashboard} asks for nothing"));
        }
    }
    if queries.is_empty() { Err("there is no dashboard".to_owned()) } else { Ok(queries) }
}

fn of_panel(dashboard: &str, panel: &Value) -> Result<Vec<Query>, String> {
    let title = text(panel, "title");
    let is_row = text(panel, "type") == "row";
    let shows_nothing = is_row || text(panel, "type") == "text";
    let targets: Vec<&Value> = list(panel, "/targets").collect();
    if targets.is_empty() != shows_nothing {
        return Err(format!("{dashboard}, panel {title:?}: {} queries", targets.len()));
    }
    let normally_empty = text(panel, "description").to_lowercase().contains("normally empty");
    let query = |target: &&Value| {
        Ok(Query {
            dashboard: dashboard.to_owned(),
            panel: title.to_owned(),
            text: replaced(text(target, "expr")).map_err(|e| format!("{dashboard}, panel {title:?}: {e}"))?,
            shows: labels_shown(text(target, "legendFormat")),
            normally_empty,
        })
    };
    targets.iter().map(query).collect()
}

/// `label_values(metric, label)`; other kinds of variables ask Prometheus for nothing.
fn of_variable(dashboard: &str, variable: &Value) -> Result<Option<Query>, String> {
    if text(variable, "type") != "query" {
        return Ok(None);
    }
    let name = text(variable, "name");
    let query = variable.pointer("/query/query").or(variable.get("query"));
    let query = query.and_then(Value::as_str).unwrap_or_default();
    let (metric, label) = query
        .strip_prefix("label_values(")
        .and_then(|rest| rest.strip_suffix(')')?.rsplit_once(','))
        .ok_or_else(|| format!("{dashboard}: the query of the variable {name} is {query:?}"))?;
    let label = label.trim();
    Ok(Some(Query {
        dashboard: dashboard.to_owned(),
        panel: format!("${name}"),
        text: format!("count by ({label}) ({})", replaced(metric)?),
        shows: vec![label.to_owned()],
        normally_empty: false,
    }))
}

fn replaced(query: &str) -> Result<String, String> {
    let replaced = VARIABLES.iter().fold(query.to_owned(), |query, (name, value)| query.replace(name, value));
    // `$1` is a part of a regular expression.
    let unknown = replaced.split('$').skip(1).find(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
    match unknown {
        Some(rest) => {
            Err(format!("an unknown variable in the query: ${}", rest.lines().next().unwrap_or("")))
        }
        None if replaced.trim().is_empty() => Err("an empty query".to_owned()),
        None => Ok(replaced),
    }
}

fn labels_shown(legend: &str) -> Vec<String> {
    let parts = legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}"));
    parts.map(|(label, _)| label.trim().to_owned()).collect()
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
