//! A private Prometheus server, the exporter that tells it of PostgreSQL, and its tool for checking files.
//!
//! Both servers need no user of their own and keep nothing worth saving, so they are killed when they are dropped. What
//! is scraped, and by which rules alerts are raised, is the caller's: one file, as an installation would have it.

use std::fs;
use std::io::{Seek, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use super::find;
use super::process::{Process, Program, with_a_port_of_its_own};

/// Prometheus answers after 0.3 s, the exporter after 0.1 s, on two cores that builds use too.
const START_DEADLINE: Duration = crate::HANG;
/// What Prometheus writes to its log when rules are loaded and queries are answered.
const READY: &str = "Server is ready to receive web requests";

/// A running server with its data. Dropping it kills it; the directory is its giver's to remove.
#[derive(Debug)]
pub struct Prometheus {
    address: String,
    // Dropping it is what ends the server.
    _server: Process,
}

impl Prometheus {
    /// Starts a server with its files in `<dir>/prometheus` and returns when it answers queries. `config` is given the
    /// server's own address, `127.0.0.1:<port>`, and returns the text of `prometheus.yml`; paths in it are relative to
    /// `dir`. Blocks for a fraction of a second.
    ///
    /// # Errors
    ///
    /// Prometheus is not installed, or does not start, which a wrong configuration or rule is a reason for; the text
    /// says what to install, or ends with the server's log.
    pub fn start(dir: &Path, mut config: impl FnMut(&str) -> String) -> anyhow::Result<Self> {
        with_a_port_of_its_own(|| Self::launch(dir, &mut config))
    }

    /// The address of its HTTP interface, `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `127.0.0.1:<port>`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    fn launch(dir: &Path, config: &mut impl FnMut(&str) -> String) -> anyhow::Result<Self> {
        let path = find::prometheus("prometheus")?;
        let address = format!("127.0.0.1:{}", find::free_port()?);
        let (file, data) = (dir.join("prometheus.yml"), dir.join("prometheus"));
        fs::create_dir_all(&data).with_context(|| format!("make {}", data.display()))?;
        fs::write(&file, config(&address)).with_context(|| format!("write {}", file.display()))?;
        let log = data.join("server.log");
        let program = Program {
            path,
            args: vec![
                format!("--config.file={}", file.display()),
                format!("--storage.tsdb.path={}", data.join("tsdb").display()),
                format!("--web.listen-address={address}"),
            ],
            env: Vec::new(),
            dir,
            log: log.clone(),
            user: None,
        };
        let is_ready = || fs::read_to_string(&log).is_ok_and(|text| text.contains(READY));
        let server = program.start_until("Prometheus", START_DEADLINE, is_ready)?;
        Ok(Self { address, _server: server })
    }
}

/// A running exporter: it asks a PostgreSQL server whenever it is asked itself. Dropping it kills it.
#[derive(Debug)]
pub struct PostgresExporter {
    address: String,
    _server: Process,
}

impl PostgresExporter {
    /// Starts it for the server of `database_url`, with its log in `dir`, and returns when it listens.
    ///
    /// # Errors
    ///
    /// It is not installed or does not start; the text says what to install, or ends with its log.
    pub fn start(dir: &Path, database_url: &str) -> anyhow::Result<Self> {
        with_a_port_of_its_own(|| Self::launch(dir, database_url))
    }

    /// `127.0.0.1:<port>`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    fn launch(dir: &Path, database_url: &str) -> anyhow::Result<Self> {
        let port = find::free_port()?;
        let address = format!("127.0.0.1:{port}");
        let program = Program {
            path: find::postgres_exporter()?,
            args: vec![format!("--web.listen-address={address}")],
            // The private server has no certificate.
            env: vec![("DATA_SOURCE_NAME", format!("{database_url}?sslmode=disable"))],
            dir,
            log: dir.join("postgres-exporter.log"),
            user: None,
        };
        let is_open = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        let server = program.start_until("the exporter of PostgreSQL", START_DEADLINE, is_open)?;
        Ok(Self { address, _server: server })
    }
}

/// Runs `promtool ARGS…` in `dir`, with `input` for its standard input, and returns what it printed.
///
/// # Errors
///
/// It is not installed, or it found something, which the text has.
pub fn promtool(dir: &Path, args: &[&str], input: &str) -> anyhow::Result<String> {
    // From a file: what is written to a pipe waits for whoever reads it.
    let file = tempfile::tempfile().and_then(|mut file| {
        file.write_all(input.as_bytes())?;
        file.rewind()?;
        Ok(file)
    });
    let output = Command::new(find::prometheus("promtool")?)
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::from(file.context("make a temporary file")?))
        .output()
        .context("start promtool")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let printed = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
    if !output.status.success() {
        bail!("promtool {} ended with {}\n{}", args.join(" "), output.status, printed.trim());
    }
    Ok(printed)
}
