//! Leads: all use of `crm.lead.*`, so that `crm.item.*` can take its place in this one file.
//!
//! Leads are read one by one (`crm.lead.get`) or up to 50 a command (`crm.lead.list`); of both only the
//! fields that were asked for are kept, so a decision never depends on how many leads were read together.
//! What a list leaves out may be deleted, or hidden from the webhook's owner: only `crm.lead.get` tells. Writing is a
//! [`Command`], for a single call or for a batch; the portal has no conditional write, so whoever
//! writes has read and compared just before. Gathering reads is the work of [`crate::lead_reader`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use common::ids::{LeadId, UserId};
use serde_json::{Map, Value, json};

use crate::client::{Permit, Portal};
use crate::command::{Command, MAX_COMMANDS};
use crate::envelope::unsigned;
use crate::error::PortalError;
use crate::fields::{Fields, TEXT_BYTES_MAX};

/// Rows of one list. Fixed by the portal; page "Features of list methods".
pub const LEADS_A_LIST: usize = 50;

/// The most leads one request can read: a batch full of lists.
pub const LEADS_A_BATCH: usize = LEADS_A_LIST * MAX_COMMANDS;

pub(crate) const GET: &str = "crm.lead.get";
pub(crate) const LIST: &str = "crm.lead.list";
/// The method that sets an owner, for [`Portal::permit`].
pub const UPDATE: &str = "crm.lead.update";

/// One lead as the portal shows it.
///
/// **Shape**: page "Get Lead by Id". Nearly all values are text, also numbers (`"7"`) and flags
/// (`"Y"`); empty is `null`, `""` or a missing key, depending on the field.
///
/// Its `Debug` form shows neither title nor fields: they are personal data and belong in no log.
#[derive(Clone, PartialEq)]
pub struct PortalLead {
    /// Its id.
    pub id: LeadId,
    /// Who is responsible for it (`ASSIGNED_BY_ID`).
    pub owner: Option<UserId>,
    /// Its title, as a stranger may have typed it; may be empty.
    pub title: String,
    /// The fields asked for by the portal's names, `ID`, `ASSIGNED_BY_ID` and `TITLE` among them.
    pub fields: Map<String, Value>,
}

/// What became of a write to a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The portal says it is written.
    Done,
    /// The portal says that there is no such lead.
    NoLead,
}

/// What became of giving a lead to somebody, if it was still where it was.
#[derive(Debug)]
pub enum Given {
    /// Nothing was written: the lead has another owner, is gone, or cannot be seen.
    Otherwise,
    /// It was there.
    Still {
        /// What became of the write.
        written: Result<Written, PortalError>,
        /// What the command behind it brought; none where there is none, or it did not run.
        then: Option<Result<Value, PortalError>>,
    },
}

/// The owners of leads; a lead that the list leaves out is not there.
pub type Owners = BTreeMap<LeadId, Option<UserId>>;

/// What reading several leads brought: one outcome an id, in the order of the ids. `None` is a lead
/// that a list leaves out, or of which the portal says by itself that there is none.
pub type LeadOutcomes = Vec<Result<Option<PortalLead>, PortalError>>;

impl PortalLead {
    /// Reads a lead from the object the portal answers; `method` is named in the error.
    ///
    /// # Errors
    /// [`PortalError::Unexpected`] when it is no object or has no `ID`.
    pub fn from_value(method: &str, value: Value) -> Result<Self, PortalError> {
        let unexpected = || PortalError::Unexpected { method: method.to_owned(), expected: "a lead" };
        let Value::Object(fields) = value else {
            return Err(unexpected());
        };
        let number = |name| fields.get(name).and_then(unsigned);
        let id = number("ID").and_then(LeadId::new).ok_or_else(unexpected)?;
        let owner = number("ASSIGNED_BY_ID").and_then(UserId::new);
        let title = fields.get("TITLE").and_then(Value::as_str).unwrap_or_default();
        let title = title[..title.floor_char_boundary(TEXT_BYTES_MAX)].to_owned();
        Ok(Self { id, owner, title, fields })
    }
}

