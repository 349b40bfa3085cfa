//! `rota check`: what is wrong with routing files.

use std::path::{Path, PathBuf};

use distribution::{Problem, Routing, Severity};
use serde_json::{Value, json};

use crate::failure::{Failure, WRONG_FILE};
use crate::{files, output};

/// Checks each file; ends with the worst that was found.
pub(crate) fn run(paths: &[PathBuf], as_json: bool) -> u8 {
    let mut worst = 0;
    for path in paths {
        let problems = match files::text(path) {
            Ok(text) => Routing::check(&text).problems,
            Err(failure) if as_json => vec![unreadable(&failure)],
            Err(failure) => {
                output::complain(&failure.to_string());
                worst = WRONG_FILE;
                continue;
            }
        };
        if as_json {
            output::print_json(&in_json(path, &problems));
        } else {
            output::print(&in_text(path, &problems));
        }
        let code = match count(&problems) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => WRONG_FILE,
        };
        worst = worst.max(code);
    }
    worst
}

fn unreadable(failure: &Failure) -> Problem {
    Problem { line: 1, column: 1, severity: Severity::Error, message: failure.to_string(), hint: None }
}

/// How many errors and warnings.
fn count(problems: &[Problem]) -> (usize, usize) {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    (errors, problems.len() - errors)
}

fn in_text(path: &Path, problems: &[Problem]) -> String {
    let file = path.display();
    let line = |problem: &Problem| {
        let Problem { line, column, severity, message, hint } = problem;
        let severity = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let hint = hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("{file}:{line}:{column}: {severity}: {message}{hint}\n")
    };
    let lines: String = problems.iter().map(line).collect();
    let number = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let end = match count(problems) {
        (0, 0) => "nothing is wrong".to_owned(),
        (0, warnings) => format!("it can be used; {}", number(warnings, "warning")),
        (errors, 0) => format!("it cannot be used: {}", number(errors, "error")),
        (errors, warnings) => {
            format!("it cannot be used: {}, {}", number(errors, "error"), number(warnings, "warning"))
        }
    };
    format!("{lines}{file}: {end}\n")
}

fn in_json(path: &Path, problems: &[Problem]) -> Value {
    let (errors, warnings) = count(problems);
    json!({
        "file": path.display().to_string(), "errors": errors, "warnings": warnings, "problems": problems,
    })
}
