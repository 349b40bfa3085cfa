//! A portal that answers as the test says, and a budget that grants when the test says.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bitrix24::transport::{Answer, TransportError};
use bitrix24::{Limiter, MethodTimes, Portal, PortalMetrics, Transport};
use common::address::{AddressError, PortalAddresses};
use common::budget::{BucketLimits, BudgetError, Grant, RequestBudget, Wish};
use common::clock::SystemClock;
use common::ids::{LeadId, PortalName};
use percent_encoding::percent_decode_str;
use prometheus::{Encoder, Registry, TextEncoder};
use serde_json::{Map, Value, json};

pub type Reply = Result<Answer, TransportError>;
type Script = dyn Fn(&str, &Value) -> Reply + Send + Sync;

/// Answers by a function and keeps what was asked.
pub struct FakePortal {
    script: Box<Script>,
    asked: Mutex<Vec<(String, Value)>>,
}

impl FakePortal {
    pub fn new(script: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { script: Box::new(script), asked: Mutex::new(Vec::new()) })
    }

    /// Gives one reply after the other.
    pub fn replying(replies: Vec<Reply>) -> Arc<Self> {
        let replies = Mutex::new(VecDeque::from(replies));
        Self::new(move |method, _| {
            let reply = replies.lock().unwrap().pop_front();
            reply.unwrap_or_else(|| panic!("no reply is left for {method}"))
        })
    }

    /// What it answers, without being asked.
    pub fn answer(&self, method: &str, params: &Value) -> Reply {
        (self.script)(method, params)
    }

    /// The methods asked for, in order.
    pub fn methods(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(method, _)| method.clone()).collect()
    }

    /// The parameters of the request at `index`.
    pub fn params(&self, index: usize) -> Value {
        self.asked.lock().unwrap()[index].1.clone()
    }
}

#[async_trait]
impl Transport for FakePortal {
    async fn send(&self, _: &str, method: &str, body: &Value) -> Reply {
        self.asked.lock().unwrap().push((method.to_owned(), body.clone()));
        (self.script)(method, body)
    }

    fn configured(&self) -> String {
        "portal.test".to_owned()
    }

    fn may_be_at(&self, _: &str) -> bool {
        false
    }
}

/// Remembers one host.
#[derive(Default)]
pub struct Addresses {
    host: Mutex<Option<String>>,
    pub looks: AtomicUsize,
    /// Whether it does not answer.
    pub hangs: AtomicBool,
    /// How long a write takes.
    pub writes_take: Mutex<Duration>,
}

impl Addresses {
    pub fn keeping(host: &str) -> Self {
        let addresses = Self::default();
        addresses.set(Some(host));
        addresses
    }

    pub fn set(&self, host: Option<&str>) {
        *self.host.lock().unwrap() = host.map(str::to_owned);
    }

    pub fn kept(&self) -> Option<String> {
        self.host.lock().unwrap().clone()
    }

    async fn answers(&self) {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    async fn writes(&self) {
        let time = *self.writes_take.lock().unwrap();
        tokio::time::sleep(time).await;
        self.answers().await;
    }
}

#[async_trait]
impl PortalAddresses for Addresses {
    async fn moved_to(&self, _: &PortalName, _: &str) -> Result<Option<String>, AddressError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.answers().await;
        Ok(self.kept())
    }

    async fn moved(&self, _: &PortalName, _: &str, host: &str) -> Result<(), AddressError> {
        self.writes().await;
        self.set(Some(host));
        Ok(())
    }

    async fn came_back(&self, _: &PortalName, _: &str, host: &str) -> Result<(), AddressError> {
        self.writes().await;
        if self.kept().as_deref() == Some(host) {
            self.set(None);
        }
        Ok(())
    }
}

/// A limiter that no test reaches the end of.
pub fn limiter(budget: Option<Arc<dyn RequestBudget>>) -> Limiter {
    Limiter::new(acme(), WIDE, MethodTimes::new(480.0, Arc::new(SystemClock)), budget)
}

/// A whole client on a fake portal.
pub struct Bench {
    pub portal: Portal,
    pub registry: Registry,
}

impl Bench {
    pub fn new(transport: Arc<FakePortal>) -> Self {
        Self::with_budget(transport, None)
    }

    pub fn with_budget(transport: Arc<FakePortal>, budget: Option<Arc<dyn RequestBudget>>) -> Self {
        let registry = Registry::new();
        let metrics = Arc::new(PortalMetrics::new(&registry).unwrap());
        Self { portal: Portal::new(acme(), transport, Arc::new(limiter(budget)), metrics), registry }
    }

    /// The value of one series, as Prometheus would read it.
    pub fn metric(&self, series: &str) -> String {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let line = text.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("{text}"));
        line.rsplit(' ').next().unwrap().to_owned()
    }
}

/// A limit that no test reaches.
pub const WIDE: BucketLimits = BucketLimits { burst: 10_000, per_second: 1_000.0 };

pub fn acme() -> PortalName {
    "acme".parse().unwrap()
}

pub fn lead(id: u64) -> LeadId {
    LeadId::new(id).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "a reply as the transport gives it")]
pub fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Ok(Answer { status, body: body.into(), ..Answer::default() })
}

