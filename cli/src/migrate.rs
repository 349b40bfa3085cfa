//! `rota migrate`: the schema, and who may do what in it.

use std::path::Path;

use crate::failure::Failure;
use crate::files::configuration;
use crate::output;
use crate::published::answering;

/// Brings the database that a configuration names up to date.
pub(crate) async fn run(config: Option<&Path>) -> Result<u8, Failure> {
    let store = answering(&configuration(config)?).await?;
    store.migrate().await.map_err(|error| Failure::unreachable(&error))?;
    output::print("the database is up to date\n");
    Ok(0)
}
