//! `docs/METRICS.md` is what the running programs answer to `/metrics`, and they answer in good form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use e2e::portal::{client, send};
use e2e::services::{ScratchDir, promtool};
use serde_json::json;

use super::{file, promql, root};
use crate::common_parts::{SOON, mixed_leads, plan, start, wait_for_notices};

const PAGE: &str = "docs/METRICS.md";

/// Set to `1`, the page is written instead of compared.
const UPDATE: &str = "ROTA_UPDATE_DOCS";

const HOW_TO_UPDATE: &str = "\
cargo build --workspace --bins --tests
ROTA_UPDATE_DOCS=1 target/debug/with-services cargo nextest run --workspace metrics_page";

/// Sections of the page: the processes that have the metrics, in this order. What another set of processes has comes
/// behind them.
const SECTIONS: [&[&str]; 5] =
    [&["ingest", "router", "notifier"], &["router", "notifier"], &["ingest"], &["router"], &["notifier"]];

/// One metric as its processes tell of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Metric {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// The metrics in an answer to `/metrics`, by name.
fn metrics(answer: &str) -> BTreeMap<String, Metric> {
    let mut found: BTreeMap<String, Metric> = BTreeMap::new();
    for line in answer.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), help) => {
                found.entry(name.into()).or_default().help = help.unwrap_or_default().into();
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                found.entry(name.into()).or_default().kind = kind.into();
            }
            _ => add_labels(&mut found, line),
        }
    }
    found
}

/// A line such as `rota_x_seconds_bucket{portal="acme",le="1"} 7` is a series of `rota_x_seconds`.
fn add_labels(found: &mut BTreeMap<String, Metric>, line: &str) {
    let mut selectors = promql::uses(line).unwrap_or_else(|error| panic!("{error}: {line}")).selectors;
    let series = selectors.pop().unwrap_or_else(|| panic!("no series: {line}"));
    let names = ["_bucket", "_sum", "_count"].map(|suffix| series.metric.strip_suffix(suffix));
    let of_histogram = names.into_iter().flatten().find(|name| found.contains_key(*name));
    let name = of_histogram.unwrap_or(&series.metric);
    let metric = found.get_mut(name).unwrap_or_else(|| panic!("{name} has no help and no type"));
    metric.labels.extend(series.matchers.into_iter().map(|matcher| matcher.label).filter(|l| l != "le"));
}

/// The page for the metrics of each program.
fn page(programs: &BTreeMap<&str, BTreeMap<String, Metric>>) -> String {
    let mut own: BTreeSet<&str> = BTreeSet::new();
    let mut by_name: BTreeMap<&str, (BTreeSet<&str>, Metric)> = BTreeMap::new();
    for (program, metrics) in programs {
        for (name, metric) in metrics {
            if !name.starts_with("rota_") {
                own.insert(name);
                continue;
            }
            let (in_programs, known) =
                by_name.entry(name).or_insert_with(|| (BTreeSet::new(), metric.clone()));
            assert_eq!(known, metric, "{name} is the same in each program");
            in_programs.insert(program);
        }
    }
    let mut sections: Vec<BTreeSet<&str>> = SECTIONS.map(|names| names.iter().copied().collect()).into();
    let others = by_name.values().map(|(in_programs, _)| in_programs.clone());
    for other in others.collect::<BTreeSet<_>>() {
        if !sections.contains(&other) {
            sections.push(other);
        }
    }
    let mut page = head(&own);
    for section in sections {
        let rows: Vec<_> = by_name.iter().filter(|(_, (in_programs, _))| *in_programs == section).collect();
        if rows.is_empty() {
            continue;
        }
        // In the order of a lead's way, not of the alphabet.
        let names = ["ingest", "router", "notifier"].into_iter().filter(|name| section.contains(name));
        let title = names.collect::<Vec<_>>().join(", ");
        writeln!(page, "\n## {title}\n\n| metric | type | labels | what it says |\n|---|---|---|---|")
            .unwrap();
        for (name, (_, metric)) in rows {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let help = metric.help.replace('|', "\\|");
            writeln!(page, "| `{name}` | {} | {} | {help} |", metric.kind, labels.join(" ")).unwrap();
        }
    }
    page
}

