//! What is in the store: the published versions of a portal's routing, and its ledgers.
//!
//! `rota publish`, `versions`, `rollback`, `credits`, `correct`, `refund`.

use std::path::{Path, PathBuf};

use clap::Args;
use common::clock::{Clock as _, SystemClock};
use common::config::Config;
use common::failure::chain;
use common::ids::{LeadId, PortalName};
use common::messages::{AssignmentKey, Epoch};
use distribution::{Credit, Routing};
use serde_json::{Value, json};
use store::postgres::Postgres;
use store::{
    Intervals, LedgerEntry, Ledgers as _, Manual, NewVersion, PublishedVersion, Rosters as _, Store as _,
    StoreError, Versions as _, WITHOUT_LEADS,
};

use crate::failure::Failure;
use crate::files::configuration;
use crate::output::table;
use crate::{files, output};

/// How many versions are listed.
const LISTED: u32 = 50;

/// Which store, and whose.
#[derive(Args)]
pub(crate) struct Place {
    /// The configuration that the stages run with: its database is used.
    #[arg(long, env = "ROTA_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: PathBuf,
    /// The portal; may be left out where the configuration has only one.
    #[arg(long, value_name = "NAME")]
    portal: Option<PortalName>,
}

/// Who does it.
#[derive(Args)]
pub(crate) struct Author {
    /// Who does it; the name is kept with it. Without: `ROTA_AUTHOR`.
    #[arg(long, env = "ROTA_AUTHOR", hide_env_values = true, value_name = "NAME")]
    author: Option<String>,
}

impl Author {
    pub(crate) fn name(&self) -> String {
        self.author.clone().unwrap_or_else(|| "unknown".to_owned())
    }
}

/// The store of one portal.
pub(crate) struct Opened {
    pub(crate) store: Postgres,
    pub(crate) portal: PortalName,
    /// How often the routers ask who is at work.
    pub(crate) intervals: Intervals,
}

impl Place {
    pub(crate) async fn open(&self) -> Result<Opened, Failure> {
        let config = configuration(Some(&self.config))?;
        let names = || config.portals.iter().map(|portal| &portal.name);
        let listed = || names().map(|name| name.as_str().to_owned()).collect::<Vec<_>>().join(", ");
        let portal = match &self.portal {
            Some(portal) if names().any(|name| name == portal) => portal.clone(),
            Some(portal) => {
                let message = format!("the configuration has no portal `{portal}`; it has: {}", listed());
                return Err(Failure::arguments(message));
            }
            None => match config.portals.as_slice() {
                [only] => only.name.clone(),
                _ => return Err(Failure::arguments(format!("--portal is missing; one of: {}", listed()))),
            },
        };
        let store = store_of(&config).await?;
        let opened = Opened { store, portal, intervals: Intervals::of(&config.roster) };
        opened.warn_of_mode().await?;
        Ok(opened)
    }
}

/// The store that a configuration names.
pub(crate) async fn store_of(config: &Config) -> Result<Postgres, Failure> {
    let store = answering(config).await?;
    store.open().await.map_err(|error| Failure::unreachable(&error))?;
    Ok(store)
}

/// The store that a configuration names, which answers, whatever its schema is.
pub(crate) async fn answering(config: &Config) -> Result<Postgres, Failure> {
    let store =
        Postgres::prepare(&config.database.url, 1).map_err(|error| Failure::arguments(chain(&error)))?;
    store.ping().await.map_err(|error| Failure::unreachable(&error))?;
    Ok(store)
}

impl Opened {
    /// Whatever is asked of such a portal, nothing of it will happen.
    async fn warn_of_mode(&self) -> Result<(), Failure> {
        if self.store.roster(&self.portal, SystemClock.now()).await?.has_leads == Some(false) {
            output::complain(&format!("warning: portal {}: {WITHOUT_LEADS}", self.portal));
        }
        Ok(())
    }

    async fn current(&self) -> Result<PublishedVersion, Failure> {
        let versions = self.store.versions(&self.portal, u32::MAX).await?;
        let current = versions.iter().find(|version| version.current);
        let missing = || Failure::file(format!("portal {} has no published routing yet", self.portal));
        let number = current.ok_or_else(missing)?.version;
        self.store.version(&self.portal, number).await?.ok_or_else(missing)
    }

    pub(crate) async fn routing(&self) -> Result<Routing, Failure> {
        let current = self.current().await?;
        let name = format!("version {} of portal {}", current.version, self.portal);
        Routing::from_yaml(&current.text, &name).map_err(|errors| Failure::file(errors.to_string()))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::store(&error)
    }
}

/// Publishes a file.
pub(crate) async fn publish(
    place: &Place,
    file: &Path,
    author: &Author,
    note: Option<String>,
) -> Result<u8, Failure> {
    let text = files::text(file)?;
    let name = file.display().to_string();
    let checked = Routing::check(&text);
    if checked.routing.is_none() {
        crate::check::run(std::slice::from_ref(&file.to_path_buf()), false);
        return Err(Failure::file(format!("{name} is not published; what decides is unchanged")));
    }
    for problem in &checked.problems {
        output::complain(&format!("{name}:{}: warning: {}", problem.line, problem.message));
    }
    let opened = place.open().await?;
    let portal = &opened.portal;
    if let Ok(current) = opened.current().await
        && current.text == text
    {
        output::print(&format!("{name} is version {} of portal {portal} already\n", current.version));
        return Ok(0);
    }
    let new = NewVersion { text, author: author.name(), note };
    let version = opened.store.publish(portal, &new, SystemClock.now()).await?;
    output::print(&format!("{name} is version {version} of portal {portal} and decides from now on\n"));
    Ok(0)
}

