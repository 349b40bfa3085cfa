//! The stages' real programs with a simulated portal, on a broker and a database that are there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};

use crate::HANG;
use crate::least_rights::{self, as_role, as_user, user_of};
use crate::portal::{PortalControl, client, send};
use crate::services::find::free_port;
use crate::services::process::{Process, Program, log_tail};
use crate::services::{ScratchDir, create_database};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The name of the portal in the configuration.
pub const PORTAL: &str = "acme";

/// The portal's own name for itself: the simulator's, unless its settings say otherwise.
pub const MEMBER_ID: &str = "a223c6b3710f85df22e9377d6c4f7553";
/// What the simulator sends to prove its events, unless its settings say otherwise.
pub const TOKEN: &str = "51856fefc120afa4b628cc82d3935cce";

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Replicas of the router.
    pub routers: usize,
    /// Replicas of the notifier.
    pub notifiers: usize,
    /// The routing file.
    pub routing: String,
    /// Settings of the simulated portal.
    pub portal: Value,
    /// Names of further portals, each with a simulator of its own, with the same settings and the same routing.
    pub others: Vec<String>,
    /// Further keys of each portal's section of the configuration, as lines of YAML, without indentation.
    pub portal_keys: Vec<String>,
    /// Further sections of the configuration, as YAML.
    pub config: String,
    /// Whether each process has a user of its own on both servers, which may do no more than it needs. Otherwise one user
    /// does everything.
    pub least_rights: bool,
}

/// A running pipeline. Dropping it kills its programs and removes their files.
#[derive(Debug)]
pub struct Pipeline {
    /// The simulated portal.
    pub portal: PortalControl,
    /// The further portals of the plan, in their order.
    pub others: Vec<PortalControl>,
    /// Where events are posted to.
    pub events_url: String,
    /// The database of this pipeline alone.
    pub database_url: String,
    /// The start of the names of its queues.
    pub prefix: String,
    stages: Vec<Stage>,
    ground: Ground,
}

/// One process of a stage.
#[derive(Debug)]
struct Stage {
    /// `router-2`.
    name: String,
    program: &'static str,
    admin: u16,
    http: u16,
    process: Option<Process>,
}

/// What the stages stand on: a simulated portal, a database of their own, and their files. Dropping it kills the portal
/// and removes the files.
#[derive(Debug)]
pub struct Ground {
    /// The simulated portal.
    pub portal: PortalControl,
    /// The database of these stages alone.
    pub database_url: String,
    /// The start of the names of their queues.
    pub prefix: String,
    others: Vec<PortalControl>,
    /// The broker, where each process has a user of its own.
    least_rights: Option<String>,
    // Before the directory, in which they write.
    _simulators: Vec<Process>,
    dir: ScratchDir,
}

impl Ground {
    /// Starts the portal and writes the files.
    ///
    /// # Errors
    /// When the portal's program is not built or does not start; the text has the end of its log.
    pub async fn prepare(amqp_url: &str, database_url: &str, plan: &Plan) -> anyhow::Result<Self> {
        let dir = ScratchDir::new()?;
        let unique = uuid::Uuid::now_v7().simple().to_string();
        let prefix = format!("e2e-{}", &unique[unique.len() - 12..]);
        let database_url = create_database(database_url, &prefix.replace('-', "_"))?;
        if plan.least_rights {
            least_rights::hand_over(&database_url).await?;
            least_rights::migrate(&database_url).await?;
        }
        let mut config = format!(
            "amqp: {{ url: '{amqp_url}', prefix: {prefix} }}\n\
             database: {{ url: '{database_url}', connections: 4 }}\n\
             {}\n\
             portals:\n",
            plan.config
        );
        let (simulator, portal) = start_simulator(dir.path(), PORTAL, &plan.portal).await?;
        config += &section(plan, PORTAL, MEMBER_ID, &portal);
        let (mut simulators, mut others) = (vec![simulator], Vec::new());
        for (number, name) in plan.others.iter().enumerate() {
            let member_id = format!("{number:032x}");
            let mut settings = plan.portal.clone();
            settings["member_id"] = json!(member_id);
            let (simulator, portal) = start_simulator(dir.path(), name, &settings).await?;
            config += &section(plan, name, &member_id, &portal);
            simulators.push(simulator);
            others.push(portal);
        }
        let least_rights = plan.least_rights.then(|| amqp_url.to_owned());
        let ground =
            Self { portal, database_url, prefix, others, least_rights, _simulators: simulators, dir };
        fs::write(ground.config(), config)?;
        fs::write(ground.dir.path().join("routing.yaml"), &plan.routing)?;
        Ok(ground)
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("rota.yaml")
    }

