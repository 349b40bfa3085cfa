//! Where things are on this machine: installed programs, and ports that nobody uses.

use std::env;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{LazyLock, OnceLock};

use anyhow::{Context, anyhow};

const HOW_TO_INSTALL: &str = "install it with `e2e/scripts/install-services` (on Debian: `apt-get install rabbitmq-server postgresql`)";
const HOW_TO_INSTALL_TOOLS: &str = "install it with `e2e/scripts/install-services --tools` (on Debian: `apt-get install prometheus prometheus-postgres-exporter caddy`)";

/// Ports are taken from here: below the range from which the kernel serves outgoing connections (32768 and up on
/// Linux), so that a port stays ours while its server restarts.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// So many parts the range has, one for a process. A test needs some twenty ports.
const PARTS: u16 = 48;

/// The ports of this process: a part of the range that no other test, run or program of ours has as long as this process
/// lives, whoever started it. So a port that is free while a server restarts is nobody else's choice. The whole range
/// where all parts are taken.
fn own_ports() -> std::ops::Range<u16> {
    static OWN: OnceLock<Option<(u16, File)>> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        // Not in the temporary folder of this process: ports are the machine's.
        let dir = Path::new("/tmp/rota-ports");
        // A user who may not write there finds no part free.
        drop(fs::create_dir_all(dir));
        let locked = |part: u16| {
            let file = File::create(dir.join(part.to_string())).ok()?;
            file.try_lock().is_ok().then_some((part, file))
        };
        (0..PARTS).find_map(locked)
    });
    let size = (PORTS.end - PORTS.start) / PARTS;
    let of_part = |part: u16| PORTS.start + part * size..PORTS.start + (part + 1) * size;
    own.as_ref().map_or(PORTS, |(part, _)| of_part(*part))
}

/// A port of 127.0.0.1 on which nobody listens, and which was not given out before. The first is chosen by chance, so that
/// other processes on this machine rarely choose the same; who starts a server on it tries again with another one if it was
/// taken meanwhile.
///
/// # Errors
///
/// Hundreds of ports were tried in vain.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    static NEXT: LazyLock<AtomicU16> =
        LazyLock::new(|| AtomicU16::new((RandomState::new().build_hasher().finish() % 12_000) as u16));
    let ports = own_ports();
    let size = ports.end - ports.start;
    (0..size)
        .map(|_| ports.start + NEXT.fetch_add(1, Ordering::Relaxed) % size)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .with_context(|| format!("no free port on 127.0.0.1 in {ports:?}"))
}

/// A program in `PATH`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    env::split_paths(&search_path()).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// `PATH`, as the servers get it. Directories of system programs are added, which a user's `PATH` may lack.
pub(crate) fn search_path() -> std::ffi::OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

/// The directory of RabbitMQ's own scripts. Not the wrappers that Debian has in `/usr/sbin`: those change the user and
/// lose the environment, with it our ports.
///
/// # Errors
///
/// RabbitMQ is not installed, or not where we look.
pub(crate) fn rabbitmq_scripts() -> anyhow::Result<PathBuf> {
    let home = env::var_os("RABBITMQ_HOME").map(|home| PathBuf::from(home).join("sbin"));
    let mut places: Vec<PathBuf> = home.into_iter().collect();
    places.push("/usr/lib/rabbitmq/bin".into());
    places.extend(numbered("/usr/lib/rabbitmq/lib", "rabbitmq_server-", "sbin"));
    places.extend(["/opt/rabbitmq/sbin", "/opt/homebrew/opt/rabbitmq/sbin"].map(PathBuf::from));
    places.push("/usr/local/opt/rabbitmq/sbin".into());
    first_with(&places, &["rabbitmq-server", "rabbitmqctl"])
        .ok_or_else(|| not_found("RabbitMQ", "RABBITMQ_HOME", &places))
}

/// The directory of PostgreSQL's server programs; Debian keeps them out of `PATH`.
///
/// # Errors
///
/// PostgreSQL's server is not installed, or not where we look.
pub(crate) fn postgres_programs() -> anyhow::Result<PathBuf> {
    let mut places: Vec<PathBuf> = env::split_paths(&search_path()).collect();
    places.extend(numbered("/usr/lib/postgresql", "", "bin"));
    places.extend(numbered("/usr", "pgsql-", "bin"));
    places.extend(numbered("/opt/homebrew/opt", "postgresql@", "bin"));
    places.extend(numbered("/usr/local/opt", "postgresql@", "bin"));
    first_with(&places, &["initdb", "postgres", "createdb"])
        .ok_or_else(|| not_found("PostgreSQL", "PATH", &places))
}

/// A program of Prometheus: `prometheus` or `promtool`.
///
/// # Errors
///
/// It is not in `PATH`.
pub(crate) fn prometheus(name: &str) -> anyhow::Result<PathBuf> {
    program(name).with_context(|| format!("`{name}` was not found in PATH: {HOW_TO_INSTALL_TOOLS}"))
}

/// The exporter of PostgreSQL's figures, which Debian gives a name of its own.
///
/// # Errors
///
/// It is not in `PATH`.
pub(crate) fn postgres_exporter() -> anyhow::Result<PathBuf> {
    program("prometheus-postgres-exporter").or_else(|| program("postgres_exporter")).with_context(|| {
        format!("the exporter of PostgreSQL's figures was not found in PATH: {HOW_TO_INSTALL_TOOLS}")
    })
}

/// The proxy.
///
/// # Errors
///
/// It is not in `PATH`.
pub(crate) fn caddy() -> anyhow::Result<PathBuf> {
    program("caddy").with_context(|| format!("`caddy` was not found in PATH: {HOW_TO_INSTALL_TOOLS}"))
}

/// `<parent>/<prefix><version>/<below>`, the highest version first.
fn numbered(parent: &str, prefix: &str, below: &str) -> Vec<PathBuf> {
    let mut found: Vec<(Vec<u32>, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let version = version_of(entry.file_name().to_str()?.strip_prefix(prefix)?)?;
            Some((version, entry.path().join(below)))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

fn version_of(text: &str) -> Option<Vec<u32>> {
    text.split('.').map(|part| part.parse().ok()).collect()
}

fn first_with(places: &[PathBuf], programs: &[&str]) -> Option<PathBuf> {
    places.iter().find(|dir| programs.iter().all(|program| dir.join(program).is_file())).cloned()
}

fn not_found(what: &str, variable: &str, places: &[PathBuf]) -> anyhow::Error {
    let mut looked: Vec<String> = places.iter().map(|place| Path::display(place).to_string()).collect();
    looked.dedup();
    anyhow!("{what} was not found: {HOW_TO_INSTALL}, or set {variable}; looked in {}", looked.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{PORTS, free_port, version_of};

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(version_of("9.6") < version_of("15"));
        assert!(version_of("3.10.8") > version_of("3.9.29"));
        assert_eq!(version_of("common"), None);
    }

    #[test]
    fn a_free_port_lies_below_those_of_outgoing_connections() {
        assert!(PORTS.contains(&free_port().expect("a port")));
    }
}
