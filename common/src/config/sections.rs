//! The sections of the configuration and their defaults.
//!
//! Each key is explained in `config/default.yaml`, which a test keeps equal to the `Default`s here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;
use serde::Deserialize;

use super::values::{boolean, networks, number, wait, waits};
use crate::budget::BucketLimits;
use crate::ids::{PortalName, UserId};
use crate::retry::RetryPolicy;

/// Everything that can be configured.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The broker.
    pub amqp: Amqp,
    /// The store.
    pub database: Database,
    /// Where the portals post to.
    pub http: Http,
    /// `/live`, `/ready`, `/metrics`.
    pub admin: Admin,
    /// Logs.
    pub log: Log,
    /// Stopping.
    pub shutdown: Shutdown,
    /// Attempts and waits.
    pub retry: Retry,
    /// The stage `ingest`.
    pub ingest: Ingest,
    /// The stage `router`.
    pub router: Stage,
    /// Asking portals who is at work.
    pub roster: Roster,
    /// The stage `notifier`.
    pub notifier: Stage,
    /// Requests to portals.
    pub portal_requests: PortalRequests,
    /// How long what is done is kept.
    pub keep: Keep,
    /// The portals.
    pub portals: Vec<Portal>,
}

/// See `amqp` in `config/default.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Amqp {
    pub url: SecretString,
    pub url_file: Option<PathBuf>,
    pub prefix: String,
    #[serde(deserialize_with = "boolean")]
    pub declare: bool,
    #[serde(deserialize_with = "wait")]
    pub publish_timeout: Duration,
}

/// See `database` in `config/default.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Database {
    pub url: SecretString,
    pub url_file: Option<PathBuf>,
    #[serde(deserialize_with = "number")]
    pub connections: u32,
}

/// See `http` in `config/default.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Http {
    pub listen: SocketAddr,
    #[serde(deserialize_with = "wait")]
    pub first_byte_timeout: Duration,
    #[serde(deserialize_with = "wait")]
    pub head_timeout: Duration,
    #[serde(deserialize_with = "wait")]
    pub body_timeout: Duration,
    #[serde(deserialize_with = "wait")]
    pub idle_timeout: Duration,
    #[serde(deserialize_with = "number")]
    pub connections: u32,
    #[serde(deserialize_with = "number")]
    pub connections_per_client: u32,
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
}

/// See `admin` in `config/default.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Admin {
    pub listen: SocketAddr,
    pub token: Option<SecretString>,
    pub token_file: Option<PathBuf>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a person at a terminal.
    Text,
}

/// See `log` in `config/default.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}

/// See `shutdown` in `config/default.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Shutdown {
    #[serde(deserialize_with = "wait")]
    pub grace: Duration,
}

/// See `retry` in `config/default.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Retry {
    #[serde(deserialize_with = "waits")]
    pub delays: Vec<Duration>,
    #[serde(deserialize_with = "wait")]
    pub throttled_for: Duration,
    #[serde(deserialize_with = "wait")]
    pub blocked_pause: Duration,
}

/// See `ingest` in `config/default.yaml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Ingest {
    pub spool: Spool,
    pub sweep: Sweep,
}

/// See `ingest.spool` in `config/default.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Spool {
    pub directory: Option<PathBuf>,
    #[serde(deserialize_with = "number")]
    pub max_bytes: u64,
}

/// See `ingest.sweep` in `config/default.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Sweep {
    #[serde(deserialize_with = "wait")]
    pub every: Duration,
    #[serde(deserialize_with = "number")]
    pub overlap: u64,
}

/// See `roster` in `config/default.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Roster {
    #[serde(deserialize_with = "wait")]
    pub every: Duration,
    #[serde(deserialize_with = "wait")]
    pub absences_every: Duration,
}

/// See `router` and `notifier` in `config/default.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Stage {
    #[serde(deserialize_with = "number")]
    pub in_flight: u16,
}

/// See `keep` in `config/default.yaml`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Keep {
    #[serde(deserialize_with = "wait")]
    pub dead_letters: Duration,
    #[serde(deserialize_with = "wait")]
    pub decisions: Duration,
    #[serde(deserialize_with = "wait")]
    pub titles: Duration,
}

/// See `portal_requests` in `config/default.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct PortalRequests {
    #[serde(deserialize_with = "wait")]
    pub timeout: Duration,
    #[serde(deserialize_with = "boolean")]
    pub allow_http: bool,
}