    /// Where the portal's events go, when ingest listens on this port.
    #[must_use]
    pub fn events_url(port: u16) -> String {
        events_url_of(PORTAL, port)
    }

    /// What tells a stage as whom it is to come to the servers.
    fn users_of(&self, stage: &str) -> anyhow::Result<Vec<(&'static str, String)>> {
        let Some(amqp_url) = &self.least_rights else { return Ok(Vec::new()) };
        let user = user_of(stage);
        Ok(vec![
            ("ROTA__DATABASE__URL", as_role(&self.database_url, &user)?),
            ("ROTA__AMQP__URL", as_user(amqp_url, &user)?),
            // A stage that only publishes makes no queues.
            ("ROTA__AMQP__DECLARE", (stage != "ingest").to_string()),
        ])
    }

    /// Runs the command `rota` with the configuration of these stages; answers how it ended and what it printed.
    ///
    /// # Errors
    /// When it is not built or cannot be started.
    pub fn rota(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(built("rota")?);
        command.args(arguments).arg("--config").arg(self.config());
        if self.least_rights.is_some() {
            command.env("ROTA__DATABASE__URL", as_role(&self.database_url, least_rights::COMMAND)?);
        }
        Ok(command.env("ROTA_AUTHOR", "olga").current_dir(self.dir.path()).output()?)
    }

