//! The envelope around every message.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureClass};
use crate::ids::PortalName;

/// A kind of message: its name and the versions of it that this program can read.
pub trait Payload: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The `type` in the envelope and in the AMQP property of that name.
    const TYPE: &'static str;
    /// The version this program writes.
    const VERSION: u32;
    /// The versions this program reads: its own and the one before.
    const READS: &'static [u32];

    /// The version that this message is written as: the oldest that says all of it.
    fn version(&self) -> u32 {
        Self::VERSION
    }
}

/// The body of every message.
///
/// **Shape**: `{"type":"lead-event","version":1,"id":"0198…","portal":"acme",
/// "occurred_at":"2026-11-23T09:00:00Z","payload":{…}}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<P> {
    /// The AMQP `message_id` too; the same for every copy of this message.
    pub id: String,
    /// The portal it is about.
    pub portal: PortalName,
    /// When the matter came to our notice.
    pub occurred_at: Timestamp,
    /// The matter.
    pub payload: P,
}

#[derive(Serialize)]
struct Written<'a, P> {
    r#type: &'static str,
    version: u32,
    id: &'a str,
    portal: &'a PortalName,
    occurred_at: Timestamp,
    payload: &'a P,
}

#[derive(Deserialize)]
struct Head {
    r#type: String,
    version: u32,
}

#[derive(Deserialize)]
struct Read<P> {
    id: String,
    portal: PortalName,
    occurred_at: Timestamp,
    payload: P,
}

/// Why a message cannot be read. Always [`FailureClass::Poison`]: its bytes are kept untouched.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON, or not of the envelope's shape.
    #[error("the message is no envelope")]
    Malformed(#[source] serde_json::Error),
    /// Another type than this queue carries.
    #[error("the message is a `{found}`, this queue carries `{expected}`")]
    OtherType {
        /// What the message says it is.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A version this program cannot read.
    #[error("version {found} of `{kind}` is unknown here; this program reads {reads:?}")]
    OtherVersion {
        /// The message's type.
        kind: &'static str,
        /// The message's version.
        found: u32,
        /// What this program reads.
        reads: &'static [u32],
    },
    /// For another portal than the queue it lies in.
    #[error("the message is for portal {found}, the queue is of {expected}")]
    OtherPortal {
        /// What the message says.
        found: PortalName,
        /// Whose queue it is.
        expected: PortalName,
    },
}

impl Failure for Unreadable {
    fn class(&self) -> FailureClass {
        match self {
            Self::Malformed(_)
            | Self::OtherType { .. }
            | Self::OtherVersion { .. }
            | Self::OtherPortal { .. } => FailureClass::Poison,
        }
    }
}

impl<P: Payload> Envelope<P> {
    /// The bytes of the message's body.
    ///
    /// # Panics
    /// Never for the payloads of this crate: they hold only what JSON can hold.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let written = Written {
            r#type: P::TYPE,
            version: self.payload.version(),
            id: &self.id,
            portal: &self.portal,
            occurred_at: self.occurred_at,
            payload: &self.payload,
        };
        serde_json::to_vec(&written).expect("an envelope holds only what JSON can hold")
    }

    /// Reads a message's body.
    ///
    /// # Errors
    /// [`Unreadable`], class poison.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        let head: Head = serde_json::from_slice(bytes).map_err(Unreadable::Malformed)?;
        if head.r#type != P::TYPE {
            return Err(Unreadable::OtherType { found: head.r#type, expected: P::TYPE });
        }
        if !P::READS.contains(&head.version) {
            return Err(Unreadable::OtherVersion { kind: P::TYPE, found: head.version, reads: P::READS });
        }
        let read: Read<P> = serde_json::from_slice(bytes).map_err(Unreadable::Malformed)?;
        Ok(Self { id: read.id, portal: read.portal, occurred_at: read.occurred_at, payload: read.payload })
    }
}
