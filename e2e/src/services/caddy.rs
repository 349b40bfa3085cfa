//! The proxy of docker-compose.yml on this machine: Caddy with the project's own Caddyfile.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::find;
use super::process::{Process, Program, with_a_port_of_its_own};

/// It answers after 0.1 s.
const START_DEADLINE: Duration = crate::HANG;

const CADDYFILE: &str = include_str!("../../../deploy/caddy/Caddyfile");

/// A running proxy. Dropping it kills it; the directory is its giver's to remove.
#[derive(Debug)]
pub struct Caddy {
    address: SocketAddr,
    log: PathBuf,
    _server: Process,
}

impl Caddy {
    /// Starts it with its files in `<dir>/caddy`, before an ingest on this port of 127.0.0.1, where nobody need listen, and
    /// returns when it takes connections.
    ///
    /// # Errors
    ///
    /// Caddy is not installed or does not start; the text says what to install, or ends with its log.
    pub fn start(dir: &Path, ingest: u16) -> anyhow::Result<Self> {
        with_a_port_of_its_own(|| Self::launch(dir, ingest))
    }

    /// Where portals post to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that it has said so far.
    #[must_use]
    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn launch(dir: &Path, ingest: u16) -> anyhow::Result<Self> {
        let dir = dir.join("caddy");
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let (file, log) = (dir.join("Caddyfile"), dir.join("server.log"));
        let port = find::free_port()?;
        fs::write(&file, on_this_machine(ingest)?).with_context(|| format!("write {}", file.display()))?;
        let below = |name: &str| dir.join(name).display().to_string();
        let program = Program {
            path: find::caddy()?,
            args: ["run", "--adapter", "caddyfile", "--config", &file.display().to_string()]
                .map(Into::into)
                .into(),
            env: vec![
                ("ROTA_SITE", format!("http://127.0.0.1:{port}")),
                ("HOME", below("home")),
                ("XDG_DATA_HOME", below("data")),
                ("XDG_CONFIG_HOME", below("config")),
            ],
            dir: &dir,
            log: log.clone(),
            user: None,
        };
        let is_open = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        let server = program.start_until("Caddy", START_DEADLINE, is_open)?;
        Ok(Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), log, _server: server })
    }
}

/// The Caddyfile with addresses of this machine in place of those of containers.
fn on_this_machine(ingest: u16) -> anyhow::Result<String> {
    let (metrics, health) = (find::free_port()?, find::free_port()?);
    let mut text = CADDYFILE.to_owned();
    for (there, here) in [
        ("\tadmin off\n", "\tadmin off\n\tdefault_bind 127.0.0.1\n".to_owned()),
        ("name ingest\n", "name localhost\n".to_owned()),
        ("port 8080\n", format!("port {ingest}\n")),
        ("http://:2020 {", format!("http://127.0.0.1:{metrics} {{")),
        ("http://127.0.0.1:8081 {", format!("http://127.0.0.1:{health} {{")),
    ] {
        ensure!(text.matches(there).count() == 1, "the Caddyfile has not one `{}`", there.trim());
        text = text.replace(there, &here);
    }
    Ok(text)
}
