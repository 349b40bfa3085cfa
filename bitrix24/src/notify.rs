//! Notices to employees: the command, and the meaning of its result.
//!
//! A notice is written in BB code. Lead data goes into it only as [`plain`](crate::plain::plain) text. The wording is
//! the notifier's. A repeated notice is a second notice: [`Notice::tag`] replaces the first one only
//! when an OAuth application calls, so over a webhook the caller must remember what it sent.

use common::ids::UserId;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::command::Command;
use crate::envelope::unsigned;
use crate::plain::shortened;

/// The portal cuts a message here, in characters. Source: page "Add Personal Notification".
pub const MAX_MESSAGE_CHARS: usize = 20_000;

/// How far the number given instead of an id may be from our clock and still be the portal's clock:
/// a request's 60 s, and clocks that differ by some minutes.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(10);

/// Who a notice comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// The employee who owns the webhook (`im.notify.personal.add`).
    WebhookOwner,
    /// Nobody (`im.notify.system.add`).
    Nobody,
}

impl Author {
    /// The method that sends a notice from them.
    #[must_use]
    pub fn method(self) -> &'static str {
        match self {
            Self::WebhookOwner => "im.notify.personal.add",
            Self::Nobody => "im.notify.system.add",
        }
    }
}

/// One notice to one employee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Who it comes from.
    pub author: Author,
    /// Who gets it.
    pub to: UserId,
    /// The text, in BB code, not empty; and all lead data in it has gone through [`plain`](crate::plain::plain).
    pub message: String,
    /// Marks notices that replace each other, where the portal looks at it.
    pub tag: String,
}

impl Notice {
    /// The command that sends the notice.
    ///
    /// Source: pages "Add Personal Notification" and "Add System Notification".
    #[must_use]
    pub fn command(&self) -> Command {
        let params: Map<String, Value> = [
            ("USER_ID", json!(self.to.get())),
            ("MESSAGE", json!(shortened(&self.message, MAX_MESSAGE_CHARS))),
            ("TAG", json!(self.tag)),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        Command::new(self.author.method(), params)
    }
}

/// What the portal did with a notice. None of it says that a person saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeResult {
    /// Stored under this id.
    Stored(u64),
    /// The recipient has switched this kind of notice off: the portal stores nothing and answers
    /// with its clock instead of an id.
    SwitchedOff,
    /// Not created, without a reason: the answer `false`, for example for a dismissed employee.
    NotCreated,
}

impl NoticeResult {
    /// Reads the result of a notice's command; `now` is about when it was answered.
    ///
    /// **Shape**: an id (`1492`), a Unix time in seconds (`1779354012`), or `false`. A real id within
    /// ten minutes of the present second would be taken for the clock; ids of that size need more
    /// than a billion notices.
    #[must_use]
    pub fn of(result: &Value, now: Timestamp) -> Self {
        let Some(number) = unsigned(result).filter(|number| *number > 0) else {
            return Self::NotCreated;
        };
        let is_clock = i64::try_from(number)
            .ok()
            .and_then(|second| Timestamp::from_second(second).ok())
            .is_some_and(|time| time.duration_since(now).abs() <= CLOCK_TOLERANCE);
        if is_clock { Self::SwitchedOff } else { Self::Stored(number) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_notice() {
        let mut notice = Notice {
            author: Author::WebhookOwner,
            to: UserId::new(7).unwrap(),
            message: "Lead #42 is yours & new".to_owned(),
            tag: "acme/42/0".to_owned(),
        };
        assert_eq!(
            notice.command().to_batch(),
            "im.notify.personal.add?MESSAGE=Lead%20%2342%20is%20yours%20%26%20new&TAG=acme%2F42%2F0&USER_ID=7"
        );
        notice.author = Author::Nobody;
        assert_eq!(notice.command().method(), "im.notify.system.add");
    }

    #[test]
    fn an_id_a_clock_or_nothing() {
        let now: Timestamp = "2026-05-21T09:00:12Z".parse().unwrap();
        for (result, expected) in [
            (json!(1492), NoticeResult::Stored(1492)),
            (json!("1492"), NoticeResult::Stored(1492)),
            (json!(1_779_354_012), NoticeResult::SwitchedOff),
            (json!(1_779_350_000), NoticeResult::Stored(1_779_350_000)),
            (json!(false), NoticeResult::NotCreated),
            (json!(null), NoticeResult::NotCreated),
            (json!(0), NoticeResult::NotCreated),
        ] {
            assert_eq!(NoticeResult::of(&result, now), expected, "{result}");
        }
    }
}
