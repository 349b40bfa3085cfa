//! A pipeline with a Prometheus that watches it, and what is asked of that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use e2e::harness::Pipeline;
use e2e::portal::{client, send};
use e2e::services::{PostgresExporter, Prometheus, RabbitMq, ScratchDir};
use serde_json::{Value, json};

use super::{alerts, dashboards, file, list, proxy, root, text, yaml};
use crate::common_parts::{database_url, plan};

/// How long Prometheus may take to have an answer. It needs two rounds of RabbitMQ's own statistics, which that collects
/// each 5 s, and the scrapes behind them.
const DATA: Duration = e2e::HANG;

const LOOK_EVERY: Duration = Duration::from_millis(300);

/// A Prometheus that scrapes a pipeline as `deploy/prometheus/prometheus.yml` says, only oftener and at other addresses.
pub struct Watched {
    server: Prometheus,
    exporter: PostgresExporter,
    proxy: String,
    pub pipeline: Pipeline,
    broker: RabbitMq,
    // Last: what writes there must have ended before it goes.
    _dir: ScratchDir,
}

impl Watched {
    pub async fn start() -> Self {
        let dir = ScratchDir::new().unwrap();
        let broker = RabbitMq::start_with_metrics(dir.path()).unwrap();
        let mut plan = plan();
        (plan.routers, plan.notifiers) = (2, 2);
        // The delays as they are by default: alerts name their queues. And with the sweep.
        plan.config.clear();
        let pipeline = Pipeline::start(&broker.url(), &database_url(), &plan).await.unwrap();
        let exporter = PostgresExporter::start(dir.path(), &pipeline.database_url).unwrap();
        let mut targets: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (_, program, address) in pipeline.admin_addresses() {
            targets.entry(program.to_owned()).or_default().push(address);
        }
        for job in ["rabbitmq", "rabbitmq-queues"] {
            targets.insert(job.to_owned(), vec![broker.metrics_address().unwrap()]);
        }
        targets.insert("postgres".to_owned(), vec![exporter.address().to_owned()]);
        let proxy = proxy::serve();
        targets.insert("proxy".to_owned(), vec![proxy.clone()]);
        fs::copy(root().join("deploy/prometheus/alerts.yml"), dir.path().join("alerts.yml")).unwrap();
        let server = Prometheus::start(dir.path(), |own| {
            targets.insert("prometheus".to_owned(), vec![own.to_owned()]);
            config(&targets)
        })
        .unwrap();
        Self { server, exporter, proxy, pipeline, broker, _dir: dir }
    }

