//! `make demo`: the whole pipeline on this machine, with a simulated portal, for a person to watch.
//!
//! Everything is private and temporary: servers on free ports, files in one folder that is removed at
//! the end, also after Ctrl-C. Thirty leads arrive, each line says who got one and why.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::ids::LeadId;
use common::messages::{AssignmentKey, Epoch};
use e2e::harness::{PORTAL, Pipeline, Plan};
use e2e::services::Services;
use serde_json::{Value, json};
use store::postgres::Postgres;
use store::{Assignments, Decisions, SavedDecision, Verdict};

const LEADS: usize = 30;

/// How many leads arrive each second: slow enough to read along.
const PER_SECOND: f64 = 3.0;

/// The demo gives up when nothing more happens for this long.
const PATIENCE: Duration = Duration::from_mins(1);

const ROUTING: &str = include_str!("../../../config/routing.example.yaml");

#[tokio::main]
async fn main() -> ExitCode {
    let watched = tokio::select! {
        result = watch() => result,
        _ = tokio::signal::ctrl_c() => {
            say("\nStopping. Everything that was started ends, and its files are removed.");
            return ExitCode::from(130);
        }
    };
    match watched {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("The demo failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn watch() -> anyhow::Result<()> {
    say("Rota demo: a simulated portal posts leads, ingest stores them in RabbitMQ, router decides by");
    say("config/routing.example.yaml, notifier sets the responsible person and tells them.\n");
    say("Starting a private RabbitMQ and PostgreSQL …");
    let services = tokio::task::spawn_blocking(Services::start).await.context("starting the servers")??;
    say("Starting ingest, router, notifier and the simulated portal …\n");
    let plan = Plan {
        routers: 1,
        notifiers: 1,
        routing: ROUTING.to_owned(),
        portal: json!({}),
        others: Vec::new(),
        portal_keys: Vec::new(),
        config: String::new(),
        least_rights: false,
    };
    let mut pipeline = Pipeline::start(&services.rabbitmq.url(), &services.postgres.url(), &plan).await?;
    let store = Postgres::prepare(&pipeline.database_url.as_str().into(), 2)?;

    say(&format!("{:>5}  {:<14} {:>9}  {:<10} {:<9} because", "lead", "source", "amount", "region", "owner"));
    let started = Instant::now();
    pipeline.portal.add_leads(&json!({ "leads": leads(), "per_second": PER_SECOND })).await?;
    let mut seen = Seen::default();
    while seen.decisions.len() < LEADS {
        anyhow::ensure!(
            seen.last_news.is_none_or(|at| at.elapsed() < PATIENCE) && started.elapsed() < 3 * PATIENCE,
            "only {} of {LEADS} leads were assigned",
            seen.decisions.len()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
        show_news(&pipeline, &store, &mut seen).await?;
    }
    summary(&pipeline, &seen).await?;
    store.close().await;
    say("\nStopping everything …");
    tokio::task::block_in_place(|| pipeline.stop_all())?;
    say("Done. Nothing was left behind. Next: README.md says how to point Rota at a real portal.");
    Ok(())
}

/// What was shown so far.
#[derive(Default)]
struct Seen {
    shown: BTreeSet<AssignmentKey>,
    decisions: Vec<SavedDecision>,
    last_news: Option<Instant>,
}

/// Leads such as a small company gets in a morning.
fn leads() -> Vec<Value> {
    let lead = |number: usize| {
        let (source, amount, region) = match number % 10 {
            0 => ("SITE_MOSCOW", "15000", ""),
            1 | 6 => ("CALL", "0", ""),
            2 => ("WEBFORM", "750000", ""),
            3 => ("WEBFORM", "32000", "Moscow"),
            4 => ("WEBFORM", "18000", "Tver"),
            _ => ("WEBFORM", "9000", ""),
        };
        json!({ "TITLE": format!("Request {}", number + 1), "SOURCE_ID": source, "OPPORTUNITY": amount,
                "ADDRESS_REGION": region })
    };
    (0..LEADS).map(lead).collect()
}

async fn show_news(pipeline: &Pipeline, store: &Postgres, seen: &mut Seen) -> anyhow::Result<()> {
    let portal = PORTAL.parse()?;
    for (key, outcome) in store.outcomes(&portal).await? {
        if outcome.is_none() || !seen.shown.insert(key.clone()) {
            continue;
        }
        let decision = store.decision(&key).await?.context("an assignment without a decision")?;
        let leads = pipeline.portal.leads().await?;
        let id = key.lead.to_string();
        let lead = leads.iter().find(|lead| lead.text("ID") == id).context("a lead that the portal lacks")?;
        let Verdict::Assign { person, .. } = &decision.verdict else { continue };
        say(&format!(
            "{id:>5}  {:<14} {:>9}  {:<10} {person:<9} {}",
            lead.text("SOURCE_ID"),
            lead.text("OPPORTUNITY").trim_end_matches(".00"),
            lead.text("ADDRESS_REGION"),
            decision.reason
        ));
        seen.decisions.push(decision);
        seen.last_news = Some(Instant::now());
    }
    Ok(())
}

async fn summary(pipeline: &Pipeline, seen: &Seen) -> anyhow::Result<()> {
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    for decision in &seen.decisions {
        if let Verdict::Assign { person, .. } = &decision.verdict {
            *shares.entry(person).or_default() += 1;
        }
    }
    let (stats, notices) = (pipeline.portal.stats().await?, pipeline.portal.notifications().await?);
    let sum = pipeline.metric("notifier", "rota_lead_assignment_seconds_sum", &[]).await?;
    let count = pipeline.metric("notifier", "rota_lead_assignment_seconds_count", &[]).await?;
    say("\nSummary");
    for (person, leads) in shares {
        say(&format!("  {person:<10} {leads:>3}  {}", "#".repeat(leads)));
    }
    say(&format!("  leads assigned {}, notices sent {}", seen.decisions.len(), notices.len()));
    say(&format!("  from event to owner set: {:.0} ms on average", 1000.0 * sum / count.max(1.0)));
    say(&format!("  requests to the portal: {} ({} refused as too fast)", stats.requests, stats.refused));
    say("    it allows 2 a second once a burst is used up; leads that wait for that share requests");
    if let Some(notice) = notices.first() {
        say(&format!("  the first notice: {:?}", notice.message));
    }
    let last = seen.decisions.last().map(|decision| decision.key.lead).or(LeadId::new(1));
    if let Some(lead) = last {
        let key = AssignmentKey { portal: PORTAL.parse()?, lead, epoch: Epoch::FIRST };
        say(&format!("  each of them is on record under its key, such as {key}, with the whole explanation"));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this program is there to be read")]
fn say(line: &str) {
    println!("{line}");
}

fn complain(line: &str) {
    eprintln!("{line}");
}