fn head(own: &BTreeSet<&str>) -> String {
    let own: Vec<String> = own.iter().map(|name| format!("`{name}`")).collect();
    format!(
        "# Metrics\n\n\
         What the stages answer to `/metrics` on their admin address (`admin.listen`). This page is generated: a test\n\
         runs the programs and fails if it differs from what they say. To write it again:\n\n\
         ```sh\n{HOW_TO_UPDATE}\n```\n\n\
         A histogram has three kinds of series: `_bucket` with the upper bound in the label `le`, `_sum`, and `_count`.\n\
         Label values that are known beforehand start at 0, so that `rate()` sees a first failure. RabbitMQ,\n\
         PostgreSQL and the proxy tell of themselves: see [prometheus.yml](../deploy/prometheus/prometheus.yml).\n\n\
         Each process also has the figures that Prometheus' libraries have in common, as the operating system counts\n\
         them: {}.\n",
        own.join(", ")
    )
}

#[expect(clippy::disallowed_methods, reason = "how a person tells this test to write the page")]
fn shall_update() -> bool {
    std::env::var(UPDATE).is_ok_and(|value| value == "1")
}

#[tokio::test]
async fn the_page_of_metrics_is_what_the_programs_say_and_they_say_it_well() {
    let mut plan = plan();
    // With the sweep, without which ingest asks the portal for nothing.
    plan.config = String::from("retry: { delays: [1s, 2s, 3s] }\ningest: { sweep: { every: 1s } }");
    let pipeline = start(&plan).await;
    // A message that is parked once, so that the router and the notifier have published each type that they publish.
    let busy = json!({ "error": { "status": 401, "code": "CONNECTION_ERROR", "description": "" } });
    for method in ["crm.lead.get", "crm.lead.list", "crm.lead.update"] {
        pipeline.portal.add_fault(&json!({ "method": method, "kind": busy, "times": 1 })).await.unwrap();
    }
    pipeline.portal.add_leads(&mixed_leads(5)).await.unwrap();
    wait_for_notices(&pipeline, 5).await;
    pipeline
        .wait_for("the sweep has asked the portal", SOON, async || {
            Ok(pipeline.metric("ingest", "rota_portal_requests_total", &["outcome=\"ok\""]).await? > 0.0)
        })
        .await
        .unwrap();

    let dir = ScratchDir::new().unwrap();
    let mut programs = BTreeMap::new();
    for (name, program, address) in pipeline.admin_addresses() {
        let request = client().unwrap().get(format!("http://{address}/metrics"));
        let (status, answer) = send(request).await.unwrap();
        assert_eq!(status, 200, "{name}: {answer}");
        promtool(dir.path(), &["check", "metrics"], &answer).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        programs.insert(program, metrics(&answer));
    }
    let page = page(&programs);
    if shall_update() {
        fs::write(root().join(PAGE), page).unwrap();
    } else {
        assert_eq!(
            file(PAGE),
            page,
            "{PAGE} is not what the programs say; to write it again:\n{HOW_TO_UPDATE}"
        );
    }
}

#[test]
fn an_answer_is_read_by_name_with_the_labels_of_its_series() {
    let answer = "# HELP rota_x_seconds How long | \\\\ it takes\n# TYPE rota_x_seconds histogram\n\
                  rota_x_seconds_bucket{portal=\"a b\",le=\"+Inf\"} 1\nrota_x_seconds_sum{portal=\"a b\"} 1e-3\n\
                  rota_x_seconds_count{portal=\"a b\"} 1\n# HELP up_count Up\n# TYPE up_count gauge\nup_count NaN\n";
    let found = metrics(answer);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["rota_x_seconds", "up_count"]);
    assert_eq!(found["rota_x_seconds"].labels, ["portal".to_owned()].into());
    let page = page(&[("ingest", found)].into());
    assert!(page.contains("\n## ingest\n") && page.contains("`up_count`"), "{page}");
    assert!(
        page.contains("| `rota_x_seconds` | histogram | `portal` | How long \\| \\\\ it takes |\n"),
        "{page}"
    );
}
