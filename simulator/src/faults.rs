//! Faults on demand: what a portal, its front end and the network do on a bad day.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::log::What;
use crate::methods::ApiError;
use crate::php::Php;
use crate::portal::State;

/// A fault to come.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which method it meets, in lower case; `*` is any request.
    pub method: String,
    /// What happens.
    pub kind: Kind,
    /// How often; without it, until the faults are cleared.
    #[serde(default)]
    pub times: Option<u32>,
    /// Only every so manieth request of the method, counted from the fault's arrival.
    #[serde(default = "one")]
    pub every: u32,
    /// Only requests whose parameters contain this text.
    #[serde(default)]
    pub containing: Option<String>,
    /// Requests of the method since then.
    #[serde(default, skip_deserializing)]
    pub seen: u32,
}

/// What happens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// An answer of our choice instead of running.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: String,
    },
    /// An error of the REST API instead of running; inside a batch, of that command.
    Error {
        /// The HTTP status.
        status: u16,
        /// `error`.
        code: String,
        /// `error_description`.
        description: String,
    },
    /// The connection breaks before anything runs.
    ResetBefore,
    /// It runs, and the answer is lost.
    AnswerLost,
    /// It runs, and the answer is cut off in the middle.
    Truncated,
    /// It runs, and the answer is one of our choice.
    AnswerAfter {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: String,
    },
    /// It runs after this many milliseconds.
    DelayMs(u64),
    /// It runs, and PHP writes a warning before the answer.
    PhpWarning,
    /// It runs for the lead with this id, whichever is asked for.
    OtherLead(u64),
    /// A list of the same thing again and again, instead of running.
    Swollen {
        /// The thing, as JSON.
        of: String,
        /// How long the answer is, about, before it is packed.
        bytes: usize,
        /// Whether it is packed by gzip.
        #[serde(default)]
        gzip: bool,
    },
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Answer { .. } => "answer",
            Self::Error { .. } => "error",
            Self::ResetBefore => "reset_before",
            Self::AnswerLost => "answer_lost",
            Self::Truncated => "truncated",
            Self::AnswerAfter { .. } => "answer_after",
            Self::DelayMs(_) => "delay_ms",
            Self::PhpWarning => "php_warning",
            Self::OtherLead(_) => "other_lead",
            Self::Swollen { .. } => "swollen",
        }
    }

    fn status(&self) -> Option<u16> {
        match self {
            Self::Answer { status, .. } | Self::Error { status, .. } | Self::AnswerAfter { status, .. } => {
                Some(*status)
            }
            Self::ResetBefore
            | Self::AnswerLost
            | Self::Truncated
            | Self::DelayMs(_)
            | Self::PhpWarning
            | Self::OtherLead(_)
            | Self::Swollen { .. } => None,
        }
    }

    /// Whether the request that it meets runs all the same.
    fn runs(&self) -> bool {
        match self {
            Self::Answer { .. } | Self::Error { .. } | Self::ResetBefore | Self::Swollen { .. } => false,
            Self::AnswerLost
            | Self::Truncated
            | Self::AnswerAfter { .. }
            | Self::DelayMs(_)
            | Self::PhpWarning
            | Self::OtherLead(_) => true,
        }
    }
}

fn one() -> u32 {
    1
}

/// The fault that meets this request, if any.
pub fn request(state: &mut State, method: &str, params: &Php) -> Option<Kind> {
    let text =
        state.faults.iter().any(|fault| fault.containing.is_some()).then(|| params.to_json().to_string());
    let contains = |wanted: &String| text.as_ref().is_some_and(|text| text.contains(wanted));
    take(state, method, |fault| {
        (fault.method == method || fault.method == "*") && fault.containing.as_ref().is_none_or(contains)
    })
}

/// The error that meets this command of a batch, if any.
pub fn command(state: &mut State, method: &str) -> Option<ApiError> {
    let kind =
        take(state, method, |fault| fault.method == method && matches!(fault.kind, Kind::Error { .. }))?;
    if let Kind::Error { status, code, description } = kind {
        Some(ApiError { status, code, description })
    } else {
        None
    }
}

/// All faults that meet a request count it; the first of them whose turn it is, is played.
fn take(state: &mut State, method: &str, meets: impl Fn(&Fault) -> bool) -> Option<Kind> {
    state.faults.retain(|fault| fault.times != Some(0));
    let mut due = None;
    for fault in state.faults.iter_mut().filter(|fault| meets(fault)) {
        fault.seen = fault.seen.wrapping_add(1);
        if fault.seen.is_multiple_of(fault.every.max(1)) && due.is_none() {
            due = Some(fault);
        }
    }
    let fault = due?;
    fault.times = fault.times.map(|times| times - 1);
    let kind = fault.kind.clone();
    *state.stats.faults.entry(kind.name().to_owned()).or_default() += 1;
    let (method, status) = (method.to_owned(), kind.status());
    let played = What::Fault { method, kind: kind.name(), status, runs: kind.runs() };
    state.log.note(Timestamp::now(), played);
    Some(kind)
}
