//! What is wrong with a routing file, and where.
//!
//! Readers note problems and go on; at the end they are put in the file's order.

use std::fmt;

use serde::Serialize;

use super::nearest;
use crate::routing::Routing;

/// One thing that is wrong with a routing file.
///
/// **Shape** in text: ``12:5: unknown key `asign` in a rule; did you mean `assign`?``
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line, from 1.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What would be right, where that can be guessed.
    pub hint: Option<String>,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, and probably does not do what was meant.
    Warning,
}

/// What came of reading a routing file.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The routing; `None` when there is an error among the problems.
    pub routing: Option<Routing>,
    /// Everything that was found, errors and warnings, in the file's order.
    pub problems: Vec<Problem>,
}

/// Everything that is wrong with a routing file: at least one problem, in the file's order.
///
/// **Shape** in text: one line per problem, the file's name in front: `routing.yaml:12:5: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingErrors {
    file_name: String,
    problems: Vec<Problem>,
}

impl RoutingErrors {
    pub(super) fn new(file_name: &str, mut problems: Vec<Problem>) -> Self {
        problems.retain(|problem| problem.severity == Severity::Error);
        Self { file_name: file_name.to_owned(), problems }
    }

    /// The file's name, as it was given.
    #[must_use]
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// The problems, in the file's order.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl std::error::Error for RoutingErrors {}

impl fmt::Display for RoutingErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{problem}", self.file_name)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Where something stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Place {
    /// The place of what is missing altogether.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// The problems noted so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a problem.
    pub(super) fn note(&mut self, place: Place, message: impl Into<String>) {
        self.push(Severity::Error, place, message.into(), None);
    }

    /// Notes what can be used and was probably not meant.
    pub(super) fn warn(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Warning, place, message.into(), Some(hint.into()));
    }

    /// Notes a problem and what would be right.
    pub(super) fn note_with(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Error, place, message.into(), Some(hint.into()));
    }

    /// Notes a problem with a wrong word, and proposes the nearest of `known`, or all if they are few.
    pub(super) fn note_word<'k>(
        &mut self,
        place: Place,
        message: impl Into<String>,
        word: &str,
        known: impl Iterator<Item = &'k str>,
    ) {
        self.push(Severity::Error, place, message.into(), nearest::hint(word, known));
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds a hint to the problems noted since there were `before`, where they have none.
    pub(super) fn add_hint(&mut self, before: usize, hint: &str) {
        for problem in self.0.iter_mut().skip(before) {
            problem.hint.get_or_insert_with(|| hint.to_owned());
        }
    }

    fn push(&mut self, severity: Severity, place: Place, message: String, hint: Option<String>) {
        let Place { line, column } = place;
        self.0.push(Problem { line, column, severity, message, hint });
    }

    pub(super) fn any_error(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// In the file's order.
    pub(super) fn into_list(mut self) -> Vec<Problem> {
        self.0.sort_by_key(|problem| (problem.line, problem.column));
        self.0
    }
}
