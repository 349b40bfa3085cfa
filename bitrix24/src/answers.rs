//! Whether the owner of a lead has answered: what happened in the portal of late, for all leads at once, and single leads,
//! packed.
//!
//! An answer is an outgoing call that connected, an outgoing mail or message, an open line's chat in which an operator
//! wrote, or a stage to which the owner moved the lead. `LAST_ACTIVITY_TIME` does not tell: what the owner does himself
//! does not move it. Plans, tasks and filled-in forms are no answers.
//!
//! What happened of late is one request whatever the number of leads: the newest activities of leads, and who came to
//! another stage (`crm.stagehistory.list`, which does not tell who moved it). It shows only fifty of each, and activities by
//! their first binding alone. So it may miss an answer; before anybody loses a lead, that lead is asked for by itself.
//! There activities are asked for by `BINDINGS`, because a call may be bound to a contact first and to the lead second.
//!
//! Source: pages "List of activities", "Stage history".

use std::collections::BTreeSet;

use common::failure::chain;
use common::ids::{LeadId, UserId};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::apart::Blame;
use crate::client::{Counted, Portal};
use crate::command::{Command, MAX_COMMANDS};
use crate::envelope::unsigned;
use crate::error::PortalError;
use crate::fields::Fields;
use crate::lead::{GET, LIST};

/// `PROVIDER_ID` of activities that answer nothing, whatever their direction.
const NO_ANSWERS: [&str; 3] = ["CRM_TODO", "CRM_TASKS_TASK", "CRM_WEBFORM"];

const ACTIVITIES: &str = "crm.activity.list";

/// What is asked of activities.
const SELECT: [&str; 10] = [
    "ID",
    "OWNER_TYPE_ID",
    "OWNER_ID",
    "PROVIDER_ID",
    "DIRECTION",
    "COMPLETED",
    "CREATED",
    "LAST_UPDATED",
    "RESULT_STATUS",
    "RESULT_STREAM",
];

/// `entityTypeId` and `OWNER_TYPE_ID` of leads.
const LEAD: u64 = 1;

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
    /// It was answered, at this moment.
    Answered(Timestamp),
    /// It is still to be answered.
    NotYet,
    /// It is not for him to answer: it has another owner, is closed, or is gone.
    NotHis,
    /// The webhook's owner may not see it, so nothing is known.
    Hidden,
    /// What the portal says of it cannot be read, or it refuses to; nothing is known of this one.
    Unknown,
}

/// What happened in the portal of late.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Leads that were answered, and when, by whomever.
    pub answered: Vec<(LeadId, Timestamp)>,
    /// Leads that came to another stage, by whomever.
    pub moved: BTreeSet<LeadId>,
}

impl Portal {
    /// What happened since then, in one request.
    ///
    /// # Errors
    /// When the request fails, or a source is refused.
    pub async fn answer_news(&self, since: Timestamp) -> Result<News, PortalError> {
        let since = since.to_string();
        let activities = Command::of(
            ACTIVITIES,
            &json!({ "filter": { "OWNER_TYPE_ID": LEAD, ">=LAST_UPDATED": since }, "select": SELECT,
                     "order": { "ID": "DESC" }, "start": -1 }),
        );
        let stages = Command::of(
            "crm.stagehistory.list",
            &json!({ "entityTypeId": LEAD, "filter": { ">=CREATED_TIME": since }, "order": { "ID": "DESC" },
                     "start": -1 }),
        );
        let mut outcomes = self.batch_counted(&[activities, stages]).await?.into_iter();
        let mut next = || outcomes.next().map_or(Ok(Value::Null), |Counted { outcome, .. }| outcome);
        let (activities, stages) = (next()?, next()?);
        let lead = |row: &Value| number(row, "OWNER_ID").and_then(LeadId::new);
        let of_leads = rows(&activities).filter(|row| number(row, "OWNER_TYPE_ID") == Some(LEAD));
        let answered = of_leads.filter_map(|row| Some((lead(row)?, answered_at(row)?))).collect();
        let stages = stages.get("items").map(rows).into_iter().flatten();
        // The stage in which it was created is no move.
        let moved = stages.filter(|row| number(row, "TYPE_ID") != Some(1)).filter_map(lead).collect();
        Ok(News { answered, moved })
    }