    /// What `rota simulate` says of these leads, one in a line, by the routing file of the plan.
    ///
    /// # Errors
    /// When it is not built, cannot be started or fails.
    pub fn simulate(&self, leads: &str) -> anyhow::Result<serde_json::Value> {
        fs::write(self.dir.path().join("leads.jsonl"), leads)?;
        let mut command = Command::new(built("rota")?);
        command.args(["simulate", "routing.yaml", "--leads", "leads.jsonl", "--json"]);
        let output = command.current_dir(self.dir.path()).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Pipeline {
    /// Starts everything and returns when all of it is ready.
    ///
    /// # Errors
    /// When a program is not built or does not become ready; the text has the end of its log.
    pub async fn start(amqp_url: &str, database_url: &str, plan: &Plan) -> anyhow::Result<Self> {
        let ground = Ground::prepare(amqp_url, database_url, plan).await?;
        let mut names = vec![("ingest".to_owned(), "ingest")];
        names.extend((1..=plan.routers).map(|number| (format!("router-{number}"), "router")));
        names.extend((1..=plan.notifiers).map(|number| (format!("notifier-{number}"), "notifier")));
        let mut stages = Vec::new();
        for (name, program) in names {
            stages.push(Stage { name, program, admin: free_port()?, http: free_port()?, process: None });
        }
        let events_url = Ground::events_url(stages[0].http);
        let (portal, others) = (ground.portal.clone(), ground.others.clone());
        let (database_url, prefix) = (ground.database_url.clone(), ground.prefix.clone());
        let mut pipeline = Self { portal, others, events_url, database_url, prefix, stages, ground };
        for index in 0..pipeline.stages.len() {
            pipeline.launch(index)?;
        }
        pipeline.wait_ready().await?;
        pipeline.portal.change_settings(&json!({ "events_to": pipeline.events_url })).await?;
        for (name, portal) in plan.others.iter().zip(&pipeline.others) {
            let events_to = events_url_of(name, pipeline.stages[0].http);
            portal.change_settings(&json!({ "events_to": events_to })).await?;
        }
        Ok(pipeline)
    }

    /// Waits until every running process is ready.
    ///
    /// # Errors
    /// When one is not; with the ends of the logs.
    pub async fn wait_ready(&self) -> anyhow::Result<()> {
        let client = client()?;
        for stage in self.stages.iter().filter(|stage| stage.process.is_some()) {
            let url = format!("http://127.0.0.1:{}/ready", stage.admin);
            self.wait_for(&format!("{} is ready", stage.name), HANG, async || {
                anyhow::ensure!(!stage.process.as_ref().is_none_or(Process::has_ended), "it has ended");
                Ok(matches!(send(client.get(&url)).await, Ok((200, _))))
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until `condition` holds.
    ///
    /// # Errors
    /// When it does not within the time, or fails; with the ends of the logs.
    pub async fn wait_for(
        &self,
        what: &str,
        within: Duration,
        condition: impl AsyncFn() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + within;
        loop {
            match condition().await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => bail!("{what}: {error:#}\n{}", self.logs()),
            }
            if Instant::now() >= end {
                bail!("not within {within:?}: {what}\n{}", self.logs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Lets a running process have no more than this many file descriptors.
    ///
    /// # Errors
    /// When it does not run.
    pub fn limit_descriptors(&mut self, name: &str, most: u64) -> anyhow::Result<()> {
        let process = self.stage(name)?.process.as_ref().context("it does not run")?;
        let pid = Pid::from_raw(i32::try_from(process.id())?);
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) })?;
        Ok(())
    }

    /// How many file descriptors a running process has.
    ///
    /// # Errors
    /// When it does not run.
    pub fn descriptors(&mut self, name: &str) -> anyhow::Result<usize> {
        let process = self.stage(name)?.process.as_ref().context("it does not run")?;
        Ok(fs::read_dir(format!("/proc/{}/fd", process.id()))?.count())
    }

    /// Kills a process of a stage at once, as `kill -9` does.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let mut process = self.stage(name)?.process.take().context("it does not run")?;
        process.signal(Signal::KILL);
        process.finish()?;
        Ok(())
    }

    /// Tells a process to stop and waits for it.
    ///
    /// # Errors
    /// When it does not end by itself with success; with the end of its log.
    pub fn stop(&mut self, name: &str) -> anyhow::Result<()> {
        let log = self.log(name);
        let mut process = self.stage(name)?.process.take().context("it does not run")?;
        process.stop(Signal::TERM, HANG).with_context(|| log_tail(&log))?;
        let status = process.finish()?;
        anyhow::ensure!(status.success(), "{name} ended with {status}\n{}", log_tail(&log));
        Ok(())
    }

    /// Starts a process again that was killed or stopped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again(&mut self, name: &str) -> anyhow::Result<()> {
        let index = self.stages.iter().position(|stage| stage.name == name).context("no such process")?;
        self.launch(index)
    }

    /// Starts one more process of a stage, and answers its name, such as `ingest-2`. Events do not go to it by themselves.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_another(&mut self, program: &'static str) -> anyhow::Result<String> {
        let number = self.stages.iter().filter(|stage| stage.program == program).count() + 1;
        let name = format!("{program}-{number}");
        let (admin, http) = (free_port()?, free_port()?);
        self.stages.push(Stage { name: name.clone(), program, admin, http, process: None });
        self.launch(self.stages.len() - 1)?;
        Ok(name)
    }

    /// Starts the processes again that ended by themselves, and answers their names.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn revive(&mut self) -> anyhow::Result<Vec<String>> {
        let has_ended = |stage: &Stage| stage.process.as_ref().is_some_and(Process::has_ended);
        let ended: Vec<usize> =
            (0..self.stages.len()).filter(|index| has_ended(&self.stages[*index])).collect();
        ended.into_iter().map(|index| self.launch(index).map(|()| self.stages[index].name.clone())).collect()
    }

    /// The names of all processes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().map(|stage| stage.name.as_str())
    }

    /// The ports on which processes of ingest take events.
    pub fn event_ports(&self) -> impl Iterator<Item = u16> {
        self.stages.iter().filter(|stage| stage.program == "ingest").map(|stage| stage.http)
    }

    /// Stops everything, the last stage first.
    ///
    /// # Errors
    /// When a process does not stop in order.
    pub fn stop_all(&mut self) -> anyhow::Result<()> {
        let running = self.stages.iter().filter(|stage| stage.process.is_some());
        let names: Vec<String> = running.map(|stage| stage.name.clone()).rev().collect();
        names.iter().try_for_each(|name| self.stop(name))
    }

    /// The sum of a metric over all processes of a stage, for series that have all these labels
    /// (`outcome="accepted"`).
    ///
    /// # Errors
    /// When a process does not answer.
    pub async fn metric(&self, program: &str, name: &str, labels: &[&str]) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for stage in self.stages.iter().filter(|stage| stage.program == program && stage.process.is_some()) {
            let url = format!("http://127.0.0.1:{}/metrics", stage.admin);
            let (_, text) = send(client()?.get(url)).await?;
            sum += text.lines().filter_map(|line| value_of(line, name, labels)).sum::<f64>();
        }
        Ok(sum)
    }