/// Lists the versions.
pub(crate) async fn versions(place: &Place, show: Option<u64>, as_json: bool) -> Result<u8, Failure> {
    let opened = place.open().await?;
    if let Some(number) = show {
        let version = opened.store.version(&opened.portal, number).await?;
        let version = version.ok_or_else(|| no_version(&opened.portal, number))?;
        output::print(&version.text);
        return Ok(0);
    }
    let versions = opened.store.versions(&opened.portal, LISTED).await?;
    if as_json {
        let one = |version: &store::VersionInfo| {
            json!({
                "version": version.version, "current": version.current, "author": version.author,
                "note": version.note, "published_at": version.published_at,
            })
        };
        output::print_json(&Value::Array(versions.iter().map(one).collect()));
        return Ok(0);
    }
    let row = |version: &store::VersionInfo| {
        let mark = if version.current { "*" } else { "" };
        vec![
            mark.to_owned(),
            version.version.to_string(),
            version.published_at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
            version.author.clone(),
            version.note.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = versions.iter().map(row).collect();
    output::print(&table(&["", "version", "published", "author", "note"], &rows));
    Ok(0)
}

fn no_version(portal: &PortalName, number: u64) -> Failure {
    Failure::file(format!("portal {portal} has no version {number}; `rota versions` lists what it has"))
}

/// Makes an older version current.
pub(crate) async fn rollback(place: &Place, number: u64, author: &Author) -> Result<u8, Failure> {
    let opened = place.open().await?;
    let portal = &opened.portal;
    let version = opened.store.version(portal, number).await?.ok_or_else(|| no_version(portal, number))?;
    // A version that decided once may be in a language that has changed since.
    let name = format!("version {number} of portal {portal}");
    Routing::from_yaml(&version.text, &name).map_err(|errors| {
        Failure::file(format!("{errors}\n{name} cannot be used any more; what decides is unchanged"))
    })?;
    let before = opened.current().await?.version;
    opened.store.activate(portal, number, &author.name(), SystemClock.now()).await?;
    output::print(&format!(
        "version {number} of portal {portal} decides from now on; before it was {before}\n"
    ));
    Ok(0)
}

/// Shows the balances.
pub(crate) async fn credits(place: &Place, as_json: bool) -> Result<u8, Failure> {
    let opened = place.open().await?;
    let routing = opened.routing().await?;
    let balances = opened.store.balances(&opened.portal).await?;
    let mut rows = Vec::new();
    for (ledger, people) in &balances {
        for (user, units) in people {
            let person = routing.people().find(|person| person.user == *user);
            let name = person.map_or_else(|| format!("user {user}"), |person| person.name.to_string());
            rows.push((ledger.clone(), name, Credit::from_units(*units)));
        }
    }
    if as_json {
        let one = |(ledger, person, credit): &(String, String, Credit)| json!({ "ledger": ledger, "person": person, "units": credit.units(), "turns": credit.to_string() });
        output::print_json(&Value::Array(rows.iter().map(one).collect()));
    } else {
        let row =
            |(ledger, person, credit): (String, String, Credit)| vec![ledger, person, credit.to_string()];
        output::print(&table(&["ledger", "person", "turns"], &rows.into_iter().map(row).collect::<Vec<_>>()));
    }
    Ok(0)
}

/// Gives somebody turns, or takes them.
pub(crate) async fn correct(
    place: &Place,
    (queue, person, turns): (&str, &str, f64),
    author: &Author,
    reason: String,
) -> Result<u8, Failure> {
    let credit = crate::roster::credit(turns)
        .filter(|credit| *credit != Credit::ZERO)
        .ok_or_else(|| Failure::arguments(format!("{turns} turns: a number such as 1 or -0.5 is needed")))?;
    let opened = place.open().await?;
    let entries = opened
        .routing()
        .await?
        .correction(queue, person, credit)
        .map_err(|error| Failure::arguments(format!("queue {queue}, {person}: {error}")))?;
    let entries: Vec<LedgerEntry> = entries
        .into_iter()
        .map(|entry| LedgerEntry {
            ledger: entry.ledger.to_string(),
            user: entry.user,
            delta: entry.delta.units(),
            kind: entry.kind,
        })
        .collect();
    let manual = Manual { author: author.name(), reason, at: SystemClock.now() };
    opened.store.correct(&opened.portal, &entries, &manual).await?;
    output::print(&format!("{person} has {credit} turns more in queue {queue}; the others paid for it\n"));
    Ok(0)
}

/// Gives back what a lead cost.
pub(crate) async fn refund(
    place: &Place,
    lead: LeadId,
    author: &Author,
    reason: String,
) -> Result<u8, Failure> {
    let opened = place.open().await?;
    let key = AssignmentKey { portal: opened.portal.clone(), lead, epoch: Epoch::FIRST };
    let manual = Manual { author: author.name(), reason, at: SystemClock.now() };
    if opened.store.refund(&key, &manual).await? {
        output::print(&format!("lead {lead} counts as nobody's turn any more\n"));
        Ok(0)
    } else {
        Err(Failure::file(format!("lead {lead} cost no turn, or was given back before; nothing was changed")))
    }
}
