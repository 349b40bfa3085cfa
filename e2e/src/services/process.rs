//! One server as a child process that cannot outlive us.
//!
//! - It leads its own process group, so a Ctrl-C at the terminal reaches us alone and we stop it in order; at the end
//!   the whole group is killed.
//! - It is signalled only while it is our unreaped child: its id cannot belong to anybody else.
//! - If we are killed ourselves, the kernel signals it (`setpriv --pdeathsig`, Linux; where there is no `setpriv`
//!   this last net is missing). The kernel does so when the *thread* that started the child ends, hence the one
//!   thread that starts all of them and never ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use super::find;

/// How often a condition is looked at while waiting. Looking costs a system call or two.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How much of a log goes into an error text, in lines.
const LOG_TAIL_LINES: usize = 25;

/// What to start, and how.
pub(crate) struct Program<'a> {
    pub path: PathBuf,
    pub args: Vec<String>,
    /// All of its environment, but for `PATH` and the locale: settings for other servers on this machine stay out.
    pub env: Vec<(&'static str, String)>,
    /// Becomes its working directory.
    pub dir: &'a Path,
    /// Output is appended here.
    pub log: PathBuf,
    /// The user to change to. Needs root.
    pub user: Option<&'static str>,
}

impl Program<'_> {
    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// It cannot be started or does not end with 0; the text has the tail of its log.
    pub(crate) fn run(&self, deadline: Duration) -> anyhow::Result<()> {
        let mut process = self.start("KILL")?;
        let ended = wait_until(deadline, || process.has_ended());
        let status = process.finish()?;
        if !ended || !status.success() {
            bail!("{} ended with {status}\n{}", self.path.display(), log_tail(&self.log));
        }
        Ok(())
    }

    /// Starts a server that keeps nothing worth saving, and returns when it is up. `name` is for people.
    ///
    /// # Errors
    ///
    /// It does not start, ends at once or is not up by the deadline; the text ends with its log.
    pub(crate) fn start_until(
        &self,
        name: &str,
        deadline: Duration,
        is_up: impl Fn() -> bool,
    ) -> anyhow::Result<Process> {
        // Each try has its own log, so that its words are about this try.
        fs::remove_file(&self.log).ok();
        let server = self.start("KILL")?;
        wait_until(deadline, || server.has_ended() || is_up());
        if server.has_ended() || !is_up() {
            bail!("{name} does not start\n{}", log_tail(&self.log));
        }
        Ok(server)
    }

    /// Starts it; `if_orphaned` is the signal that it gets should we die first.
    ///
    /// # Errors
    ///
    /// It cannot be started at all.
    pub(crate) fn start(&self, if_orphaned: &str) -> anyhow::Result<Process> {
        let log =
            File::options().create(true).append(true).open(&self.log).context("open the server's log")?;
        let mut command = self.command(if_orphaned)?;
        command
            .env_clear()
            .env("PATH", find::search_path())
            .env("LC_ALL", "C")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("open the server's log")?)
            .stderr(log)
            .process_group(0);
        let child = spawn(command).with_context(|| format!("start {}", self.path.display()))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id above i32")?;
        Ok(Process { child, pid, reaped: false })
    }

    fn command(&self, if_orphaned: &str) -> anyhow::Result<Command> {
        let Some(setpriv) = find::program("setpriv") else {
            if let Some(user) = self.user {
                bail!("`setpriv` (package util-linux) is needed to start a server as the user {user}");
            }
            let mut command = Command::new(&self.path);
            command.args(&self.args);
            return Ok(command);
        };
        let mut command = Command::new(&setpriv);
        if let Some(user) = self.user {
            command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]);
            // A second one: the kernel forgets the signal when the user changes.
            command.arg(&setpriv);
        }
        command.args(["--pdeathsig", if_orphaned, "--", "/bin/sh", "-c"]);
        // We may have died before the signal was asked for; then somebody else is the parent.
        command.arg(r#"[ "$PPID" = "$0" ] && exec "$@""#).arg(std::process::id().to_string());
        command.arg(&self.path).args(&self.args);
        Ok(command)
    }
}

/// Another process may take a port between our choice and the server's start; thrice in a row is no accident.
const PORT_TRIES: usize = 3;

/// Launches a server that chooses its port anew each time, until nobody has taken the port meanwhile.
///
/// # Errors
///
/// Those of the last launch, or of one that failed for another reason.
pub(crate) fn with_a_port_of_its_own<T>(mut launch: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    for _ in 1..PORT_TRIES {
        match launch() {
            Err(error) if format!("{error:#}").contains("address already in use") => {}
            result => return result,
        }
    }
    launch()
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    reaped: bool,
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended. It stays in the process table until [`Process::finish`], and so does its id.
    pub(crate) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if !self.reaped {
            // The only failure possible is "no such process": it has ended, which is what signals are for here.
            kill_process(self.pid, signal).ok();
        }
    }

    /// Asks it to end by `signal`, and waits for it.
    ///
    /// # Errors
    ///
    /// It had not ended by the deadline and was killed.
    pub(crate) fn stop(&mut self, signal: Signal, deadline: Duration) -> anyhow::Result<()> {
        self.signal(signal);
        let ended = wait_until(deadline, || self.has_ended());
        self.finish()?;
        if !ended {
            bail!("process {} did not end within {deadline:?} and was killed", self.id());
        }
        Ok(())
    }

    /// Kills what remains of its process group and takes it out of the process table.
    ///
    /// # Errors
    ///
    /// The operating system refuses to tell its exit status.
    pub(crate) fn finish(&mut self) -> anyhow::Result<ExitStatus> {
        if !self.reaped {
            // First the group, then the reaping, which sets the id free for others.
            kill_process_group(self.pid, Signal::KILL).ok();
        }
        let status = self.child.wait().context("wait for the end of a server")?;
        self.reaped = true;
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.finish().ok();
    }
}

/// Looks until `condition` holds; `false` if it did not within the time.
pub(crate) fn wait_until(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    while !condition() {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(LOOK_EVERY);
    }
    true
}

/// The last lines of a log, indented, under its name.
pub(crate) fn log_tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.iter().skip(lines.len().saturating_sub(LOG_TAIL_LINES));
    tail.fold(format!("end of {}:", path.display()), |all, line| all + "\n    " + line)
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

static SPAWNER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, queue) = mpsc::channel::<Order>();
    thread::spawn(move || {
        for (mut command, answer) in queue {
            // A caller that does not wait for the answer drops the child; there is none such below.
            answer.send(command.spawn()).ok();
        }
    });
    orders
});

fn spawn(command: Command) -> io::Result<Child> {
    let gone = || io::Error::other("the thread that starts servers has ended");
    let (answer, child) = mpsc::channel();
    SPAWNER.send((command, answer)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}