impl fmt::Debug for PortalLead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortalLead").field("id", &self.id).field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// The command that reads one lead.
#[must_use]
pub fn get_command(id: LeadId) -> Command {
    Command::new(GET, object(json!({ "id": id.get() })))
}

/// The command that reads these fields of up to [`LEADS_A_LIST`] leads by id. `start: -1` spares the portal the
/// counting, which takes most of a list's time on large portals.
fn list_command(ids: &[LeadId], fields: &Fields) -> Command {
    let ids: Vec<u64> = ids.iter().map(|id| id.get()).collect();
    Command::new(
        LIST,
        object(json!({
            "filter": { "@ID": ids }, "order": { "ID": "ASC" }, "select": fields.select(), "start": -1,
        })),
    )
}

/// Reads what `crm.lead.get` answered for this lead, alone or in a batch; `None` when the portal says that there is none.
fn one(
    id: LeadId,
    fields: &Fields,
    outcome: Result<Value, PortalError>,
) -> Result<Option<PortalLead>, PortalError> {
    match outcome {
        Ok(value) => {
            let mut lead = PortalLead::from_value(GET, value)?;
            if lead.id != id {
                let expected = "the lead asked for";
                return Err(PortalError::Unexpected { method: GET.to_owned(), expected });
            }
            fields.keep_only(&mut lead.fields);
            Ok(Some(lead))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(denied_to_one(GET, error)),
    }
}

/// The command that makes `owner` responsible for `lead` and writes `more` fields with it.
///
/// The portal drops unknown fields without a word, ignores an owner of 0, and does not check that the
/// owner exists. It may tell the new and the old owner by itself.
///
/// Source: page "Update Lead". [`written`] reads the result.
#[must_use]
pub fn set_owner_command(lead: LeadId, owner: UserId, more: Map<String, Value>) -> Command {
    let mut fields = more;
    fields.insert("ASSIGNED_BY_ID".to_owned(), json!(owner.get()));
    Command::new(UPDATE, object(json!({ "id": lead.get(), "fields": fields })))
}

/// The command that reads the owners of up to [`LEADS_A_LIST`] leads. [`owners`] reads the result.
#[must_use]
pub fn owners_command(ids: &[LeadId]) -> Command {
    let ids: Vec<u64> = ids.iter().map(|id| id.get()).collect();
    let params = json!({
        "filter": { "@ID": ids }, "order": { "ID": "ASC" }, "select": ["ID", "ASSIGNED_BY_ID"], "start": -1,
    });
    Command::new(LIST, object(params))
}

/// Reads what [`owners_command`] brought for the leads `asked` for.
///
/// # Errors
/// The list's own failure; [`PortalError::Unexpected`] when the result is no list of these leads.
pub fn owners(asked: &[LeadId], outcome: Result<Value, PortalError>) -> Result<Owners, PortalError> {
    let rows = outcome.map_err(denied_to_all).and_then(|rows| rows_of(asked, rows))?;
    Ok(rows.into_iter().map(|(id, lead)| (id, lead.owner)).collect())
}

/// Reads what an update answered, alone or in a batch.
///
/// # Errors
/// The update's own failure; [`PortalError::Unexpected`] when the result is not `true`.
pub fn written(outcome: Result<Value, PortalError>) -> Result<Written, PortalError> {
    match outcome {
        Ok(Value::Bool(true)) => Ok(Written::Done),
        Ok(_) => Err(PortalError::Unexpected { method: UPDATE.to_owned(), expected: "`true`" }),
        Err(error) if error.is_not_found() => Ok(Written::NoLead),
        Err(error) => Err(denied_to_one(UPDATE, error)),
    }
}

impl Portal {
    /// Reads one lead; `None` when the portal says that there is none.
    ///
    /// # Errors
    /// [`PortalError`]; [`PortalError::Denied`] when the webhook's owner may not read this lead.
    pub async fn get_lead(&self, id: LeadId, fields: &Fields) -> Result<Option<PortalLead>, PortalError> {
        self.get_lead_with(self.permit(&[GET]).await?, id, fields).await
    }

    /// As [`Portal::get_lead`], with a permit taken before.
    ///
    /// # Errors
    /// As [`Portal::get_lead`].
    pub async fn get_lead_with(
        &self,
        permit: Permit,
        id: LeadId,
        fields: &Fields,
    ) -> Result<Option<PortalLead>, PortalError> {
        let params = Value::Object(get_command(id).params().clone());
        one(id, fields, self.call_with(permit, GET, &params).await.map(|envelope| envelope.result))
    }

    /// Reads up to [`MAX_COMMANDS`] leads in one request, each by itself: `None` is the portal's own word that there is no
    /// such lead.
    ///
    /// # Errors
    /// The request as a whole, as far as no lead is to blame; inside the outcomes as [`Portal::get_lead`].
    pub async fn get_each_with(
        &self,
        permit: Permit,
        ids: &[LeadId],
        fields: &Fields,
    ) -> Result<LeadOutcomes, PortalError> {
        if let [id] = ids {
            return Ok(vec![self.get_lead_with(permit, *id, fields).await]);
        }
        let commands: Vec<Command> = ids.iter().map(|id| get_command(*id)).collect();
        let answers = self.batch_apart(permit, &commands).await?;
        Ok(ids.iter().zip(answers).map(|(id, answer)| one(*id, fields, answer.outcome)).collect())
    }

    /// Reads up to [`LEADS_A_BATCH`] leads in one request. A lead that the webhook's owner may not
    /// read is missing from a list just as a deleted one is: [`Portal::get_each_with`] tells them apart.
    ///
    /// # Errors
    /// The request as a whole, permanent for too many leads; inside the outcomes the failure of the
    /// command that was to bring this lead.
    pub async fn get_leads(&self, ids: &[LeadId], fields: &Fields) -> Result<LeadOutcomes, PortalError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.get_leads_with(self.permit(&[LIST]).await?, ids, fields).await
    }

    /// As [`Portal::get_leads`], with a permit taken before.
    ///
    /// # Errors
    /// As [`Portal::get_leads`].
    pub async fn get_leads_with(
        &self,
        permit: Permit,
        ids: &[LeadId],
        fields: &Fields,
    ) -> Result<LeadOutcomes, PortalError> {
        let distinct: Vec<LeadId> = ids.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let lists: Vec<&[LeadId]> = distinct.chunks(LEADS_A_LIST).collect();
        let commands: Vec<Command> = lists.iter().map(|list| list_command(list, fields)).collect();
        let answers = match commands.as_slice() {
            [] => return Ok(Vec::new()),
            [command] => {
                let params = Value::Object(command.params().clone());
                let envelope = self.call_with(permit, LIST, &params).await.map_err(denied_to_all)?;
                vec![Ok(envelope.result)]
            }
            several => self.batch_with(permit, several).await?,
        };
        let mut found = BTreeMap::new();
        for (list, answer) in lists.into_iter().zip(answers) {
            match answer.map_err(denied_to_all).and_then(|rows| rows_of(list, rows)) {
                Ok(rows) => found.extend(rows.into_iter().map(|(id, mut lead)| {
                    fields.keep_only(&mut lead.fields);
                    (id, Ok(Some(lead)))
                })),
                Err(error) => found.extend(list.iter().map(|id| (*id, Err(error.clone())))),
            }
        }
        Ok(ids.iter().map(|id| found.get(id).cloned().unwrap_or(Ok(None))).collect())
    }

    /// Reads the owners of up to [`LEADS_A_LIST`] leads by one list, so that all are of one moment. A lead that does
    /// not exist any more is missing, and so is one that the webhook's owner may not read.
    ///
    /// # Errors
    /// As [`owners`].
    pub async fn owners_of(&self, leads: &[LeadId]) -> Result<Owners, PortalError> {
        if leads.is_empty() {
            return Ok(Owners::new());
        }
        let params = Value::Object(owners_command(leads).params().clone());
        owners(leads, self.call(LIST, &params).await.map(|envelope| envelope.result))
    }

    /// Makes `to` responsible for `lead` and writes `more` fields with it, if `from` still is, and then runs
    /// `then`: all in one request, with the look right before the write.
    ///
    /// The portal has no conditional write. But a command of a batch can take its parameter from the result
    /// of an earlier one: the update takes the lead's id from a list of the leads that have this id and this
    /// owner. Where there is none, the id is an empty list, which the portal refuses, and the batch ends.
    ///
    /// # Errors
    /// The request as a whole, or the look; nothing was written then unless [`PortalError::is_ambiguous`].
    ///
    /// Source: page "Batch requests"; a reference whose path ends early yields what is there.
    pub async fn give_with(
        &self,
        permit: Permit,
        lead: LeadId,
        (from, to): (UserId, UserId),
        more: Map<String, Value>,
        then: Option<Command>,
    ) -> Result<Given, PortalError> {
        let look = json!({
            "filter": { "ID": lead.get(), "ASSIGNED_BY_ID": from.get() }, "select": ["ID", "ASSIGNED_BY_ID"],
            "start": -1,
        });
        let mut params = set_owner_command(lead, to, more).params().clone();
        params.remove("id");
        let update = Command::new(UPDATE, params).with_result("id", 1, "[0][ID]");
        let commands: Vec<Command> =
            [Command::new(LIST, object(look)), update].into_iter().chain(then).collect();
        let mut outcomes = self.batch_until_failure(permit, &commands).await?.into_iter();
        let mut next = || outcomes.next().unwrap_or(Err(PortalError::Interrupted));
        if owners(&[lead], next())?.is_empty() {
            return Ok(Given::Otherwise);
        }
        let written = written(next());
        let then =
            (commands.len() > 2).then(next).filter(|then| !matches!(then, Err(PortalError::NotRun { .. })));
        Ok(Given::Still { written, then })
    }

    /// Makes `owner` responsible for `lead` and writes `more` fields with it, in one request of its
    /// own; see [`set_owner_command`].
    ///
    /// # Errors
    /// [`PortalError`]; after an ambiguous one read the lead before writing again.
    pub async fn set_owner(
        &self,
        lead: LeadId,
        owner: UserId,
        more: Map<String, Value>,
    ) -> Result<Written, PortalError> {
        let params = Value::Object(set_owner_command(lead, owner, more).params().clone());
        written(self.call(UPDATE, &params).await.map(|envelope| envelope.result))
    }
}

