//! A private PostgreSQL server.
//!
//! It refuses to run as root; started by root, it runs as the user `postgres` of the installation. It gives up
//! durability for speed: after a crash of the machine its data are worthless, as tests' data are anyway.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Signal, geteuid};

use super::find;
use super::process::{Process, Program, log_tail, wait_until};

/// `initdb` takes about 1 s on two cores that builds use too, the start 0.1 s.
const START_DEADLINE: Duration = crate::HANG;
/// A fast shutdown ends all sessions and takes a fraction of a second.
const STOP_DEADLINE: Duration = crate::HANG;
/// Another process may take the port between our choice and the server's start; thrice in a row is no accident.
const START_TRIES: usize = 3;
/// The user that we change to when we are root. The packages of all systems make it.
const SERVER_USER: &str = "postgres";
/// The database superuser, and the database that is there from the start.
const SUPERUSER: &str = "rota";
const MAINTENANCE_DATABASE: &str = "postgres";

/// A running, or stopped, server with its data. Dropping it stops the server at once, without a checkpoint; the
/// directory is its giver's to remove.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    dir: PathBuf,
    user: Option<&'static str>,
    password: String,
    port: u16,
    durability: Durability,
    server: Option<Process>,
}

/// What of it survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// What was written before it was stopped in order.
    OrderlyStop,
    /// Whatever was committed, however it ends, unless the machine itself crashes.
    Crash,
}

impl Postgres {
    /// Makes a new database cluster in `<dir>/postgres`, starts its server, and returns when it accepts connections.
    /// Blocks for seconds. As root, `dir` and the directories above it must let other users pass (mode `o+x`).
    ///
    /// # Errors
    ///
    /// PostgreSQL is not installed or does not start; the text says what to install, or ends with the server's log.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        Self::start_as(dir, Durability::OrderlyStop)
    }

    /// As [`Postgres::start`], for a server that is to be stopped at once or killed: whatever it said is committed is
    /// there afterwards. It is slower.
    ///
    /// # Errors
    ///
    /// As [`Postgres::start`].
    pub fn start_durable(dir: &Path) -> anyhow::Result<Self> {
        Self::start_as(dir, Durability::Crash)
    }

    fn start_as(dir: &Path, durability: Durability) -> anyhow::Result<Self> {
        let mut server = Self {
            programs: find::postgres_programs()?,
            dir: dir.join("postgres"),
            user: geteuid().is_root().then_some(SERVER_USER),
            // Superusers of a database may run programs; the port is open to every user of the machine.
            password: uuid::Uuid::now_v7().simple().to_string(),
            port: find::free_port()?,
            durability,
            server: None,
        };
        server.initialise().context("make a PostgreSQL cluster")?;
        for _ in 1..START_TRIES {
            match server.launch() {
                Err(error) if format!("{error:#}").contains("Address already in use") => {
                    server.port = find::free_port()?;
                }
                result => return result.map(|()| server),
            }
        }
        server.launch().map(|()| server)
    }

    /// `postgres://<superuser>:<password>@127.0.0.1:<port>/postgres`. It stays the same over restarts. To work in a
    /// database of your own, see [`create_database`].
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/{MAINTENANCE_DATABASE}", self.password, self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process id; `None` while it is stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Process::id)
    }

    /// Stops it in order (a "fast shutdown": sessions are told and ended). Nothing to do if it is stopped.
    ///
    /// # Errors
    ///
    /// It did not end in time and was killed.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        match self.server.take() {
            Some(mut server) => server.stop(Signal::INT, STOP_DEADLINE).context("stop PostgreSQL"),
            None => Ok(()),
        }
    }

    /// Stops it at once (an "immediate shutdown"): sessions break, nothing is flushed, and the next start recovers as
    /// after a crash. Nothing to do if it is stopped.
    ///
    /// # Errors
    ///
    /// It did not end in time and was killed.
    pub fn stop_at_once(&mut self) -> anyhow::Result<()> {
        match self.server.take() {
            Some(mut server) => server.stop(Signal::QUIT, STOP_DEADLINE).context("stop PostgreSQL at once"),
            None => Ok(()),
        }
    }

    /// Kills it with SIGKILL: connections break, nothing is flushed. Its sessions' processes notice and end by
    /// themselves. Nothing to do if it is stopped.
    pub fn kill(&mut self) {
        drop(self.server.take());
    }

    /// Stops it, if it runs, and starts it again with the same port and data. To restart after a crash, call
    /// [`Postgres::kill`] before.
    ///
    /// # Errors
    ///
    /// It does not stop or start in time.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        let mut result = Ok(());
        // After a crash a session may live a moment longer and keep the cluster locked.
        wait_until(START_DEADLINE, || {
            result = self.launch();
            !result.as_ref().is_err_and(|error| format!("{error:#}").contains("still in use"))
        });
        result
    }

    fn initialise(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| format!("make {}", self.dir.display()))?;
        let password = self.dir.join("password");
        fs::write(&password, &self.password)?;
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))?;
        if self.user.is_some() {
            let (uid, gid) = (id("-u")?, id("-g")?);
            chown(&self.dir, Some(uid), Some(gid))?;
            chown(&password, Some(uid), Some(gid))?;
        }
        let options =
            ["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync", "-D"];
        let mut args: Vec<String> = options.map(Into::into).into();
        args.push(self.data().display().to_string());
        args.push(format!("--pwfile={}", password.display()));
        self.program("initdb", args, "initdb.log").run(START_DEADLINE)
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        let log = self.dir.join("server.log");
        // Each try has its own log, so that its error text tells of this try.
        fs::remove_file(&log).ok();
        // SIGQUIT is the "immediate shutdown": unlike SIGKILL it leaves no shared memory behind.
        let server = self.program("postgres", self.arguments(), "server.log").start("QUIT")?;
        wait_until(START_DEADLINE, || server.has_ended() || self.is_ready(server.id()));
        if server.has_ended() || !self.is_ready(server.id()) {
            bail!("PostgreSQL does not start\n{}", log_tail(&log));
        }
        self.server = Some(server);
        Ok(())
    }

    fn arguments(&self) -> Vec<String> {
        let settings = [
            "listen_addresses=127.0.0.1".into(),
            format!("port={}", self.port),
            // No socket file: its path may be no longer than 107 bytes, which temporary directories may exceed.
            "unix_socket_directories=".into(),
            // Every test process has its own pools.
            "max_connections=300".into(),
            // The machine itself does not crash.
            "fsync=off".into(),
        ];
        let lax = ["synchronous_commit=off".into(), "full_page_writes=off".into()];
        let lax = lax.into_iter().filter(|_| self.durability == Durability::OrderlyStop);
        let mut args = vec!["-D".into(), self.data().display().to_string()];
        args.extend(settings.into_iter().chain(lax).flat_map(|setting: String| ["-c".into(), setting]));
        args
    }

    fn program(&self, name: &str, args: Vec<String>, log: &str) -> Program<'_> {
        Program {
            path: self.programs.join(name),
            args,
            env: Vec::new(),
            dir: &self.dir,
            log: self.dir.join(log),
            user: self.user,
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Whether the server with this id accepts connections, by its own word: line 1 of `postmaster.pid` is its id,
    /// line 8 its state. `pg_ctl --wait` looks there too.
    fn is_ready(&self, pid: u32) -> bool {
        let status = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = status.lines().map(str::trim);
        lines.next() == Some(pid.to_string().as_str()) && lines.nth(6) == Some("ready")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // Its failure is that the server had to be killed, which is fine here.
            server.stop(Signal::QUIT, Duration::from_secs(10)).ok();
        }
    }
}

