//! What a portal holds, and the settings by which it behaves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use crate::activities::Activity;
use crate::clients::Client;
use crate::duplicates::Index;
use crate::events::{self, Outgoing};
use crate::faults::Fault;
use crate::limits::{Bucket, Operating};
use crate::log::Log;
use crate::presence::Absence;
use crate::timeline::Entry;

/// How the portal behaves. All of it can be changed while it runs (`POST /settings`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own, with a name in JSON")]
pub struct Settings {
    /// The portal's name for itself in events.
    pub member_id: String,
    /// What the portal sends to prove its events.
    pub application_token: String,
    /// The employee who owns the webhook.
    pub webhook_user: u64,
    /// The mode of the CRM: 1 keeps leads, 2 turns each into a deal at once.
    pub crm_mode: u8,
    /// The secret in the webhook's address.
    pub webhook_secret: String,
    /// The handler of `ONCRMLEADADD`; none sends nothing.
    pub events_to: Option<String>,
    /// Also send `ONCRMLEADUPDATE`.
    pub update_events: bool,
    /// The counter's threshold.
    pub burst: u32,
    /// By how much the counter falls each second.
    pub per_second: u32,
    /// Whether a refused request counts too.
    pub count_refused: bool,
    /// Seconds of execution time a method may use in ten minutes; 0 switches the limit off.
    pub operating_limit: f64,
    /// The length of the ten buckets of that, in seconds; 60 but for a test in a hurry.
    pub operating_bucket: i64,
    /// How long a call of a method takes, by its name; others take no time.
    pub cost_ms: BTreeMap<String, Cost>,
    /// A request that takes longer than this is answered 504 by the front end, and goes on; 0 for no end.
    pub cut_after_ms: u64,
    /// Whether a command's parameters can refer to the results of those before it.
    pub batch_references: bool,
    /// Only account the time, do not spend it.
    pub account_only: bool,
    /// Events are sent this long after their cause: from, to, in milliseconds.
    pub event_delay_ms: (u64, u64),
    /// The share of events that are lost.
    pub event_loss: f64,
    /// How often each event is sent.
    pub event_copies: u32,
    /// Employees whose notices are switched off: the portal answers with a time instead of an id.
    pub muted: Vec<u64>,
    /// Employees who keep no working days.
    pub without_working_days: Vec<u64>,
    /// Employees whose working days the webhook's owner may not see.
    pub hidden_working_days: Vec<u64>,
    /// Leads to which the webhook's owner has no right.
    pub hidden_leads: Vec<u64>,
    /// The code of the answer for a lead that does not exist: empty, or `NOT_FOUND`.
    pub not_found_code: String,
    /// 401 or 403 for a wrong secret; sources disagree.
    pub wrong_secret_status: u16,
    /// What the webhook may use.
    pub scopes: Vec<String>,
    /// 401 or 403 where a scope is missing; sources disagree.
    pub missing_scope_status: u16,
    /// The name and port that the portal has now: requests to any other are answered 302 to it.
    pub renamed_to: Option<String>,
    /// Robots of the portal, or people, who change leads between two requests of ours.
    pub robots: Vec<Robot>,
}

/// How long a call takes, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cost {
    /// Always the same.
    Fixed(u64),
    /// Anything between the two.
    Between(u64, u64),
    /// Usually one, but `slow` once in `one_in` calls.
    Tail {
        /// Mostly.
        usual: u64,
        /// At times.
        slow: u64,
        /// How seldom.
        one_in: u32,
    },
}

impl Cost {
    /// The time of one call.
    #[must_use]
    pub fn draw(self) -> Duration {
        let millis = match self {
            Self::Fixed(millis) => millis,
            Self::Between(low, high) => rand::random_range(low.min(high)..=high.max(low)),
            Self::Tail { usual, slow, one_in } => {
                if rand::random_range(0..one_in.max(1)) == 0 {
                    slow
                } else {
                    usual
                }
            }
        };
        Duration::from_millis(millis)
    }
}

/// Changes a lead right after a method has shown it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Robot {
    /// After which method, such as `crm.lead.get`; of a list, its first lead is changed.
    pub after: String,
    /// What is written.
    pub fields: Map<String, Value>,
    /// Only every so manieth time.
    #[serde(default = "once")]
    pub every: u32,
    /// How often the method was called.
    #[serde(skip)]
    pub seen: u32,
}

fn once() -> u32 {
    1
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            member_id: "a223c6b3710f85df22e9377d6c4f7553".to_owned(),
            application_token: "51856fefc120afa4b628cc82d3935cce".to_owned(),
            webhook_user: 1,
            crm_mode: 1,
            webhook_secret: "secret".to_owned(),
            events_to: None,
            update_events: false,
            burst: 50,
            per_second: 2,
            count_refused: true,
            operating_limit: 480.0,
            operating_bucket: 60,
            cost_ms: BTreeMap::new(),
            cut_after_ms: 60_000,
            batch_references: true,
            account_only: false,
            event_delay_ms: (0, 20),
            event_loss: 0.0,
            event_copies: 1,
            muted: Vec::new(),
            without_working_days: Vec::new(),
            hidden_working_days: Vec::new(),
            hidden_leads: Vec::new(),
            not_found_code: String::new(),
            wrong_secret_status: 401,
            scopes: ["crm", "im", "user_brief", "timeman", "calendar"].map(str::to_owned).to_vec(),
            missing_scope_status: 401,
            renamed_to: None,
            robots: Vec::new(),
        }
    }
}

