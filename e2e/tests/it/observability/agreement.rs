//! Dashboards, alerts and metrics agree, by a real Prometheus.
//!
//! `own_broker` in a name: the test starts a broker of its own, here one with the plugin for Prometheus.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::watched::Watched;
use super::{alerts, dashboards, promql, text};
use crate::common_parts::{mixed_leads, wait_for_notices};

const LEADS: usize = 30;

#[tokio::test]
async fn own_broker_dashboards_and_alerts_agree_with_what_prometheus_scrapes() {
    let panels = dashboards::queries().unwrap();
    let demands = all_demands(&panels);
    let mut watched = Watched::start().await;
    let targets = watched.targets();
    assert_eq!(targets.iter().filter(|target| target.starts_with("router ")).count(), 2);
    assert_eq!(targets.iter().filter(|target| target.starts_with("notifier ")).count(), 2);
    watched.wait_for_targets(&targets, &BTreeSet::new()).await;

    let mut leads = mixed_leads(LEADS);
    // Over three seconds: a series that begins with the first lead must grow after its first scrape to have a rate.
    leads["per_second"] = json!(10);
    watched.pipeline.portal.add_leads(&leads).await.unwrap();
    wait_for_notices(&watched.pipeline, LEADS).await;

    let mut complaints = Vec::new();
    let left = watched.unanswered(panels, async |query| watched.answers(query).await).await;
    complaints.extend(left.into_iter().map(|(query, complaint)| {
        format!("{}, panel {:?}\n    {}\n    {complaint}", query.dashboard, query.panel, query.text)
    }));
    let left = watched
        .unanswered(demands.into_iter().collect(), async |(selector, _)| watched.has(selector).await)
        .await;
    complaints.extend(
        left.into_iter().map(|((selector, places), complaint)| format!("{selector}: {complaint}; {places}")),
    );
    complaints.extend(watched.unhealthy_rules().await);
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));

    wrong_queries_are_found_out(&watched).await;
    watched.wait_for_alerts(&BTreeSet::new()).await;
    killed_replicas_show(&mut watched, &targets).await;
}

/// What would be wrong in a dashboard is refused here, so a good answer says something.
async fn wrong_queries_are_found_out(watched: &Watched) {
    let query = |text: &str, shows: &[&str], normally_empty| dashboards::Query {
        dashboard: String::new(),
        panel: String::new(),
        text: text.to_owned(),
        shows: shows.iter().map(|label| (*label).to_owned()).collect(),
        normally_empty,
    };
    for (query, holds) in [
        (query("sum by (job) (rota_ready)", &["job"], false), true),
        (query("sum by (job) (rota_ready)", &["portal"], false), false),
        (query("sum(rota_raedy)", &[], false), false),
        (query("sum(rota_raedy)", &[], true), true),
        (query("vector(0) / vector(0)", &[], false), false),
        (query("sum(rota_ready", &[], true), false),
    ] {
        assert_eq!(watched.answers(&query).await.is_ok(), holds, "{query:?}");
    }
    for (selector, holds) in [
        ("rota_broker_connected{role=\"publish\"}", true),
        ("rota_broker_connected{role=\"produce\"}", false),
        ("rota_broker_connected{kind!=\"\"}", false),
    ] {
        assert_eq!(watched.has(selector).await.is_ok(), holds, "{selector}");
    }
}

async fn killed_replicas_show(watched: &mut Watched, targets: &BTreeSet<String>) {
    let dead = ["router-2", "notifier-2"];
    let of_dead: BTreeMap<String, String> = watched
        .pipeline
        .admin_addresses()
        .filter(|(name, ..)| dead.contains(name))
        .map(|(_, program, address)| (format!("{program} {address}"), address))
        .collect();
    for name in dead {
        watched.pipeline.kill(name).unwrap();
    }
    let down: BTreeSet<String> = of_dead.keys().cloned().collect();
    watched.wait_for_targets(&(targets - &down), &down).await;
    let raised = of_dead.values().map(|address| format!("RotaReplicaDown {address}")).collect();
    watched.wait_for_alerts(&raised).await;
}

/// What must be in Prometheus for a query to mean something, as selectors: each metric, each label on its metric, each
/// value of a label, and each label to group by on one of the metrics that are grouped.
fn demands(query: &str) -> Result<BTreeSet<String>, String> {
    let uses = promql::uses(query)?;
    let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_-|".contains(c));
    let of = |metric: &str, label: &str, operator: &str, value: &str| {
        let value = json!(value);
        if is_plain(metric) && !metric.contains('|') {
            format!("{metric}{{{label}{operator}{value}}}")
        } else {
            format!("{{__name__=~\"{metric}\",{label}{operator}{value}}}")
        }
    };
    let mut demands = BTreeSet::new();
    for promql::Selector { metric, matchers } in uses.selectors {
        demands.insert(of(&metric, "__name__", "!=", ""));
        for promql::Matcher { label, operator, value } in matchers {
            // `portal=""` asks for series without the label.
            if value.is_empty() {
                continue;
            }
            demands.insert(of(&metric, &label, "!=", ""));
            if !operator.ends_with('~') {
                demands.insert(of(&metric, &label, "=", &value));
            } else if is_plain(&value) {
                demands.extend(
                    value
                        .split('|')
                        .filter(|value| !value.is_empty())
                        .map(|value| of(&metric, &label, "=", value)),
                );
            } else {
                demands.insert(of(&metric, &label, "=~", &value));
            }
        }
    }
    for promql::Labels { labels, metrics } in uses.labels {
        let metrics = metrics.join("|");
        demands.extend(labels.iter().map(|label| of(&metrics, label, "!=", "")));
    }
    Ok(demands)
}

/// The demands of all dashboards and alerts, each with where it comes from.
fn all_demands(panels: &[dashboards::Query]) -> BTreeMap<String, String> {
    let of_panels = panels
        .iter()
        .map(|query| (format!("{}, panel {:?}", query.dashboard, query.panel), query.text.clone()));
    let of_alerts = alerts()
        .into_iter()
        .map(|alert| (format!("the alert {}", text(&alert, "/alert")), text(&alert, "/expr").to_owned()));
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (place, query) in of_panels.chain(of_alerts) {
        for demand in demands(&query).unwrap_or_else(|error| panic!("{place}: {error}\n{query}")) {
            let places = all.entry(demand).or_default();
            *places += if places.is_empty() { "" } else { "; " };
            *places += &place;
        }
    }
    all
}

#[test]
fn a_query_demands_its_metrics_labels_and_values() {
    let found =
        demands("sum by (portal, le) (rate(a_bucket{outcome=~\"b|c\",job!=\"d\",x=\"\",q=~\".+[.]e\"}[5m]))");
    let expected = [
        "a_bucket{__name__!=\"\"}",
        "a_bucket{job!=\"\"}",
        "a_bucket{job=\"d\"}",
        "a_bucket{outcome!=\"\"}",
        "a_bucket{outcome=\"b\"}",
        "a_bucket{outcome=\"c\"}",
        "a_bucket{q!=\"\"}",
        "a_bucket{q=~\".+[.]e\"}",
        "a_bucket{le!=\"\"}",
        "a_bucket{portal!=\"\"}",
    ];
    assert_eq!(found.unwrap(), expected.map(str::to_owned).into());
}
