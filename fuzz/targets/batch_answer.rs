//! Whatever a portal answers to a batch, each command has one outcome or the whole request has an error.
//!
//! The first byte chooses the HTTP status, the rest is the body.

#![no_main]

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use async_trait::async_trait;
use bitrix24::transport::{Answer, Transport, TransportError};
use bitrix24::{Command, Limiter, MethodTimes, Portal, PortalMetrics};
use common::budget::BucketLimits;
use common::clock::SystemClock;
use common::ids::PortalName;
use libfuzzer_sys::fuzz_target;
use prometheus::Registry;
use serde_json::{Map, Value};
use tokio::runtime::{Builder, Runtime};

const STATUSES: [u16; 7] = [200, 200, 400, 401, 429, 503, 504];

/// Answers what it was given.
#[derive(Default)]
struct Given(Mutex<(u16, Vec<u8>)>);

#[async_trait]
impl Transport for Given {
    async fn send(&self, _: &str, _: &str, _: &Value) -> Result<Answer, TransportError> {
        let (status, body) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Answer { status, body, ..Answer::default() })
    }

    fn configured(&self) -> String {
        "acme.test".to_owned()
    }

    fn may_be_at(&self, _: &str) -> bool {
        false
    }
}

struct Bench {
    runtime: Runtime,
    given: Arc<Given>,
    metrics: Arc<PortalMetrics>,
    commands: Vec<Command>,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let command = |method| Command::new(method, Map::new());
    let metrics = PortalMetrics::new(&Registry::new()).unwrap_or_else(|error| panic!("{error}"));
    Bench {
        runtime: Builder::new_current_thread().enable_time().build().unwrap_or_else(|error| panic!("{error}")),
        given: Arc::default(),
        metrics: Arc::new(metrics),
        commands: ["crm.lead.get", "crm.lead.update", "im.notify.personal.add"].map(command).into(),
    }
});

/// A portal of which nothing was heard yet: an answer may say that all the time of a method is used.
fn portal() -> Portal {
    let name: PortalName = "acme".parse().unwrap_or_else(|error| panic!("{error}"));
    let limits = BucketLimits { burst: 50, per_second: 2.0 };
    let limiter = Limiter::new(name.clone(), limits, MethodTimes::new(480.0, Arc::new(SystemClock)), None);
    let transport = Arc::<Given>::clone(&BENCH.given);
    Portal::new(name, transport, Arc::new(limiter), Arc::clone(&BENCH.metrics))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    let bench = &*BENCH;
    let status = STATUSES[usize::from(*first) % STATUSES.len()];
    *bench.given.0.lock().unwrap_or_else(PoisonError::into_inner) = (status, body.to_vec());
    match bench.runtime.block_on(portal().batch(&bench.commands)) {
        Ok(outcomes) => assert_eq!(outcomes.len(), bench.commands.len()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
