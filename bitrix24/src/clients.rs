//! Whose client sent a lead: `crm.duplicate.findbycomm`, and the owners of what it finds.
//!
//! Rounds for all leads of a pack together. The first finds contacts, companies and leads with the same phone or e-mail
//! address; what the lead is bound to itself is known. The second asks for the owners of these, and for the deals and leads
//! of the contacts and companies. Where that does not fit into one request, a third asks for deals and leads only of those
//! clients who are not settled by their owner. A lead of a new client costs the first round alone, one with a contact the
//! second alone.
//!
//! Of each value the portal finds twenty at the most, leads before contacts before companies, the oldest first. So where
//! there may be more, each kind is asked for by itself. How owners, deals and leads are listed is in [`crate::owned`].
//!
//! Source: page "Find duplicates by communication".

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{LeadId, UserId};
use distribution::{Tie, TieBy, TieOf};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::client::{BatchOutcomes, Permit, Portal};
use crate::command::{Command, MAX_COMMANDS};
use crate::envelope::unsigned;
use crate::error::PortalError;
use crate::lead::LEADS_A_LIST;
use crate::owned::{Kind, Owned, belongs, rows};
use crate::phone::spellings;

const FIND: &str = "crm.duplicate.findbycomm";

/// Values of one search; the portal drops more without a word.
const VALUES: usize = 20;

/// So many are found of a value at the most.
const FOUND_MAX: usize = 20;

/// What a search is for: everything at once, or each kind by itself.
const ALL_KINDS: &[Option<&str>] = &[None];
const EACH_KIND: &[Option<&str>] = &[Some("CONTACT"), Some("COMPANY"), Some("LEAD")];

/// A lead whose client is sought, and by what.
#[derive(Clone, PartialEq, Eq)]
pub struct Sought {
    /// The lead.
    pub lead: LeadId,
    /// Its contact, where the client is recognised by it.
    pub contact: Option<u64>,
    /// Its company, likewise.
    pub company: Option<u64>,
    /// Its phones as they were typed, likewise.
    pub phones: Vec<String>,
    /// Its e-mail addresses, likewise.
    pub emails: Vec<String>,
    /// Of phones that are written without one.
    pub country_code: Option<String>,
    /// Deals and leads that did not change since then say nothing; `None` for all.
    pub since: Option<Timestamp>,
    /// When one of them has the contact, no deal and no other lead matters.
    pub settled_by: BTreeSet<UserId>,
}

/// Shows the lead and hides what was typed.
impl std::fmt::Debug for Sought {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sought").field("lead", &self.lead).finish_non_exhaustive()
    }
}

impl Sought {
    /// Whether there is anything to know the client by.
    #[must_use]
    pub fn knows_nothing(&self) -> bool {
        self.contact.is_none() && self.company.is_none() && self.searches().is_empty()
    }

    /// What is searched for, by phone and by e-mail address.
    fn searches(&self) -> Vec<(TieBy, Vec<String>)> {
        let distinct = |values: &mut dyn Iterator<Item = String>| -> Vec<String> {
            let mut found = Vec::new();
            for value in values {
                if !value.is_empty() && !found.contains(&value) && found.len() < VALUES {
                    found.push(value);
                }
            }
            found
        };
        let code = self.country_code.as_deref();
        let phones = distinct(&mut self.phones.iter().flat_map(|phone| spellings(phone, code)));
        let emails = distinct(&mut self.emails.iter().map(|email| email.trim().to_lowercase()));
        let searches = [(TieBy::Phone, phones), (TieBy::Email, emails)];
        searches.into_iter().filter(|(_, values)| !values.is_empty()).collect()
    }
}

/// Who has the client of each lead, in the order of the leads.
pub type TieOutcomes = Vec<Result<Vec<Tie>, PortalError>>;

impl Portal {
    /// Finds who has the clients of these leads.
    ///
    /// # Errors
    /// A request as a whole; inside the outcomes the failure of a command that was for this lead.
    pub async fn ties_with(&self, permit: Permit, sought: &[Sought]) -> Result<TieOutcomes, PortalError> {
        let mut permit = Some(permit);
        let mut clients: Vec<Client<'_>> = sought.iter().map(Client::new).collect();
        self.search(&mut permit, &mut clients, ALL_KINDS).await?;
        if clients.iter().any(|client| client.cut) {
            self.search(&mut permit, &mut clients, EACH_KIND).await?;
        }
        let mut owners = Owners::default();
        let (of_owners, of_dealings) = (owners_asked(&clients), dealings_asked(&clients, &owners));
        if of_owners.len() + of_dealings.len() <= MAX_COMMANDS {
            let both = of_owners.into_iter().chain(of_dealings).collect();
            self.ask_about(&mut permit, both, &mut clients, &mut owners).await?;
        } else {
            self.ask_about(&mut permit, of_owners, &mut clients, &mut owners).await?;
            let of_dealings = dealings_asked(&clients, &owners);
            self.ask_about(&mut permit, of_dealings, &mut clients, &mut owners).await?;
        }
        Ok(clients.into_iter().map(|client| client.ties(&owners)).collect())
    }