/// See `portals` in `config/default.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Portal {
    pub name: PortalName,
    pub member_id: String,
    #[serde(default)]
    pub webhook_url: SecretString,
    pub webhook_url_file: Option<PathBuf>,
    #[serde(default)]
    pub application_token: SecretString,
    pub application_token_file: Option<PathBuf>,
    pub event_key: Option<SecretString>,
    pub event_key_file: Option<PathBuf>,
    pub robot_key: Option<SecretString>,
    pub robot_key_file: Option<PathBuf>,
    pub routing: PathBuf,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub notify: Notify,
    #[serde(default)]
    pub timeline: TimelineEntries,
    #[serde(default)]
    pub dead_letters: DeadLetters,
}

/// See `portals[].dead_letters` in `config/default.yaml`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct DeadLetters {
    pub tell: Option<UserId>,
}

/// See `portals[].limits` in `config/default.yaml`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Limits {
    #[serde(deserialize_with = "number")]
    pub burst: u32,
    #[serde(deserialize_with = "number")]
    pub per_second: u32,
    #[serde(deserialize_with = "number")]
    pub share: u32,
    #[serde(deserialize_with = "number")]
    pub method_seconds: u32,
}

/// Whether leads' timelines tell why they were given to whom, and in which language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimelineEntries {
    /// They do not.
    #[default]
    None,
    /// In English.
    En,
    /// In Russian.
    Ru,
}

/// The language of notices that are no assignment's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Russian.
    Ru,
}

/// How a person is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotifyChannel {
    /// From the employee who owns the webhook.
    Personal,
    /// From nobody.
    System,
    /// Not by us; the portal may tell the new owner by itself.
    None,
}

/// See `portals[].notify` in `config/default.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/default.yaml")]
pub struct Notify {
    pub channel: NotifyChannel,
    pub template: String,
    #[serde(deserialize_with = "number")]
    pub digest_over: u32,
    pub digest_template: String,
    pub language: Language,
}

impl Default for Amqp {
    fn default() -> Self {
        Self {
            url: "amqp://guest:guest@127.0.0.1:5672/%2f".into(),
            url_file: None,
            prefix: "rota".to_owned(),
            declare: true,
            publish_timeout: Duration::from_secs(2),
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self { url: "postgres://rota@127.0.0.1:5432/rota".into(), url_file: None, connections: 8 }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            first_byte_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            connections: 1024,
            connections_per_client: 64,
            trusted_proxies: [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]
                .map(IpNet::from)
                .into(),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9090)), token: None, token_file: None }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Json }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { grace: Duration::from_secs(40) }
    }
}

impl Default for Retry {
    fn default() -> Self {
        let RetryPolicy { delays, throttled_for, blocked_pause } = RetryPolicy::default();
        Self { delays, throttled_for, blocked_pause }
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self { directory: None, max_bytes: 64 * 1024 * 1024 }
    }
}

impl Default for Sweep {
    fn default() -> Self {
        Self { every: Duration::from_secs(30), overlap: 200 }
    }
}

impl Default for Roster {
    fn default() -> Self {
        Self { every: Duration::from_mins(1), absences_every: Duration::from_mins(10) }
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self { in_flight: 1000 }
    }
}

impl Default for Keep {
    fn default() -> Self {
        let days = |days: u64| Duration::from_hours(24 * days);
        Self { dead_letters: days(30), decisions: days(400), titles: days(7) }
    }
}

impl Default for PortalRequests {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), allow_http: false }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { burst: 50, per_second: 2, share: 100, method_seconds: 480 }
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            channel: NotifyChannel::Personal,
            template: "You have been assigned a new lead: {title} {link}".to_owned(),
            digest_over: 5,
            digest_template: "You have been assigned {count} new leads: {leads}".to_owned(),
            language: Language::En,
        }
    }
}

impl From<Limits> for BucketLimits {
    fn from(limits: Limits) -> Self {
        let Limits { burst, per_second, share, method_seconds: _ } = limits;
        Self { burst: (burst * share / 100).max(1), per_second: f64::from(per_second * share) / 100.0 }
    }
}

impl From<&Retry> for RetryPolicy {
    fn from(retry: &Retry) -> Self {
        Self {
            delays: retry.delays.clone(),
            throttled_for: retry.throttled_for,
            blocked_pause: retry.blocked_pause,
        }
    }
}