/// The rows of a list by id. The portal ignores a condition it does not understand and answers with
/// other leads; taking those for the answer would make the leads asked for look deleted.
fn rows_of(asked: &[LeadId], rows: Value) -> Result<BTreeMap<LeadId, PortalLead>, PortalError> {
    let unexpected = |expected| PortalError::Unexpected { method: LIST.to_owned(), expected };
    let rows = match rows {
        Value::Array(rows) => rows,
        Value::Object(rows) => rows.into_iter().map(|(_, row)| row).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(unexpected("a list of leads"));
        }
    };
    let mut leads = BTreeMap::new();
    for row in rows {
        let lead = PortalLead::from_value(LIST, row)?;
        if !asked.contains(&lead.id) {
            return Err(unexpected("a list of the leads asked for"));
        }
        leads.insert(lead.id, lead);
    }
    Ok(leads)
}

/// `Access denied.` for a list means that the webhook's owner may read no lead at all: blocked, while
/// the same words for one lead are about that lead.
fn denied_to_all(error: PortalError) -> PortalError {
    if !error.is_access_denied_here() {
        return error;
    }
    error.with_code(crate::code::PortalCode::AccessDenied)
}

/// `Access denied.` for one lead is about that lead, whether it exists or not.
fn denied_to_one(method: &str, error: PortalError) -> PortalError {
    if error.is_access_denied_here() { PortalError::Denied { method: method.to_owned() } } else { error }
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(map) = value { map } else { Map::new() }
}

