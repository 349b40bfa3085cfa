//! The binary `simulator`.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Parser;
use simulator::Settings;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A Bitrix24 portal to run against. Prints its addresses as one line of JSON.
#[derive(Parser)]
struct Arguments {
    /// Where the REST API listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where the control API listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// Settings as JSON, as `GET /settings` shows them; what is not named keeps its default.
    #[arg(long, default_value = "{}")]
    settings: String,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the one line that tells who started us where to find us")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings: Settings = serde_json::from_str(&arguments.settings).context("--settings")?;
    let rest = TcpListener::bind(arguments.listen).await.context("--listen")?;
    let control = TcpListener::bind(arguments.control).await.context("--control")?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let address = rest.local_addr()?;
    let webhook = format!("http://{address}/rest/{}/{}/", settings.webhook_user, settings.webhook_secret);
    let control_url = format!("http://{}", control.local_addr()?);
    println!("{}", serde_json::json!({ "webhook_url": webhook, "control": control_url }));
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    Ok(simulator::run(rest, control, settings, stop).await?)
}