    /// Searches by phone and address; by each kind only for those of whom more may be there than was found.
    async fn search(
        &self,
        permit: &mut Option<Permit>,
        clients: &mut [Client<'_>],
        kinds: &[Option<&str>],
    ) -> Result<(), PortalError> {
        let mut asked = Vec::new();
        for (number, client) in
            clients.iter().enumerate().filter(|(_, client)| kinds == ALL_KINDS || client.cut)
        {
            for (by, values) in client.sought.searches() {
                for kind in kinds {
                    asked.push(((number, by), find_command(by, &values, *kind)));
                }
            }
        }
        let (asked, commands): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let outcomes = self.batches(permit, &commands).await?;
        for ((number, by), outcome) in asked.into_iter().zip(outcomes) {
            if let Some(client) = clients.get_mut(number) {
                client.take(by, outcome);
            }
        }
        Ok(())
    }

    /// Asks for owners and dealings, and notes them.
    async fn ask_about(
        &self,
        permit: &mut Option<Permit>,
        asked: Vec<(Asks, Command)>,
        clients: &mut [Client<'_>],
        owners: &mut Owners,
    ) -> Result<(), PortalError> {
        let (asked, commands): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        for (asks, outcome) in asked.into_iter().zip(self.batches(permit, &commands).await?) {
            match (asks, outcome) {
                (Asks::Owners { kind, ids }, Ok(result)) => {
                    let rows = rows(&result).filter_map(Owned::read).filter(|row| ids.contains(&row.id));
                    owners.owned.extend(rows.map(|row| ((kind, row.id), row)));
                }
                (Asks::Owners { kind, ids }, Err(error)) => {
                    owners.failed.extend(ids.into_iter().map(|id| ((kind, id), error.clone())));
                }
                (Asks::Dealings { number, by, kind, ids }, outcome) => {
                    if let Some(client) = clients.get_mut(number) {
                        client.take_dealings(by, kind, &ids, outcome);
                    }
                }
            }
        }
        Ok(())
    }

    /// Any number of commands in as few requests as it takes; the first goes by the permit, if it is there still. One that
    /// spoils the answer of the others fails alone.
    async fn batches(
        &self,
        permit: &mut Option<Permit>,
        commands: &[Command],
    ) -> Result<BatchOutcomes, PortalError> {
        let mut outcomes = Vec::with_capacity(commands.len());
        for part in commands.chunks(MAX_COMMANDS) {
            let permit = match permit.take() {
                Some(permit) => permit,
                None => self.permit(&[]).await?,
            };
            let counted = self.batch_apart(permit, part).await?;
            outcomes.extend(counted.into_iter().map(|counted| counted.outcome));
        }
        Ok(outcomes)
    }
}

/// For the owners of all that was found.
fn owners_asked(clients: &[Client<'_>]) -> Vec<(Asks, Command)> {
    let mut asked = Vec::new();
    for kind in [Kind::Contact, Kind::Company, Kind::Lead] {
        let ids: BTreeSet<u64> = clients.iter().flat_map(|client| client.of(kind)).collect();
        for part in ids.into_iter().collect::<Vec<_>>().chunks(LEADS_A_LIST) {
            asked.push((Asks::Owners { kind, ids: part.to_vec() }, kind.owners_command(part)));
        }
    }
    asked
}

/// For the deals and leads of the contacts and companies that were found, but of those that their owner settles.
fn dealings_asked(clients: &[Client<'_>], owners: &Owners) -> Vec<(Asks, Command)> {
    clients.iter().enumerate().flat_map(|(number, client)| client.dealings_asked(number, owners)).collect()
}

fn find_command(by: TieBy, values: &[String], kind: Option<&str>) -> Command {
    let medium = if by == TieBy::Email { "EMAIL" } else { "PHONE" };
    let mut params = json!({ "type": medium, "values": values });
    if let Some(kind) = kind {
        params["entity_type"] = json!(kind);
    }
    Command::of(FIND, &params)
}

/// The owners of what was found.
#[derive(Default)]
struct Owners {
    owned: BTreeMap<(Kind, u64), Owned>,
    failed: BTreeMap<(Kind, u64), PortalError>,
}

/// Something of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    by: TieBy,
    kind: Kind,
    id: u64,
}

/// What a command of the second round is for.
enum Asks {
    /// The owners of these.
    Owners { kind: Kind, ids: Vec<u64> },
    /// The deals or leads of these contacts or companies, which were found for the client of this number.
    Dealings { number: usize, by: TieBy, kind: Kind, ids: Vec<u64> },
}

/// What is known of the client of one lead.
struct Client<'s> {
    sought: &'s Sought,
    found: Vec<Found>,
    /// More may be there than was found.
    cut: bool,
    dealings: Vec<(TieBy, Kind, Owned)>,
    failed: Option<PortalError>,
}

impl<'s> Client<'s> {
    fn new(sought: &'s Sought) -> Self {
        let contact = sought.contact.map(|id| Found { by: TieBy::Contact, kind: Kind::Contact, id });
        let company = sought.company.map(|id| Found { by: TieBy::Company, kind: Kind::Company, id });
        let found = contact.into_iter().chain(company).collect();
        Self { sought, found, cut: false, dealings: Vec::new(), failed: None }
    }

    /// What a search found.
    fn take(&mut self, by: TieBy, outcome: Result<Value, PortalError>) {
        let result = match outcome {
            Ok(result) => result,
            Err(error) => {
                self.failed = Some(error);
                return;
            }
        };
        let mut count = 0;
        for (name, kind) in Kind::FOUND {
            let ids = result.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(unsigned);
            for id in ids {
                count += 1;
                let found = Found { by, kind, id };
                let own = kind == Kind::Lead && id == self.sought.lead.get();
                if !own && !self.found.contains(&found) {
                    self.found.push(found);
                }
            }
        }
        self.cut |= count >= FOUND_MAX;
    }

    fn dealings_asked(&self, number: usize, owners: &Owners) -> Vec<(Asks, Command)> {
        let mut asked = Vec::new();
        let by = self.found.iter().map(|found| found.by).collect::<BTreeSet<_>>();
        for by in by.into_iter().filter(|by| !self.is_settled(*by, owners)) {
            for of in [Kind::Contact, Kind::Company] {
                let ids: Vec<u64> = self.found_by(by, of).take(LEADS_A_LIST).collect();
                if ids.is_empty() {
                    continue;
                }
                let since = self.sought.since;
                for (kind, command) in
                    [(Kind::Deal, of.deals_command(&ids, since)), (Kind::Lead, of.leads_command(&ids, since))]
                {
                    asked.push((Asks::Dealings { number, by, kind, ids: ids.clone() }, command));
                }
            }
        }
        asked
    }

    /// Whether the owner of the one contact, or of the one company where there is no contact, decides whatever deals and
    /// leads there are.
    fn is_settled(&self, by: TieBy, owners: &Owners) -> bool {
        let contacts: Vec<u64> = self.found_by(by, Kind::Contact).collect();
        let companies: Vec<u64> = self.found_by(by, Kind::Company).collect();
        let only = match (contacts.as_slice(), companies.as_slice()) {
            ([contact], _) => (Kind::Contact, *contact),
            ([], [company]) => (Kind::Company, *company),
            _ => return false,
        };
        let since = self.sought.since;
        owners.owned.get(&only).is_some_and(|owned| {
            self.sought.settled_by.contains(&owned.owner) && since.is_none_or(|since| owned.changed >= since)
        })
    }

    fn take_dealings(&mut self, by: TieBy, kind: Kind, ids: &[u64], outcome: Result<Value, PortalError>) {
        match outcome {
            Ok(result) => {
                let rows = rows(&result).filter(|row| kind == Kind::Deal || belongs(row, ids));
                self.dealings.extend(rows.filter_map(Owned::read).map(|row| (by, kind, row)));
            }
            Err(error) => self.failed = Some(error),
        }
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = u64> {
        self.found.iter().filter(move |found| found.kind == kind).map(|found| found.id)
    }

    fn found_by(&self, by: TieBy, kind: Kind) -> impl Iterator<Item = u64> {
        self.found.iter().filter(move |found| found.by == by && found.kind == kind).map(|found| found.id)
    }

    fn ties(self, owners: &Owners) -> Result<Vec<Tie>, PortalError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let own = self.sought.lead.get();
        let mut ties = Vec::new();
        for found in &self.found {
            if let Some(error) = owners.failed.get(&(found.kind, found.id)) {
                return Err(error.clone());
            }
            let Some(owned) = owners.owned.get(&(found.kind, found.id)) else { continue };
            // With a contact something happened when something did with its deals and leads.
            let of_it = self.dealings.iter().filter(|(by, kind, row)| {
                *by == found.by && found.kind != Kind::Lead && !(*kind == Kind::Lead && row.id == own)
            });
            let at = of_it.map(|(_, _, row)| row.changed).chain([owned.changed]).max();
            ties.extend(tie(found.by, found.kind, *owned, at.unwrap_or(owned.changed)));
        }
        for (by, kind, row) in
            self.dealings.iter().filter(|(_, kind, row)| *kind != Kind::Lead || row.id != own)
        {
            ties.extend(tie(*by, *kind, *row, row.changed));
        }
        Ok(ties)
    }
}

/// Deals and leads only while they are in process.
fn tie(by: TieBy, kind: Kind, owned: Owned, at: Timestamp) -> Option<Tie> {
    let of = match kind {
        Kind::Contact => TieOf::Contact,
        Kind::Company => TieOf::Company,
        Kind::Deal if owned.is_open => TieOf::Deal,
        Kind::Lead if owned.is_open => TieOf::Lead(LeadId::new(owned.id)?),
        Kind::Deal | Kind::Lead => return None,
    };
    Some(Tie { owner: owned.owner, by, of, at })
}
