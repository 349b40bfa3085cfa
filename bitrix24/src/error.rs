//! What can go wrong with a request, and what it means: the [`PortalError`] and its class.
//!
//! The class follows from the portal's error *code* and only then from the HTTP status, because 503
//! means both "too fast" ([`PortalCode::QueryLimitExceeded`]) and "blocked by hand"
//! ([`PortalCode::OverloadLimit`]). The codes themselves are in [`crate::code`]. A second question is
//! answered beside the class: whether the request may have run ([`PortalError::is_ambiguous`]).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use common::budget::BudgetError;
use common::failure::{Failure, FailureClass};

use crate::apart::Blame;
use crate::code::PortalCode;
use crate::size::Excess;
use crate::transport::TransportError;

/// How long a method stays blocked at least after `OPERATION_TIME_LIMIT`: the portal counts in ten
/// buckets of a minute, so nothing is freed sooner than with the oldest of them.
///
/// Source: page "Limits", part "Method execution time".
const OPERATION_TIME_BUCKET: Duration = Duration::from_mins(1);

/// How long a lead waits to which the webhook's owner has no right, before it is asked for again: rights are given by
/// people.
const DENIED_WAITS: Duration = Duration::from_mins(10);

/// Whatever prevented an answer. Cheap to clone: a pack's failure goes to every caller in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PortalError {
    /// The portal answered with an error of its REST API.
    #[error("{method}: the portal refused: {code} {description:?}{}{}", shown(*.status), hint(method, code, *.status))]
    Refused {
        /// Which method.
        method: String,
        /// The HTTP status; `None` for a command inside a batch, which has none.
        status: Option<u16>,
        /// The portal's code.
        code: PortalCode,
        /// The portal's words, in the portal's language, shortened; may be empty.
        description: String,
    },
    /// An answer with an error status that does not come from the REST API: a page of a proxy.
    #[error("{method}: HTTP status {status} without an answer of the REST API{}", hint_of_status(*.status))]
    Status {
        /// Which method.
        method: String,
        /// The HTTP status.
        status: u16,
    },
    /// The portal points to an address to which it is not followed ([`crate::moves`]).
    #[error(
        "{method}: the portal's address points to {host}, and no request follows it there: if the portal has moved, put its new \
         address into webhook_url; otherwise ask whoever runs it why"
    )]
    Elsewhere {
        /// Which method.
        method: String,
        /// The other host, without the path, which contains the secret.
        host: String,
    },
    /// The portal has moved to a name that is not on the Internet.
    #[error(
        "{method}: the portal has moved to {host}, which is at {address}, no address of the Internet, so no request follows it \
         there: if the portal is there, put its new address into webhook_url; otherwise look at what answers for the name"
    )]
    OutOfReach {
        /// Which method.
        method: String,
        /// The new host.
        host: String,
        /// What it resolves to.
        address: IpAddr,
    },
    /// No connection was made.
    #[error("{method}: could not be sent")]
    NotSent {
        /// Which method.
        method: String,
        /// Why.
        #[source]
        source: Arc<TransportError>,
    },
    /// Sent, but no answer arrived.
    #[error("{method}: sent without an answer")]
    Lost {
        /// Which method.
        method: String,
        /// Why.
        #[source]
        source: Arc<TransportError>,
    },
    /// An answer of success that is not in the API's form: not JSON, cut off, or without `result`.
    #[error("{method}: the answer cannot be read")]
    Unreadable {
        /// Which method.
        method: String,
    },
    /// The answer is more than is read, by what it says or by what it would become.
    #[error("{method}: the portal's answer is too much")]
    Excessive {
        /// Which method.
        method: String,
        /// In what.
        #[source]
        excess: Excess,
    },
    /// The webhook's owner may not see this lead, or not change it. Whether it exists is not known.
    #[error(
        "{method}: the webhook's owner has no right to this lead; give them the right to read and edit all leads"
    )]
    Denied {
        /// Which method.
        method: String,
    },
    /// A `result` of another shape than the method's page says.
    #[error("{method}: the result is not {expected}")]
    Unexpected {
        /// Which method.
        method: String,
        /// What was expected, to follow "is not".
        expected: &'static str,
    },
    /// A batch answered, but said nothing about this command.
    #[error("{method}: the batch's answer says nothing about this command")]
    Unanswered {
        /// Which method.
        method: String,
    },
    /// A command before this one in its batch failed, and so this one did not run.
    #[error("{method}: not run, because a command before it failed")]
    NotRun {
        /// Which method.
        method: String,
    },
    /// More commands than a batch may carry, or none; nothing was sent.
    #[error("a batch of {count} commands; 1 to {} are allowed", crate::command::MAX_COMMANDS)]
    BatchSize {
        /// How many were given.
        count: usize,
    },
    /// The portal would refuse this method, because it has used up its time; it was not sent.
    #[error("{method}: left alone until the portal frees some of its execution time")]
    MethodBlocked {
        /// Which method.
        method: String,
        /// How long that will be.
        wait: Duration,
    },
    /// The shared budget could not be asked; nothing was sent.
    #[error("waiting for permission to send")]
    Budget {
        /// Why.
        #[source]
        source: Arc<BudgetError>,
    },
    /// The task that was to answer ended before it did: a panic, or the process stops.
    #[error("the task that sends this request ended without an answer")]
    Interrupted,
}

