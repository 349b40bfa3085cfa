//! The project of docker-compose.yml under a name of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use e2e::portal::{PortalControl, client, send};
use serde_json::{Value, json};

use crate::{PROFILES, REPLICAS, say, text};

/// The project. Dropping it takes everything down.
pub struct Project {
    directory: PathBuf,
    command: Vec<&'static str>,
    services: Vec<&'static str>,
}

impl Project {
    pub fn new() -> anyhow::Result<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        let answers = |command: &[&str]| {
            let tried = Command::new(command[0])
                .args(&command[1..])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            tried.is_ok_and(|status| status.success())
        };
        ensure!(
            answers(&["docker", "info"]),
            "there is no Docker engine: `docker info` fails; start one (`dockerd`)"
        );
        let command = if answers(&["docker", "compose", "version"]) {
            vec!["docker", "compose"]
        } else {
            ensure!(
                answers(&["docker-compose", "version"]),
                "neither `docker compose` nor `docker-compose` is here"
            );
            vec!["docker-compose"]
        };
        let mut services = vec![
            "setup",
            "rabbitmq",
            "postgres",
            "roles",
            "migrate",
            "ingest",
            "router",
            "notifier",
            "proxy",
            "simulator",
        ];
        services.extend(["postgres-exporter", "prometheus"]);
        if std::env::var_os("ROTA_STAND_INS").is_none() {
            services.push("grafana");
        } else {
            say("Grafana is left out: there is no stand-in for it");
        }
        Ok(Self { directory, command, services })
    }

    pub fn up(&self) -> anyhow::Result<()> {
        let scales = REPLICAS.map(|(stage, count)| format!("{stage}={count}"));
        let mut arguments = vec!["up", "-d", "--no-build"];
        for scale in &scales {
            arguments.extend(["--scale", scale]);
        }
        arguments.extend(&self.services);
        self.compose(&arguments).map(drop)
    }

    /// Runs `docker compose` with these arguments and answers what it printed.
    pub fn compose(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let (program, first) = (self.command[0], &self.command[1..]);
        self.run(program, &[first, &PROFILES, arguments].concat())
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.ended(program, arguments)?;
        let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("{program} {} ended with {}\n{printed}\n{complaint}", arguments.join(" "), output.status);
        }
        Ok(printed)
    }

    /// How a program ended, and what it said.
    pub fn ended(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        Command::new(program)
            .args(arguments)
            .current_dir(&self.directory)
            // A name and ports of its own, so that it disturbs nothing that runs here.
            .envs([("COMPOSE_PROJECT_NAME", "rota-compose-test"), ("COMPOSE_FILE", "docker-compose.yml")])
            .envs(
                ["ROTA_HTTP", "DEMO_HTTP", "PROMETHEUS_HTTP", "GRAFANA_HTTP"]
                    .map(|name| (name, "127.0.0.1:0")),
            )
            .envs([("ROTA_CONFIG_DIR", "./deploy/compose/demo"), ("DEMO_LEADS", "1")])
            // What docker-compose 1.29 needs for BuildKit.
            .envs([("DOCKER_BUILDKIT", "1"), ("COMPOSE_DOCKER_CLI_BUILD", "1")])
            .output()
            .with_context(|| format!("start {program}"))
    }

    /// The only container of a service.
    pub fn container(&self, service: &str) -> anyhow::Result<String> {
        let ids = self.compose(&["ps", "-q", service])?;
        Ok(ids.lines().next().with_context(|| format!("no container of {service}"))?.to_owned())
    }

    /// An address of this host behind which a container's port is.
    pub fn address(&self, service: &str, port: &str) -> anyhow::Result<String> {
        Ok(format!("http://{}", self.compose(&["port", service, port])?))
    }

    pub fn proxy(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.compose(&["port", "proxy", "8080"])?.parse()?)
    }

    pub fn portal(&self) -> anyhow::Result<PortalControl> {
        let control = self.address("simulator", "8001")?;
        PortalControl::from_line(&json!({ "control": control, "webhook_url": "" }).to_string())
    }

    /// Waits until Prometheus sees each replica of each job, those of the stages ready.
    pub async fn scraped(&self) -> anyhow::Result<()> {
        let query = "/api/v1/query?query=count by (job) ((rota_ready or on (job, instance) up) == 1)";
        let url = self.address("prometheus", "9090")? + query;
        let mut expected: BTreeMap<String, usize> =
            REPLICAS.map(|(stage, count)| (stage.to_owned(), count)).into();
        expected.extend(
            ["proxy", "rabbitmq", "rabbitmq-queues", "postgres", "prometheus"].map(|job| (job.to_owned(), 1)),
        );
        let end = Instant::now() + Duration::from_mins(2);
        loop {
            let answer = send(client()?.get(&url)).await.map(|(_, text)| text).unwrap_or_default();
            let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
            let series =
                answer.pointer("/data/result").and_then(Value::as_array).cloned().unwrap_or_default();
            let count = |series: &Value| {
                Some((text(series, "/metric/job")?, text(series, "/value/1")?.parse().ok()?))
            };
            let seen: BTreeMap<String, usize> = series.iter().filter_map(count).collect();
            if seen == expected {
                say(&format!("Prometheus sees {seen:?} ready"));
                return Ok(());
            }
            ensure!(Instant::now() < end, "Prometheus sees {seen:?} ready, not {expected:?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Kills a container at once. Docker does not start it again, as it would after a crash: somebody asked for it.
    pub fn kill_one(&self, service: &str) -> anyhow::Result<()> {
        self.run("docker", &["kill", &self.container(service)?])?;
        say(&format!("killed one container of {service}"));
        Ok(())
    }

    pub fn sql(&self, query: &str) -> anyhow::Result<String> {
        self.compose(&["exec", "-T", "postgres", "psql", "-U", "rota", "-d", "rota", "-tAc", query])
    }

    pub fn memory(&self, when: &str) -> anyhow::Result<()> {
        let ids = self.compose(&["ps", "-q"])?;
        let mut arguments = vec!["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.CPUPerc}}"];
        arguments.extend(ids.lines());
        say(&format!("memory {when}:"));
        let printed = self.run("docker", &arguments)?;
        // Those that have ended or were killed have none.
        let mut lines: Vec<&str> = printed.lines().filter(|line| !line.contains(" 0B / 0B ")).collect();
        lines.sort_unstable();
        for line in lines {
            eprintln!("    {line}");
        }
        Ok(())
    }

    pub fn image_sizes(&self) -> anyhow::Result<()> {
        for program in ["ingest", "router", "notifier", "simulator"] {
            let size = self.run(
                "docker",
                &["image", "inspect", "--format", "{{.Size}}", &format!("rota/{program}:local")],
            )?;
            let size: f64 = size.parse().context("a size")?;
            say(&format!("image rota/{program}: {:.1} MB", size / 1e6));
        }
        Ok(())
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::env::var_os("ROTA_KEEP").is_some() {
            say("left running, as ROTA_KEEP is set: docker compose -p rota-compose-test down -v");
        } else if let Err(error) = self.compose(&["down", "-v", "--remove-orphans"]) {
            say(&format!("{error:#}"));
        }
    }
}
