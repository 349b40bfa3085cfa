//! The two numbers that name things in the portal: a lead and a person.
//!
//! They are types of their own so that one is never passed for the other. The portal counts from 1 and writes
//! "none" as `0`, so neither can be zero: what may be absent is an `Option`.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A lead's `ID` in its portal.
///
/// **Shape**: a whole number from 1; in text `35943`, in JSON `35943`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct LeadId(NonZeroU64);

/// A person's user `ID` in the portal.
///
/// **Shape**: a whole number from 1; in text `12`, in JSON `12`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct UserId(NonZeroU64);

/// A text or number that is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be a whole number from 1 to 18446744073709551615, in digits only")]
pub struct InvalidId {
    what: &'static str,
}

macro_rules! id {
    ($id:ident, $what:literal) => {
        impl $id {
            /// The id with this number; `None` for zero, which names nothing.
            #[must_use]
            pub const fn new(number: u64) -> Option<Self> {
                match NonZeroU64::new(number) {
                    Some(number) => Some(Self(number)),
                    None => None,
                }
            }

            /// The number; never zero.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0.get()
            }
        }

        impl TryFrom<u64> for $id {
            type Error = InvalidId;

            fn try_from(number: u64) -> Result<Self, InvalidId> {
                Self::new(number).ok_or(InvalidId { what: $what })
            }
        }

        impl From<$id> for u64 {
            fn from(id: $id) -> u64 {
                id.get()
            }
        }

        impl FromStr for $id {
            type Err = InvalidId;

            /// Reads digits and nothing else: no sign, no blanks. Zeros in front are allowed.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                let number = if digits { text.parse().ok() } else { None };
                number.and_then(Self::new).ok_or(InvalidId { what: $what })
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(LeadId, "a lead's id");
id!(UserId, "a user's id");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_digits_only() {
        assert_eq!("42".parse::<LeadId>().map(LeadId::get), Ok(42));
        for text in ["", "0", "-1", "+1", " 1", "1.0", "١", "18446744073709551616"] {
            let error = text.parse::<UserId>().unwrap_err().to_string();
            assert_eq!(
                error, "a user's id must be a whole number from 1 to 18446744073709551615, in digits only",
                "{text:?}"
            );
        }
    }

    #[test]
    fn is_a_number_in_json() {
        assert_eq!(serde_json::to_string(&LeadId::new(7)).unwrap(), "7");
        assert_eq!(serde_json::from_str::<UserId>("7").unwrap().get(), 7);
        assert!(serde_json::from_str::<UserId>("0").is_err());
        assert!(serde_json::from_str::<UserId>("\"7\"").is_err());
    }
}
