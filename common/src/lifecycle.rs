//! The life of a process: what runs, how it is, how it stops.
//!
//! Stopping: not ready, no new work, finish what runs within the grace, leave the rest
//! unacknowledged, close, flush. A second signal ends at once. A task that ends by itself or panics
//! makes the process stop with a failure, so that whoever supervises it starts a new one.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The wish to stop, to be watched by every task.
#[derive(Debug, Clone, Default)]
pub struct Stop(CancellationToken);

impl Stop {
    /// Resolves when the process shall stop.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// Whether the process shall stop.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Makes everything stop.
    pub fn request(&self) {
        self.0.cancel();
    }
}

/// What is wrong with this process, by the name of the check. Ready means: nothing. A warning is for a person to look at:
/// the process works, and must not be taken out of service.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<Checks>>);

#[derive(Debug, Default)]
struct Checks {
    failures: BTreeMap<String, String>,
    warnings: BTreeMap<String, String>,
}

impl Health {
    /// The check fails, and why.
    pub fn fail(&self, check: &str, why: &str) {
        self.lock().failures.insert(check.to_owned(), why.to_owned());
    }

    /// The check is all right.
    pub fn pass(&self, check: &str) {
        self.lock().failures.remove(check);
    }

    /// Everything that is wrong.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<String, String> {
        self.lock().failures.clone()
    }

    /// Sets or takes back the warning of a check.
    pub fn warn(&self, check: &str, why: Option<String>) {
        let warnings = &mut self.lock().warnings;
        match why {
            Some(why) => warnings.insert(check.to_owned(), why),
            None => warnings.remove(check),
        };
    }

    /// Everything that a person should look at.
    #[must_use]
    pub fn warnings(&self) -> BTreeMap<String, String> {
        self.lock().warnings.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Checks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tasks of a process.
#[derive(Debug)]
pub struct Lifecycle {
    stop: Stop,
    health: Health,
    tasks: JoinSet<&'static str>,
    names: BTreeMap<tokio::task::Id, &'static str>,
}

/// Why a process stopped without being told to, or did not stop in time.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// A task ended although nobody asked it to.
    #[error("task `{0}` ended by itself")]
    TaskEnded(&'static str),
    /// A task panicked.
    #[error("task `{name}` panicked")]
    TaskPanicked {
        /// Which.
        name: &'static str,
        /// The panic.
        #[source]
        source: tokio::task::JoinError,
    },
    /// The grace was over; what was unfinished stays unacknowledged and comes again.
    #[error("still running after the grace: {0}")]
    GraceOver(String),
}

impl Lifecycle {
    /// No tasks yet.
    #[must_use]
    pub fn new(stop: Stop, health: Health) -> Self {
        Self { stop, health, tasks: JoinSet::new(), names: BTreeMap::new() }
    }

    /// The wish to stop.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// How the process is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Starts a task that runs until told to stop.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(async move {
            task.await;
            name
        });
        self.names.insert(handle.id(), name);
    }

    /// Runs until told to stop or until a task dies, then stops everything within the grace.
    ///
    /// # Errors
    /// [`Stopped`]: not in order.
    pub async fn run(mut self, grace: Duration) -> Result<(), Stopped> {
        let stop = self.stop.clone();
        let ended = tokio::select! {
            () = stop.requested() => Ok(()),
            Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
        };
        self.health.fail("process", "stopping");
        stop.request();
        tracing::info!(event = "process.stopping", running = self.running());
        let rest = tokio::time::timeout(grace, async {
            let mut result = ended;
            while let Some(ended) = self.tasks.join_next_with_id().await {
                let ended = self.ended(ended);
                result = result.and(ended);
            }
            result
        });
        let result = rest.await;
        result.unwrap_or_else(|_| {
            let running = self.running();
            self.tasks.abort_all();
            Err(Stopped::GraceOver(running))
        })
    }

    fn ended(
        &mut self,
        ended: Result<(tokio::task::Id, &'static str), tokio::task::JoinError>,
    ) -> Result<(), Stopped> {
        match ended {
            Ok((id, name)) => {
                self.names.remove(&id);
                if self.stop.is_requested() { Ok(()) } else { Err(Stopped::TaskEnded(name)) }
            }
            Err(source) => {
                let name = self.names.remove(&source.id()).unwrap_or("unnamed");
                Err(Stopped::TaskPanicked { name, source })
            }
        }
    }

    fn running(&self) -> String {
        self.names.values().copied().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifecycle() -> Lifecycle {
        Lifecycle::new(Stop::default(), Health::default())
    }

    #[tokio::test]
    async fn a_task_that_ends_by_itself_stops_the_process_with_a_failure() {
        let mut lifecycle = lifecycle();
        let stop = lifecycle.stop();
        lifecycle.spawn("short", async {});
        lifecycle.spawn("long", async move { stop.requested().await });
        let stopped = lifecycle.run(Duration::from_secs(10)).await;
        assert!(matches!(stopped, Err(Stopped::TaskEnded("short"))), "{stopped:?}");
    }

    #[tokio::test]
    async fn told_to_stop_it_waits_for_its_tasks_and_is_not_ready() {
        let mut lifecycle = lifecycle();
        let (stop, health) = (lifecycle.stop(), lifecycle.health());
        let task = stop.clone();
        lifecycle.spawn("task", async move { task.requested().await });
        stop.request();
        assert!(lifecycle.run(Duration::from_secs(10)).await.is_ok());
        assert_eq!(health.failures().get("process").map(String::as_str), Some("stopping"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_outlasts_the_grace_is_named() {
        let mut lifecycle = lifecycle();
        lifecycle.spawn("stubborn", std::future::pending());
        lifecycle.stop().request();
        let stopped = lifecycle.run(Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(stopped.to_string(), "still running after the grace: stubborn");
    }
}
