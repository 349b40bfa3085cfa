//! Whether the owner of a lead has answered: `crm.activity.list` and `crm.lead.list`, packed.
//!
//! An answer is an outgoing call that connected, an outgoing mail or message, an open line's chat in which an operator
//! wrote, or a stage to which the owner moved the lead. `LAST_ACTIVITY_TIME` does not tell: what the owner does himself
//! does not move it. Plans, tasks and filled-in forms are no answers.
//!
//! Activities are asked for by `BINDINGS`, because a call may be bound to a contact first and to the lead second.

use common::ids::{LeadId, UserId};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::client::{Counted, Portal};
use crate::command::{Command, MAX_COMMANDS};
use crate::envelope::unsigned;
use crate::error::PortalError;
use crate::lead::LIST;

/// `PROVIDER_ID` of activities that answer nothing, whatever their direction.
const NO_ANSWERS: [&str; 3] = ["CRM_TODO", "CRM_TASKS_TASK", "CRM_WEBFORM"];

/// A lead of which is asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Which.
    pub lead: LeadId,
    /// Who is to have answered.
    pub owner: UserId,
    /// Since when.
    pub since: Timestamp,
}

/// What the portal tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was answered.
    Answered,
    /// It is still to be answered.
    NotYet,
    /// It is not for him to answer: it has another owner, is closed, or is gone.
    NotHis,
}

impl Portal {
    /// Asks of each whether it was answered, as many in a request as fit.
    ///
    /// # Errors
    /// When a request fails, or a source is refused: without it nobody can say that a lead was not answered.
    pub async fn answers(&self, asked: &[Asked]) -> Result<Vec<Answer>, PortalError> {
        let mut answers = Vec::with_capacity(asked.len());
        for part in asked.chunks(MAX_COMMANDS - 1) {
            let ids: Vec<u64> = part.iter().map(|asked| asked.lead.get()).collect();
            let select = ["ID", "ASSIGNED_BY_ID", "STATUS_SEMANTIC_ID", "MOVED_BY_ID", "MOVED_TIME"];
            let leads = command(
                LIST,
                &json!({ "filter": { "@ID": ids }, "select": select, "order": { "ID": "ASC" }, "start": -1 }),
            );
            let commands: Vec<Command> = std::iter::once(leads).chain(part.iter().map(activities)).collect();
            let mut outcomes = self.batch_counted(&commands).await?.into_iter();
            let mut next = || outcomes.next().map_or(Ok(Value::Null), |Counted { outcome, .. }| outcome);
            let leads = next()?;
            for asked in part {
                let activities = next()?;
                let lead = rows(&leads).find(|lead| number(lead, "ID") == Some(asked.lead.get()));
                answers.push(answer(*asked, lead, &activities));
            }
        }
        Ok(answers)
    }
}

fn command(method: &'static str, params: &Value) -> Command {
    Command::new(method, params.as_object().cloned().unwrap_or_default())
}

fn activities(asked: &Asked) -> Command {
    let bindings = [json!({ "OWNER_TYPE_ID": 1, "OWNER_ID": asked.lead.get() })];
    let select = [
        "ID",
        "PROVIDER_ID",
        "DIRECTION",
        "COMPLETED",
        "CREATED",
        "LAST_UPDATED",
        "RESULT_STATUS",
        "RESULT_STREAM",
    ];
    let filter = json!({ "BINDINGS": bindings, ">=LAST_UPDATED": asked.since.to_string() });
    // The newest of more than a page: of fifty activities one is an answer.
    let params = json!({ "filter": filter, "select": select, "order": { "ID": "DESC" }, "start": -1 });
    command("crm.activity.list", &params)
}

fn answer(asked: Asked, lead: Option<&Value>, activities: &Value) -> Answer {
    let Some(lead) = lead else { return Answer::NotHis };
    let owner = Some(asked.owner.get());
    if number(lead, "ASSIGNED_BY_ID") != owner || text(lead, "STATUS_SEMANTIC_ID") != "P" {
        return Answer::NotHis;
    }
    let moved =
        number(lead, "MOVED_BY_ID") == owner && time(lead, "MOVED_TIME").is_some_and(|at| at >= asked.since);
    if moved || rows(activities).any(|activity| is_answer(activity, asked.since)) {
        return Answer::Answered;
    }
    Answer::NotYet
}

