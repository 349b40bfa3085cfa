//! The faults that there are.

use std::str::FromStr;

use serde_json::{Value, json};

/// A request that hangs does so for this long: longer than Rota waits here ([`CLIENT_TIMEOUT`]), and shorter than the
/// portal lets any request run.
pub(crate) const HANGS_MS: std::ops::Range<u64> = 12_000..30_000;

/// How long Rota waits for an answer in these runs.
pub(crate) const CLIENT_TIMEOUT: &str = "10s";

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A process of a stage is killed.
    StageKilled,
    /// The broker is killed.
    BrokerKilled,
    /// The broker takes nothing more.
    BrokerFull,
    /// The database is stopped at once.
    DatabaseStopped,
    /// The portal fails before a request runs.
    ErrorBefore,
    /// The portal fails after a request has run.
    ErrorAfter,
    /// The portal answers that it is away.
    Unavailable,
    /// The connection breaks before a request runs.
    NoConnection,
    /// The connection breaks after a request has run.
    AnswerLost,
    /// The answer is cut off.
    AnswerCut,
    /// A request hangs for longer than we wait, and then runs.
    Hang,
    /// The portal loses an event.
    EventLost,
    /// The portal sends an event twice.
    EventDoubled,
    /// Events overtake each other.
    EventLate,
    /// A person takes a lead meanwhile.
    PersonTakes,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::StageKilled,
        Self::BrokerKilled,
        Self::BrokerFull,
        Self::DatabaseStopped,
        Self::ErrorBefore,
        Self::ErrorAfter,
        Self::Unavailable,
        Self::NoConnection,
        Self::AnswerLost,
        Self::AnswerCut,
        Self::Hang,
        Self::EventLost,
        Self::EventDoubled,
        Self::EventLate,
        Self::PersonTakes,
    ];

    /// Those of requests to the portal.
    pub(crate) const OF_REQUESTS: [Self; 7] = [
        Self::ErrorBefore,
        Self::ErrorAfter,
        Self::Unavailable,
        Self::NoConnection,
        Self::AnswerLost,
        Self::AnswerCut,
        Self::Hang,
    ];

    /// Its name on the command line and in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::StageKilled => "stage-killed",
            Self::BrokerKilled => "broker-killed",
            Self::BrokerFull => "broker-full",
            Self::DatabaseStopped => "database-stopped",
            Self::ErrorBefore => "error-before",
            Self::ErrorAfter => "error-after",
            Self::Unavailable => "unavailable",
            Self::NoConnection => "no-connection",
            Self::AnswerLost => "answer-lost",
            Self::AnswerCut => "answer-cut",
            Self::Hang => "hang",
            Self::EventLost => "event-lost",
            Self::EventDoubled => "event-doubled",
            Self::EventLate => "event-late",
            Self::PersonTakes => "person-takes",
        }
    }

    /// As the simulator is told of it; none for faults of something else. `hangs_ms` is for one that hangs.
    pub(crate) fn kind(self, hangs_ms: u64) -> Option<Value> {
        let page = |status: u16, text: &str| json!({ "status": status, "body": format!("<h1>{text}</h1>") });
        match self {
            Self::ErrorBefore => Some(json!({ "answer": page(500, "500 Internal Server Error") })),
            Self::ErrorAfter => Some(json!({ "answer_after": page(500, "500 Internal Server Error") })),
            Self::Unavailable => Some(json!({ "answer": page(503, "503 Service Temporarily Unavailable") })),
            Self::NoConnection => Some(json!("reset_before")),
            Self::AnswerLost => Some(json!("answer_lost")),
            Self::AnswerCut => Some(json!("truncated")),
            Self::Hang => Some(json!({ "delay_ms": hangs_ms })),
            Self::StageKilled
            | Self::BrokerKilled
            | Self::BrokerFull
            | Self::DatabaseStopped
            | Self::EventLost
            | Self::EventDoubled
            | Self::EventLate
            | Self::PersonTakes => None,
        }
    }

    /// The fault of requests that the portal's log calls so.
    pub(crate) fn logged(kind: &str, status: Option<u16>) -> Option<Self> {
        match kind {
            "answer" if status == Some(503) => Some(Self::Unavailable),
            "answer" => Some(Self::ErrorBefore),
            "answer_after" => Some(Self::ErrorAfter),
            "reset_before" => Some(Self::NoConnection),
            "answer_lost" => Some(Self::AnswerLost),
            "truncated" => Some(Self::AnswerCut),
            "delay_ms" => Some(Self::Hang),
            _ => None,
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|fault| fault.name() == name).ok_or_else(|| {
            let all = Self::ALL.map(Self::name).join(", ");
            format!("there is no fault {name:?}; there are {all}")
        })
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.name())
    }
}
