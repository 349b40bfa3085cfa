//! `crm.duplicate.findbycomm`: leads, contacts and companies by phone or e-mail, from an index of both.
//!
//! The blind spots are played too: twenty rows for a value, the oldest leads first, so that many leads hide the contact
//! and the newest leads; no country code is added to a phone; a number that is no text is skipped.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::methods::{Answer, ApiError, Reply};
use crate::php::Php;
use crate::portal::State;

/// How many values of a request are looked up, and how many rows are found for one of them.
const MOST: usize = 20;

/// What has phones and e-mails, in the portal's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entity {
    /// A lead.
    Lead,
    /// A contact.
    Contact,
    /// A company.
    Company,
}

impl Entity {
    fn name(self) -> &'static str {
        match self {
            Self::Lead => "LEAD",
            Self::Contact => "CONTACT",
            Self::Company => "COMPANY",
        }
    }
}

/// By what is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Channel {
    Phone,
    Email,
}

impl Channel {
    /// What of a value is compared; empty when there is nothing to compare.
    fn key(self, value: &str) -> String {
        match self {
            Self::Phone => phone_key(value),
            Self::Email => value.trim().to_lowercase(),
        }
    }
}

/// Who has which phones and e-mails.
#[derive(Debug, Default)]
pub struct Index {
    found: BTreeMap<(Channel, String), BTreeSet<(Entity, u64)>>,
    keys: BTreeMap<(Entity, u64), BTreeSet<(Channel, String)>>,
}

impl Index {
    /// These are all the phones and e-mails that one has.
    pub fn put(&mut self, entity: Entity, id: u64, phones: &[impl AsRef<str>], emails: &[impl AsRef<str>]) {
        self.remove(entity, id);
        let phones = phones.iter().map(|value| (Channel::Phone, Channel::Phone.key(value.as_ref())));
        let emails = emails.iter().map(|value| (Channel::Email, Channel::Email.key(value.as_ref())));
        for key in phones.chain(emails).filter(|(_, key)| !key.is_empty()) {
            self.found.entry(key.clone()).or_default().insert((entity, id));
            self.keys.entry((entity, id)).or_default().insert(key);
        }
    }

    /// It is there no longer.
    pub fn remove(&mut self, entity: Entity, id: u64) {
        for key in self.keys.remove(&(entity, id)).unwrap_or_default() {
            self.found.entry(key).and_modify(|rows| {
                rows.remove(&(entity, id));
            });
        }
    }
}

/// Puts a lead into the index as it stands.
pub fn index_lead(state: &mut State, id: u64) {
    let Some(lead) = state.leads.get(&id) else { return };
    let values = |name: &str| -> Vec<&str> {
        let values = lead.fields.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        values.iter().filter_map(|value| value.get("VALUE")?.as_str()).collect()
    };
    state.duplicates.put(Entity::Lead, id, &values("PHONE"), &values("EMAIL"));
}

/// Makes the index anew.
pub fn index_all(state: &mut State) {
    state.duplicates = Index::default();
    let leads: Vec<u64> = state.leads.keys().copied().collect();
    for lead in leads {
        index_lead(state, lead);
    }
    for (id, contact) in &state.contacts {
        state.duplicates.put(Entity::Contact, *id, &contact.phones, &contact.emails);
    }
    for (id, company) in &state.companies {
        state.duplicates.put(Entity::Company, *id, &company.phones, &company.emails);
    }
}

/// `crm.duplicate.findbycomm`: `{"LEAD":[3277,3281],"CONTACT":[2693]}`, or `[]`.
pub fn find(state: &State, params: &Php) -> Answer {
    let channel = match params.get("type").and_then(Php::text).unwrap_or_default().to_uppercase().as_str() {
        "PHONE" => Channel::Phone,
        "EMAIL" => Channel::Email,
        "" => return Err(ApiError::nameless("Communication type is not defined.")),
        other => {
            let text = format!("Communication type '{other}' is not supported in current context.");
            return Err(ApiError::nameless(&text));
        }
    };
    let values = params.get("values").map(Php::entries).unwrap_or_default();
    if values.is_empty() {
        return Err(ApiError::nameless("Communication values is not defined."));
    }
    let wanted = entity_type(params)?;
    let mut asked = BTreeSet::new();
    let mut result = Map::new();
    for value in values.iter().filter_map(|(_, value)| text_only(value)) {
        let key = channel.key(value);
        // E-mails that differ in case count twice, and find the same.
        let distinct = match channel {
            Channel::Phone => key.clone(),
            Channel::Email => value.to_owned(),
        };
        if asked.len() == MOST || !asked.insert(distinct) {
            continue;
        }
        let rows = state.duplicates.found.get(&(channel, key));
        let rows =
            rows.into_iter().flatten().filter(|(entity, _)| wanted.is_none_or(|wanted| wanted == *entity));
        for (entity, id) in rows.take(MOST) {
            let ids = result.entry(entity.name()).or_insert_with(|| json!([]));
            if let Some(ids) = ids.as_array_mut().filter(|ids| !ids.contains(&json!(id))) {
                ids.push(json!(id));
            }
        }
    }
    Ok(Reply::of(if result.is_empty() { json!([]) } else { Value::Object(result) }))
}

