//! Who is at work: what the portals told about people, and what people say themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use common::ids::{PortalName, UserId};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::StoreError;

/// Where something about people comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RosterSource {
    /// Whether the portal lets them in.
    People,
    /// Where they live.
    TimeZones,
    /// Their working days.
    WorkingDays,
    /// Their leads in process.
    OpenLeads,
    /// Their absences in the calendar.
    Calendar,
    /// Their leave, by the messenger.
    Messenger,
}

impl RosterSource {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::People, Self::TimeZones, Self::WorkingDays, Self::OpenLeads, Self::Calendar, Self::Messenger];

    /// The word in the store, in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::TimeZones => "time_zones",
            Self::WorkingDays => "working_days",
            Self::OpenLeads => "open_leads",
            Self::Calendar => "calendar",
            Self::Messenger => "messenger",
        }
    }
}

/// What a source said, or why it did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReading {
    /// Which source.
    pub source: RosterSource,
    /// Its facts by user, in a form of the caller's; or a problem in words.
    pub said: Result<Value, String>,
}

/// The last word of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Which source.
    pub source: RosterSource,
    /// Its facts and when it was asked for them; none before the first time.
    pub facts: Option<(Value, Timestamp)>,
    /// Why the last attempt brought nothing.
    pub problem: Option<String>,
}

/// What kind of absence somebody noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnKind {
    /// He takes no leads for a while, though he is at work.
    Pause,
    /// He is away.
    Absence,
}

impl OwnKind {
    /// The word in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Absence => "absence",
        }
    }
}

/// A pause or an absence that was noted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnAbsence {
    /// Who.
    pub user: UserId,
    /// What.
    pub kind: OwnKind,
    /// The first moment.
    pub from: Timestamp,
    /// The first moment at which he takes leads again.
    pub to: Timestamp,
    /// Why, as it was written.
    pub reason: Option<String>,
    /// Who noted it.
    pub author: String,
}

/// All that is known of the people of a portal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RosterState {
    /// What the portal told; a source that was never asked is not there.
    pub readings: Vec<Reading>,
    /// What was noted here and is not over, in the order of its beginning.
    pub own: Vec<OwnAbsence>,
    /// Whether the portal keeps leads, and does not turn each into a deal at once; `None` while it did not tell.
    pub has_leads: Option<bool>,
}

/// What is said of a portal that keeps no leads.
pub const WITHOUT_LEADS: &str = "this portal turns leads into deals at once; Rota distributes leads";

/// Rosters.
#[async_trait]
pub trait Rosters: Send + Sync + 'static {
    /// Takes or keeps the right to ask a portal about its people until `now + lease`; false while another has it.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn take_roster(
        &self,
        portal: &PortalName,
        holder: Uuid,
        now: Timestamp,
        lease: Duration,
    ) -> Result<bool, StoreError>;

    /// Writes down what the portal said when it was asked at `at`.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn save_readings(
        &self,
        portal: &PortalName,
        readings: &[NewReading],
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// Writes down whether the portal keeps leads, as it says.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn save_has_leads(&self, portal: &PortalName, has_leads: bool) -> Result<(), StoreError>;

    /// A number for each portal's roster that grows with each change; portals without one are not there.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn roster_changes(&self) -> Result<BTreeMap<PortalName, u64>, StoreError>;

    /// All that is known of the people of a portal, and of their own absences those that end after `now`.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn roster(&self, portal: &PortalName, now: Timestamp) -> Result<RosterState, StoreError>;

    /// Notes a pause or an absence. A pause takes the place of one that is not over.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn note_absence(
        &self,
        portal: &PortalName,
        absence: &OwnAbsence,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Ends what somebody noted and is not over: what has begun, or what is to come; answers how many there were.
    ///
    /// # Errors
    /// [`StoreError`], throttled.
    async fn end_absences(
        &self,
        portal: &PortalName,
        user: UserId,
        begun: bool,
        author: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError>;
}
