//! What is measured, shown and alarmed. Here: the files of Prometheus are in order, each by itself. `agreement`: they and
//! the dashboards agree with what a real Prometheus scrapes. `metrics_page`: the page of metrics is what programs say.

mod agreement;
mod dashboards;
mod metrics_page;
mod promql;
mod proxy;
mod watched;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use e2e::services::promtool;
use serde_json::Value;

use crate::documents::anchors;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn file(name: &str) -> String {
    let path = root().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of a folder by name, in order.
fn files_in(folder: &str, extension: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Each alert of `alerts.yml`.
fn alerts() -> Vec<Value> {
    let rules = yaml(&file("deploy/prometheus/alerts.yml"));
    let found: Vec<Value> =
        list(&rules, "/groups").flat_map(|group| list(group, "/rules").cloned()).collect();
    assert!(!found.is_empty());
    found
}

#[test]
fn promtool_finds_nothing_in_the_files_of_prometheus() {
    let folder = root().join("deploy/prometheus");
    for (args, says) in [
        // Without looking for the token that it names, which is made where Prometheus runs.
        (&["check", "config", "--syntax-only", "prometheus.yml"][..], "SUCCESS"),
        (&["check", "rules", "alerts.yml"], "SUCCESS"),
        (&["test", "rules", "alerts.test.yml"], "SUCCESS"),
    ] {
        let printed = promtool(&folder, args, "").unwrap_or_else(|error| panic!("{error:#}"));
        assert!(printed.contains(says) && !printed.contains("FAILED"), "{args:?}: {printed}");
    }
}

#[test]
fn each_alert_says_what_it_is_for_and_what_to_do_and_is_tested() {
    let source = file("deploy/prometheus/alerts.yml");
    let anchors = anchors(&file("docs/OPERATIONS.md"));
    let tests = yaml(&file("deploy/prometheus/alerts.test.yml"));
    let cases: Vec<&Value> = list(&tests, "/tests").flat_map(|test| list(test, "/alert_rule_test")).collect();
    let mut names = BTreeSet::new();
    let mut wrong = Vec::new();
    for alert in alerts() {
        let name = text(&alert, "/alert").to_owned();
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                wrong.push(format!("{name}: {what}"));
            }
        };
        expect(["page", "ticket"].contains(&text(&alert, "/labels/severity")), "severity is page or ticket");
        for annotation in ["summary", "description"] {
            expect(!text(&alert, &format!("/annotations/{annotation}")).is_empty(), annotation);
        }
        let runbook = text(&alert, "/annotations/runbook_url").strip_prefix("docs/OPERATIONS.md#");
        expect(
            runbook.is_some_and(|anchor| anchors.contains(anchor)),
            "runbook_url leads to a heading of docs/OPERATIONS.md",
        );
        let lines: Vec<&str> = source.lines().map(str::trim).collect();
        let at = lines.iter().position(|line| *line == format!("- alert: {name}"));
        expect(at.is_some_and(|at| at > 0 && lines[at - 1].starts_with("# ")), "a comment above it");
        let mut own = cases.iter().filter(|case| text(case, "/alertname") == name);
        expect(own.any(|case| list(case, "/exp_alerts").next().is_some()), "a test in which it is raised");
        expect(names.insert(name.clone()), "its name is its own");
    }
    assert!(wrong.is_empty(), "what is missing:\n{}", wrong.join("\n"));
    for case in cases {
        let name = text(case, "/alertname");
        assert!(names.contains(name), "alerts.test.yml expects {name}, which is no alert");
    }
}
