//! Who gets a Bitrix24 lead, and why.
//!
//! The one function is [`decide`]. It is pure: no clock, no chance, no input or output, so live use, replay and tests
//! run the same code and get the same answer. It cannot fail: [`Routing::from_yaml`] refuses a wrong routing file with
//! every problem's place in it, and a lead that nobody may take is held.
//!
//! The modules below stand in the order in which to read them.

mod ids;
mod name;

mod compare;
mod lead;

mod schedule;

mod condition;
mod facts;
mod routing;
mod rule_index;

mod calendar;
mod roster;

mod answer;
mod eligibility;
mod giving;
mod ledger;
mod line;
mod made_by_hand;
mod portal_zones;
mod sticky;
mod strategy;
mod waiting;
mod working_time;

mod decide;
mod decision;
mod explanation;

mod correction;

mod fields;
mod routing_file;
mod whereabouts;

pub use answer::{AnswerRules, AnswerTimes, Then};
pub use correction::CorrectionError;
pub use decide::{decide, decide_giving};
pub use decision::{Assignment, DealOrder, Decision, Hold, Orders, Skip};
pub use explanation::{
    Candidate, CreditChange, Explanation, FORMAT, HoldReason, Language, Limit, Load, NOT_MATCHED_LISTED_MAX,
    NotMatched, Outcome, Reason, Role, SkipReason, UnknownLanguage,
};
pub use giving::{Cause, Destination, Giving};
pub use ids::{InvalidId, LeadId, UserId};
pub use lead::{FieldValue, Lead, LeadError};
pub use ledger::{Credit, EntryKind, Ledger, LedgerEntry};
pub use line::{Ahead, Needs, Place};
pub use made_by_hand::MAKER_FIELDS;
pub use name::Name;
pub use roster::{Absence, NotKnown, Presence, Roster, WorkingDay};
pub use routing::{Limits, Member, Person, Queue, Routing, Strategy, Weight, WorkingDayOf};
pub use routing_file::{Checked, Problem, RoutingErrors, Severity, nearest, schema};
pub use sticky::{ClientSought, ClientWent, IfAbsent, OwnClient, StickyRules, Tie, TieBy, TieOf};
pub use waiting::{First, HoldAlarm, HoldRules};
pub use whereabouts::Whereabouts;
