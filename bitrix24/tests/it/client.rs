//! One request, one batch: what is sent, how the answer is classified and counted.

use std::sync::atomic::Ordering;

use bitrix24::command::MAX_COMMANDS;
use bitrix24::transport::TransportError;
use bitrix24::{Command, PortalError};
use common::failure::{Failure, FailureClass};
use serde_json::{Map, Value, json};

use crate::fake::{Bench, FakeBudget, FakePortal, reply, result};

fn commands(count: usize) -> Vec<Command> {
    (0..count).map(|_| Command::new("server.time", Map::new())).collect()
}

#[tokio::test]
async fn an_answer_is_read_and_counted() {
    let fake = FakePortal::replying(vec![reply(200, include_str!("../fixtures/lead_update.json"))]);
    let bench = Bench::new(fake.clone());
    let envelope = bench.portal.call("crm.lead.update", &json!({"id": 42})).await.unwrap();
    assert_eq!((envelope.result, envelope.time.operating), (json!(true), Some(1.7608)));
    assert_eq!((fake.methods(), fake.params(0)), (vec!["crm.lead.update".to_owned()], json!({"id": 42})));
    let series = "rota_portal_requests_total{method=\"crm.lead.update\",outcome=\"ok\",portal=\"acme\"}";
    assert_eq!(bench.metric(series), "1");
    let series = "rota_portal_request_duration_seconds_count{method=\"crm.lead.update\",portal=\"acme\"}";
    assert_eq!(bench.metric(series), "1");
    assert_eq!(bench.metric("rota_budget_wait_seconds_count{portal=\"acme\"}"), "1");
}

#[tokio::test]
async fn the_two_meanings_of_503_are_told_apart() {
    let budget = FakeBudget::opened();
    let fake = FakePortal::replying(vec![
        reply(503, include_str!("../fixtures/overload_limit.json")),
        reply(503, include_str!("../fixtures/query_limit.json")),
    ]);
    let bench = Bench::with_budget(fake, Some(budget.clone()));
    let blocked = bench.portal.server_time().await.unwrap_err();
    assert_eq!((blocked.class(), budget.refusals.load(Ordering::SeqCst)), (FailureClass::Blocked, 0));
    let throttled = bench.portal.server_time().await.unwrap_err();
    assert_eq!((throttled.class(), throttled.is_ambiguous()), (FailureClass::Throttled, false));
    assert_eq!(budget.refusals.load(Ordering::SeqCst), 1);
    for outcome in ["blocked", "throttled"] {
        let series = format!(
            "rota_portal_requests_total{{method=\"server.time\",outcome=\"{outcome}\",portal=\"acme\"}}"
        );
        assert_eq!(bench.metric(&series), "1", "{outcome}");
    }
}

#[tokio::test]
async fn a_refusal_stays_a_refusal_when_the_budget_cannot_be_told() {
    let budget = FakeBudget::opened();
    let breaks = budget.clone();
    let fake = FakePortal::new(move |_, _| {
        breaks.broken.store(true, Ordering::SeqCst);
        reply(503, include_str!("../fixtures/query_limit.json"))
    });
    let bench = Bench::with_budget(fake, Some(budget));
    assert!(bench.portal.server_time().await.unwrap_err().is_query_limit());
}

#[tokio::test]
async fn what_did_not_leave_is_told_from_what_may_have_run() {
    let bench = Bench::new(FakePortal::replying(vec![
        Err(TransportError::NotSent("refused".into())),
        Err(TransportError::Ambiguous("timed out".into())),
        reply(504, "<html>Gateway Time-out</html>"),
        reply(200, "{\"result\":{\"result\":{\"c00\":tr"),
    ]));
    let outcomes = [(false, "not sent"), (true, "timed out"), (true, "gateway"), (true, "truncated")];
    for (ambiguous, what) in outcomes {
        let error = bench.portal.batch(&commands(1)).await.unwrap_err();
        assert_eq!((error.class(), error.is_ambiguous()), (FailureClass::Transient, ambiguous), "{what}");
    }
    for (outcome, count) in [("transient", "1"), ("ambiguous", "3")] {
        let series =
            format!("rota_portal_requests_total{{method=\"batch\",outcome=\"{outcome}\",portal=\"acme\"}}");
        assert_eq!(bench.metric(&series), count, "{outcome}");
    }
}