    /// The least that a metric is in any process of a stage; 0 where one does not have it yet.
    ///
    /// # Errors
    /// When a process does not answer.
    pub async fn least_metric(&self, program: &str, name: &str) -> anyhow::Result<f64> {
        let mut least = f64::INFINITY;
        for stage in self.stages.iter().filter(|stage| stage.program == program && stage.process.is_some()) {
            let url = format!("http://127.0.0.1:{}/metrics", stage.admin);
            let (_, text) = send(client()?.get(url)).await?;
            least = least.min(text.lines().find_map(|line| value_of(line, name, &[])).unwrap_or_default());
        }
        Ok(least)
    }

    /// Where each process answers to `/metrics`: its name, its program, and `127.0.0.1:<port>`. The address of one that
    /// was killed is there too.
    pub fn admin_addresses(&self) -> impl Iterator<Item = (&str, &'static str, String)> {
        self.stages
            .iter()
            .map(|stage| (stage.name.as_str(), stage.program, format!("127.0.0.1:{}", stage.admin)))
    }

    /// As [`Ground::rota`].
    ///
    /// # Errors
    /// When it is not built or cannot be started.
    pub fn rota(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.ground.rota(arguments)
    }

    /// Writes a file beside the configuration, such as `routing.yaml`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        Ok(fs::write(self.ground.dir.path().join(name), text)?)
    }

    /// The answer of `/ready` of a process: status and text.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ready(&self, name: &str) -> anyhow::Result<(u16, String)> {
        let stage = self.stages.iter().find(|stage| stage.name == name).context("no such process")?;
        send(client()?.get(format!("http://127.0.0.1:{}/ready", stage.admin))).await
    }

    /// The id of a running process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process_id(&self, name: &str) -> anyhow::Result<u32> {
        let stage = self.stages.iter().find(|stage| stage.name == name).context("no such process")?;
        Ok(stage.process.as_ref().context("it does not run")?.id())
    }

    /// Where the files of the stages are: their configuration, their logs, the spool.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.ground.dir.path()
    }

    /// The most memory that a process has taken so far (`VmHWM`), in bytes.
    ///
    /// # Errors
    /// When it does not run, or not on Linux.
    pub fn peak_memory(&self, name: &str) -> anyhow::Result<u64> {
        let id = self.process_id(name)?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(1024 * kib)
    }

    /// The log of a process so far.
    #[must_use]
    pub fn log_text(&self, name: &str) -> String {
        fs::read_to_string(self.log(name)).unwrap_or_default()
    }

    fn stage(&mut self, name: &str) -> anyhow::Result<&mut Stage> {
        self.stages.iter_mut().find(|stage| stage.name == name).context("no such process")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.ground.dir.path().join(format!("{name}.log"))
    }

    fn logs(&self) -> String {
        self.stages.iter().map(|stage| log_tail(&self.log(&stage.name)) + "\n").collect()
    }

    fn launch(&mut self, index: usize) -> anyhow::Result<()> {
        let dir = self.ground.dir.path();
        let stage = &self.stages[index];
        let mut env = self.ground.users_of(stage.program)?;
        env.push(("ROTA__ADMIN__LISTEN", format!("127.0.0.1:{}", stage.admin)));
        env.push(("ROTA__HTTP__LISTEN", format!("127.0.0.1:{}", stage.http)));
        let program = Program {
            path: built(stage.program)?,
            args: vec!["--config".to_owned(), dir.join("rota.yaml").display().to_string()],
            env,
            dir,
            log: self.log(&stage.name),
            user: None,
        };
        let process = program.start("KILL")?;
        self.stages[index].process = Some(process);
        Ok(())
    }
}

