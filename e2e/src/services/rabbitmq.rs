//! A private RabbitMQ node.
//!
//! All that two nodes on a machine would share is set apart: name, ports, data, logs, settings, Erlang cookie, and the
//! name daemon `epmd`, which Erlang would otherwise start for the whole machine and leave running.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;

use super::find;
use super::process::{Process, Program, log_tail, wait_until};
use crate::least_rights::definitions;

/// It answers after 4–7 s on two cores that builds use too.
const START_DEADLINE: Duration = crate::HANG;
/// It takes 1–2 s, longer with many queues.
const STOP_DEADLINE: Duration = crate::HANG;
/// Another process may take a port between our choice and the server's start; thrice in a row is no accident.
const START_TRIES: usize = 3;
/// The share of the machine's memory above which the node blocks publishers, and one that is always exceeded.
const MEMORY_LIMIT: &str = "0.6";
const MEMORY_LIMIT_EXCEEDED: &str = "0.00001";

/// A running, or stopped, node with its data. Dropping it kills the node; the directory is its giver's to remove.
#[derive(Debug)]
pub struct RabbitMq {
    scripts: PathBuf,
    dir: PathBuf,
    ports: Ports,
    running: Option<Running>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    amqp: u16,
    distribution: u16,
    epmd: u16,
    metrics: Option<u16>,
}

#[derive(Debug)]
struct Running {
    // First: a node that misses its epmd starts another one.
    server: Process,
    _epmd: Process,
}