/// The type asked for; none is all of them. The portal looks only under these names, and takes no others for it.
fn entity_type(params: &Php) -> Result<Option<Entity>, ApiError> {
    let name = ["ENTITY_TYPE", "entity_type", "EntityType"].into_iter().find_map(|name| {
        let entry = params.entries().iter().find(|(key, _)| key == name);
        entry.filter(|(_, value)| *value != Php::Null)?.1.text()
    });
    match name.unwrap_or_default().trim().to_uppercase().as_str() {
        "DEAL" => Err(ApiError::nameless("Deal is not supported in current context.")),
        name => Ok([Entity::Lead, Entity::Contact, Entity::Company]
            .into_iter()
            .find(|entity| entity.name() == name)),
    }
}

/// A value that came as a text and says something.
fn text_only(value: &Php) -> Option<&str> {
    match value {
        Php::Text(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
        Php::Null | Php::Bool(_) | Php::Number(_) | Php::Array(_) => None,
    }
}

/// The portal's `NormalizePhone`, and its extension cut off.
fn phone_key(typed: &str) -> String {
    let kept = |text: &str| -> String {
        text.chars().filter(|c| c.is_ascii_digit() || matches!(c, '#' | '*' | ',' | ';')).collect()
    };
    // A typed +8 is a country, not the trunk prefix 8.
    let typed = match typed.strip_prefix('+') {
        Some(rest) if rest.starts_with('8') && typed.chars().count() >= 10 => format!("00{rest}"),
        Some(_) | None => typed.to_owned(),
    };
    let number = kept(&typed);
    if number.len() < 10 || ["80", "81", "82"].iter().any(|country| number.starts_with(country)) {
        return without_extension(&number);
    }
    if let Some(rest) = ["00", "011", "0"].iter().find_map(|prefix| number.strip_prefix(prefix)) {
        return without_extension(rest);
    }
    match number.strip_prefix('8') {
        Some(rest) => without_extension(&format!("7{rest}")),
        None => without_extension(&number),
    }
}

/// Leaves of each run of digits only what comes before `;`, `#` or `,`.
fn without_extension(number: &str) -> String {
    let (mut key, mut rest) = (String::new(), number);
    while let Some(first) = rest.chars().next() {
        if first.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            key.push_str(&rest[..end]);
            rest = rest[end..].trim_start_matches([';', '#']);
            rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ',');
        } else {
            key.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_has_the_key_that_the_portal_gives_it() {
        for (typed, key) in [
            ("+7 (916) 123-45-67", "79161234567"),
            ("8 916 123 45 67", "79161234567"),
            ("007 916 123 45 67", "79161234567"),
            ("011 7 916 123 45 67", "79161234567"),
            ("9161234567", "9161234567"),
            ("+7 916 1234567;101", "79161234567"),
            ("+7 916 1234567#101", "79161234567"),
            ("+7 916 1234567, ext. 101", "79161234567"),
            ("+49 151 2345678", "491512345678"),
            ("0151 2345678", "1512345678"),
            ("80 29 123 45 67", "80291234567"),
            ("81 3 1234 5678", "81312345678"),
            ("+8 916 123 45 67", "89161234567"),
            ("+86 10 1234 5678", "861012345678"),
            // Too short for any of that.
            ("8 123", "8123"),
            ("0 12", "012"),
            ("123;4", "123"),
            ("*100#", "*100"),
            ("none", ""),
        ] {
            assert_eq!(phone_key(typed), key, "{typed}");
        }
    }
}
