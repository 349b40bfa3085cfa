//! The codes a portal's errors carry, and the class of each.
//!
//! A code comes as text, as an empty text, as a number or as a number in text ([`PortalCode::parse`]).
//! The table from code to class is [`PortalCode::class`], one `match` that names every code; what the
//! class means is in `common::failure`. Sources: the page "System errors" of the REST documentation,
//! and the pages of the methods this crate calls.

use std::fmt;

use common::failure::FailureClass;
use serde_json::Value;

/// The longest unknown code that is kept, in characters.
const MAX_OTHER_CHARS: usize = 64;

/// Makes the enum and both directions of its spelling out of one list.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+) => {
        /// A portal's error code.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum PortalCode {
            $($(#[doc = $doc])+ $variant,)+
            /// No code, only words: what the methods of leads, working time and calendars answer.
            /// `0` means the same.
            Empty,
            /// A required argument is missing: the number 100.
            MissingArgument,
            /// A code this list does not know.
            Other(String),
        }

        impl PortalCode {
            /// Every code that has a name on the wire.
            pub const NAMED: &[Self] = &[$(Self::$variant),+];

            fn named(text: &str) -> Option<Self> {
                $(if text.eq_ignore_ascii_case($text) { return Some(Self::$variant); })+
                None
            }

            /// The code as the portal writes it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Empty => "",
                    Self::MissingArgument => "100",
                    Self::Other(text) => text,
                }
            }
        }
    };
}

codes! {
    /// Too many requests from our address; this one did not run.
    QueryLimitExceeded = "QUERY_LIMIT_EXCEEDED",
    /// The method has used up its time of the last ten minutes; it did not run.
    OperationTimeLimit = "OPERATION_TIME_LIMIT",
    /// The webhook was blocked by hand at Bitrix24; only their support can undo it.
    OverloadLimit = "OVERLOAD_LIMIT",
    /// A fault of the server.
    InternalServerError = "INTERNAL_SERVER_ERROR",
    /// A fault of the server.
    UnexpectedAnswer = "ERROR_UNEXPECTED_ANSWER",
    /// The webhook's secret or the token is wrong.
    NoAuthFound = "NO_AUTH_FOUND",
    /// The webhook's secret is wrong, or its owner's rights are missing.
    InvalidCredentials = "INVALID_CREDENTIALS",
    /// The access token has run out.
    ExpiredToken = "expired_token",
    /// The access token belongs to no application.
    InvalidToken = "invalid_token",
    /// The webhook lacks a scope (`crm`, `im`).
    InsufficientScope = "insufficient_scope",
    /// The user is not admitted to the application.
    UserAccessError = "user_access_error",
    /// The user was dismissed.
    AuthorizationError = "authorization_error",
    /// The application was removed.
    ApplicationNotFound = "APPLICATION_NOT_FOUND",
    /// The portal could not reach the authorization server; the method did not run.
    ConnectionError = "CONNECTION_ERROR",
    /// No plan with REST, or the whole method is denied.
    AccessDenied = "ACCESS_DENIED",
    /// The method wants another kind of authorization.
    WrongAuthType = "WRONG_AUTH_TYPE",
    /// The plan does not contain this.
    WrongLicense = "WRONG_LICENSE",
    /// https is required.
    InvalidRequest = "INVALID_REQUEST",
    /// The portal does not know the method: its module is missing.
    MethodNotFound = "ERROR_METHOD_NOT_FOUND",
    /// A batch of more than 50 commands.
    BatchLengthExceeded = "ERROR_BATCH_LENGTH_EXCEEDED",
    /// A method that a batch may not carry.
    BatchMethodNotAllowed = "ERROR_BATCH_METHOD_NOT_ALLOWED",
    /// An argument is wrong.
    Argument = "ERROR_ARGUMENT",
    /// Any error of a module: a refusal at 400, a failure of the database at 500.
    Core = "ERROR_CORE",
    /// An administrator has yet to allow the method.
    MethodConfirmWaiting = "METHOD_CONFIRM_WAITING",
    /// An administrator has forbidden the method.
    MethodConfirmDenied = "METHOD_CONFIRM_DENIED",
    /// The portal is closed.
    PortalDeleted = "PORTAL_DELETED",
    /// A manifest is missing; no method of ours asks for one.
    ManifestIsNotAvailable = "ERROR_MANIFEST_IS_NOT_AVAILABLE",
    /// The method ran, but its result cannot be written as JSON.
    WrongEncoding = "WRONG_ENCODING",
    /// Only employees may call this.
    AllowedOnlyIntranetUser = "allowed_only_intranet_user",
    /// A notice without a recipient.
    UserIdEmpty = "USER_ID_EMPTY",
    /// A notice without a text.
    MessageEmpty = "MESSAGE_EMPTY",
    /// A field cannot hold this: a stage of another funnel, a funnel that does not exist.
    FieldValueNotValid = "CRM_FIELD_ERROR_VALUE_NOT_VALID",
    /// A filter, an order or another argument is wrong.
    ArgumentValue = "INVALID_ARG_VALUE",
    /// There is no such thing (any more).
    NotFound = "NOT_FOUND",
}

