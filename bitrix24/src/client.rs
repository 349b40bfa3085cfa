//! The client of one portal: [`Portal`]. Each request waits for a permit, is sent once, read,
//! classified and counted. Nothing is repeated here: whether to repeat is decided where the message
//! is settled, which also knows what a repeated request would do.
//!
//! Where a request goes is in `request`. The methods of leads are in [`crate::lead`], those of notices in
//! [`crate::notify`]; who wants to close a pack only when it may be sent takes a permit first ([`Portal::permit`]).

mod request;

pub use request::ON_ITS_WAY_WITHIN;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use common::address::PortalAddresses;
use common::budget::Purpose;
use common::ids::PortalName;
use common::telemetry::millis;
use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, sleep, timeout};

use crate::address::PortalAddress;
use crate::code::PortalCode;
use crate::command::{Command, MAX_COMMANDS, batch_body};
use crate::envelope::{self, Envelope, Timing};
use crate::error::PortalError;
use crate::limits::{self, Limiter};
use crate::method_time::{MethodTimes, Pace};
use crate::metrics::{PackKind, PortalMetrics};
use crate::readability::{Readability, Unreadable};
use crate::transport::Transport;

/// What a batch brought: one outcome a command, in the order of the commands.
pub type BatchOutcomes = Vec<Result<Value, PortalError>>;

/// What a command of a batch brought, and how many rows its list has in all where it was asked to count.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) outcome: Result<Value, PortalError>,
    pub(crate) total: Option<u64>,
}

/// The most unknown codes that are remembered as logged.
const UNKNOWN_CODES_MAX: usize = 100;

/// How often is looked whether requests under way have ended where a method is tight, and for how long: a
/// request takes no longer than that.
const UNDER_WAY_LOOK: Duration = Duration::from_millis(50);
const UNDER_WAY_MAX: Duration = Duration::from_mins(1);

/// How long a request waits behind those of more important purposes.
const GIVES_WAY_FOR: Duration = Duration::from_secs(30);

/// The right to send one request, and to use its methods while they are tight.
#[must_use = "a permit that is not spent slows everybody for nothing"]
#[derive(Debug)]
pub struct Permit {
    _request: limits::Permit,
    /// Held until the answer is here, so that it is known before the next one is sent.
    _alone: Option<OwnedMutexGuard<()>>,
}

/// One portal. Cheap to clone; clones share everything but what their requests are for.
#[derive(Clone)]
pub struct Portal {
    name: PortalName,
    transport: Arc<dyn Transport>,
    limiter: Arc<Limiter>,
    metrics: Arc<PortalMetrics>,
    purpose: Purpose,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Where it is asked.
    address: PortalAddress,
    /// Whoever uses a method that is tight.
    alone: Arc<Mutex<()>>,
    /// Codes that nobody knows and that were logged.
    unknown: SyncMutex<BTreeSet<String>>,
    /// Whether what it answers can be read.
    readability: Readability,
}

/// Methods that are not called at this moment, because they have used up their time.
#[derive(Debug, Clone, Default)]
pub struct Blocked(BTreeMap<String, PortalError>);

impl Blocked {
    /// Whether this command may be sent.
    #[must_use]
    pub fn allows(&self, command: &Command) -> bool {
        !self.0.contains_key(command.method())
    }
}

impl Portal {
    /// A client that sends by `transport` what `limiter` permits, for fresh leads. All clients of one
    /// portal in a process must share one limiter.
    #[must_use]
    pub fn new(
        name: PortalName,
        transport: Arc<dyn Transport>,
        limiter: Arc<Limiter>,
        metrics: Arc<PortalMetrics>,
    ) -> Self {
        metrics.start_at_zero(&name);
        Self { name, transport, limiter, metrics, purpose: Purpose::Fresh, shared: Arc::default() }
    }

    /// The same client, which keeps in `addresses` where the portal has moved to.
    #[must_use]
    pub fn remembering(mut self, addresses: Arc<dyn PortalAddresses>) -> Self {
        self.shared = Arc::new(Shared { address: PortalAddress::kept_in(addresses), ..Shared::default() });
        self
    }

    /// The same client for requests of another importance.
    #[must_use]
    pub fn for_purpose(&self, purpose: Purpose) -> Self {
        Self { purpose, ..self.clone() }
    }