#[cfg(test)]
mod tests {
    use common::failure::{Failure, FailureClass};

    use super::*;
    use crate::code::PortalCode;

    fn lead(id: u64) -> LeadId {
        LeadId::new(id).unwrap()
    }

    fn user(id: u64) -> Option<UserId> {
        UserId::new(id)
    }

    fn refused(description: &str) -> PortalError {
        PortalError::Refused {
            method: LIST.to_owned(),
            status: Some(400),
            code: PortalCode::Empty,
            description: description.to_owned(),
        }
    }

    #[test]
    fn ids_come_as_text_or_number_and_an_owner_may_be_missing() {
        for (value, owner) in [
            (json!({"ID": "42", "ASSIGNED_BY_ID": "7", "TITLE": "Flat"}), user(7)),
            (json!({"ID": 42, "ASSIGNED_BY_ID": 7}), user(7)),
            (json!({"ID": "42", "ASSIGNED_BY_ID": "0"}), None),
            (json!({"ID": "42", "ASSIGNED_BY_ID": null, "TITLE": null}), None),
        ] {
            let read = PortalLead::from_value(GET, value).unwrap();
            assert_eq!((read.id, read.owner), (lead(42), owner));
        }
        for value in [json!([]), json!({}), json!({"ID": "0"}), json!({"ID": "x"}), json!(null)] {
            assert!(PortalLead::from_value(GET, value.clone()).is_err(), "{value}");
        }
    }