impl PortalCode {
    /// Reads the member `error` of an answer: text, number or nothing.
    #[must_use]
    pub fn parse(error: &Value) -> Self {
        match error {
            Value::String(text) => Self::from_text(text),
            Value::Number(number) => Self::from_text(&number.to_string()),
            Value::Null | Value::Bool(_) => Self::Empty,
            // The newer API puts an object here; nothing we call does.
            Value::Array(_) | Value::Object(_) => Self::Other("unreadable".to_owned()),
        }
    }

    fn from_text(text: &str) -> Self {
        match text.trim() {
            "" | "0" => Self::Empty,
            "100" => Self::MissingArgument,
            text => {
                Self::named(text).unwrap_or_else(|| Self::Other(text.chars().take(MAX_OTHER_CHARS).collect()))
            }
        }
    }

    /// The class of an answer with this code; `status` is `None` inside a batch.
    #[must_use]
    pub fn class(&self, status: Option<u16>) -> FailureClass {
        match self {
            Self::QueryLimitExceeded | Self::OperationTimeLimit => FailureClass::Throttled,
            // Wrong encoding is one lead's bad text; the others are asked for without it.
            Self::InternalServerError
            | Self::UnexpectedAnswer
            | Self::ConnectionError
            | Self::WrongEncoding => FailureClass::Transient,
            Self::OverloadLimit
            | Self::NoAuthFound
            | Self::InvalidCredentials
            | Self::ExpiredToken
            | Self::InvalidToken
            | Self::InsufficientScope
            | Self::UserAccessError
            | Self::AuthorizationError
            | Self::ApplicationNotFound
            | Self::AccessDenied
            | Self::WrongAuthType
            | Self::WrongLicense
            | Self::InvalidRequest
            | Self::MethodNotFound
            | Self::MethodConfirmWaiting
            | Self::MethodConfirmDenied
            | Self::PortalDeleted
            | Self::AllowedOnlyIntranetUser => FailureClass::Blocked,
            Self::BatchLengthExceeded
            | Self::BatchMethodNotAllowed
            | Self::Argument
            | Self::MissingArgument
            | Self::ManifestIsNotAvailable
            | Self::UserIdEmpty
            | Self::MessageEmpty
            | Self::FieldValueNotValid
            | Self::ArgumentValue
            | Self::NotFound => FailureClass::Permanent,
            // Words without a code are a refusal of these parameters, unless the status says more.
            Self::Empty => match status {
                Some(429) => FailureClass::Throttled,
                Some(401 | 403) => FailureClass::Blocked,
                Some(500..) => FailureClass::Transient,
                Some(_) | None => FailureClass::Permanent,
            },
            // Inside a batch nobody says whether it was a refusal or the database.
            Self::Core => match status {
                Some(400..=499) => FailureClass::Permanent,
                Some(_) | None => FailureClass::Transient,
            },
            Self::Other(_) => match status {
                Some(429) => FailureClass::Throttled,
                Some(401) => FailureClass::Blocked,
                Some(_) | None => FailureClass::Transient,
            },
        }
    }

