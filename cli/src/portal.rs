//! Where portals have moved to: `rota portal addresses`, `forget-address`.

use bitrix24::connect::{self, Remembered};
use clap::Subcommand;
use common::config::Config;
use serde_json::{Value, json};
use store::{Address, Addresses as _};

use crate::dead::{Source, moment};
use crate::failure::Failure;
use crate::output;
use crate::published::store_of;

#[derive(Subcommand)]
pub(crate) enum Portal {
    /// Lists the portals that were found under another address than the configured one.
    ///
    /// A portal of the cloud that was renamed is followed to its new address, which is remembered once it has given a good answer there.
    Addresses {
        /// A JSON list instead of a table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Forgets to where a portal has moved: it is asked at its configured address again, by all stages within a minute.
    ///
    /// Where that points to the new address still, the portal is followed there again.
    ForgetAddress {
        /// The portal, as `rota portal addresses` shows it; the configuration need not have it any more.
        #[arg(value_name = "PORTAL")]
        portal: String,
        #[command(flatten)]
        source: Source,
    },
}

pub(crate) async fn run(command: Portal) -> Result<u8, Failure> {
    match command {
        Portal::Addresses { json, source } => list(&source.config()?, json).await,
        Portal::ForgetAddress { portal, source } => forget(&source.config()?, &portal).await,
    }
}

/// Whether an address is used, and if not, why.
fn use_of(config: &Config, address: &Address) -> Result<(), &'static str> {
    let Some(portal) = config.portals.iter().find(|portal| portal.name.as_str() == address.portal) else {
        return Err("the configuration has no such portal");
    };
    match connect::remembered(&portal.webhook_url, &address.configured, &address.host) {
        Remembered::Used => Ok(()),
        Remembered::OfAnotherHost => Err("the configuration has another address"),
        Remembered::NotFollowed => {
            Err("no portal is followed there; if it is there, put it into webhook_url")
        }
    }
}

async fn list(config: &Config, as_json: bool) -> Result<u8, Failure> {
    let addresses = store_of(config).await?.addresses().await?;
    if as_json {
        let row = |address: &Address| {
            let used = use_of(config, address);
            json!({
                "portal": address.portal, "configured": address.configured, "host": address.host,
                "since": address.since, "used": used.is_ok(), "why_not": used.err(),
            })
        };
        output::print_json(&Value::Array(addresses.iter().map(row).collect()));
        return Ok(0);
    }
    if addresses.is_empty() {
        output::print("no portal has moved\n");
        return Ok(0);
    }
    let row = |address: &Address| {
        let used = use_of(config, address).map_or_else(|why| format!("no: {why}"), |()| "yes".to_owned());
        vec![
            address.portal.clone(),
            address.configured.clone(),
            address.host.clone(),
            moment(address.since),
            used,
        ]
    };
    let rows: Vec<Vec<String>> = addresses.iter().map(row).collect();
    output::print(&output::text_table(&["portal", "configured", "moved to", "since", "used"], &rows));
    Ok(0)
}

async fn forget(config: &Config, portal: &str) -> Result<u8, Failure> {
    let store = store_of(config).await?;
    if store.forget_addresses(portal).await? == 0 {
        return Err(Failure::file(format!("portal {portal} has not moved; nothing was changed")));
    }
    output::print(&format!("portal {portal} is asked at its configured address again, within a minute\n"));
    Ok(0)
}
