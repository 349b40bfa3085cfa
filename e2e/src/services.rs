//! Private RabbitMQ and PostgreSQL servers for tests and the demo, with no container engine.
//!
//! The servers of the system's packages are run as child processes: on free loopback ports, with all their files in
//! one directory, beside and untouched by any server that the machine runs as a service. They end with this process,
//! however it ends (see `process.rs`). `e2e/scripts/install-services` installs the packages.
//!
//! In order of reading: [`rabbitmq`], [`postgres`], [`prometheus`] (only where a test looks at figures), [`caddy`]
//! (only where one looks at the proxy), then `process`
//! (children), `scratch` (the directory), `find` (installed programs, free ports).

pub mod caddy;
pub mod postgres;
pub mod prometheus;
pub mod rabbitmq;

pub(crate) mod find;
pub(crate) mod process;
mod scratch;

use std::thread;

use anyhow::anyhow;

pub use caddy::Caddy;
pub use postgres::{Postgres, create_database, psql};
pub use prometheus::{PostgresExporter, Prometheus, promtool};
pub use rabbitmq::RabbitMq;
pub use scratch::ScratchDir;

/// Both servers in one temporary directory. Dropping it stops them and removes the directory.
#[derive(Debug)]
pub struct Services {
    /// The broker.
    pub rabbitmq: RabbitMq,
    /// The database server.
    pub postgres: Postgres,
    // Last: fields are dropped in this order, and a server must have ended before its files go.
    dir: ScratchDir,
}

impl Services {
    /// Starts both at the same time and returns when both answer. Blocks for some seconds.
    ///
    /// # Errors
    ///
    /// A server is not installed or does not start; the text says what to install, or ends with the server's log.
    pub fn start() -> anyhow::Result<Self> {
        let dir = ScratchDir::new()?;
        let (rabbitmq, postgres) = thread::scope(|scope| {
            let rabbitmq = scope.spawn(|| RabbitMq::start(dir.path()));
            let postgres = Postgres::start(dir.path());
            let rabbitmq =
                rabbitmq.join().unwrap_or_else(|_| Err(anyhow!("the thread that starts RabbitMQ panicked")));
            (rabbitmq, postgres)
        });
        Ok(Self { rabbitmq: rabbitmq?, postgres: postgres?, dir })
    }

    /// The directory with everything that the servers write.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}
