//! What is wrong with a routing file, and where.
//!
//! Readers note problems and go on; at the end they are put in the file's order.

use std::fmt;

use super::nearest;

/// One thing that is wrong with a routing file.
///
/// **Shape** in text: ``12:5: unknown key `asign` in a rule; did you mean `assign`?``
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
    /// What is wrong.
    pub message: String,
    /// What would be right, where that can be guessed.
    pub hint: Option<String>,
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
        self.push(place, message.into(), None);
    }

    /// Notes a problem and what would be right.
    pub(super) fn note_with(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.push(place, message.into(), Some(hint.into()));
    }

    /// Notes a problem with a wrong word, and proposes the nearest of `known`, or all if they are few.
    pub(super) fn note_word<'k>(
        &mut self,
        place: Place,
        message: impl Into<String>,
        word: &str,
        known: impl Iterator<Item = &'k str>,
    ) {
        self.push(place, message.into(), nearest::hint(word, known));
    }

    fn push(&mut self, place: Place, message: String, hint: Option<String>) {
        let Place { line, column } = place;
        self.0.push(Problem { line, column, message, hint });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_errors(mut self, file_name: &str) -> RoutingErrors {
        self.0.sort_by_key(|problem| (problem.line, problem.column));
        RoutingErrors { file_name: file_name.to_owned(), problems: self.0 }
    }
}
