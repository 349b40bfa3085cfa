//! The names of things that cross the wire: which portal, which lead, which employee.

use std::fmt;
use std::str::FromStr;

pub use distribution::{LeadId, UserId};
use serde::{Deserialize, Serialize};

/// The short name a portal has in our configuration: part of queue names, URLs, metrics and logs.
///
/// **Shape**: 1 to 40 of `a-z`, `0-9`, `-`; for example `acme`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortalName(String);

/// A portal's name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a portal name: use 1 to 40 of a-z, 0-9 and -")]
pub struct InvalidPortalName(String);

impl PortalName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PortalName {
    type Err = InvalidPortalName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() || text.len() > 40 || !text.chars().all(allowed) {
            return Err(InvalidPortalName(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for PortalName {
    type Error = InvalidPortalName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PortalName> for String {
    fn from(name: PortalName) -> Self {
        name.0
    }
}

impl fmt::Display for PortalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portal_names_are_safe_in_queue_names_and_urls() {
        for good in ["acme", "a", "acme-2", "0"] {
            assert_eq!(good.parse::<PortalName>().unwrap().as_str(), good);
        }
        for bad in ["", "Acme", "a.b", "a/b", "a b", &"x".repeat(41)] {
            assert!(bad.parse::<PortalName>().is_err(), "{bad}");
        }
    }
}
