//! Entries in a lead's timeline: a log message, which changes nothing of the lead and fires no event.
//!
//! A comment would: it moves the lead's last activity and with it `ONCRMLEADUPDATE`.
//!
//! Source: page "Add Log Entry" (`crm.timeline.logmessage.add`).

use common::ids::LeadId;
use serde_json::{Map, json};

use crate::command::Command;

/// The method that adds an entry, for [`crate::Portal::permit`].
pub const ADD: &str = "crm.timeline.logmessage.add";

/// `entityTypeId` of leads.
const LEAD: u32 = 1;

/// The command that adds an entry to the timeline of `lead`.
#[must_use]
pub fn entry_command(lead: LeadId, title: &str, text: &str) -> Command {
    let fields = json!({
        "entityTypeId": LEAD, "entityId": lead.get(), "title": title, "text": text, "iconCode": "info",
    });
    Command::new(ADD, Map::from_iter([("fields".to_owned(), fields)]))
}
