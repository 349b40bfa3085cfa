//! `with-services COMMAND ARGS…` runs a command beside a private RabbitMQ and PostgreSQL.
//!
//! The command finds them in `ROTA_TEST_AMQP_URL` and `ROTA_TEST_DATABASE_URL` (a superuser's URL of the maintenance
//! database). When it ends, so do the servers, and its exit code is ours. Signals are passed on to it.

use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::Context;
use e2e::services::Services;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::task;

/// How long the command may take to end after a signal; then it is killed. nextest gives its tests 10 s.
const GRACE: Duration = Duration::from_secs(15);
/// Wrong usage, as in `sysexits.h`.
const EXIT_USAGE: u8 = 64;
/// What a shell answers for a process that ended by a signal is this plus the signal's number.
const EXIT_SIGNAL_BASE: i32 = 128;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let Some(program) = args.next() else {
        eprintln!("usage: with-services COMMAND ARGS…");
        return Ok(ExitCode::from(EXIT_USAGE));
    };
    let mut interruptions = Interruptions::new()?;
    let mut starting = task::spawn_blocking(Services::start);
    let services = tokio::select! {
        services = &mut starting => services.context("start the servers")??,
        interruption = interruptions.next() => {
            // The servers must be known before they can be stopped.
            drop(starting.await);
            return Ok(exit_code(EXIT_SIGNAL_BASE + interruption.as_raw()));
        }
    };
    let (amqp, database) = (services.rabbitmq.url(), services.postgres.url());
    eprintln!("with-services: ROTA_TEST_AMQP_URL={amqp} ROTA_TEST_DATABASE_URL={database}");

    let mut command = Command::new(&program);
    command.args(args).env("ROTA_TEST_AMQP_URL", amqp).env("ROTA_TEST_DATABASE_URL", database);
    // At a terminal the command stays in our process group: there Ctrl-C reaches it without us, and it may read keys.
    let own_group = !std::io::stdin().is_terminal();
    if own_group {
        command.process_group(0);
    }
    let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
    let status = Guarded { child, own_group }.wait(&mut interruptions).await?;
    drop(services);
    Ok(exit_code(status.code().unwrap_or_else(|| EXIT_SIGNAL_BASE + status.signal().unwrap_or_default())))
}

/// The command while it runs.
struct Guarded {
    child: Child,
    own_group: bool,
}

impl Guarded {
    /// Waits for its end. The first signal that we get is passed on, the second, or the end of the grace, kills.
    async fn wait(&mut self, interruptions: &mut Interruptions) -> anyhow::Result<ExitStatus> {
        let interruption = tokio::select! {
            status = self.child.wait() => return status.context("wait for the command"),
            interruption = interruptions.next() => interruption,
        };
        if self.own_group || interruption != Signal::INT {
            self.send(interruption);
        }
        tokio::select! {
            status = self.child.wait() => return status.context("wait for the command"),
            _ = interruptions.next() => {}
            () = tokio::time::sleep(GRACE) => {}
        }
        self.send(Signal::KILL);
        self.child.wait().await.context("wait for the command")
    }

    fn send(&self, signal: Signal) {
        // `None` once it has been waited for: its id may be another's.
        let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) else {
            return;
        };
        let sent = if self.own_group { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
        // The only failure possible is that it has ended.
        sent.ok();
    }
}

/// The signals by which people and machines ask a program to end.
struct Interruptions {
    interrupt: Signals,
    terminate: Signals,
    hang_up: Signals,
}

impl Interruptions {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen to signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hang_up.recv() => Signal::HUP,
        }
    }
}

fn exit_code(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