/// A lead with the story of its owners.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lead {
    /// Its fields as the portal shows them.
    pub fields: Map<String, Value>,
    /// Each change of its owner.
    pub history: Vec<OwnerChange>,
}

/// A change of a lead's owner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OwnerChange {
    /// When.
    pub at: Timestamp,
    /// From whom.
    pub from: String,
    /// To whom.
    pub to: String,
}

/// A notice that an employee got.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Notification {
    /// Its id.
    pub id: u64,
    /// Who got it.
    pub user: u64,
    /// What it says.
    pub message: String,
    /// Its tag; the portal does not look at it when a webhook calls.
    pub tag: Option<String>,
    /// Whether it has an author.
    pub personal: bool,
    /// When.
    pub at: Timestamp,
}

/// What the portal has seen.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stats {
    /// Requests that reached it, refused ones included.
    pub requests: u64,
    /// Requests by method.
    pub by_method: BTreeMap<String, u64>,
    /// Requests by method, and batches by that of their first command: what they were for.
    pub led_by: BTreeMap<String, u64>,
    /// Commands inside batches by method.
    pub commands: BTreeMap<String, u64>,
    /// Answers with an error, by code.
    pub errors: BTreeMap<String, u64>,
    /// The highest the counter has been.
    pub bucket_max: u32,
    /// Requests refused as too fast.
    pub refused: u64,
    /// Events sent by the status of their answer; `lost` and `unreachable` too.
    pub events: BTreeMap<String, u64>,
    /// Faults that were played, by kind.
    pub faults: BTreeMap<String, u64>,
}

/// Everything that changes.
#[derive(Debug)]
pub struct State {
    /// How it behaves.
    pub settings: Settings,
    /// Leads by id.
    pub leads: BTreeMap<u64, Lead>,
    /// The id of the next lead.
    pub next_lead: u64,
    /// Deals by id: the fields of `crm.item.get`.
    pub deals: BTreeMap<u64, Map<String, Value>>,
    /// The id of the next deal.
    pub next_deal: u64,
    /// Contacts by id.
    pub contacts: BTreeMap<u64, Client>,
    /// Companies by id.
    pub companies: BTreeMap<u64, Client>,
    /// Which leads, contacts and companies have a phone or an e-mail.
    pub duplicates: Index,
    /// The stages that leads were in: the rows of `crm.stagehistory.list`, in the order of their ids.
    pub stages: Vec<Map<String, Value>>,
    /// Employees by id: the fields of `user.get`.
    pub users: BTreeMap<u64, Map<String, Value>>,
    /// The last working day of employees: the answer of `timeman.status`.
    pub working_days: BTreeMap<u64, Map<String, Value>>,
    /// When employees are away.
    pub absences: Vec<Absence>,
    /// Activities, in the order of their ids.
    pub activities: Vec<Activity>,
    /// Entries of timelines.
    pub timeline: Vec<Entry>,
    /// Notices.
    pub notifications: Vec<Notification>,
    /// The counter of requests.
    pub bucket: Bucket,
    /// Execution times.
    pub operating: Operating,
    /// Faults to come.
    pub faults: Vec<Fault>,
    /// What was seen.
    pub stats: Stats,
    /// What it did.
    pub log: Log,
    /// Events of the request that runs.
    pub outgoing: Vec<Outgoing>,
}

/// One portal.
#[derive(Debug)]
pub struct Portal {
    state: Mutex<State>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Sends events.
    pub client: reqwest::Client,
    /// Who sends them.
    pub event_workers: Semaphore,
}

impl Portal {
    /// An empty portal with the employees 1 (the administrator) and 11 to 20.
    #[must_use]
    pub fn new(settings: Settings, address: SocketAddr) -> Self {
        let users = std::iter::once(1).chain(11..=20).map(|id| (id, user(id)));
        let state = State {
            bucket: Bucket::default(),
            settings,
            leads: BTreeMap::new(),
            next_lead: 1,
            deals: BTreeMap::new(),
            next_deal: 1,
            contacts: BTreeMap::new(),
            companies: BTreeMap::new(),
            duplicates: Index::default(),
            stages: Vec::new(),
            users: users.collect(),
            working_days: BTreeMap::new(),
            absences: Vec::new(),
            activities: Vec::new(),
            timeline: Vec::new(),
            notifications: Vec::new(),
            operating: Operating::default(),
            faults: Vec::new(),
            stats: Stats::default(),
            log: Log::default(),
            outgoing: Vec::new(),
        };
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10))
            // Sooner than a handler closes them: an event is not sent again.
            .pool_idle_timeout(Duration::from_secs(10))
            .build()
            .unwrap_or_default();
        Self { state: Mutex::new(state), address, client, event_workers: Semaphore::new(events::AT_ONCE) }
    }

    /// The state, for a moment, for whoever acts by hand.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.serving(None)
    }

    /// The state, for a moment, for a request of this number.
    pub fn serving(&self, request: Option<u64>) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.log.request = request;
        state
    }
}

/// An employee with the usual fields.
#[must_use]
pub fn user(id: u64) -> Map<String, Value> {
    let mut user = Map::new();
    user.insert("ID".to_owned(), json!(id.to_string()));
    user.insert("ACTIVE".to_owned(), json!(true));
    user.insert("NAME".to_owned(), json!(format!("Employee {id}")));
    user.insert("TIME_ZONE".to_owned(), json!(""));
    user.insert("USER_TYPE".to_owned(), json!("employee"));
    user
}

/// The time as the portal writes it: with its own offset, in whole seconds.
#[must_use]
pub fn portal_time(at: Timestamp) -> String {
    let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(3));
    at.to_zoned_datetime(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}
