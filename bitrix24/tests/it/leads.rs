//! Reading and writing leads: which request is made, and what its answer means.

use bitrix24::lead::{Given, UPDATE, Written};
use bitrix24::notify::{Author, Notice};
use bitrix24::{Fields, PortalError};
use common::failure::{Failure, FailureClass};
use common::ids::{LeadId, UserId};
use serde_json::{Map, json};

use crate::fake::{Bench, FakePortal, lead, leads_below, reply, result};

fn ids(range: std::ops::RangeInclusive<u64>) -> Vec<LeadId> {
    range.map(lead).collect()
}

#[tokio::test]
async fn a_lead_is_there_gone_or_forbidden() {
    let bench = Bench::new(FakePortal::replying(vec![
        reply(200, include_str!("../fixtures/lead_get.json")),
        reply(400, include_str!("../fixtures/not_found.json")),
        reply(400, include_str!("../fixtures/access_denied.json")),
    ]));
    let fields = Fields::default().with(["PHONE"]);
    let found = bench.portal.get_lead(lead(35_943), &fields).await.unwrap().unwrap();
    assert_eq!((found.id, found.owner), (lead(35_943), UserId::new(1)));
    assert_eq!(found.title, "Two-room flat, ring back after 18:00");
    assert_eq!(found.fields["PHONE"][0]["VALUE"], "+7 900 000-00-00");
    assert_eq!(bench.portal.get_lead(lead(35_944), &fields).await.unwrap(), None);
    let forbidden = bench.portal.get_lead(lead(35_945), &fields).await.unwrap_err();
    assert!(matches!(forbidden, PortalError::Denied { .. }), "{forbidden}");
    let series = "rota_portal_requests_total{method=\"crm.lead.get\",outcome=\"ok\",portal=\"acme\"}";
    assert_eq!(bench.metric(series), "2");
}

#[tokio::test]
async fn up_to_fifty_leads_are_one_list() {
    let fake = FakePortal::new(leads_below(1_000, &[3]));
    let bench = Bench::new(fake.clone());
    let read = bench.portal.get_leads(&ids(1..=50), &Fields::default()).await.unwrap();
    assert_eq!(fake.methods(), ["crm.lead.list"]);
    let params = fake.params(0);
    assert_eq!((&params["start"], &params["select"][0]), (&json!(-1), &json!("ASSIGNED_BY_ID")));
    for (index, outcome) in read.iter().enumerate() {
        let found = outcome.as_ref().unwrap().as_ref().map(|found| found.id.get());
        let id = u64::try_from(index).unwrap() + 1;
        assert_eq!(found, (id != 3).then_some(id));
    }
}

#[tokio::test]
async fn more_are_one_batch_and_each_list_fails_alone() {
    let fake = FakePortal::new(leads_below(1_000, &[]));
    let bench = Bench::new(fake.clone());
    let read = bench.portal.get_leads(&ids(1..=120), &Fields::default()).await.unwrap();
    assert_eq!(fake.methods(), ["batch"]);
    assert_eq!(fake.params(0)["cmd"].as_object().unwrap().len(), 3);
    assert!(read.iter().all(|outcome| matches!(outcome, Ok(Some(_)))));

    let row = json!([{"ID": "1"}]);
    let error = json!({"error": "OPERATION_TIME_LIMIT", "error_description": ""});
    let answer = json!({"result": {"c00": row}, "result_error": {"c01": error}});
    let bench = Bench::new(FakePortal::replying(vec![result(answer)]));
    let read = bench.portal.get_leads(&ids(1..=100), &Fields::default()).await.unwrap();
    assert!(matches!(read[0], Ok(Some(_))));
    assert!(matches!(read[49], Ok(None)));
    assert!(
        read[50..]
            .iter()
            .all(|outcome| { outcome.as_ref().is_err_and(|error| error.class() == FailureClass::Throttled) })
    );
}

#[tokio::test]
async fn a_list_of_other_leads_is_never_taken_for_an_answer() {
    let bench = Bench::new(FakePortal::replying(vec![result(json!([{"ID": "900"}, {"ID": "901"}]))]));
    let read = bench.portal.get_leads(&ids(1..=2), &Fields::default()).await.unwrap();
    assert!(read.iter().all(|outcome| matches!(outcome, Err(PortalError::Unexpected { .. }))));
}

#[tokio::test]
async fn a_list_that_is_denied_blocks_the_portal() {
    let bench =
        Bench::new(FakePortal::replying(vec![reply(400, include_str!("../fixtures/access_denied.json"))]));
    let error = bench.portal.get_leads(&ids(1..=2), &Fields::default()).await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Blocked);
}

