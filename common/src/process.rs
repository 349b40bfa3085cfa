//! The outside of every stage: arguments, configuration, logs, signals, exit code.
//!
//! ```text
//! arguments → configuration (no port open yet; wrong: exit 64) → logs → listeners → run → exit code
//! ```
//!
//! Exit codes: 0 stopped in order, 1 crashed or did not stop in time, 64 wrong configuration or
//! arguments, 69 a health check of a process that is not ready.

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use prometheus::{IntGauge, Registry};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{self, Admin};
use crate::broker::Broker;
use crate::broker::rabbitmq::{RabbitMq, Settings};
use crate::broker::settle::Settler;
use crate::broker::topology::Topology;
use crate::broker::worker::Surroundings;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConfigError, DEFAULT_YAML, Reader};
use crate::descriptors;
use crate::failure::chain;
use crate::lifecycle::{Health, Lifecycle, Stop};
use crate::metrics::{BrokerMetrics, WorkerMetrics, registry};
use crate::retry::RetryPolicy;
use crate::server::ServersMetrics;
use crate::telemetry;

const WRONG_CONFIGURATION: u8 = 64;
const NOT_READY: u8 = 69;
const SECOND_SIGNAL: i32 = 130;

#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file (YAML); all keys are listed by `config-defaults`.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Reads the configuration, says what is wrong with it, and ends.
    CheckConfig,
    /// Prints all keys with their meaning and default.
    ConfigDefaults,
    /// Asks the process that runs with this configuration whether it is ready.
    Healthcheck,
}

/// What a stage gets to work with.
pub struct Context {
    /// Its name: `ingest`, `router`, `notifier`.
    pub stage: &'static str,
    /// The configuration.
    pub config: Arc<Config>,
    /// The names on the broker.
    pub topology: Arc<Topology>,
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where metrics are registered.
    pub registry: Registry,
    /// What is counted of its HTTP servers.
    pub servers: ServersMetrics,
    /// The tasks.
    pub lifecycle: Lifecycle,
}

impl Context {
    /// Everything that a stage has in common with the others, started: connection to the broker and
    /// the admin endpoints on `admin`.
    ///
    /// # Errors
    /// When a metric's name is taken.
    pub fn start(
        stage: &'static str,
        config: Config,
        admin: TcpListener,
        stop: Stop,
    ) -> anyhow::Result<Self> {
        let registry = registry(stage)?;
        let health = Health::default();
        // Not ready before the stage has opened what it needs and runs.
        health.fail("process", "starting");
        let portals = config.portals.iter().map(|portal| portal.name.clone());
        let topology = Arc::new(Topology::new(&config.amqp.prefix, &config.retry.delays, portals));
        let settings = Settings {
            url: config.amqp.url.clone(),
            name: format!("{stage}/{}", std::process::id()),
            declare: config.amqp.declare,
            publish_timeout: config.amqp.publish_timeout,
        };
        let metrics = BrokerMetrics::register(&registry)?;
        let broker: Arc<dyn Broker> = Arc::new(RabbitMq::start(&settings, Arc::clone(&topology), metrics));
        let mut lifecycle = Lifecycle::new(stop.clone(), health.clone());
        let ready =
            IntGauge::new("rota_ready", "1 while /ready answers 200: nothing is wrong with this process")?;
        registry.register(Box::new(ready.clone()))?;
        let servers = ServersMetrics::register(&registry)?;
        let shown = Admin {
            health,
            registry: registry.clone(),
            ready_gauge: ready,
            broker: Arc::clone(&broker),
            token: config.admin.token.clone(),
        };
        lifecycle.spawn("admin", admin::serve(admin, shown, servers.of("admin"), stop));
        let clock = Arc::new(SystemClock);
        Ok(Self { stage, config: Arc::new(config), topology, broker, clock, registry, servers, lifecycle })
    }

    /// What the workers of this stage share.
    ///
    /// # Errors
    /// When a metric's name is taken.
    pub fn surroundings(&self) -> anyhow::Result<Surroundings> {
        let portals = self.config.portals.iter().map(|portal| &portal.name);
        Ok(Surroundings {
            broker: Arc::clone(&self.broker),
            settler: Settler::new(Arc::clone(&self.broker), Arc::clone(&self.topology)),
            policy: Arc::new(RetryPolicy::from(&self.config.retry)),
            clock: Arc::clone(&self.clock),
            metrics: Arc::new(WorkerMetrics::register(&self.registry, portals)?),
            health: self.lifecycle.health(),
        })
    }

