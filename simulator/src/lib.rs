//! A Bitrix24 portal to run against: its REST API, its limits, its events, and faults on demand.
//!
//! It shares no type with the client in this workspace, so that one misreading of the API cannot hide
//! in both. Read in this order: PHP's way with data (`php`), what a portal holds (`portal`), the
//! methods (`leads`, `items`, `duplicates`, `stages`, `methods`, `batch`), the limits (`limits`), the HTTP side
//! (`rest`), events (`events`), faults (`faults`), what it did (`log`), and the control API for tests and demos (`control`).
//! What is not imitated is answered with `ERROR_METHOD_NOT_FOUND`, as the portal does.

mod activities;
mod batch;
mod clients;
mod control;
mod deals;
mod duplicates;
mod events;
mod faults;
mod items;
mod leads;
mod limits;
mod lists;
mod log;
mod memory;
mod methods;
mod php;
mod portal;
mod presence;
mod rest;
mod stages;
mod timeline;

use std::future::Future;
use std::sync::Arc;

use tokio::net::TcpListener;

pub use control::{NewLeads, add_all};
pub use memory::Memory;
pub use portal::{Portal, Settings};

/// Serves the REST API and the control API until `stop` resolves.
///
/// # Errors
/// When a listener fails.
pub async fn run(
    rest: TcpListener,
    control: TcpListener,
    settings: Settings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let portal = Arc::new(Portal::new(settings, rest.local_addr()?));
    serve(rest, control, portal, stop).await
}

/// As [`run`], for a portal that is there already.
///
/// # Errors
/// As [`run`].
pub async fn serve(
    rest: TcpListener,
    control: TcpListener,
    portal: Arc<Portal>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let rest = axum::serve(rest, rest::router(Arc::clone(&portal)));
    let control = axum::serve(control, control::router(portal));
    tokio::select! {
        result = rest => result,
        result = control => result,
        () = stop => Ok(()),
    }
}
