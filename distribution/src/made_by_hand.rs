//! Leads that a person made for themselves: they are nobody else's, unless the routing says otherwise.
//!
//! The portal does not say how a lead came to be. A lead that comes by a form, by mail or from another program is made in
//! the name of some user too, often of the one who owns it at first. So one counts as made by hand only where its maker is
//! its owner and nothing of it points to a program. In doubt it is distributed: a lead that is given although its maker
//! wanted it is taken back in a moment, one that waits unseen with the owner of a form is lost.

use std::collections::BTreeSet;

use crate::compare;
use crate::ids::UserId;
use crate::lead::{FieldValue, Lead};
use crate::routing::Routing;

/// What the routing says of leads that a person made for themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MadeByHand {
    /// Whether they are left alone.
    pub(crate) left: bool,
    /// In whose name programs make leads.
    pub(crate) service_users: BTreeSet<UserId>,
}

impl Default for MadeByHand {
    fn default() -> Self {
        Self { left: true, service_users: BTreeSet::new() }
    }
}

/// The portal's first administrator, in whose name the portal itself makes leads: of forms and mailboxes for which nobody
/// is named, and often of the webhook.
const PORTALS_OWN: u64 = 1;

/// The fields that tell who made a lead, and how.
pub const MAKER_FIELDS: [&str; 12] = [
    CREATED_BY,
    WEB_FORM,
    OPEN_LINE,
    SOURCE,
    "ASSIGNED_BY_ID",
    "ORIGINATOR_ID",
    "ORIGIN_ID",
    "UTM_SOURCE",
    "UTM_MEDIUM",
    "UTM_CAMPAIGN",
    "UTM_CONTENT",
    "UTM_TERM",
];

const CREATED_BY: &str = "CREATED_BY_ID";
/// The form that it came by. Not every portal shows it.
const WEB_FORM: &str = "WEBFORM_ID";
/// Whether it came by a chat.
const OPEN_LINE: &str = "HAS_IMOL";
const SOURCE: &str = "SOURCE_ID";

/// Fields that programs fill in and people do not: a lead's key in another program, and the marks of advertisements.
const OF_PROGRAMS: [&str; 7] =
    ["ORIGINATOR_ID", "ORIGIN_ID", "UTM_SOURCE", "UTM_MEDIUM", "UTM_CAMPAIGN", "UTM_CONTENT", "UTM_TERM"];

/// The sources that the portal sets by itself, in small letters: forms, call-backs, mailboxes, repeated sales.
const SOURCES_OF_PROGRAMS: [&str; 4] = ["webform", "callback", "email", "rc_generator"];

impl Routing {
    /// The same routing for a portal whose inbound webhook is this user's: what the webhook makes is made in their name.
    #[must_use]
    pub fn with_webhook_user(mut self, user: UserId) -> Self {
        self.made_by_hand.service_users.insert(user);
        self
    }

    /// Whether leads are made, or wait to be distributed, in this user's name without their doing.
    #[must_use]
    pub fn is_service_user(&self, user: UserId) -> bool {
        user.get() == PORTALS_OWN
            || self.made_by_hand.service_users.contains(&user)
            || self.only_from.as_ref().is_some_and(|owners| owners.contains(&user))
    }

    /// Whether a person made it for themselves and it is to stay with them.
    pub(crate) fn leaves_to_maker(&self, lead: &Lead) -> bool {
        let maker = user(lead.field(CREATED_BY));
        self.made_by_hand.left
            && maker.is_some_and(|maker| lead.owner == Some(maker) && !self.is_service_user(maker))
            && !is_by_program(lead)
    }
}

/// Whether something of it says that a program made it.
fn is_by_program(lead: &Lead) -> bool {
    let text = |code| match lead.field(code) {
        FieldValue::Text(text) => Some(compare::fold(text)),
        FieldValue::Empty | FieldValue::Number(_) | FieldValue::List(_) => None,
    };
    let form = match lead.field(WEB_FORM) {
        FieldValue::Empty => false,
        FieldValue::Text(text) => text.trim() != "0",
        FieldValue::Number(number) => !number.is_zero(),
        FieldValue::List(_) => true,
    };
    form || text(OPEN_LINE).is_some_and(|has| has == "y" || has == "1")
        || text(SOURCE).is_some_and(|source| SOURCES_OF_PROGRAMS.contains(&source.as_str()))
        || OF_PROGRAMS.iter().any(|code| *lead.field(code) != FieldValue::Empty)
}

/// The portal writes users as texts, other producers as numbers.
fn user(value: &FieldValue) -> Option<UserId> {
    match value {
        FieldValue::Text(text) => UserId::new(text.trim().parse().ok()?),
        FieldValue::Number(number) => UserId::new(u64::try_from(*number).ok()?),
        FieldValue::Empty | FieldValue::List(_) => None,
    }
}