pub fn result(result: Value) -> Reply {
    reply(200, json!({ "result": result }).to_string())
}

/// Leads as a portal has them that has all leads below `end` but those in `gone`; understands
/// `crm.lead.get`, `crm.lead.list` by `@ID`, and batches of these.
pub fn leads_below(end: u64, gone: &'static [u64]) -> impl Fn(&str, &Value) -> Reply + Send + Sync {
    let row = move |id: u64| {
        (id < end && !gone.contains(&id))
            .then(|| json!({"ID": id.to_string(), "ASSIGNED_BY_ID": "7", "TITLE": format!("Lead {id}")}))
    };
    move |method, params| match method {
        "crm.lead.get" => match row(params["id"].as_u64().unwrap()) {
            Some(lead) => result(lead),
            None => reply(400, include_str!("../fixtures/not_found.json")),
        },
        "crm.lead.list" => {
            let ids = params["filter"]["@ID"].as_array().unwrap();
            result(ids.iter().filter_map(|id| row(id.as_u64().unwrap())).collect())
        }
        "batch" => {
            let (mut results, mut errors) = (serde_json::Map::new(), serde_json::Map::new());
            for (key, command) in params["cmd"].as_object().unwrap() {
                match command.as_str().unwrap().split_once('?').unwrap() {
                    ("crm.lead.get", query) => {
                        if let Some(lead) = row(query.strip_prefix("id=").unwrap().parse().unwrap()) {
                            results.insert(key.clone(), lead);
                        } else {
                            let error = json!({"error": "", "error_description": "Not found"});
                            errors.insert(key.clone(), error);
                        }
                    }
                    (_, query) => {
                        let rows: Value = listed(query).into_iter().filter_map(row).collect();
                        results.insert(key.clone(), rows);
                    }
                }
            }
            result(json!({"result": results, "result_error": errors, "result_total": [], "result_next": []}))
        }
        other => panic!("unexpected method {other}"),
    }
}

/// The ids that a list in a batch asks for.
pub fn listed(query: &str) -> Vec<u64> {
    let id = |pair: &str| pair.strip_prefix("filter[%40ID][")?.split_once("]=")?.1.parse().ok();
    query.split('&').filter_map(id).collect()
}

/// The leads that a request asks for, by whatever method.
pub fn leads_of(method: &str, params: &Value) -> Vec<u64> {
    match method {
        "crm.lead.get" => vec![params["id"].as_u64().unwrap()],
        "crm.lead.list" => {
            params["filter"]["@ID"].as_array().unwrap().iter().filter_map(Value::as_u64).collect()
        }
        _ => {
            let commands = params["cmd"].as_object().unwrap().values().filter_map(Value::as_str);
            let of = |command: &str| {
                let (_, query) = command.split_once('?').unwrap();
                let one = query.strip_prefix("id=").and_then(|id| id.parse().ok());
                one.map_or_else(|| listed(query), |id| vec![id])
            };
            commands.flat_map(of).collect()
        }
    }
}

/// A budget that says "wait" until it is opened, and counts what it is asked and told.
#[derive(Default)]
pub struct FakeBudget {
    pub open: AtomicBool,
    pub broken: AtomicBool,
    pub asked: AtomicUsize,
    pub refusals: AtomicUsize,
}

impl FakeBudget {
    pub const WAIT: Duration = Duration::from_millis(500);

    pub fn opened() -> Arc<Self> {
        let budget = Self::default();
        budget.open.store(true, Ordering::SeqCst);
        Arc::new(budget)
    }

    fn works(&self, portal: &PortalName) -> Result<(), BudgetError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(BudgetError { portal: portal.clone(), source: "the store is away".into() });
        }
        Ok(())
    }
}

#[async_trait]
impl RequestBudget for FakeBudget {
    async fn take(&self, wish: Wish<'_>) -> Result<Grant, BudgetError> {
        self.works(wish.portal)?;
        self.asked.fetch_add(1, Ordering::SeqCst);
        let granted = self.open.load(Ordering::SeqCst);
        let wait = if granted { Duration::ZERO } else { Self::WAIT };
        Ok(Grant { granted, wait, level: 0.0, methods: Vec::new() })
    }

    async fn refused(&self, portal: &PortalName, _: BucketLimits) -> Result<(), BudgetError> {
        self.works(portal)?;
        self.refusals.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A portal whose batches are answered command by command: by its method and its decoded parameters.
pub fn by_command(
    answer: impl Fn(&str, &str) -> Result<Value, Value> + Send + Sync + 'static,
) -> Arc<FakePortal> {
    FakePortal::new(move |method, params| {
        assert_eq!(method, "batch");
        let (mut results, mut errors) = (Map::new(), Map::new());
        for (key, command) in params["cmd"].as_object().unwrap() {
            let (method, query) = command.as_str().unwrap().split_once('?').unwrap();
            match answer(method, &percent_decode_str(query).decode_utf8().unwrap()) {
                Ok(value) => results.insert(key.clone(), value),
                Err(error) => errors.insert(key.clone(), error),
            };
        }
        result(json!({ "result": results, "result_error": errors, "result_total": [], "result_next": [] }))
    })
}