    /// Whether the code refuses the one method that was called, while others may go on: a module, a scope, a plan or an
    /// administrator's word that is missing for it. Where REST as a whole is refused, other methods say so too.
    #[must_use]
    pub(crate) fn is_of_one_method(&self) -> bool {
        matches!(
            self,
            Self::MethodNotFound
                | Self::InsufficientScope
                | Self::AccessDenied
                | Self::WrongLicense
                | Self::WrongAuthType
                | Self::MethodConfirmWaiting
                | Self::MethodConfirmDenied
                | Self::AllowedOnlyIntranetUser
        )
    }

    /// Whether a request answered with this code may have run, at least in part.
    #[must_use]
    pub(crate) fn may_have_run(&self, status: Option<u16>) -> bool {
        match self {
            Self::InternalServerError | Self::UnexpectedAnswer | Self::WrongEncoding => true,
            Self::Core => status.is_none_or(|status| status >= 500),
            Self::Empty | Self::Other(_) => status.is_some_and(|status| status >= 500),
            Self::QueryLimitExceeded
            | Self::OperationTimeLimit
            | Self::OverloadLimit
            | Self::NoAuthFound
            | Self::InvalidCredentials
            | Self::ExpiredToken
            | Self::InvalidToken
            | Self::InsufficientScope
            | Self::UserAccessError
            | Self::AuthorizationError
            | Self::ApplicationNotFound
            | Self::ConnectionError
            | Self::AccessDenied
            | Self::WrongAuthType
            | Self::WrongLicense
            | Self::InvalidRequest
            | Self::MethodNotFound
            | Self::BatchLengthExceeded
            | Self::BatchMethodNotAllowed
            | Self::Argument
            | Self::MissingArgument
            | Self::MethodConfirmWaiting
            | Self::MethodConfirmDenied
            | Self::PortalDeleted
            | Self::ManifestIsNotAvailable
            | Self::AllowedOnlyIntranetUser
            | Self::UserIdEmpty
            | Self::MessageEmpty
            | Self::FieldValueNotValid
            | Self::ArgumentValue
            | Self::NotFound => false,
        }
    }
}

impl fmt::Display for PortalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Empty { "(no code)" } else { self.as_str() })
    }
}

#[cfg(test)]
mod tests {
    use FailureClass::{Blocked, Permanent, Throttled, Transient};
    use PortalCode as C;
    use serde_json::json;

    use super::*;

