//! Contacts, companies, deals and leads as things that somebody owns: how they are listed, and what is read of them.
//!
//! Contacts are listed by `crm.item.list`, because `crm.contact.list` leaves out those of other categories; leads by
//! `crm.lead.list`, which drops a condition that it does not know without a word, so whoever asks looks at the rows too.
//!
//! Source: pages "List of items", "List of leads".

use common::ids::UserId;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::command::Command;
use crate::envelope::unsigned;
use crate::lead::LIST as LEAD_LIST;

const ITEM_LIST: &str = "crm.item.list";

/// `entityTypeId` of deals, contacts and companies.
const DEAL: u32 = 2;
const CONTACT: u32 = 3;
const COMPANY: u32 = 4;

/// What can be owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Contact,
    Company,
    Deal,
    Lead,
}

impl Kind {
    /// The names under which the search answers.
    pub(crate) const FOUND: [(&str, Self); 3] =
        [("CONTACT", Self::Contact), ("COMPANY", Self::Company), ("LEAD", Self::Lead)];

    pub(crate) fn owners_command(self, ids: &[u64]) -> Command {
        let entity = if self == Self::Company { COMPANY } else { CONTACT };
        match self {
            Self::Lead => {
                let select = ["ID", "ASSIGNED_BY_ID", "STATUS_SEMANTIC_ID", "DATE_MODIFY"];
                let filter = json!({ "@ID": ids });
                Command::of(
                    LEAD_LIST,
                    &json!({ "filter": filter, "select": select, "order": { "ID": "ASC" }, "start": -1 }),
                )
            }
            Self::Contact | Self::Company | Self::Deal => {
                let select = ["id", "assignedById", "updatedTime"];
                let filter = json!({ "@id": ids });
                Command::of(
                    ITEM_LIST,
                    &json!({ "entityTypeId": entity, "filter": filter, "select": select, "start": -1 }),
                )
            }
        }
    }

    /// The newest deals of these contacts or companies.
    pub(crate) fn deals_command(self, ids: &[u64], since: Option<Timestamp>) -> Command {
        // Without a prefix: any of a deal's contacts, not only the first.
        let field = if self == Self::Company { "@companyId" } else { "contactIds" };
        let mut filter = json!({ field: ids });
        if let Some(since) = since {
            filter[">=updatedTime"] = json!(since.to_string());
        }
        let select = ["id", "assignedById", "stageSemanticId", "updatedTime"];
        let order = json!({ "id": "DESC" });
        Command::of(
            ITEM_LIST,
            &json!({ "entityTypeId": DEAL, "filter": filter, "select": select, "order": order, "start": -1 }),
        )
    }

    /// The newest leads of these contacts or companies.
    pub(crate) fn leads_command(self, ids: &[u64], since: Option<Timestamp>) -> Command {
        let field = if self == Self::Company { "@COMPANY_ID" } else { "@CONTACT_ID" };
        let mut filter = json!({ field: ids });
        if let Some(since) = since {
            filter[">=DATE_MODIFY"] = json!(since.to_string());
        }
        let select =
            ["ID", "ASSIGNED_BY_ID", "STATUS_SEMANTIC_ID", "DATE_MODIFY", "CONTACT_ID", "COMPANY_ID"];
        Command::of(
            LEAD_LIST,
            &json!({ "filter": filter, "select": select, "order": { "ID": "DESC" }, "start": -1 }),
        )
    }
}

/// The rows of a list, whichever API made it.
pub(crate) fn rows(result: &Value) -> impl Iterator<Item = &Value> {
    result.get("items").unwrap_or(result).as_array().into_iter().flatten()
}

/// Whether a lead is of one of these contacts or companies.
pub(crate) fn belongs(row: &Value, ids: &[u64]) -> bool {
    let is = |field: &str| row.get(field).and_then(unsigned).is_some_and(|id| ids.contains(&id));
    is("CONTACT_ID") || is("COMPANY_ID")
}

/// Something with an owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owned {
    pub(crate) id: u64,
    pub(crate) owner: UserId,
    /// When it changed last.
    pub(crate) changed: Timestamp,
    /// Whether it is in process.
    pub(crate) is_open: bool,
}

impl Owned {
    /// Of both APIs: `ASSIGNED_BY_ID` and `assignedById`.
    pub(crate) fn read(row: &Value) -> Option<Self> {
        let either = |classic: &str, universal: &str| row.get(classic).or_else(|| row.get(universal));
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self {
            id: either("ID", "id").and_then(unsigned)?,
            owner: either("ASSIGNED_BY_ID", "assignedById").and_then(unsigned).and_then(UserId::new)?,
            changed: text(either("DATE_MODIFY", "updatedTime")).parse().ok()?,
            is_open: text(either("STATUS_SEMANTIC_ID", "stageSemanticId")) == "P",
        })
    }
}
