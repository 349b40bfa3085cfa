//! Contacts and companies, as people keep them: what `crm.item.list` shows of them, and the phones and e-mails by which
//! `crm.duplicate.findbycomm` finds them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::duplicates::Entity;
use crate::portal::{State, portal_time};

/// A contact or a company.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Client {
    /// Its fields as `crm.item.list` shows them.
    pub fields: Map<String, Value>,
    /// Its phones as they were typed.
    pub phones: Vec<String>,
    /// Its e-mails as they were typed.
    pub emails: Vec<String>,
}

/// Which of the two.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A person.
    Contact,
    /// A company.
    Company,
}

impl Kind {
    /// Those that there are.
    fn all(self, state: &mut State) -> &mut BTreeMap<u64, Client> {
        match self {
            Self::Contact => &mut state.contacts,
            Self::Company => &mut state.companies,
        }
    }

    fn entity(self) -> Entity {
        match self {
            Self::Contact => Entity::Contact,
            Self::Company => Entity::Company,
        }
    }

    /// The field that its name stands in.
    fn name(self) -> &'static str {
        match self {
            Self::Contact => "name",
            Self::Company => "title",
        }
    }
}

/// What a person tells of one; phones and e-mails replace those that there were.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Told {
    #[serde(alias = "title")]
    name: Option<String>,
    assigned_by_id: Option<u64>,
    company_id: Option<u64>,
    created_time: Option<Timestamp>,
    updated_time: Option<Timestamp>,
    #[serde(rename = "PHONE")]
    phones: Option<Vec<String>>,
    #[serde(rename = "EMAIL")]
    emails: Option<Vec<String>>,
}

impl Told {
    /// What of it the kind does not have.
    #[must_use]
    pub fn unknown(&self, kind: Kind) -> Option<&'static str> {
        match kind {
            Kind::Contact => None,
            Kind::Company => self.company_id.map(|_| "a company has no companyId"),
        }
    }
}

/// Adds one, of the webhook's owner unless told otherwise; answers its id.
pub fn add(state: &mut State, kind: Kind, told: Told, now: Timestamp) -> u64 {
    let owner = state.settings.webhook_user;
    let all = kind.all(state);
    let id = all.keys().next_back().map_or(1, |last| last + 1);
    let created =
        told.created_time.unwrap_or_else(|| told.updated_time.map_or(now, |updated| updated.min(now)));
    let created = portal_time(created);
    let fields = json!({
        "id": id, kind.name(): format!("Client #{id}"), "createdTime": created, "updatedTime": created,
        "categoryId": 0, "assignedById": owner, "originatorId": null, "originId": null,
    });
    let mut fields = fields.as_object().cloned().unwrap_or_default();
    if let Kind::Contact = kind {
        fields.insert("companyId".to_owned(), json!(0));
    }
    all.insert(id, Client { fields, ..Client::default() });
    change(state, kind, id, told, now);
    id
}

/// Changes what is told; whether there is such a one.
pub fn change(state: &mut State, kind: Kind, id: u64, told: Told, now: Timestamp) -> bool {
    let Some(client) = kind.all(state).get_mut(&id) else { return false };
    let updated = told.updated_time.unwrap_or(now);
    for (name, value) in [
        (kind.name(), told.name.map(Value::from)),
        ("assignedById", told.assigned_by_id.map(Value::from)),
        ("companyId", told.company_id.map(Value::from)),
        ("createdTime", told.created_time.map(|at| json!(portal_time(at)))),
        ("updatedTime", Some(json!(portal_time(updated)))),
    ] {
        if let Some(value) = value {
            client.fields.insert(name.to_owned(), value);
        }
    }
    client.phones = told.phones.unwrap_or_else(|| std::mem::take(&mut client.phones));
    client.emails = told.emails.unwrap_or_else(|| std::mem::take(&mut client.emails));
    let client = client.clone();
    state.duplicates.put(kind.entity(), id, &client.phones, &client.emails);
    true
}
