//! The portal's log, put in order: what was done to each lead, and what each request did.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::fault::Fault;
use super::stage_play::Played;
use crate::portal::{LogEntry, Logged};

/// How many lines of the processes' logs belong to a story, and how long they may be.
const LOG_LINES: usize = 60;
const LOG_LINE_CHARS: usize = 600;

/// What the portal did.
pub(super) struct Portal<'a> {
    pub(super) leads: BTreeMap<u64, Lead>,
    pub(super) requests: BTreeMap<u64, Request>,
    pub(super) notices: Vec<Notice>,
    log: &'a [LogEntry],
}

/// What was done to a lead.
#[derive(Debug)]
pub(super) struct Lead {
    pub(super) added: Timestamp,
    pub(super) owners: Vec<Owner>,
    pub(super) is_deleted: bool,
}

/// An owner that was written.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) at: Timestamp,
    /// The request that did it; none for a person.
    pub(super) request: Option<u64>,
    pub(super) from: String,
    pub(super) to: String,
}

impl Owner {
    /// Whether the lead had another owner before.
    pub(super) fn changes(&self) -> bool {
        self.from != self.to
    }
}

/// A request as far as it did something.
#[derive(Debug)]
pub(super) struct Request {
    /// When it came, or did the first thing that is known.
    pub(super) began: Timestamp,
    /// When it did the last.
    pub(super) ended: Timestamp,
    /// The fault that it met, if it ran all the same.
    pub(super) fault: Option<Fault>,
    /// Whether its caller hung up.
    pub(super) is_unheard: bool,
}

/// A notice, by its place among all.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) request: Option<u64>,
    pub(super) user: u64,
    pub(super) leads: Vec<u64>,
}

impl<'a> Portal<'a> {
    pub(super) fn of(log: &'a [LogEntry]) -> Self {
        let mut portal = Self { leads: BTreeMap::new(), requests: BTreeMap::new(), notices: Vec::new(), log };
        for entry in log {
            portal.take(entry);
        }
        portal
    }

    fn take(&mut self, LogEntry { at, request, what }: &LogEntry) {
        let (at, request) = (*at, *request);
        let mut own = request.map(|request| {
            let new = Request { began: at, ended: at, fault: None, is_unheard: false };
            self.requests.entry(request).or_insert(new)
        });
        if let Some(own) = &mut own {
            own.ended = at;
        }
        match what {
            Logged::Added { lead, .. } => {
                self.leads.insert(*lead, Lead { added: at, owners: Vec::new(), is_deleted: false });
            }
            Logged::Deleted { lead } => {
                if let Some(lead) = self.leads.get_mut(lead) {
                    lead.is_deleted = true;
                }
            }
            Logged::Owner { lead, from, to } => {
                let owner = Owner { at, request, from: from.clone(), to: to.clone() };
                if let Some(lead) = self.leads.get_mut(lead) {
                    lead.owners.push(owner);
                }
            }
            Logged::Notice { user, leads, .. } => {
                self.notices.push(Notice { request, user: *user, leads: leads.clone() });
            }
            Logged::Fault { kind, status, runs, .. } => {
                if let Some(own) = own {
                    own.fault = Fault::logged(kind, *status).filter(|_| *runs);
                }
            }
            Logged::Unheard { .. } => {
                if let Some(own) = own {
                    own.is_unheard = true;
                }
            }
            Logged::Refused { .. } | Logged::Event { .. } => {}
        }
    }

    /// All that is known about a lead, a line for each thing.
    pub(super) fn tell(&self, lead: u64, played: &Played) -> String {
        let own: Vec<&LogEntry> = self.log.iter().filter(|entry| entry.what.is_about(lead)).collect();
        let requests: BTreeSet<u64> = own.iter().filter_map(|entry| entry.request).collect();
        let is_part = |entry: &&LogEntry| {
            let of_request = entry.request.is_some_and(|request| requests.contains(&request));
            let is_trouble = matches!(entry.what, Logged::Fault { .. } | Logged::Unheard { .. });
            entry.what.is_about(lead) || (of_request && is_trouble)
        };
        let mut lines = vec![format!("lead {lead}, by the portal:")];
        lines.extend(self.log.iter().filter(is_part).map(|entry| {
            let request =
                entry.request.map_or_else(|| "by hand".to_owned(), |number| format!("request {number}"));
            format!("  {} {request} {}", entry.at, serde_json::to_string(&entry.what).unwrap_or_default())
        }));
        lines.push("  by the store:".to_owned());
        lines.extend(played.record.about(lead).into_iter().map(|row| format!("  {row}")));
        lines.push("  by the processes:".to_owned());
        let mut said: Vec<(&str, String)> = Vec::new();
        for (name, text) in &played.logs {
            let about = text.lines().filter(|line| is_of(line, lead));
            said.extend(about.map(|line| (line, format!("  {name} {}", cut(line)))));
        }
        // A line begins with its time.
        said.sort_by_key(|(line, _)| *line);
        lines.extend(said.into_iter().take(LOG_LINES).map(|(_, line)| line));
        lines.join("\n")
    }
}

fn is_of(line: &str, lead: u64) -> bool {
    let wanted = format!("\"lead.id\":{lead}");
    line.split_once(&wanted).is_some_and(|(_, rest)| !rest.starts_with(|sign: char| sign.is_ascii_digit()))
}

fn cut(line: &str) -> String {
    line.chars().take(LOG_LINE_CHARS).collect()
}