    /// The portal's name in our configuration.
    #[must_use]
    pub fn name(&self) -> &PortalName {
        &self.name
    }

    /// What is known of the time that methods have used.
    #[must_use]
    pub fn methods(&self) -> &MethodTimes {
        self.limiter.methods()
    }

    /// What is wrong where the portal has answered nothing for a while that can be read, as this process has seen it. The
    /// metric goes along: that comes true by time alone, between two answers.
    #[must_use]
    pub fn unreadable(&self) -> Option<Unreadable> {
        let unreadable = self.shared.readability.unreadable();
        self.metrics.unreadable(&self.name, unreadable.is_some());
        unreadable
    }

    /// When an answer was read last.
    pub(crate) fn read_at(&self) -> Option<Instant> {
        self.shared.readability.read_at()
    }

    /// Whether a request more or less does not matter at this moment.
    #[must_use]
    pub fn has_plenty(&self) -> bool {
        self.limiter.has_plenty()
    }

    /// Waits until one request may be sent that uses `methods`, for the calls that end in `_with`.
    ///
    /// # Errors
    /// Throttled when the shared budget cannot be asked, or when one of the methods has used up its time.
    pub async fn permit(&self, methods: &[&str]) -> Result<Permit, PortalError> {
        // Before the turn, and before a caller notes what is sent: it may take as long as the store does.
        self.shared.address.look(self.of()).await;
        let started = Instant::now();
        let alone = match self.pace(methods)? {
            Pace::Free | Pace::Blocked(_) => None,
            Pace::Tight(_) => {
                let alone = Arc::clone(&self.shared.alone).lock_owned().await;
                // Much may have been told while others were at it, and what is under way is told in a moment.
                let until = Instant::now() + UNDER_WAY_MAX;
                while methods.iter().any(|method| self.methods().is_under_way(method))
                    && Instant::now() < until
                {
                    sleep(UNDER_WAY_LOOK).await;
                }
                if let Pace::Tight(wait) = self.pace(methods)? {
                    sleep(wait).await;
                }
                Some(alone)
            }
        };
        // Who gives way does so for a while: a backlog of hours must not keep us from knowing who is at work.
        let request = match timeout(GIVES_WAY_FOR, self.limiter.acquire(self.purpose)).await {
            Ok(request) => request?,
            Err(_) => self.limiter.acquire(Purpose::Fresh).await?,
        };
        self.metrics.waited(&self.name, started.elapsed());
        // Others may have been told meanwhile.
        self.pace(methods)?;
        Ok(Permit { _request: request, _alone: alone })
    }

    /// The slowest pace of these methods; an error where one is blocked.
    fn pace(&self, methods: &[&str]) -> Result<Pace, PortalError> {
        let mut slowest = Pace::Free;
        for method in methods {
            match (self.methods().pace(method), slowest) {
                (Pace::Blocked(wait), _) => return Err(blocked(method, wait)),
                (Pace::Tight(wait), Pace::Tight(longest)) => slowest = Pace::Tight(wait.max(longest)),
                (Pace::Tight(wait), Pace::Free | Pace::Blocked(_)) => slowest = Pace::Tight(wait),
                (Pace::Free, _) => {}
            }
        }
        Ok(slowest)
    }

    /// Calls `method` with the JSON object `params`.
    ///
    /// # Errors
    /// [`PortalError`], with its class; "there is no such lead" is an error here and has
    /// [`PortalError::is_not_found`]. A caller that is dropped may leave a request that runs.
    pub async fn call(&self, method: &str, params: &Value) -> Result<Envelope, PortalError> {
        self.call_with(self.permit(&[method]).await?, method, params).await
    }

    /// As [`Portal::call`], with a permit taken before.
    ///
    /// # Errors
    /// As [`Portal::call`].
    pub async fn call_with(
        &self,
        permit: Permit,
        method: &str,
        params: &Value,
    ) -> Result<Envelope, PortalError> {
        // Others may have been told since the permit was asked for.
        self.pace(&[method])?;
        let envelope = self.request(method, params).await.inspect_err(|error| self.note(method, error))?;
        self.told([(method, envelope.time)]);
        // One permit, one request.
        drop(permit);
        Ok(envelope)
    }

