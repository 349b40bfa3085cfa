//! The JSON Schema of the routing file: up to date, and right about right and wrong files.

use std::fs;
use std::path::{Path, PathBuf};

use distribution::{Routing, schema};
use jsonschema::Validator;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn validator() -> Validator {
    jsonschema::validator_for(&schema()).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn the_committed_schema_is_up_to_date() {
    let path = root().join("config/routing.schema.json");
    let made = format!("{:#}\n", schema());
    #[expect(clippy::disallowed_methods, reason = "how generated files are brought up to date")]
    if std::env::var("ROTA_UPDATE_DOCS").is_ok() {
        fs::write(&path, made).unwrap();
    } else {
        let committed = fs::read_to_string(&path).unwrap();
        assert_eq!(
            committed, made,
            "out of date: ROTA_UPDATE_DOCS=1 cargo nextest run -p distribution schema"
        );
    }
}

#[test]
fn right_files_are_valid() {
    let validator = validator();
    let example = fs::read_to_string(root().join("config/routing.example.yaml")).unwrap();
    assert!(Routing::check(&example).problems.is_empty(), "{:?}", Routing::check(&example).problems);
    let mut files = vec![("example".to_owned(), example)];
    for entry in fs::read_dir(root().join("distribution/tests/cases")).unwrap() {
        let path = entry.unwrap().path();
        let cases = yaml(&fs::read_to_string(&path).unwrap());
        files.push((path.display().to_string(), cases["routing"].as_str().unwrap().to_owned()));
    }
    assert!(files.len() > 5);
    for (name, text) in files {
        let errors: Vec<String> = validator
            .iter_errors(&yaml(&text))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

#[test]
fn wrong_files_are_not() {
    let validator = validator();
    let right = "version: 1\npeople: { a: { user: 1, schedule: s } }\nschedules: { s: { days: mon-fri, hours: 09:00-18:00 } }\nqueues: { q: { members: [a] } }\nrules: [{ name: R, when: { city: { over: 5 } }, queue: q }]\ndefault: { queue: q }\n";
    assert!(validator.is_valid(&yaml(right)));
    for (part, wrong) in [
        ("version: 1", "version: 2"),
        ("user: 1", "usr: 1"),
        ("user: 1", "user: zero"),
        ("user: 1", "user: 1, weight: 20000"),
        ("days: mon-fri", "days: mo-fri"),
        ("hours: 09:00-18:00", "hours: 9-18"),
        ("days: mon-fri,", ""),
        ("members: [a]", "members: []"),
        ("members: [a]", "members: [a], strategy: rotaton"),
        ("members: [a]", "members: [a], if_nobody: [wait]"),
        ("over: 5", "ower: 5"),
        ("over: 5", "over: 5, under: 7"),
        ("queue: q }]", "queue: q, assign: a }]"),
        ("name: R, ", ""),
        ("default: { queue: q }", "default: {}"),
    ] {
        let text = right.replacen(part, wrong, 1);
        assert_ne!(text, right, "{part}");
        assert!(!validator.is_valid(&yaml(&text)), "{text}");
    }
}
