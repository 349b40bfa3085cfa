//! The portal's own log of what it did, in order: so that whoever wants to know what became of a lead need not ask the
//! program that is under test.
//!
//! It grows until the simulator ends, and is not kept over a restart.

use jiff::Timestamp;
use serde::Serialize;

/// All entries, and whose request runs.
#[derive(Debug, Default)]
pub struct Log {
    entries: Vec<Entry>,
    requests: u64,
    /// The request that runs; none where somebody acts by hand.
    pub request: Option<u64>,
}

/// One entry.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// The number of the request that did it; none for people, robots, and events.
    pub request: Option<u64>,
    /// What was done.
    #[serde(flatten)]
    pub what: What,
}

/// What was done.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A lead was added.
    Added {
        /// Which.
        lead: u64,
        /// Its first owner.
        owner: String,
    },
    /// A lead was deleted.
    Deleted {
        /// Which.
        lead: u64,
    },
    /// A lead's owner was written, perhaps the one that it had.
    Owner {
        /// Which lead.
        lead: u64,
        /// Whose it was.
        from: String,
        /// Whose it is.
        to: String,
    },
    /// An employee got a notice.
    Notice {
        /// Its id.
        id: u64,
        /// Who.
        user: u64,
        /// Its tag.
        tag: Option<String>,
        /// The leads that its text has links to.
        leads: Vec<u64>,
    },
    /// A fault was played, when its request came.
    Fault {
        /// The method that it met.
        method: String,
        /// Its kind.
        kind: &'static str,
        /// The status of the answer that it brings.
        status: Option<u16>,
        /// Whether the request runs all the same.
        runs: bool,
    },
    /// A request was refused as too fast.
    Refused {
        /// Its method.
        method: String,
    },
    /// The caller of a request hung up, or the front end gave it up; it runs on.
    Unheard {
        /// Its method.
        method: String,
    },
    /// An event was posted, or lost.
    Event {
        /// Its lead.
        lead: u64,
        /// Its name.
        event: &'static str,
        /// The status of the answer; `lost` and `unreachable` too.
        outcome: String,
    },
}

impl Log {
    /// The number of a request that begins.
    pub fn begin(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Notes what the request that runs does, or somebody by hand.
    pub fn note(&mut self, at: Timestamp, what: What) {
        self.entries.push(Entry { at, request: self.request, what });
    }

    /// All entries from this one on, counted from 0.
    #[must_use]
    pub fn from(&self, first: usize) -> Vec<Entry> {
        self.entries.get(first..).unwrap_or_default().to_vec()
    }
}

/// The leads that a text has links to, each once.
#[must_use]
pub fn linked(text: &str) -> Vec<u64> {
    let mut leads = Vec::new();
    for rest in text.split("/crm/lead/details/").skip(1) {
        let digits = rest.find(|sign: char| !sign.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
        if let Ok(lead) = digits.parse()
            && !leads.contains(&lead)
        {
            leads.push(lead);
        }
    }
    leads
}

#[cfg(test)]
mod tests {
    use super::linked;

    #[test]
    fn links_to_leads_are_found_in_a_text() {
        let link = |lead: &str| format!("[URL=https://a.b/crm/lead/details/{lead}/]#{lead}[/URL]");
        assert_eq!(linked(&format!("new: {} and {}", link("7"), link("42"))), [7, 42]);
        assert_eq!(linked(&format!("{}{}", link("7"), link("7"))), [7]);
        assert!(linked("lead 7, /crm/lead/details/x/").is_empty());
    }
}
