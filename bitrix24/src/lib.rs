//! The REST API of a Bitrix24 portal as a typed client; the only code of ours that sends requests to
//! a portal.
//!
//! Read in this order: how a request travels ([`transport`]) and where to ([`moves`]), what comes back ([`envelope`]) and how much of it ([`size`]), what
//! can go wrong ([`code`], [`error`]), how fast we may be ([`limits`], [`method_time`]), the client itself
//! ([`client`]), the methods ([`command`], [`lead`], [`scan`], [`notify`] and [`plain`], [`people`], [`answers`], [`clients`]), and how many
//! wishes become one request ([`pack`], [`lead_reader`], [`client_finder`]). Whether anything can be read at all is watched by
//! [`watch`].
//!
//! Nothing here knows a rule of distribution, a queue or a table. Nothing is repeated here either.

mod address;
pub mod answers;
mod apart;
mod body;
pub mod client;
pub mod client_finder;
pub mod clients;
pub mod code;
pub mod command;
pub mod connect;
pub mod deal;
pub mod envelope;
pub mod error;
pub mod fields;
mod guard;
mod json;
pub mod lead;
pub mod lead_reader;
pub mod limits;
pub mod method_time;
pub mod metrics;
pub mod moves;
pub mod notify;
mod operating;
mod own_secrets;
mod owned;
pub mod pack;
pub mod people;
mod phone;
pub mod plain;
mod readability;
pub mod scan;
pub mod size;
pub mod timeline;
pub mod transport;
pub mod watch;
pub mod webhook;

pub use client::{Permit, Portal};
pub use client_finder::ClientFinder;
pub use command::Command;
pub use error::PortalError;
pub use fields::Fields;
pub use lead::PortalLead;
pub use lead_reader::LeadReader;
pub use limits::Limiter;
pub use method_time::{MethodTimes, Pace};
pub use metrics::PortalMetrics;
pub use pack::{Bustle, PackLimits, PackSender, Packer};
pub use readability::Unreadable;
pub use transport::{HttpSettings, HttpTransport, Transport};
