//! Runs the project's own docker-compose.yml, unchanged, and looks at it from outside: three routers, two
//! notifiers and two ingests give away 500 leads of the simulated portal while a container of each stage is killed
//! and RabbitMQ is restarted; before that a stranger sends broken, over-long and half bodies to the proxy beside leads whose
//! events are all answered 200; at the end everything is taken down with leads under way and started again. What the
//! containers may do and whom they reach is looked at too ([`confined`]).
//!
//! `make compose-test` runs it. It needs a Docker engine and some minutes; what it starts bears a name of its own
//! and is removed at the end, volumes included. With `ROTA_STAND_INS=1` Grafana is left out, as there is no
//! stand-in for it (see e2e/compose/stand-ins).

mod confined;
mod project;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use e2e::hostile::send_bodies;
use e2e::portal::PortalControl;
use serde_json::{Value, json};

use crate::project::Project;

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
    confined::users(&project)?;
    confined::networks(&project)?;

    beside_broken_bodies(&portal, project.proxy()?).await?;
    confined::proxy_log(&project, PORTAL).await?;
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

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
}