    #[test]
    fn further_fields_never_replace_the_owner() {
        let more = object(json!({"ASSIGNED_BY_ID": 1, "STATUS_ID": "IN_PROCESS"}));
        let command = set_owner_command(lead(42), user(7).unwrap(), more);
        assert_eq!(
            command.to_batch(),
            "crm.lead.update?fields[ASSIGNED_BY_ID]=7&fields[STATUS_ID]=IN_PROCESS&id=42"
        );
    }

    #[test]
    fn an_update_is_written_only_if_the_portal_says_true() {
        assert_eq!(written(Ok(json!(true))).unwrap(), Written::Done);
        assert_eq!(written(Err(refused("Lead is not found"))).unwrap(), Written::NoLead);
        assert!(written(Ok(json!(false))).unwrap_err().is_ambiguous());
        assert!(matches!(written(Err(refused("Access denied."))), Err(PortalError::Denied { .. })));
        assert_eq!(
            written(Err(refused("Field TITLE is required<br />"))).unwrap_err().class(),
            FailureClass::Permanent
        );
    }

    #[test]
    fn a_lead_is_believed_only_if_it_is_the_one_asked_for() {
        let fields = Fields::default();
        let read =
            one(lead(1), &fields, Ok(json!({"ID": "1", "TITLE": "Flat", "COMMENTS": "long"}))).unwrap();
        assert_eq!(read.unwrap().fields, object(json!({"ID": "1", "TITLE": "Flat"})));
        let other = one(lead(1), &fields, Ok(json!({"ID": "2"}))).unwrap_err();
        assert!(matches!(other, PortalError::Unexpected { .. }), "{other}");
        assert!(one(lead(1), &fields, Err(refused("Not found"))).unwrap().is_none());
        let denied = one(lead(1), &fields, Err(refused("Access denied."))).unwrap_err();
        assert_eq!(denied.class(), FailureClass::Throttled);
        assert!(denied.to_string().contains("give them the right to read and edit all leads"), "{denied}");
    }

    #[test]
    fn rows_that_were_not_asked_for_fail_the_list() {
        let asked = [lead(1), lead(2)];
        assert_eq!(rows_of(&asked, json!([{"ID": "2"}])).unwrap().len(), 1);
        assert_eq!(rows_of(&asked, json!([])).unwrap().len(), 0);
        assert!(rows_of(&asked, json!([{"ID": "2"}, {"ID": "9"}])).is_err());
        assert!(rows_of(&asked, json!(true)).is_err());
    }

    #[test]
    fn a_list_denied_is_a_portal_that_refuses_everything() {
        assert_eq!(denied_to_all(refused("Access denied.")).class(), FailureClass::Blocked);
        assert_eq!(denied_to_all(refused("Filter is wrong")).class(), FailureClass::Permanent);
    }
}