impl PortalError {
    pub(crate) fn from_transport(method: &str, error: TransportError) -> Self {
        let (method, source) = (method.to_owned(), Arc::new(error));
        match &*source {
            TransportError::OutOfReach { name, address } => {
                Self::OutOfReach { method, host: name.clone(), address: *address }
            }
            TransportError::NotSent(_) => Self::NotSent { method, source },
            TransportError::Ambiguous(_) => Self::Lost { method, source },
            TransportError::Excessive(excess) => Self::Excessive { method, excess: *excess },
        }
    }

    /// Whether a part of the request may be to blame for its failure, such as one lead of many: what is tried again goes
    /// with fewer others then.
    #[must_use]
    pub fn may_be_due_to_a_part(&self) -> bool {
        Blame::of(self) != Blame::Nobody
    }

    /// Whether the request may have run although there is no answer that says so. After a write that
    /// is ambiguous, read back before writing again; a read may simply be repeated.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Refused { status, code, .. } => code.may_have_run(*status),
            Self::Status { status, .. } => *status >= 500 || *status == 408,
            Self::Lost { .. }
            | Self::Unreadable { .. }
            | Self::Excessive { .. }
            | Self::Unexpected { .. }
            | Self::Unanswered { .. }
            | Self::Interrupted => true,
            Self::Elsewhere { .. }
            | Self::OutOfReach { .. }
            | Self::Denied { .. }
            | Self::NotSent { .. }
            | Self::BatchSize { .. }
            | Self::MethodBlocked { .. }
            | Self::NotRun { .. }
            | Self::Budget { .. } => false,
        }
    }

    /// Whether the portal says that the lead asked for does not exist (any more).
    ///
    /// Source: page "Get Lead by Id" gives `Not found`, portals also say `Lead is not found`; both
    /// with an empty code. The newer methods have the code `NOT_FOUND`.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        let coded = matches!(self, Self::Refused { code: PortalCode::NotFound, .. });
        coded || self.says(&["not found", "lead is not found"])
    }

    /// Whether the portal says `Access denied.` with an empty code: no right to *this* thing, while
    /// the code `ACCESS_DENIED` refuses everything.
    #[must_use]
    pub fn is_access_denied_here(&self) -> bool {
        self.says(&["access denied"])
    }

    /// Whether the portal refuses this method, of which nothing follows for others: who can do without it does, and stops
    /// nothing else. For what cannot be done without, such as reading leads, it is [`FailureClass::Blocked`].
    #[must_use]
    pub fn is_of_one_method(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code.is_of_one_method())
    }

    /// Whether the portal refused because of the number of requests; the request did not run.
    #[must_use]
    pub fn is_query_limit(&self) -> bool {
        matches!(self, Self::Refused { code: PortalCode::QueryLimitExceeded, .. })
    }

    /// Whether the portal refused the method because it has used up its time; it did not run.
    #[must_use]
    pub fn is_operation_time_limit(&self) -> bool {
        matches!(self, Self::Refused { code: PortalCode::OperationTimeLimit, .. })
    }

    /// The same refusal under another code, where the method's page gives the words that meaning.
    pub(crate) fn with_code(mut self, meant: PortalCode) -> Self {
        if let Self::Refused { code, .. } = &mut self {
            *code = meant;
        }
        self
    }

    /// Texts are compared by their beginning, without case: the pages omit the final dot that
    /// portals send.
    fn says(&self, beginnings: &[&str]) -> bool {
        let Self::Refused { code: PortalCode::Empty, description, .. } = self else {
            return false;
        };
        let text = description.trim_start().to_ascii_lowercase();
        beginnings.iter().any(|beginning| text.starts_with(beginning))
    }
}

