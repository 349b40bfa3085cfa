//! One condition on one field, and whether a lead meets it.
//!
//! A field with several values meets a condition when one of them does. An empty field meets only `empty: true`,
//! `false` and a `not`. Numbers compare with texts that write a number; see [`compare`](crate::compare).

use regex::{Regex, RegexBuilder};
use rust_decimal::Decimal;

use crate::facts::{Comparable, Fact};

/// What a rule asks of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// `COLD_CALL`, `[COLD_CALL, CALL]`: equal to one of these.
    AnyOf(Vec<Expected>),
    /// `{ over: 500000 }`
    Over(Decimal),
    /// `{ at_least: 500000 }`
    AtLeast(Decimal),
    /// `{ under: 500000 }`
    Under(Decimal),
    /// `{ at_most: 500000 }`
    AtMost(Decimal),
    /// `{ between: [1000, 5000] }`, both ends included.
    Between(Decimal, Decimal),
    /// `{ contains: vip }`, folded.
    Contains(String),
    /// `{ starts_with: "+7" }`, folded.
    StartsWith(String),
    /// `{ matches: "^VIP" }`
    Matches(Pattern),
    /// `{ empty: true }`
    Empty(bool),
    /// `{ not: COLD_CALL }`
    Not(Box<Condition>),
    /// `{ all: [{ over: 1000 }, { not: 5000 }] }`
    All(Vec<Condition>),
    /// `{ any: [{ under: 1000 }, { over: 5000 }] }`
    Any(Vec<Condition>),
}

/// A regular expression; like other texts it is compared without regard to case. Its time is linear in the text.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Regex);

/// One value that a field is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// A folded text.
    Text(String),
    /// A number: `500000` equals the field's `"500000.00"`.
    Number(Decimal),
    /// `true` or `false`, in any form the portal has for them: `Y`, `1`, `true`; `N`, `0`, `false`, or nothing.
    Flag(bool),
}

impl Condition {
    /// Whether what the lead holds meets this condition.
    pub(crate) fn is_met(&self, fact: &Fact) -> bool {
        let number =
            |test: &dyn Fn(Decimal) -> bool| fact.values.iter().any(|value| value.number.is_some_and(test));
        let text = |test: &dyn Fn(&str) -> bool| fact.values.iter().any(|value| test(&value.text));
        match self {
            Self::AnyOf(expected) => expected.iter().any(|expected| expected.is_met(fact)),
            Self::Over(limit) => number(&|value| value > *limit),
            Self::AtLeast(limit) => number(&|value| value >= *limit),
            Self::Under(limit) => number(&|value| value < *limit),
            Self::AtMost(limit) => number(&|value| value <= *limit),
            Self::Between(low, high) => number(&|value| *low <= value && value <= *high),
            Self::Contains(part) => text(&|value| value.contains(part.as_str())),
            Self::StartsWith(start) => text(&|value| value.starts_with(start.as_str())),
            Self::Matches(pattern) => text(&|value| pattern.0.is_match(value)),
            Self::Empty(expected) => fact.values.is_empty() == *expected,
            Self::Not(inner) => !inner.is_met(fact),
            Self::All(inner) => inner.iter().all(|condition| condition.is_met(fact)),
            Self::Any(inner) => inner.iter().any(|condition| condition.is_met(fact)),
        }
    }
}

impl Pattern {
    /// The compiled size is bounded, so that no repeated repetition takes memory without end.
    const SIZE_MAX: usize = 1 << 20;

    /// # Errors
    /// What is wrong with it, for people.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let pattern = RegexBuilder::new(text).case_insensitive(true).size_limit(Self::SIZE_MAX).build();
        // The last line of a longer message is the one that says what is wrong.
        let short = |error: regex::Error| {
            error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        };
        pattern.map(Self).map_err(short)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl Expected {
    /// The folded text; `None` for a number or a flag.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) | Self::Flag(_) => None,
        }
    }

    pub(crate) fn is_met(&self, fact: &Fact) -> bool {
        let any = |test: &dyn Fn(&Comparable) -> bool| fact.values.iter().any(test);
        match self {
            Self::Text(text) => any(&|value| value.text == *text),
            Self::Number(number) => any(&|value| value.number == Some(*number)),
            Self::Flag(true) => any(&|value| matches!(value.text.as_str(), "y" | "1" | "true")),
            Self::Flag(false) => {
                fact.values.is_empty() || any(&|value| matches!(value.text.as_str(), "n" | "0" | "false"))
            }
        }
    }
}