/// Makes an empty database on the server of `url` (any database of it will do) and returns the new one's URL.
///
/// # Errors
///
/// There is one of that name, the server cannot be reached, or PostgreSQL's `createdb` is not installed.
pub fn create_database(url: &str, name: &str) -> anyhow::Result<String> {
    let (server, _) =
        url.rsplit_once('/').filter(|(server, _)| !server.ends_with('/')).with_context(|| {
            format!("{url} is not the URL of a database, such as postgres://user@127.0.0.1:5432/postgres")
        })?;
    let output = Command::new(find::postgres_programs()?.join("createdb"))
        .arg(format!("--maintenance-db={url}"))
        .args(["--", name])
        .output()
        .context("start createdb")?;
    if !output.status.success() {
        bail!("make the database {name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(format!("{server}/{name}"))
}

/// Runs `psql ARGS…` in the database of `url` and returns what it printed.
///
/// # Errors
///
/// It is not installed or ends with an error; the text has what it said.
pub fn psql(url: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(find::postgres_programs()?.join("psql"))
        .args(["--no-psqlrc", "--quiet", "--dbname", url])
        .args(args)
        .output()
        .context("start psql")?;
    if !output.status.success() {
        bail!("psql ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A number of the user that runs the server, as the system knows it: `-u` user, `-g` group.
fn id(which: &str) -> anyhow::Result<u32> {
    let output = Command::new("id").args([which, SERVER_USER]).output().context("start id")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .with_context(|| format!("PostgreSQL cannot run as root, and there is no user {SERVER_USER}"))
}