impl Failure for PortalError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Refused { status, code, .. } => code.class(*status),
            Self::Status { status, .. } => class_of_status(*status),
            Self::Elsewhere { .. } | Self::OutOfReach { .. } => FailureClass::Blocked,
            Self::NotSent { .. }
            | Self::Lost { .. }
            | Self::Unreadable { .. }
            | Self::Excessive { .. }
            | Self::Unexpected { .. }
            | Self::Unanswered { .. }
            | Self::NotRun { .. }
            | Self::Interrupted => FailureClass::Transient,
            // Our own store is away, or nothing may be sent; the message is not to blame. Nor is it for a right that
            // somebody has yet to give.
            Self::Budget { .. } | Self::MethodBlocked { .. } | Self::Denied { .. } => FailureClass::Throttled,
            Self::BatchSize { .. } => FailureClass::Permanent,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { code: PortalCode::OperationTimeLimit, .. } => Some(OPERATION_TIME_BUCKET),
            Self::MethodBlocked { wait, .. } => Some(*wait),
            Self::Denied { .. } => Some(DENIED_WAITS),
            Self::Refused { .. }
            | Self::Status { .. }
            | Self::Elsewhere { .. }
            | Self::OutOfReach { .. }
            | Self::NotSent { .. }
            | Self::Lost { .. }
            | Self::Unreadable { .. }
            | Self::Excessive { .. }
            | Self::Unexpected { .. }
            | Self::Unanswered { .. }
            | Self::NotRun { .. }
            | Self::BatchSize { .. }
            | Self::Budget { .. }
            | Self::Interrupted => None,
        }
    }
}

/// The class of a status that came without a code: a page of a proxy or of a firewall.
fn class_of_status(status: u16) -> FailureClass {
    match status {
        429 => FailureClass::Throttled,
        // A wrong address or secret; an address list that does not contain us.
        401 | 403 | 404 => FailureClass::Blocked,
        _ => FailureClass::Transient,
    }
}

fn shown(status: Option<u16>) -> String {
    status.map(|status| format!(" (HTTP status {status})")).unwrap_or_default()
}

/// What to look at when a method is missing.
const ADDRESS_FORM: &str = "; has the webhook's address the form https://PORTAL/rest/USER/SECRET/?";

/// A portal that does not know a method which each portal has was asked at a wrong address. What is missing in a batch is
/// missing: the batch itself was understood.
fn hint(method: &str, code: &PortalCode, status: Option<u16>) -> &'static str {
    let is_everywhere = matches!(method, "batch" | "server.time" | "user.get")
        || method.starts_with("crm.lead.")
        || method.starts_with("im.notify.");
    let missing = matches!(code, PortalCode::MethodNotFound) && status.is_some();
    if is_everywhere && missing { ADDRESS_FORM } else { "" }
}

