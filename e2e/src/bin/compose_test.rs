//! Runs the project's own docker-compose.yml, unchanged, and looks at it from outside: three routers, two
//! notifiers and two ingests give away 500 leads of the simulated portal while a container of each stage is killed
//! and RabbitMQ is restarted; before that a stranger sends broken, over-long and half bodies to the proxy beside leads whose
//! events are all answered 200; at the end everything is taken down with leads under way and started again.
//!
//! `make compose-test` runs it. It needs a Docker engine and some minutes; what it starts bears a name of its own
//! and is removed at the end, volumes included. With `ROTA_STAND_INS=1` Grafana is left out, as there is no
//! stand-in for it (see e2e/compose/stand-ins).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use e2e::hostile::send_bodies;
use e2e::portal::{PortalControl, client, send};
use serde_json::{Value, json};

const REPLICAS: [(&str, usize); 3] = [("ingest", 2), ("router", 3), ("notifier", 2)];
const PROFILES: [&str; 4] = ["--profile", "demo", "--profile", "observability"];
/// 500 leads at this rate: long enough for what is done to the containers meanwhile.
const LEADS: usize = 500;
const PER_SECOND: usize = 25;
/// Leads that come beside broken bodies, at the same rate: for longer than a proxy that leaves replicas out would do so.
const LEADS_BESIDE_BODIES: usize = 250;
/// The name of the portal in deploy/compose/demo.
const PORTAL: &str = "demo";
/// Leads that are under way when everything is taken down.
const LEADS_AT_THE_END: usize = 100;
/// Packs that a notifier may have sent and not heard of when it is killed; each may double one notice (README.md).
const PACKS_IN_FLIGHT: usize = 4;
/// From `up` to the first assigned lead, without building.
const FIRST_LEAD: Duration = Duration::from_mins(3);
/// A pack whose answer was lost with its notifier is cleared up after a minute, a lost event found after one more.
const ALL_LEADS: Duration = Duration::from_mins(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let project = Project::new()?;
    let built = Instant::now();
    project.compose(&["build"])?;
    say(&format!("built in {:.0?}", built.elapsed()));
    project.image_sizes()?;

    let started = Instant::now();
    project.up()?;
    say(&format!("`up` returned after {:.1?}", started.elapsed()));
    let portal = project.portal()?;
    wait_for_leads(&portal, 1, FIRST_LEAD).await?;
    say(&format!("from `up` to the first assigned lead: {:.1?}", started.elapsed()));
    project.scraped().await?;
    project.memory("at rest")?;

    beside_broken_bodies(&portal, project.proxy()?).await?;
    let before = 1 + LEADS_BESIDE_BODIES;
    wait_for_leads(&portal, before, ALL_LEADS).await?;

    let leads = json!({ "count": LEADS, "per_second": PER_SECOND, "fields": { "TITLE": "Compose" } });
    let started = Instant::now();
    portal.add_leads(&leads).await?;
    pause(5).await;
    for (stage, _) in REPLICAS {
        project.kill_one(stage)?;
    }
    pause(3).await;
    project.memory("under load, one container of each stage killed")?;
    project.compose(&["restart", "rabbitmq"])?;
    say("RabbitMQ was restarted");
    project.up()?;
    wait_for_leads(&portal, before + LEADS, ALL_LEADS).await?;
    say(&format!(
        "{LEADS} leads assigned after {:.0?}; they took {} s to come",
        started.elapsed(),
        LEADS / PER_SECOND
    ));
    project.scraped().await?;
    notices(&portal, before + LEADS).await?;

    portal.add_leads(&json!({ "count": LEADS_AT_THE_END })).await?;
    project.compose(&["down"])?;
    project.up()?;
    // Another port, and one more lead: the simulator makes it at each start.
    let portal = project.portal()?;
    let all = before + LEADS + LEADS_AT_THE_END + 1;
    wait_for_leads(&portal, all, ALL_LEADS).await?;
    notices(&portal, all).await?;
    say(&format!("after `down` and `up`: all {all} leads are assigned"));

    let dead = project.sql("SELECT count(*) FROM dead_letters")?;
    ensure!(dead == "0", "{dead} dead letters: {}", project.sql("SELECT reason FROM dead_letters LIMIT 5")?);
    let decided = project.sql("SELECT count(*) FROM decisions WHERE outcome = 'assign'")?;
    ensure!(decided == all.to_string(), "{decided} decisions for {all} leads");
    let sums = project.sql("SELECT count(*) FROM (SELECT sum(credit) FROM ledger_balances GROUP BY ledger) s(sum) WHERE sum <> 0")?;
    ensure!(sums == "0", "the credits of a ledger do not sum to zero");
    project.memory("at the end")?;
    say("passed");
    Ok(())
}

