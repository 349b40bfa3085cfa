//! The binary `simulator`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use simulator::{Memory, NewLeads, Portal, Settings};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A Bitrix24 portal to run against. Prints its addresses as one line of JSON.
#[derive(Parser)]
struct Arguments {
    /// Where the REST API listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where the control API listens.
    #[arg(long, default_value = "127.0.0.1:0", global = true)]
    control: SocketAddr,
    /// Settings as JSON, as `GET /settings` shows them; what is not named keeps its default.
    #[arg(long, default_value = "{}")]
    settings: String,
    /// Leads that come from the start on, as JSON, as for `POST /leads`.
    #[arg(long)]
    leads: Option<String>,
    /// A file from which leads, employees and notices are taken up, and into which they are written at the end.
    #[arg(long)]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Asks the simulator whose control API is at `--control` whether it runs.
    Healthcheck,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if matches!(arguments.command, Some(Command::Healthcheck)) {
        return check(arguments.control);
    }
    let settings: Settings = serde_json::from_str(&arguments.settings).context("--settings")?;
    let leads: Option<NewLeads> =
        arguments.leads.as_deref().map(serde_json::from_str).transpose().context("--leads")?;
    let rest = TcpListener::bind(arguments.listen).await.context("--listen")?;
    let control = TcpListener::bind(arguments.control).await.context("--control")?;
    tell(&rest, &control, &settings)?;
    let portal = Arc::new(Portal::new(settings, rest.local_addr()?));
    if let Some(memory) = arguments.data.as_deref().map(read).transpose()?.flatten() {
        portal.remember(memory);
    }
    if let Some(leads) = leads {
        simulator::add_all(&portal, leads);
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    simulator::serve(rest, control, Arc::clone(&portal), stop).await?;
    arguments.data.as_deref().map_or(Ok(()), |file| write(file, &portal.memory()))
}

#[expect(clippy::print_stdout, reason = "the one line that tells who started us where to find us")]
fn tell(rest: &TcpListener, control: &TcpListener, settings: &Settings) -> anyhow::Result<()> {
    let address = rest.local_addr()?;
    let webhook = format!("http://{address}/rest/{}/{}/", settings.webhook_user, settings.webhook_secret);
    let control = format!("http://{}", control.local_addr()?);
    println!("{}", serde_json::json!({ "webhook_url": webhook, "control": control }));
    Ok(())
}

fn check(control: SocketAddr) -> anyhow::Result<()> {
    let timeout = Duration::from_secs(3);
    let mut stream = TcpStream::connect_timeout(&control, timeout)
        .with_context(|| format!("nothing listens on {control}"))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(b"GET /stats HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("{control} did not answer"))?;
    anyhow::ensure!(answer.split(' ').nth(1) == Some("200"), "{control} is no simulator");
    Ok(())
}

/// What an earlier one has kept; nothing at the first start.
fn read(file: &Path) -> anyhow::Result<Option<Memory>> {
    match std::fs::read(file) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| format!("{}", file.display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{}", file.display())),
    }
}

fn write(file: &Path, memory: &Memory) -> anyhow::Result<()> {
    // A half-written file must not take the place of a whole one.
    let new = file.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(memory)?).with_context(|| format!("{}", new.display()))?;
    std::fs::rename(&new, file).with_context(|| format!("{}", file.display()))
}