#[tokio::test]
async fn each_command_of_a_batch_has_its_own_outcome() {
    let fake = FakePortal::replying(vec![reply(200, include_str!("../fixtures/batch_mixed.json"))]);
    let bench = Bench::new(fake.clone());
    let outcomes = bench.portal.batch(&commands(6)).await.unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap()["ID"], "101");
    assert_eq!(outcomes[1].as_ref().unwrap(), &json!(true));
    assert_eq!(outcomes[2].as_ref().unwrap_err().class(), FailureClass::Permanent);
    assert!(outcomes[3].as_ref().unwrap_err().is_not_found());
    assert_eq!(outcomes[4].as_ref().unwrap_err().class(), FailureClass::Throttled);
    let unanswered = outcomes[5].as_ref().unwrap_err();
    assert!(matches!(unanswered, PortalError::Unanswered { method } if method == "server.time"));
    assert!(unanswered.is_ambiguous());

    let body = fake.params(0);
    assert_eq!((&body["halt"], body["cmd"].as_object().map(Map::len)), (&json!(0), Some(6)));
}

#[tokio::test]
async fn a_batch_in_which_all_failed_is_an_answer() {
    let bench =
        Bench::new(FakePortal::replying(vec![reply(200, include_str!("../fixtures/batch_all_failed.json"))]));
    let outcomes = bench.portal.batch(&commands(1)).await.unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap_err().class(), FailureClass::Blocked);
}

#[tokio::test]
async fn a_batch_of_a_wrong_size_is_not_sent() {
    let fake = FakePortal::new(|_, _| result(json!({"result": []})));
    let bench = Bench::new(fake.clone());
    for count in [0, MAX_COMMANDS + 1] {
        let error = bench.portal.batch(&commands(count)).await.unwrap_err();
        assert_eq!((error.class(), error.is_ambiguous()), (FailureClass::Permanent, false), "{count}");
    }
    assert!(fake.methods().is_empty());
    assert_eq!(bench.portal.batch(&commands(MAX_COMMANDS)).await.unwrap().len(), MAX_COMMANDS);
}

#[tokio::test]
async fn the_portals_clock() {
    let fake = FakePortal::replying(vec![
        reply(200, include_str!("../fixtures/server_time.json")),
        result(Value::Bool(false)),
    ]);
    let bench = Bench::new(fake);
    assert_eq!(bench.portal.server_time().await.unwrap().to_string(), "2026-05-21T09:00:12Z");
    assert!(matches!(bench.portal.server_time().await, Err(PortalError::Unexpected { .. })));
}

#[tokio::test]
async fn a_method_that_was_refused_for_its_time_stops_alone_in_a_batch_of_success() {
    let spent = json!({ "error": "OPERATION_TIME_LIMIT", "error_description": "Method is blocked" });
    let fake = FakePortal::replying(vec![
        result(json!({ "result": { "c00": true }, "result_error": { "c01": spent } })),
        result(json!({ "result": { "c00": true }, "result_error": [] })),
    ]);
    let portal = Bench::new(fake.clone()).portal;
    let commands = ["crm.lead.get", "crm.lead.update"].map(|method| Command::new(method, Map::new()));
    let outcomes = portal.batch(&commands).await.unwrap();
    assert!(outcomes[0].is_ok() && outcomes[1].as_ref().unwrap_err().is_operation_time_limit());
    let outcomes = portal.batch(&commands).await.unwrap();
    assert!(
        outcomes[0].is_ok() && matches!(outcomes[1], Err(PortalError::MethodBlocked { .. })),
        "{outcomes:?}"
    );
    assert_eq!(fake.params(1)["cmd"].as_object().unwrap().len(), 1, "it was not even sent");
    assert!(portal.call("crm.lead.update", &json!({})).await.is_err());
    assert_eq!(fake.methods().len(), 2);
}