    /// As [`Portal::batch_with`], with a permit of its own.
    ///
    /// # Errors
    /// As [`Portal::batch_with`].
    pub async fn batch(&self, commands: &[Command]) -> Result<BatchOutcomes, PortalError> {
        check_size(commands)?;
        self.batch_with(self.permit(&[]).await?, commands).await
    }

    /// Runs up to 50 commands, one after the other, in one request. A command that fails does not
    /// stop those behind it. A command whose method has used up its time is not sent and has
    /// [`PortalError::MethodBlocked`] for its outcome.
    ///
    /// # Errors
    /// The request as a whole; then nothing is known of any command when
    /// [`PortalError::is_ambiguous`], and none ran otherwise. Permanent for an empty batch or more
    /// than [`MAX_COMMANDS`]. Inside the outcomes: each command's own failure.
    ///
    /// Source: page "Batch requests".
    pub async fn batch_with(
        &self,
        permit: Permit,
        commands: &[Command],
    ) -> Result<BatchOutcomes, PortalError> {
        let blocked = self.blocked(commands);
        self.batch_without(permit, commands, &blocked).await
    }

    /// Which methods of these commands have used up their time.
    #[must_use]
    pub fn blocked(&self, commands: &[Command]) -> Blocked {
        let of = |command: &Command| {
            let method = command.method();
            self.pace(&[method]).err().map(|error| (method.to_owned(), error))
        };
        Blocked(commands.iter().filter_map(of).collect())
    }

    /// As [`Portal::batch_with`], for a caller that has noted before what is sent: the commands of these methods are
    /// not, and all others are.
    ///
    /// # Errors
    /// As [`Portal::batch_with`].
    pub async fn batch_without(
        &self,
        permit: Permit,
        commands: &[Command],
        blocked: &Blocked,
    ) -> Result<BatchOutcomes, PortalError> {
        let counted = self.batch_of_allowed(permit, commands, blocked).await?;
        Ok(counted.into_iter().map(|counted| counted.outcome).collect())
    }

    pub(crate) async fn batch_of_allowed(
        &self,
        permit: Permit,
        commands: &[Command],
        blocked: &Blocked,
    ) -> Result<Vec<Counted>, PortalError> {
        check_size(commands)?;
        let sent: Vec<&Command> = commands.iter().filter(|command| blocked.allows(command)).collect();
        let (outcomes, totals) =
            if sent.is_empty() { Default::default() } else { self.batch_of(permit, &sent, false).await? };
        let mut outcomes = outcomes.into_iter().zip(totals);
        let counted = |command: &Command| {
            let (outcome, total) = match blocked.0.get(command.method()) {
                None => outcomes.next().unwrap_or((Err(PortalError::Interrupted), None)),
                Some(blocked) => (Err(blocked.clone()), None),
            };
            Counted { outcome, total }
        };
        Ok(commands.iter().map(counted).collect())
    }

    /// As [`Portal::batch`], with the number of rows of each list besides.
    ///
    /// # Errors
    /// As [`Portal::batch_with`].
    pub(crate) async fn batch_counted(&self, commands: &[Command]) -> Result<Vec<Counted>, PortalError> {
        check_size(commands)?;
        let permit = self.permit(&[]).await?;
        self.batch_of_allowed(permit, commands, &self.blocked(commands)).await
    }

    /// As [`Portal::batch_with`], but the first command that fails is the last one that runs: those behind
    /// it have [`PortalError::NotRun`]. Commands may refer to the results of those before them. Nothing is
    /// sent when one of the methods has used up its time.
    ///
    /// # Errors
    /// As [`Portal::batch_with`].
    pub(crate) async fn batch_until_failure(
        &self,
        permit: Permit,
        commands: &[Command],
    ) -> Result<BatchOutcomes, PortalError> {
        check_size(commands)?;
        let methods: Vec<&str> = commands.iter().map(Command::method).collect();
        self.pace(&methods)?;
        let all: Vec<&Command> = commands.iter().collect();
        let (mut outcomes, _) = self.batch_of(permit, &all, true).await?;
        if let Some(failed) =
            outcomes.iter().position(|outcome| outcome.as_ref().is_err_and(|error| !error.is_ambiguous()))
        {
            for (outcome, method) in outcomes.iter_mut().zip(methods).skip(failed + 1) {
                *outcome = Err(PortalError::NotRun { method: method.to_owned() });
            }
        }
        Ok(outcomes)
    }