fn is_answer(activity: &Value, since: Timestamp) -> bool {
    if NO_ANSWERS.contains(&text(activity, "PROVIDER_ID")) {
        return false;
    }
    let after = |field| time(activity, field).is_some_and(|at| at >= since);
    // A call that nobody picked up is completed like any other; only its stream (4) tells.
    let outgoing = number(activity, "DIRECTION") == Some(2)
        && text(activity, "COMPLETED") == "Y"
        && number(activity, "RESULT_STREAM") != Some(4)
        && after("CREATED");
    // A chat is one incoming activity, which changes when an operator writes.
    let chat = number(activity, "RESULT_STATUS") == Some(2) && after("LAST_UPDATED");
    outgoing || chat
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn number(row: &Value, field: &str) -> Option<u64> {
    row.get(field).and_then(unsigned)
}

fn text<'v>(row: &'v Value, field: &str) -> &'v str {
    row.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn time(row: &Value, field: &str) -> Option<Timestamp> {
    text(row, field).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        let since = "2026-11-23T09:00:00Z".parse().unwrap();
        Asked { lead: LeadId::new(42).unwrap(), owner: UserId::new(11).unwrap(), since }
    }

    fn of_activity(changes: &Value) -> Answer {
        let mut activity = json!({
            "ID": "9", "PROVIDER_ID": "VOXIMPLANT_CALL", "DIRECTION": "2", "COMPLETED": "Y",
            "CREATED": "2026-11-23T12:05:00+03:00", "LAST_UPDATED": "2026-11-23T12:06:00+03:00",
            "RESULT_STATUS": "0", "RESULT_STREAM": "2",
        });
        activity.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let lead = json!({
            "ID": "42", "ASSIGNED_BY_ID": "11", "STATUS_SEMANTIC_ID": "P", "MOVED_BY_ID": "1",
            "MOVED_TIME": "2026-11-23T12:06:00+03:00",
        });
        answer(asked(), Some(&lead), &json!([activity]))
    }

    #[test]
    fn what_is_an_answer() {
        for (changes, expected) in [
            (json!({}), Answer::Answered),
            (json!({ "PROVIDER_ID": "CRM_EMAIL", "RESULT_STREAM": null }), Answer::Answered),
            (json!({ "RESULT_STREAM": "4" }), Answer::NotYet),
            (json!({ "COMPLETED": "N" }), Answer::NotYet),
            (json!({ "DIRECTION": "1" }), Answer::NotYet),
            (json!({ "PROVIDER_ID": "CRM_TODO" }), Answer::NotYet),
            (json!({ "CREATED": "2026-11-23T11:59:59+03:00" }), Answer::NotYet),
            (json!({ "CREATED": "" }), Answer::NotYet),
            (
                json!({ "PROVIDER_ID": "IMOPENLINES_SESSION", "DIRECTION": "1", "RESULT_STATUS": "2",
                        "CREATED": "2026-11-23T11:00:00+03:00" }),
                Answer::Answered,
            ),
            (
                json!({ "PROVIDER_ID": "IMOPENLINES_SESSION", "DIRECTION": "1", "RESULT_STATUS": "1" }),
                Answer::NotYet,
            ),
        ] {
            assert_eq!(of_activity(&changes), expected, "{changes}");
        }
    }

    #[test]
    fn a_stage_that_the_owner_chose_is_an_answer() {
        let lead = |owner: &str, semantics: &str, by: &str, at: &str| {
            let lead = json!({
                "ID": "42", "ASSIGNED_BY_ID": owner, "STATUS_SEMANTIC_ID": semantics, "MOVED_BY_ID": by,
                "MOVED_TIME": at,
            });
            answer(asked(), Some(&lead), &json!([]))
        };
        assert_eq!(lead("11", "P", "11", "2026-11-23T12:00:00+03:00"), Answer::Answered);
        assert_eq!(lead("11", "P", "11", "2026-11-23T11:59:59+03:00"), Answer::NotYet);
        assert_eq!(lead("11", "P", "1", "2026-11-23T12:05:00+03:00"), Answer::NotYet, "a robot did");
        assert_eq!(lead("12", "P", "12", "2026-11-23T12:05:00+03:00"), Answer::NotHis);
        assert_eq!(lead("11", "S", "11", "2026-11-23T12:05:00+03:00"), Answer::NotHis);
        assert_eq!(answer(asked(), None, &json!([])), Answer::NotHis);
    }
}
