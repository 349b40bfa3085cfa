//! `rota migrate`: the schema, and who may do what in it.

use std::path::Path;

use common::config::{Config, Reader};
use common::failure::chain;
use store::Store as _;
use store::postgres::Postgres;

use crate::failure::Failure;
use crate::output;

/// Brings the database that a configuration names up to date.
pub(crate) async fn run(config: Option<&Path>) -> Result<u8, Failure> {
    let config =
        Config::load(Reader::Command, config).map_err(|error| Failure::arguments(error.to_string()))?;
    let store =
        Postgres::prepare(&config.database.url, 1).map_err(|error| Failure::arguments(chain(&error)))?;
    store.ping().await.map_err(|error| Failure::unreachable(&error))?;
    store.migrate().await.map_err(|error| Failure::unreachable(&error))?;
    output::print("the database is up to date\n");
    Ok(0)
}
