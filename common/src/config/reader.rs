//! Which secrets each process reads.
//!
//! All processes share one file. A secret that it names by `…_file` is read only by those that use it, so that the others
//! need not have that file; what is written into it openly, all look at.
//!
//! | secret | ingest | router | notifier | the command `rota` |
//! |---|---|---|---|---|
//! | `amqp.url`, `admin.token` | yes | yes | yes | |
//! | `database.url` | yes | yes | yes | yes |
//! | `portals[].webhook_url` | while `ingest.sweep.every` is not zero | yes | yes | |
//! | `portals[].application_token`, `event_key`, `robot_key` | yes | | | |

use super::Config;

/// Which process reads the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// It takes what portals post, and looks for lost events.
    Ingest,
    /// It decides.
    Router,
    /// It carries out.
    Notifier,
    /// The command `rota`, which only uses the database.
    Command,
}

impl Reader {
    /// Whether it speaks with the broker and is asked how it is.
    pub(super) fn is_stage(self) -> bool {
        match self {
            Self::Ingest | Self::Router | Self::Notifier => true,
            Self::Command => false,
        }
    }

    /// Whether it sends requests to portals.
    pub(super) fn asks_portals(self, config: &Config) -> bool {
        match self {
            Self::Ingest => !config.ingest.sweep.every.is_zero(),
            Self::Router | Self::Notifier => true,
            Self::Command => false,
        }
    }

    /// Whether portals post to it.
    pub(super) fn takes_events(self) -> bool {
        match self {
            Self::Ingest => true,
            Self::Router | Self::Notifier | Self::Command => false,
        }
    }
}
