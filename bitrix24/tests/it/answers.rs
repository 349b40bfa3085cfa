//! Whether leads were answered: what is made of what the portal tells.

use bitrix24::PortalError;
use bitrix24::answers::{Answer, Asked};
use common::ids::UserId;
use serde_json::{Value, json};

use crate::fake::{Bench, by_command, lead};

const SINCE: &str = "2026-11-23T09:00:00Z";

async fn answers(
    activities: impl Fn(&str) -> Result<Value, Value> + Send + Sync + 'static,
) -> Result<Vec<Answer>, PortalError> {
    let row = |id: u64| json!({ "ID": id.to_string(), "ASSIGNED_BY_ID": "11", "STATUS_SEMANTIC_ID": "P" });
    let fake = by_command(move |method, query| match method {
        "crm.lead.list" => Ok(json!([row(1), row(2), row(3)])),
        "crm.activity.list" => activities(query),
        other => panic!("{other}"),
    });
    let asked = |id| Asked { lead: lead(id), owner: UserId::new(11).unwrap(), since: SINCE.parse().unwrap() };
    Bench::new(fake).portal.answers(&[1, 2, 3].map(asked)).await
}

fn refused(code: &str) -> Value {
    json!({ "error": code, "error_description": "" })
}

#[tokio::test]
async fn one_lead_of_which_nothing_can_be_told_costs_no_other_its_answer() {
    let told =
        answers(
            |query| {
                if query.contains("[OWNER_ID]=2") { Err(refused("WRONG_ENCODING")) } else { Ok(json!([])) }
            },
        );
    assert_eq!(told.await.unwrap(), [Answer::NotYet, Answer::Unknown, Answer::NotYet]);
}

#[tokio::test]
async fn a_source_that_is_refused_for_all_is_an_error() {
    for code in ["insufficient_scope", "OPERATION_TIME_LIMIT", "INTERNAL_SERVER_ERROR"] {
        let refused = refused(code);
        let told = answers(move |_| Err(refused.clone())).await;
        assert!(told.is_err(), "{code}: {told:?}");
    }
}