#[tokio::test]
async fn nothing_asked_is_nothing_sent() {
    let fake = FakePortal::replying(Vec::new());
    let bench = Bench::new(fake.clone());
    assert!(bench.portal.get_leads(&[], &Fields::default()).await.unwrap().is_empty());
    assert!(fake.methods().is_empty());
}

#[tokio::test]
async fn an_owner_is_set_on_a_lead_that_exists() {
    let fake = FakePortal::replying(vec![
        reply(200, include_str!("../fixtures/lead_update.json")),
        reply(400, r#"{"error":"","error_description":"Lead is not found"}"#),
    ]);
    let bench = Bench::new(fake.clone());
    let user = UserId::new(9).unwrap();
    let set = |id| bench.portal.set_owner(lead(id), user, Map::new());
    assert_eq!(set(42).await.unwrap(), Written::Done);
    assert_eq!(fake.params(0), json!({"id": 42, "fields": {"ASSIGNED_BY_ID": 9}}));
    assert_eq!(set(43).await.unwrap(), Written::NoLead);
}

/// Gives lead 42 from 7 to 9 with a notice, against this answer of the batch.
async fn give(answer: serde_json::Value) -> (Result<Given, PortalError>, serde_json::Value) {
    let fake = FakePortal::replying(vec![result(answer)]);
    let portal = Bench::new(fake.clone()).portal;
    let (from, to) = (UserId::new(7).unwrap(), UserId::new(9).unwrap());
    let notice = Notice {
        author: Author::Nobody,
        to,
        message: "$result[c00]".to_owned(),
        tag: "acme/42/1".to_owned(),
    };
    let permit = portal.permit(&[UPDATE]).await.unwrap();
    let given = portal.give_with(permit, lead(42), (from, to), Map::new(), Some(notice.command())).await;
    (given, fake.params(0))
}

#[tokio::test]
async fn a_lead_is_given_only_if_it_is_still_where_it_was() {
    let found = json!([{"ID": "42", "ASSIGNED_BY_ID": "7"}]);
    let (given, asked) = give(json!({"result": {"c00": found, "c01": true, "c02": 1492}})).await;
    let Ok(Given::Still { written: Ok(Written::Done), then: Some(Ok(id)) }) = given else {
        panic!("{given:?}")
    };
    assert_eq!(id, 1492);
    assert_eq!(asked["halt"], 1);
    assert_eq!(
        asked["cmd"]["c00"],
        "crm.lead.list?filter[ASSIGNED_BY_ID]=7&filter[ID]=42&select[0]=ID&select[1]=ASSIGNED_BY_ID&start=-1"
    );
    assert_eq!(
        asked["cmd"]["c01"],
        "crm.lead.update?fields[ASSIGNED_BY_ID]=9&id=%24result%5Bc00%5D%5B0%5D%5BID%5D"
    );
    assert!(!asked["cmd"]["c02"].as_str().unwrap().contains("%24result"), "{asked}");

    // Nothing was found, so the id was an empty list, and the batch ended.
    let no_id = json!({"error": "", "error_description": "ID is not defined or invalid."});
    let (given, _) = give(json!({"result": {"c00": []}, "result_error": {"c01": no_id}})).await;
    assert!(matches!(given, Ok(Given::Otherwise)), "{given:?}");
}

#[tokio::test]
async fn what_did_not_run_is_known_not_to_have_run() {
    let found = json!([{"ID": "42", "ASSIGNED_BY_ID": "7"}]);
    let error = |text: &str| json!({"error": "", "error_description": text});
    let (given, _) =
        give(json!({"result": {"c00": found}, "result_error": {"c01": error("No right")}})).await;
    let Ok(Given::Still { written: Err(refused), then: None }) = given else { panic!("{given:?}") };
    assert_eq!((refused.class(), refused.is_ambiguous()), (FailureClass::Permanent, false));

    let (given, _) = give(json!({"result": [], "result_error": {"c00": error("Wrong filter")}})).await;
    assert!(!given.unwrap_err().is_ambiguous());
    // The look brought another lead: then nobody knows what was written.
    let (given, _) = give(json!({"result": {"c00": [{"ID": "1"}], "c01": true, "c02": 5}})).await;
    assert!(given.unwrap_err().is_ambiguous());
    let (given, _) = give(json!({"result": {"c00": found}})).await;
    let Ok(Given::Still { written: Err(unanswered), then: Some(Err(_)) }) = given else {
        panic!("{given:?}")
    };
    assert!(unanswered.is_ambiguous(), "cut off after the look");
}
