//! Reads one lead and shows who is responsible for it:
//! `cargo run -p bitrix24 --example read_lead -- https://acme.bitrix24.com/rest/1/SECRET/ 42`

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bitrix24::{
    Fields, HttpSettings, HttpTransport, LeadReader, Limiter, MethodTimes, Portal, PortalMetrics,
};
use common::budget::BucketLimits;
use common::clock::SystemClock;
use common::ids::{LeadId, PortalName};
use prometheus::Registry;
use secrecy::SecretString;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let webhook =
        SecretString::from(arguments.next().context("the first argument is the webhook's address")?);
    let id: LeadId = arguments.next().context("the second argument is a lead's id")?.parse()?;

    let settings = HttpSettings {
        timeout: Duration::from_secs(65),
        connect_timeout: Duration::from_secs(5),
        allow_http: false,
    };
    let name: PortalName = "example".parse()?;
    // No shared budget: this process is the only one that calls the portal.
    let methods = MethodTimes::new(480.0, Arc::new(SystemClock));
    let limiter = Limiter::new(name.clone(), BucketLimits { burst: 50, per_second: 2.0 }, methods, None);
    let portal = Portal::new(
        name,
        Arc::new(HttpTransport::new(&webhook, settings)?),
        Arc::new(limiter),
        Arc::new(PortalMetrics::new(&Registry::new())?),
    );

    let text = match LeadReader::new(portal).read(id, &Arc::new(Fields::default())).await?.lead {
        Some(lead) => match lead.owner {
            Some(owner) => format!("lead {id} belongs to employee {owner}: {}", lead.title),
            None => format!("lead {id} belongs to nobody: {}", lead.title),
        },
        None => format!("there is no lead {id}"),
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}