impl RabbitMq {
    /// Starts a node with its files in `<dir>/rabbitmq-<port>` and returns when it speaks AMQP. Blocks for seconds.
    ///
    /// # Errors
    ///
    /// RabbitMQ is not installed or does not start; the text says what to install, or ends with the node's log.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        Self::start_as(dir, false)
    }

    /// As [`RabbitMq::start`], with the plugin that tells Prometheus of the node. It takes some seconds longer, so only
    /// who looks at figures asks for it.
    ///
    /// # Errors
    ///
    /// As [`RabbitMq::start`].
    pub fn start_with_metrics(dir: &Path) -> anyhow::Result<Self> {
        Self::start_as(dir, true)
    }

    fn start_as(dir: &Path, metrics: bool) -> anyhow::Result<Self> {
        let scripts = find::rabbitmq_scripts()?;
        for _ in 1..START_TRIES {
            let mut node = Self::prepare(&scripts, dir, metrics)?;
            match node.launch() {
                Err(error) if is_port_conflict(&error) => {}
                result => return result.map(|()| node),
            }
        }
        let mut node = Self::prepare(&scripts, dir, metrics)?;
        node.launch().map(|()| node)
    }

    /// `amqp://guest:guest@127.0.0.1:<port>/%2f`. It stays the same over restarts. For the users of the stages see
    /// [`crate::least_rights`].
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.ports.amqp)
    }

    /// The AMQP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// Where Prometheus finds its figures, `127.0.0.1:<port>`; `None` unless started by
    /// [`RabbitMq::start_with_metrics`].
    #[must_use]
    pub fn metrics_address(&self) -> Option<String> {
        self.ports.metrics.map(|port| format!("127.0.0.1:{port}"))
    }

    /// The node's process id; `None` while it is stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.server.id())
    }

    /// Stops it in order, as an administrator would: clients are told. Nothing to do if it is stopped.
    ///
    /// # Errors
    ///
    /// It did not end in time and was killed.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        match self.running.take() {
            Some(mut running) => running.server.stop(Signal::TERM, STOP_DEADLINE).context("stop RabbitMQ"),
            None => Ok(()),
        }
    }

    /// Kills it with SIGKILL: connections break, nothing is flushed. Nothing to do if it is stopped.
    pub fn kill(&mut self) {
        drop(self.running.take());
    }

    /// Kills it, deletes all its data, and starts it again with the same ports: a disk that was lost.
    ///
    /// # Errors
    ///
    /// Its data cannot be deleted, or it does not start in time.
    pub fn lose_disk(&mut self) -> anyhow::Result<()> {
        self.kill();
        fs::remove_dir_all(self.dir.join("data")).context("delete RabbitMQ's data")?;
        fs::create_dir_all(self.dir.join("data"))?;
        self.launch()
    }

    /// Stops it, if it runs, and starts it again with the same ports and data. To restart after a crash, call
    /// [`RabbitMq::kill`] before.
    ///
    /// # Errors
    ///
    /// It does not stop or start in time.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.launch()
    }

    /// The node's log so far.
    #[must_use]
    pub fn log_text(&self) -> String {
        fs::read_to_string(self.dir.join("log/node.log")).unwrap_or_default()
    }

    /// Raises or clears the memory alarm. Under it the node accepts connections but reads nothing from those that
    /// publish: they are told `connection.blocked`, and wait. **Source:** <https://www.rabbitmq.com/docs/alarms>.
    ///
    /// # Errors
    ///
    /// As [`RabbitMq::rabbitmqctl`].
    pub fn set_memory_alarm(&self, raised: bool) -> anyhow::Result<()> {
        let limit = if raised { MEMORY_LIMIT_EXCEEDED } else { MEMORY_LIMIT };
        self.rabbitmqctl(&["set_vm_memory_high_watermark", limit]).map(drop)
    }

    /// Runs `rabbitmqctl -q ARGS…` on this node and returns what it printed. It starts an Erlang machine: half a
    /// second.
    ///
    /// # Errors
    ///
    /// It cannot be started or fails; the text has what it printed.
    pub fn rabbitmqctl(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(self.scripts.join("rabbitmqctl"))
            .arg("-q")
            .args(args)
            .env_clear()
            .env("PATH", find::search_path())
            .env("LC_ALL", "C.UTF-8")
            .envs(self.environment())
            .current_dir(&self.dir)
            .output()
            .context("start rabbitmqctl")?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("rabbitmqctl {} ended with {}\n{printed}{complaint}", args.join(" "), output.status);
        }
        Ok(printed)
    }

    fn prepare(scripts: &Path, dir: &Path, metrics: bool) -> anyhow::Result<Self> {
        let ports = Ports {
            amqp: find::free_port()?,
            distribution: find::free_port()?,
            epmd: find::free_port()?,
            metrics: metrics.then(find::free_port).transpose()?,
        };
        let dir = dir.join(format!("rabbitmq-{}", ports.amqp));
        let node = Self { scripts: scripts.into(), dir, ports, running: None };
        node.write_files().with_context(|| format!("write RabbitMQ's settings to {}", node.dir.display()))?;
        Ok(node)
    }

    fn write_files(&self) -> anyhow::Result<()> {
        for below in ["data", "log", "conf.d"] {
            fs::create_dir_all(self.dir.join(below))?;
        }
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))?;
        let mut settings = format!(
            "vm_memory_high_watermark.relative = {MEMORY_LIMIT}\n\
             # A full disk shall stop a test by its own error, not by a silent alarm.\n\
             disk_free_limit.absolute = 1MB\n\
             load_definitions = {}\n",
            self.dir.join("definitions.json").display()
        );
        fs::write(self.dir.join("definitions.json"), definitions())?;
        let mut plugins = "[].\n";
        if let Some(port) = self.ports.metrics {
            plugins = "[rabbitmq_prometheus].\n";
            // The figures of a queue are at most so old, in milliseconds; 5000 unless told otherwise.
            let add = format!(
                "prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {port}\ncollect_statistics_interval = 1000\n"
            );
            settings += &add;
        }
        fs::write(self.dir.join("rabbitmq.conf"), settings)?;
        fs::write(self.dir.join("enabled_plugins"), plugins)?;
        // Whoever knows the cookie may run code in the node.
        let mut cookie = fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(self.dir.join(".erlang.cookie"))?;
        write!(cookie, "{}", uuid::Uuid::now_v7().simple())?;
        Ok(())
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        let epmd = self.epmd()?.start("KILL")?;
        let server = self.server().start("KILL")?;
        wait_until(START_DEADLINE, || server.has_ended() || self.answers());
        if server.has_ended() || !self.answers() {
            let logs = [self.dir.join("log/node.log"), self.dir.join("console.log")];
            bail!("RabbitMQ does not start\n{}", logs.map(|log| log_tail(&log)).join("\n"));
        }
        self.running = Some(Running { server, _epmd: epmd });
        Ok(())
    }

    fn server(&self) -> Program<'_> {
        Program {
            path: self.scripts.join("rabbitmq-server"),
            args: Vec::new(),
            env: self.environment(),
            dir: &self.dir,
            log: self.dir.join("console.log"),
            user: None,
        }
    }

    fn epmd(&self) -> anyhow::Result<Program<'_>> {
        let path = find::program("epmd")
            .context("`epmd` was not found in PATH: it is part of Erlang (Debian: erlang-base)")?;
        Ok(Program {
            path,
            args: ["-address", "127.0.0.1", "-port", &self.ports.epmd.to_string()].map(Into::into).into(),
            env: Vec::new(),
            dir: &self.dir,
            log: self.dir.join("epmd.log"),
            user: None,
        })
    }

    fn name(&self) -> String {
        format!("rota-{}", self.ports.amqp)
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        vec![
            ("HOME", file("")),
            ("RABBITMQ_NODENAME", format!("{}@localhost", self.name())),
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into()),
            ("RABBITMQ_NODE_PORT", self.ports.amqp.to_string()),
            ("RABBITMQ_DIST_PORT", self.ports.distribution.to_string()),
            ("ERL_EPMD_PORT", self.ports.epmd.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false".into(),
            ),
            ("RABBITMQ_CONF_ENV_FILE", file("rabbitmq-env.conf")),
            ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
            ("RABBITMQ_CONFIG_FILES", file("conf.d")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", file("advanced.config")),
            ("RABBITMQ_GENERATED_CONFIG_DIR", file("data/config")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins")),
            ("RABBITMQ_MNESIA_BASE", file("data")),
            ("RABBITMQ_PID_FILE", file("node.pid")),
            ("RABBITMQ_LOG_BASE", file("log")),
            ("RABBITMQ_LOGS", file("log/node.log")),
            ("ERL_CRASH_DUMP", file("log/erl_crash.dump")),
            // The script then becomes the server instead of waiting for it, so that the id we know is the server's.
            ("RUNNING_UNDER_SYSTEMD", "true".into()),
        ]
    }

    /// Whether *this* node greets us: the first frame of AMQP 0-9-1 holds the cluster's name, by default the node's.
    fn answers(&self) -> bool {
        greeting(self.ports.amqp).is_ok_and(|greeting| {
            let name = format!("{}@", self.name());
            greeting.windows(name.len()).any(|part| part == name.as_bytes())
        })
    }
}

/// Sends the protocol header and returns the payload of the frame that answers it, `connection.start`.
fn greeting(port: u16) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    // Frame type, channel (2 bytes), size of the payload (4 bytes).
    let mut head = [0; 7];
    stream.read_exact(&mut head)?;
    let [_, _, _, size @ ..] = head;
    let mut payload = Vec::new();
    stream.take(u64::from(u32::from_be_bytes(size))).read_to_end(&mut payload)?;
    Ok(payload)
}

fn is_port_conflict(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    ["eaddrinuse", "already in use", "already running"].iter().any(|sign| text.contains(sign))
}