    /// Code, status, class, whether it may have run. Statuses differ between the documentation and
    /// portals; the class must not.
    #[test]
    fn every_code_has_its_class() {
        let table: &[(C, &[Option<u16>], FailureClass, bool)] = &[
            (C::QueryLimitExceeded, &[Some(503), None], Throttled, false),
            (C::OperationTimeLimit, &[Some(429), None], Throttled, false),
            (C::OverloadLimit, &[Some(503), Some(401)], Blocked, false),
            (C::InternalServerError, &[Some(500), None], Transient, true),
            (C::UnexpectedAnswer, &[Some(500), None], Transient, true),
            (C::NoAuthFound, &[Some(401)], Blocked, false),
            (C::InvalidCredentials, &[Some(401), Some(403)], Blocked, false),
            (C::ExpiredToken, &[Some(401)], Blocked, false),
            (C::InvalidToken, &[Some(401)], Blocked, false),
            (C::InsufficientScope, &[Some(401), Some(403), None], Blocked, false),
            (C::UserAccessError, &[Some(401), Some(403)], Blocked, false),
            (C::AuthorizationError, &[Some(401)], Blocked, false),
            (C::ApplicationNotFound, &[Some(401)], Blocked, false),
            (C::ConnectionError, &[Some(401)], Transient, false),
            (C::AccessDenied, &[Some(403), None], Blocked, false),
            (C::WrongAuthType, &[Some(403), None], Blocked, false),
            (C::WrongLicense, &[Some(403), None], Blocked, false),
            (C::InvalidRequest, &[Some(400), Some(401)], Blocked, false),
            (C::MethodNotFound, &[Some(404), None], Blocked, false),
            (C::BatchLengthExceeded, &[None], Permanent, false),
            (C::BatchMethodNotAllowed, &[None], Permanent, false),
            (C::Argument, &[Some(400), None], Permanent, false),
            (C::MissingArgument, &[Some(400), None], Permanent, false),
            (C::Core, &[Some(400)], Permanent, false),
            (C::Core, &[Some(500), None], Transient, true),
            (C::MethodConfirmWaiting, &[Some(401)], Blocked, false),
            (C::MethodConfirmDenied, &[Some(403)], Blocked, false),
            (C::PortalDeleted, &[Some(500), Some(403), Some(410)], Blocked, false),
            (C::ManifestIsNotAvailable, &[Some(404)], Permanent, false),
            (C::WrongEncoding, &[Some(200)], Transient, true),
            (C::AllowedOnlyIntranetUser, &[Some(403)], Blocked, false),
            (C::UserIdEmpty, &[Some(400), None], Permanent, false),
            (C::MessageEmpty, &[Some(400), None], Permanent, false),
            (C::FieldValueNotValid, &[Some(400), None], Permanent, false),
            (C::ArgumentValue, &[Some(400), None], Permanent, false),
            (C::NotFound, &[Some(400), Some(404), None], Permanent, false),
            (C::Empty, &[Some(400), None], Permanent, false),
            (C::Empty, &[Some(401), Some(403)], Blocked, false),
            (C::Empty, &[Some(500)], Transient, true),
            (C::Empty, &[Some(429)], Throttled, false),
            (C::Other("NEW".to_owned()), &[Some(400), Some(403), None], Transient, false),
            (C::Other("NEW".to_owned()), &[Some(503)], Transient, true),
            (C::Other("NEW".to_owned()), &[Some(401)], Blocked, false),
            (C::Other("NEW".to_owned()), &[Some(429)], Throttled, false),
        ];
        for (code, statuses, class, may_have_run) in table {
            for status in *statuses {
                let found = (code.class(*status), code.may_have_run(*status));
                assert_eq!(found, (*class, *may_have_run), "{code} {status:?}");
            }
        }
        for named in C::NAMED {
            assert!(table.iter().any(|(code, ..)| code == named), "{named} is missing in the table");
        }
    }

    #[test]
    fn codes_come_as_text_number_or_nothing() {
        for (wire, code) in [
            (json!("QUERY_LIMIT_EXCEEDED"), C::QueryLimitExceeded),
            (json!("EXPIRED_TOKEN"), C::ExpiredToken),
            (json!(""), C::Empty),
            (json!(0), C::Empty),
            (json!("0"), C::Empty),
            (json!(null), C::Empty),
            (json!(100), C::MissingArgument),
            (json!("100"), C::MissingArgument),
            (json!(1009), C::Other("1009".to_owned())),
            (json!({"code": "BITRIX_REST_V3"}), C::Other("unreadable".to_owned())),
        ] {
            assert_eq!(C::parse(&wire), code, "{wire}");
        }
        for named in C::NAMED {
            assert_eq!(&C::parse(&json!(named.as_str())), named);
        }
    }

    #[test]
    fn an_unknown_code_is_kept_short() {
        let C::Other(text) = C::parse(&json!("Ж".repeat(500))) else { panic!("not a known code") };
        assert_eq!(text.chars().count(), MAX_OTHER_CHARS);
    }
}