    async fn batch_of(
        &self,
        permit: Permit,
        commands: &[&Command],
        halt: bool,
    ) -> Result<(BatchOutcomes, Vec<Option<u64>>), PortalError> {
        let (body, keys) = batch_body(commands, halt);
        let _under_way = UnderWay::of(self, commands);
        let envelope = self.call_with(permit, "batch", &body).await?;
        self.told(envelope::batch_times(&envelope.result, &keys));
        let totals = envelope::batch_totals(&envelope.result, &keys);
        let outcomes = envelope::read_batch(envelope.result, &keys)?;
        for (outcome, (_, method)) in outcomes.iter().zip(&keys) {
            if let Err(error) = outcome {
                self.note(method, error);
            }
        }
        Ok((outcomes, totals))
    }

    /// What answers said about the time of methods: the last word of each method, and what it took in all.
    fn told<'a>(&self, times: impl IntoIterator<Item = (&'a str, Timing)>) {
        let mut methods: BTreeMap<&str, (Timing, u32, f64)> = BTreeMap::new();
        for (method, time) in times.into_iter().filter(|(method, _)| *method != "batch") {
            let (last, calls, seconds) = methods.entry(method).or_default();
            *last = time;
            *calls += 1;
            *seconds += time.duration.unwrap_or_default();
        }
        for (method, (time, calls, seconds)) in methods {
            self.metrics.told(&self.name, method, time);
            self.methods().told(method, time, calls, seconds);
        }
    }

    /// What an error of `method` says beyond this request.
    fn note(&self, method: &str, error: &PortalError) {
        if error.is_operation_time_limit() {
            let wait = self.methods().refused(method);
            tracing::warn!(event = "portal.method_blocked", portal = %self.name, method, wait_ms = millis(wait));
        }
        if let PortalError::Refused { code: PortalCode::Other(code), status, description, .. } = error {
            let mut unknown = self.shared.unknown.lock().unwrap_or_else(PoisonError::into_inner);
            if unknown.len() < UNKNOWN_CODES_MAX && unknown.insert(code.clone()) {
                tracing::warn!(
                    event = "portal.unknown_code", portal = %self.name, method, code, status, description,
                    "an error code that is not known; it is taken for a failure of the moment",
                );
            }
        }
    }

    /// The portal's clock. Cheap; also shows whether the webhook is accepted at all.
    ///
    /// # Errors
    /// As [`Portal::call`].
    ///
    /// Source: page "Get Current Server Time", `"2024-08-05T09:02:13+00:00"`.
    pub async fn server_time(&self) -> Result<jiff::Timestamp, PortalError> {
        const METHOD: &str = "server.time";
        let envelope = self.call(METHOD, &Value::Object(serde_json::Map::new())).await?;
        envelope
            .result
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| PortalError::Unexpected { method: METHOD.to_owned(), expected: "a time" })
    }

    /// Counts a pack and the time its request took for the metrics; whoever packs calls it once a
    /// request, when it has ended.
    pub fn count_pack(&self, kind: PackKind, leads: usize, took: Duration) {
        self.metrics.packed(&self.name, kind, leads, took);
    }
}

/// The calls of a batch count as under way as long as this lives.
struct UnderWay<'a> {
    methods: &'a MethodTimes,
    seconds: Vec<(&'static str, f64)>,
}

impl<'a> UnderWay<'a> {
    fn of(portal: &'a Portal, commands: &[&Command]) -> Self {
        let mut calls: BTreeMap<&'static str, u32> = BTreeMap::new();
        for command in commands {
            *calls.entry(command.method()).or_default() += 1;
        }
        let methods = portal.methods();
        let seconds = calls.into_iter().map(|(method, calls)| (method, methods.begun(method, calls)));
        Self { methods, seconds: seconds.collect() }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        for (method, seconds) in &self.seconds {
            self.methods.ended(method, *seconds);
        }
    }
}

fn blocked(method: &str, wait: Duration) -> PortalError {
    PortalError::MethodBlocked { method: method.to_owned(), wait }
}

fn check_size(commands: &[Command]) -> Result<(), PortalError> {
    if (1..=MAX_COMMANDS).contains(&commands.len()) {
        Ok(())
    } else {
        Err(PortalError::BatchSize { count: commands.len() })
    }
}