    /// Waits for something that a start needs, such as the database, but not beyond the wish to stop.
    ///
    /// # Errors
    /// What the wait failed with, and [`Interrupted`] when the process shall stop.
    pub async fn unless_stopped<T, E>(&self, wait: impl Future<Output = Result<T, E>>) -> anyhow::Result<T>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let stop = self.lifecycle.stop();
        tokio::select! {
            () = stop.requested() => Err(Interrupted.into()),
            result = wait => Ok(result?),
        }
    }

    /// Runs until told to stop, then stops in order.
    ///
    /// # Errors
    /// When a task died or the grace was over.
    pub async fn run(self) -> anyhow::Result<()> {
        self.lifecycle.health().pass("process");
        tracing::info!(event = "process.started", stage = self.stage, portals = self.config.portals.len());
        let stopped = self.lifecycle.run(self.config.shutdown.grace).await;
        self.broker.close().await;
        stopped?;
        tracing::info!(event = "process.stopped", stage = self.stage);
        Ok(())
    }
}

/// A stage's `main`: everything around `run`. `reader` says which secrets it reads; `check` finds what is wrong with the
/// files and addresses that a configuration names, without opening anything.
pub fn main<F>(
    stage: &'static str,
    reader: Reader,
    check: impl FnOnce(&Config) -> Result<(), ConfigError>,
    run: impl FnOnce(Context) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let parsed = Arguments::command().name(stage).try_get_matches();
    let arguments = match parsed.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(help) => {
            let code =
                if help.use_stderr() { ExitCode::from(WRONG_CONFIGURATION) } else { ExitCode::SUCCESS };
            drop(help.print());
            return code;
        }
    };
    if matches!(arguments.command, Some(Command::ConfigDefaults)) {
        say(DEFAULT_YAML);
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(reader, arguments.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            complain(stage, &error.to_string());
            return ExitCode::from(WRONG_CONFIGURATION);
        }
    };
    if matches!(arguments.command, Some(Command::Healthcheck)) {
        return match admin::check(&config.admin) {
            Ok(warnings) => {
                for (check, warning) in warnings {
                    complain(stage, &format!("warning: {check}: {warning}"));
                }
                ExitCode::SUCCESS
            }
            Err(error) => {
                complain(stage, &format!("{error:#}"));
                ExitCode::from(NOT_READY)
            }
        };
    }
    let none =
        || ConfigError(vec!["portals: there is none; `config-defaults` shows how to write one".to_owned()]);
    let usable = if config.portals.is_empty() { Err(none()) } else { check(&config) };
    if let Err(error) = usable {
        complain(stage, &error.to_string());
        return ExitCode::from(WRONG_CONFIGURATION);
    }
    match arguments.command {
        Some(Command::CheckConfig) => {
            say(&format!("{stage}: the configuration is in order, {} portal(s)\n", config.portals.len()));
            return ExitCode::SUCCESS;
        }
        Some(Command::ConfigDefaults | Command::Healthcheck) | None => {}
    }
    match serve(stage, config, run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => ExitCode::SUCCESS,
        Err(error) => {
            complain(stage, &format!("{error:#}"));
            if error.is::<WrongSetup>() { ExitCode::from(WRONG_CONFIGURATION) } else { ExitCode::FAILURE }
        }
    }
}

/// The process was told to stop before it had started.
#[derive(Debug, thiserror::Error)]
#[error("stopped before it had started")]
pub struct Interrupted;

/// A setting that only shows as wrong when it is used, such as an unknown log filter.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongSetup(pub String);

#[tokio::main]
async fn serve<F>(stage: &'static str, config: Config, run: impl FnOnce(Context) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    telemetry::start(&config.log.level, config.log.format)
        .map_err(|error| WrongSetup(format!("log.level: {error}")))?;
    descriptors::raise();
    let stop = Stop::default();
    watch_signals(stop.clone())?;
    let listen = config.admin.listen;
    let admin =
        TcpListener::bind(listen).await.with_context(|| format!("admin.listen: cannot open {listen}"))?;
    let context = Context::start(stage, config, admin, stop)?;
    let result = run(context).await;
    if let Err(error) = &result
        && !error.is::<Interrupted>()
    {
        tracing::error!(event = "process.failed", stage, error = chain(error.as_ref()));
    }
    result
}

fn watch_signals(stop: Stop) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                stop.request();
            } else {
                tracing::warn!(event = "process.second_signal");
                std::process::exit(SECOND_SIGNAL);
            }
        }
    });
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answer to a command that a person typed")]
fn say(text: &str) {
    print!("{text}");
}

fn complain(stage: &str, text: &str) {
    for line in text.lines() {
        eprintln!("{stage}: {line}");
    }
}