fn hint_of_status(status: u16) -> &'static str {
    if status == 404 { ADDRESS_FORM } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(description: &str) -> PortalError {
        PortalError::Refused {
            method: "crm.lead.get".to_owned(),
            status: Some(400),
            code: PortalCode::Empty,
            description: description.to_owned(),
        }
    }

    #[test]
    fn a_method_that_each_portal_has_hints_at_the_address() {
        let text = |method: &str, status| {
            let code = PortalCode::MethodNotFound;
            let description = "Method not found!".to_owned();
            PortalError::Refused { method: method.to_owned(), status, code, description }.to_string()
        };
        assert!(text("crm.lead.get", Some(404)).ends_with("the form https://PORTAL/rest/USER/SECRET/?"));
        assert!(!text("timeman.status", Some(404)).contains("webhook"));
        assert!(!text("crm.lead.get", None).contains("webhook"), "of a batch");
        let status = |status| PortalError::Status { method: "batch".to_owned(), status }.to_string();
        assert!(status(404).contains("/rest/USER/SECRET/") && !status(502).contains("webhook"));
    }

    #[test]
    fn a_status_without_a_code() {
        use FailureClass::{Blocked, Throttled, Transient};
        for (status, class, ambiguous) in [
            (502, Transient, true),
            (504, Transient, true),
            (500, Transient, true),
            (408, Transient, true),
            (400, Transient, false),
            (413, Transient, false),
            (429, Throttled, false),
            (401, Blocked, false),
            (403, Blocked, false),
            (404, Blocked, false),
        ] {
            let error = PortalError::Status { method: "batch".to_owned(), status };
            assert_eq!((error.class(), error.is_ambiguous()), (class, ambiguous), "{status}");
        }
    }

    #[test]
    fn texts_are_recognised_with_and_without_the_dot() {
        for text in ["Not found", "Not found.", "not found", "Lead is not found"] {
            assert!(refused(text).is_not_found(), "{text}");
        }
        assert!(!refused("Field Not found").is_not_found());
        let coded = PortalError::Refused {
            method: "crm.lead.get".to_owned(),
            status: None,
            code: PortalCode::NotFound,
            description: "Элемент не найден".to_owned(),
        };
        assert!(coded.is_not_found());
        assert!(refused("Access denied.").is_access_denied_here());
        assert_eq!(refused("Access denied.").class(), FailureClass::Permanent);
    }

    #[test]
    fn the_text_says_what_to_do_about_a_portal_that_points_elsewhere() {
        let (method, host) = ("batch".to_owned(), "sso.company.test".to_owned());
        let elsewhere = PortalError::Elsewhere { method: method.clone(), host: host.clone() };
        let out_of_reach = PortalError::OutOfReach { method, host, address: [10, 0, 0, 1].into() };
        for (error, says) in [
            (&elsewhere, "points to sso.company.test"),
            (&out_of_reach, "sso.company.test, which is at 10.0.0.1"),
        ] {
            let text = error.to_string();
            assert!(text.contains(says) && text.contains("put its new address into webhook_url"), "{text}");
            assert_eq!((error.class(), error.is_ambiguous()), (FailureClass::Blocked, false));
        }
    }

    #[test]
    fn a_spent_method_is_left_alone_for_a_bucket() {
        let error = PortalError::Refused {
            method: "crm.lead.update".to_owned(),
            status: Some(429),
            code: PortalCode::OperationTimeLimit,
            description: String::new(),
        };
        assert_eq!(error.class(), FailureClass::Throttled);
        assert_eq!(error.retry_after(), Some(Duration::from_mins(1)));
    }

    #[test]
    fn a_method_that_is_refused_says_nothing_of_others() {
        use PortalCode as C;
        let of_one_method = |code: &C| {
            let (method, description) = ("crm.item.add".to_owned(), String::new());
            PortalError::Refused { method, status: None, code: code.clone(), description }.is_of_one_method()
        };
        for code in [C::MethodNotFound, C::InsufficientScope, C::AccessDenied, C::WrongLicense] {
            assert!(of_one_method(&code), "{code}");
        }
        for code in [C::NoAuthFound, C::ExpiredToken, C::OverloadLimit, C::PortalDeleted, C::Core, C::Empty] {
            assert!(!of_one_method(&code), "{code}");
        }
    }
}
