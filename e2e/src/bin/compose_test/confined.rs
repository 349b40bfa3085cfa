//! What the containers may do on the servers, whom they reach, and what the proxy keeps to itself.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::hostile::{SECRETS, broken_with_secrets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::project::Project;
use crate::say;

/// The ways between containers: from, to, port, and whether the way is open. A port of 8080, 9090, … of all containers of the service.
const REACHES: [(&str, &str, u16, bool); 19] = [
    ("simulator", "proxy", 8080, true),
    ("simulator", "postgres", 5432, false),
    ("simulator", "rabbitmq", 5672, false),
    ("simulator", "rabbitmq", 15692, false),
    ("simulator", "prometheus", 9090, false),
    ("proxy", "ingest", 8080, true),
    ("proxy", "router", 9090, false),
    ("proxy", "notifier", 9090, false),
    ("proxy", "postgres", 5432, false),
    ("proxy", "rabbitmq", 5672, false),
    ("proxy", "rabbitmq", 15692, false),
    ("prometheus", "router", 9090, true),
    ("prometheus", "ingest", 9090, true),
    ("prometheus", "proxy", 2020, true),
    ("prometheus", "rabbitmq", 15692, true),
    ("prometheus", "postgres", 5432, false),
    ("router", "proxy", 8080, false),
    ("router", "postgres", 5432, true),
    ("postgres-exporter", "proxy", 2020, false),
];

/// Each stage comes to both servers as a user of its own, and none of them is a superuser or an administrator.
pub fn users(project: &Project) -> anyhow::Result<()> {
    let sessions = project.sql(
        "SELECT DISTINCT usename FROM pg_stat_activity
         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY 1",
    )?;
    let sessions: BTreeSet<&str> = sessions.lines().collect();
    for stage in ["rota_ingest", "rota_router", "rota_notifier"] {
        ensure!(sessions.contains(stage), "{stage} has no session: {sessions:?}");
    }
    let superusers = project.sql("SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolsuper")?;
    ensure!(superusers == "rota", "superusers: {superusers}");
    ensure!(!sessions.contains("rota"), "the superuser has a session: {sessions:?}");
    // By the network nobody is the superuser, whatever the password.
    let by_network =
        ["exec", "-T", "postgres", "psql", "-h", "127.0.0.1", "-U", "rota", "-d", "rota", "-c", "SELECT 1"];
    let refused = project.compose(&by_network).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(refused.contains("no pg_hba.conf entry"), "the superuser came by the network: {refused}");
    let owners = project.sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")?;
    ensure!(owners == "rota_owner", "the tables are of {owners}");

    let ctl = |what: &[&str]| {
        let command = ["exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "--no-table-headers"];
        project.compose(&[&command, what].concat())
    };
    let users = ctl(&["list_users"])?;
    let known: BTreeSet<&str> = users.lines().filter_map(|line| line.split_whitespace().next()).collect();
    ensure!(known == ["rota_ingest", "rota_router", "rota_notifier"].into(), "users of the broker: {users}");
    ensure!(!users.contains("administrator"), "users of the broker: {users}");
    let connected = ctl(&["list_connections", "user"])?;
    let connected: BTreeSet<&str> = connected.lines().map(str::trim).collect();
    ensure!(connected == known, "connected to the broker: {connected:?}");
    say("each stage has users of its own on both servers, none of them an administrator");
    Ok(())
}

/// From within each container's network, without anything of its own but that.
pub fn networks(project: &Project) -> anyhow::Result<()> {
    let image =
        project.run("docker", &["inspect", "--format", "{{.Config.Image}}", &project.container("proxy")?])?;
    for (from, to, port, expected) in REACHES {
        let network = format!("container:{}", project.container(from)?);
        let addresses = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let addresses =
            project.run("docker", &["inspect", "--format", addresses, &project.container(to)?])?;
        let ask = format!(
            "for address in {addresses}; do
                 (said=$(timeout 3 wget -q -O /dev/null http://$address:{port}/ 2>&1); echo ended with $? $said) &
             done; wait"
        );
        let run = ["run", "--rm", "--network", &network, "--entrypoint", "sh", &image, "-c", &ask];
        // An answer at one of them, be it nonsense or 404, means that it was reached. Nobody answers from another network, and
        // a port that is closed is refused.
        let unreached = ["ended with 124", "ended with 143", "can't connect", "unreachable"];
        let said = project.run("docker", &run)?;
        let reached = said.lines().any(|line| !unreached.iter().any(|words| line.contains(words)));
        ensure!(reached == expected, "{from} reaches {to}:{port}: {reached}: {said}");
    }
    say(&format!("{} ways between containers are open or closed as they should be", REACHES.len()));
    Ok(())
}

/// A broken request with secrets in its address and head is told in the log of the proxy without them.
pub async fn proxy_log(project: &Project, portal: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(project.proxy()?).await?;
    stream.write_all(broken_with_secrets(portal).as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let log = project.compose(&["logs", "--no-color", "proxy"])?;
        for secret in SECRETS {
            ensure!(!log.contains(secret), "the log of the proxy has {secret}");
        }
        if log.contains("http.log.error") {
            say("the proxy tells of broken requests, and none of their secrets");
            return Ok(());
        }
        ensure!(Instant::now() < end, "the proxy says nothing of a broken request: {log}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