    /// Asks of each whether it was answered, as many in a request as fit.
    ///
    /// # Errors
    /// When a request fails, or a source is refused for all: without it nobody can say that a lead was not answered.
    pub async fn answers(&self, asked: &[Asked]) -> Result<Vec<Answer>, PortalError> {
        let mut answers = Vec::with_capacity(asked.len());
        let mut left_out = Vec::new();
        for part in asked.chunks(MAX_COMMANDS - 1) {
            let ids: Vec<u64> = part.iter().map(|asked| asked.lead.get()).collect();
            let select = ["ID", "ASSIGNED_BY_ID", "STATUS_SEMANTIC_ID", "MOVED_BY_ID", "MOVED_TIME"];
            let leads = Command::of(
                LIST,
                &json!({ "filter": { "@ID": ids }, "select": select, "order": { "ID": "ASC" }, "start": -1 }),
            );
            let commands: Vec<Command> = std::iter::once(leads).chain(part.iter().map(activities)).collect();
            let permit = self.permit(&[]).await?;
            let mut outcomes = self.batch_apart(permit, &commands).await?.into_iter();
            let mut next = || outcomes.next().map_or(Ok(Value::Null), |Counted { outcome, .. }| outcome);
            let leads = next()?;
            for asked in part {
                let activities = match next() {
                    Err(error) if Blame::of(&error) == Blame::Content && !error.is_of_one_method() => {
                        tracing::warn!(
                            event = "answers.unknown", portal = %self.name(), lead.id = asked.lead.get(),
                            error = chain(&error),
                        );
                        answers.push(Answer::Unknown);
                        continue;
                    }
                    told => told?,
                };
                let lead = rows(&leads).find(|lead| number(lead, "ID") == Some(asked.lead.get()));
                if lead.is_none() {
                    left_out.push((answers.len(), asked.lead));
                }
                answers.push(lead.map_or(Answer::Hidden, |lead| answer(*asked, lead, &activities)));
            }
        }
        // A list leaves out what is hidden just as what is deleted.
        for part in left_out.chunks(MAX_COMMANDS) {
            let leads: Vec<LeadId> = part.iter().map(|(_, lead)| *lead).collect();
            let permit = self.permit(&[GET]).await?;
            let shown = self.get_each_with(permit, &leads, &Fields::default()).await?;
            for ((number, _), shown) in part.iter().zip(shown) {
                let is_gone = match shown {
                    Ok(lead) => lead.is_none(),
                    Err(PortalError::Denied { .. }) => false,
                    Err(error) => return Err(error),
                };
                if let Some(answer) = answers.get_mut(*number).filter(|_| is_gone) {
                    *answer = Answer::NotHis;
                }
            }
        }
        Ok(answers)
    }
}

fn activities(asked: &Asked) -> Command {
    let bindings = [json!({ "OWNER_TYPE_ID": LEAD, "OWNER_ID": asked.lead.get() })];
    let filter = json!({ "BINDINGS": bindings, ">=LAST_UPDATED": asked.since.to_string() });
    // The newest of more than a page: of fifty activities one is an answer.
    let params = json!({ "filter": filter, "select": SELECT, "order": { "ID": "DESC" }, "start": -1 });
    Command::of(ACTIVITIES, &params)
}

fn answer(asked: Asked, lead: &Value, activities: &Value) -> Answer {
    let owner = Some(asked.owner.get());
    if number(lead, "ASSIGNED_BY_ID") != owner || text(lead, "STATUS_SEMANTIC_ID") != "P" {
        return Answer::NotHis;
    }
    let moved = time(lead, "MOVED_TIME").filter(|_| number(lead, "MOVED_BY_ID") == owner);
    let answers = rows(activities).filter_map(answered_at).chain(moved).filter(|at| *at >= asked.since);
    answers.min().map_or(Answer::NotYet, Answer::Answered)
}

/// When this activity answered its lead, if it did.
fn answered_at(activity: &Value) -> Option<Timestamp> {
    if NO_ANSWERS.contains(&text(activity, "PROVIDER_ID")) {
        return None;
    }
    // A chat is one incoming activity, which changes when an operator writes.
    if number(activity, "RESULT_STATUS") == Some(2) {
        return time(activity, "LAST_UPDATED");
    }
    // A call that nobody picked up is completed like any other; only its stream (4) tells.
    let outgoing = number(activity, "DIRECTION") == Some(2)
        && text(activity, "COMPLETED") == "Y"
        && number(activity, "RESULT_STREAM") != Some(4);
    time(activity, "CREATED").filter(|_| outgoing)
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

    fn answered(time: &str) -> Answer {
        Answer::Answered(format!("2026-11-23T{time}+03:00").parse().unwrap())
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
        answer(asked(), &lead, &json!([activity]))
    }

    #[test]
    fn what_is_an_answer() {
        for (changes, expected) in [
            (json!({}), answered("12:05:00")),
            (json!({ "PROVIDER_ID": "CRM_EMAIL", "RESULT_STREAM": null }), answered("12:05:00")),
            (json!({ "RESULT_STREAM": "4" }), Answer::NotYet),
            (json!({ "COMPLETED": "N" }), Answer::NotYet),
            (json!({ "DIRECTION": "1" }), Answer::NotYet),
            (json!({ "PROVIDER_ID": "CRM_TODO" }), Answer::NotYet),
            (json!({ "CREATED": "2026-11-23T11:59:59+03:00" }), Answer::NotYet),
            (json!({ "CREATED": "" }), Answer::NotYet),
            (
                json!({ "PROVIDER_ID": "IMOPENLINES_SESSION", "DIRECTION": "1", "RESULT_STATUS": "2",
                        "CREATED": "2026-11-23T11:00:00+03:00" }),
                answered("12:06:00"),
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
            answer(asked(), &lead, &json!([]))
        };
        assert_eq!(lead("11", "P", "11", "2026-11-23T12:00:00+03:00"), answered("12:00:00"));
        assert_eq!(lead("11", "P", "11", "2026-11-23T11:59:59+03:00"), Answer::NotYet);
        assert_eq!(lead("11", "P", "1", "2026-11-23T12:05:00+03:00"), Answer::NotYet, "a robot did");
        assert_eq!(lead("12", "P", "12", "2026-11-23T12:05:00+03:00"), Answer::NotHis);
        assert_eq!(lead("11", "S", "11", "2026-11-23T12:05:00+03:00"), Answer::NotHis);
    }
}