/// The proxy answers the events of all leads by 200, whatever a stranger sends to it meanwhile.
async fn beside_broken_bodies(portal: &PortalControl, proxy: SocketAddr) -> anyhow::Result<()> {
    let answered = async || Ok::<_, anyhow::Error>(portal.stats().await?.events);
    let before: u64 = answered().await?.values().sum();
    let good_before = answered().await?.get("200").copied().unwrap_or_default();
    let bodies = tokio::spawn(send_bodies(proxy, PORTAL));
    let leads =
        json!({ "count": LEADS_BESIDE_BODIES, "per_second": PER_SECOND, "fields": { "TITLE": "Beside" } });
    portal.add_leads(&leads).await?;
    let end = Instant::now() + ALL_LEADS;
    loop {
        let answers = answered().await?;
        let events = answers.values().sum::<u64>() - before;
        let good = answers.get("200").copied().unwrap_or_default() - good_before;
        ensure!(
            good == events,
            "of {events} events beside broken bodies, {good} were answered 200: {answers:?}"
        );
        if events == u64::try_from(LEADS_BESIDE_BODIES)? {
            break;
        }
        ensure!(!bodies.is_finished(), "the proxy takes no connections: {:?}", bodies.await?);
        ensure!(Instant::now() < end, "{events} events of {LEADS_BESIDE_BODIES} within {ALL_LEADS:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bodies.abort();
    say(&format!("{LEADS_BESIDE_BODIES} events beside broken, over-long and half bodies: all answered 200"));
    Ok(())
}

/// Waits until the portal has this many leads and each has had its owner changed, exactly once.
async fn wait_for_leads(portal: &PortalControl, count: usize, within: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + within;
    loop {
        // The portal may not be there yet.
        let leads = portal.leads().await.unwrap_or_default();
        if let Some(lead) = leads.iter().find(|lead| lead.history.len() > 1) {
            bail!("lead {} was given {} times", lead.text("ID"), lead.history.len());
        }
        let assigned = leads.iter().filter(|lead| lead.history.len() == 1).count();
        if assigned == count && leads.len() == count {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "{assigned} of {} leads assigned, not {count}, within {within:?}",
            leads.len()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Each lead's person was told, of many leads by one notice. A notice that had to be sent again was in a pack whose
/// answer was lost with the killed notifier.
async fn notices(portal: &PortalControl, leads: usize) -> anyhow::Result<()> {
    let end = Instant::now() + ALL_LEADS;
    loop {
        let notices = portal.notifications().await?;
        // Which notices name a lead, by its link.
        let mut by_lead: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (number, notice) in notices.iter().enumerate() {
            for link in notice.message.split("/crm/lead/details/").skip(1) {
                by_lead.entry(link.split('/').next().unwrap_or_default()).or_default().push(number);
            }
        }
        if by_lead.len() == leads {
            let sent_again: BTreeSet<&usize> = by_lead.values().flat_map(|told| &told[1..]).collect();
            let again = sent_again.len();
            ensure!(again <= PACKS_IN_FLIGHT, "{again} notices tell of leads that were told of before");
            let all = notices.len();
            say(&format!(
                "{leads} leads, each owner set once, each told of in {all} notices; {again} sent again"
            ));
            return Ok(());
        }
        ensure!(Instant::now() < end, "{} of {leads} leads notified", by_lead.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn pause(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn say(text: &str) {
    eprintln!("compose-test: {text}");
}

/// The project under a name of its own. Dropping it takes everything down.
struct Project {
    directory: PathBuf,
    command: Vec<&'static str>,
    services: Vec<&'static str>,
}

impl Project {
    fn new() -> anyhow::Result<Self> {
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
        let mut services =
            vec!["setup", "rabbitmq", "postgres", "ingest", "router", "notifier", "proxy", "simulator"];
        services.extend(["postgres-exporter", "prometheus"]);
        if std::env::var_os("ROTA_STAND_INS").is_none() {
            services.push("grafana");
        } else {
            say("Grafana is left out: there is no stand-in for it");
        }
        Ok(Self { directory, command, services })
    }

    fn up(&self) -> anyhow::Result<()> {
        let scales = REPLICAS.map(|(stage, count)| format!("{stage}={count}"));
        let mut arguments = vec!["up", "-d", "--no-build"];
        for scale in &scales {
            arguments.extend(["--scale", scale]);
        }
        arguments.extend(&self.services);
        self.compose(&arguments).map(drop)
    }

    /// Runs `docker compose` with these arguments and answers what it printed.
    fn compose(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let (program, first) = (self.command[0], &self.command[1..]);
        self.run(program, &[first, &PROFILES, arguments].concat())
    }

    fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(program)
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
            .with_context(|| format!("start {program}"))?;
        let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("{program} {} ended with {}\n{printed}\n{complaint}", arguments.join(" "), output.status);
        }
        Ok(printed)
    }

    /// An address of this host behind which a container's port is.
    fn address(&self, service: &str, port: &str) -> anyhow::Result<String> {
        Ok(format!("http://{}", self.compose(&["port", service, port])?))
    }

    fn proxy(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.compose(&["port", "proxy", "8080"])?.parse()?)
    }

    fn portal(&self) -> anyhow::Result<PortalControl> {
        let control = self.address("simulator", "8001")?;
        PortalControl::from_line(&json!({ "control": control, "webhook_url": "" }).to_string())
    }

    /// Waits until Prometheus sees each replica of each job, those of the stages ready.
    async fn scraped(&self) -> anyhow::Result<()> {
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
    fn kill_one(&self, service: &str) -> anyhow::Result<()> {
        let ids = self.compose(&["ps", "-q", service])?;
        let id = ids.lines().next().with_context(|| format!("no container of {service}"))?;
        self.run("docker", &["kill", id])?;
        say(&format!("killed one container of {service}"));
        Ok(())
    }

    fn sql(&self, query: &str) -> anyhow::Result<String> {
        self.compose(&["exec", "-T", "postgres", "psql", "-U", "rota", "-d", "rota", "-tAc", query])
    }

    fn memory(&self, when: &str) -> anyhow::Result<()> {
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

    fn image_sizes(&self) -> anyhow::Result<()> {
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

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
}