    /// The answer of Prometheus' API: its `data`, or what it complains about.
    pub async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let url = format!("{}/api/v1/{path}", self.server.url());
        let url = reqwest::Url::parse_with_params(&url, parameters).unwrap();
        let (_, answer) = send(client().unwrap().get(url)).await.unwrap();
        let answer: Value = serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
        if text(&answer, "/status") == "success" {
            Ok(answer["data"].clone())
        } else {
            Err(answer.to_string())
        }
    }

    /// Whether a query answers as a panel needs it: at least one series whose value is a number, and on it the labels
    /// that the legend shows.
    pub async fn answers(&self, query: &dashboards::Query) -> Result<(), String> {
        let data = self.ask("query", &[("query", &query.text)]).await?;
        if query.normally_empty {
            return Ok(());
        }
        let is_number = |value: &Value| value.as_str().is_some_and(|v| v.parse().is_ok_and(f64::is_finite));
        if text(&data, "/resultType") == "scalar" {
            return if is_number(&data["result"][1]) { Ok(()) } else { Err(data.to_string()) };
        }
        let mut numbers = list(&data, "/result").filter(|series| is_number(&series["value"][1])).peekable();
        if numbers.peek().is_none() {
            return Err(format!("no number: {}", data["result"]));
        }
        let shown = |series: &&Value| query.shows.iter().all(|label| series["metric"].get(label).is_some());
        if numbers.any(|series| shown(&series)) {
            return Ok(());
        }
        Err(format!("no series has all labels that the legend shows, {:?}: {}", query.shows, data["result"]))
    }

    /// Whether there is a series for a selector.
    pub async fn has(&self, selector: &str) -> Result<(), String> {
        let found = self.ask("series", &[("match[]", selector)]).await?;
        if list(&found, "").next().is_some() { Ok(()) } else { Err("there is none".to_owned()) }
    }

    /// Asks until each of `questions` is answered, or the time is over; returns what is left, with the last complaint.
    pub async fn unanswered<T>(
        &self,
        questions: Vec<T>,
        ask: impl AsyncFn(&T) -> Result<(), String>,
    ) -> Vec<(T, String)> {
        let end = Instant::now() + DATA;
        let mut left: Vec<(T, String)> =
            questions.into_iter().map(|question| (question, String::new())).collect();
        loop {
            let mut still = Vec::new();
            for (question, _) in left {
                if let Err(complaint) = ask(&question).await {
                    still.push((question, complaint));
                }
            }
            left = still;
            if left.is_empty() || Instant::now() >= end {
                return left;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until exactly these targets answer, and these do not.
    pub async fn wait_for_targets(&self, up: &BTreeSet<String>, down: &BTreeSet<String>) {
        let expected = |value: &str| if value == "1" { up.clone() } else { down.clone() };
        let left = self
            .unanswered(vec!["1", "0"], async |value| {
                let data = self.ask("query", &[("query", &format!("up == {value}"))]).await?;
                let name = |series: &Value| {
                    format!("{} {}", text(series, "/metric/job"), text(series, "/metric/instance"))
                };
                let found: BTreeSet<String> = list(&data, "/result").map(name).collect();
                let expected = expected(value);
                if found == expected { Ok(()) } else { Err(format!("found {found:?}, not {expected:?}")) }
            })
            .await;
        assert!(left.is_empty(), "targets that are up (1) and down (0): {left:#?}");
    }

    /// Each target by job and address, `router 127.0.0.1:20001`.
    pub fn targets(&self) -> BTreeSet<String> {
        let stages =
            self.pipeline.admin_addresses().map(|(_, program, address)| format!("{program} {address}"));
        let broker = self.broker.metrics_address().unwrap();
        let others = [
            format!("rabbitmq {broker}"),
            format!("rabbitmq-queues {broker}"),
            format!("postgres {}", self.exporter.address()),
            format!("proxy {}", self.proxy),
            format!("prometheus {}", self.server.address()),
        ];
        stages.chain(others).collect()
    }

    /// Alerts whose query failed on real data.
    pub async fn unhealthy_rules(&self) -> Vec<String> {
        let data = self.ask("rules", &[]).await.unwrap();
        let rules: Vec<&Value> = list(&data, "/groups").flat_map(|group| list(group, "/rules")).collect();
        assert_eq!(rules.len(), alerts().len(), "Prometheus has all alerts");
        let unhealthy = rules.iter().filter(|rule| text(rule, "/health") != "ok");
        unhealthy
            .map(|rule| {
                format!(
                    "alert {}: {} {}",
                    text(rule, "/name"),
                    text(rule, "/health"),
                    text(rule, "/lastError")
                )
            })
            .collect()
    }

    /// Waits until exactly these alerts are pending or firing, `RotaReplicaDown 127.0.0.1:20001`.
    pub async fn wait_for_alerts(&self, expected: &BTreeSet<String>) {
        let left = self
            .unanswered(vec![()], async |()| {
                let data = self.ask("alerts", &[]).await?;
                let name = |alert: &Value| {
                    format!("{} {}", text(alert, "/labels/alertname"), text(alert, "/labels/instance"))
                };
                let found: BTreeSet<String> = list(&data, "/alerts").map(name).collect();
                if found == *expected { Ok(()) } else { Err(data.to_string()) }
            })
            .await;
        assert!(left.is_empty(), "alerts other than {expected:?}: {left:#?}");
    }
}

/// `deploy/prometheus/prometheus.yml` with these targets, each second.
fn config(targets: &BTreeMap<String, Vec<String>>) -> String {
    let mut config = yaml(&file("deploy/prometheus/prometheus.yml"));
    config["global"] =
        json!({ "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" });
    let mut jobs = BTreeSet::new();
    for job in config["scrape_configs"].as_array_mut().unwrap() {
        let name = text(job, "/job_name").to_owned();
        let job = job.as_object_mut().unwrap();
        job.remove("dns_sd_configs");
        // The processes here have no token; `make compose-test` scrapes those that do.
        job.remove("authorization");
        let targets =
            targets.get(&name).unwrap_or_else(|| panic!("the job {name} is not known to this test"));
        job.insert("static_configs".to_owned(), json!([{ "targets": targets }]));
        jobs.insert(name);
    }
    assert_eq!(jobs, targets.keys().cloned().collect(), "the jobs of prometheus.yml");
    // JSON is YAML.
    config.to_string()
}