fn events_url_of(portal: &str, port: u16) -> String {
    format!("http://127.0.0.1:{port}/bitrix24/{portal}/events")
}

/// A portal's section of the configuration.
fn section(plan: &Plan, name: &str, member_id: &str, portal: &PortalControl) -> String {
    let keys: Vec<String> = plan.portal_keys.iter().map(|line| format!("    {line}\n")).collect();
    format!(
        "\x20 - name: {name}\n\
         \x20   member_id: '{member_id}'\n\
         \x20   webhook_url: {}\n\
         \x20   application_token: {TOKEN}\n\
         \x20   routing: routing.yaml\n\
         {}",
        portal.webhook_url,
        keys.concat(),
    )
}

async fn start_simulator(
    dir: &Path,
    name: &str,
    settings: &Value,
) -> anyhow::Result<(Process, PortalControl)> {
    let log = dir.join(format!("simulator-{name}.log"));
    let program = Program {
        path: built("simulator")?,
        args: vec!["--settings".to_owned(), settings.to_string()],
        env: Vec::new(),
        dir,
        log: log.clone(),
        user: None,
    };
    let process = program.start("KILL")?;
    let end = Instant::now() + HANG;
    loop {
        let text = fs::read_to_string(&log).unwrap_or_default();
        if let Some((line, _)) = text.split_once('\n') {
            return Ok((process, PortalControl::from_line(line)?));
        }
        anyhow::ensure!(Instant::now() < end && !process.has_ended(), "no simulator\n{}", log_tail(&log));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A program of this workspace, beside the running one or one folder above (tests lie in `deps`).
fn built(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let places = own.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    places.into_iter().find(|path| path.is_file()).with_context(|| {
        format!("the program {name} is not built; run `cargo build --workspace --bins`, or `make test`")
    })
}

fn value_of(line: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (series, value) = rest.rsplit_once(' ')?;
    let exact = series.is_empty() || series.starts_with('{');
    (exact && labels.iter().all(|label| series.contains(label))).then(|| value.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::value_of;

    #[test]
    fn a_metric_is_found_by_name_and_labels() {
        let line = "rota_x_total{outcome=\"ok\",portal=\"acme\"} 7";
        assert_eq!(value_of(line, "rota_x_total", &["outcome=\"ok\""]), Some(7.0));
        assert_eq!(value_of(line, "rota_x_total", &["outcome=\"no\""]), None);
        assert_eq!(value_of(line, "rota_x", &[]), None);
        assert_eq!(value_of("rota_y 1", "rota_y", &[]), Some(1.0));
    }
}
