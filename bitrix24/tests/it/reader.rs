//! Many callers, few requests.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bitrix24::lead_reader::Read;
use bitrix24::{Fields, LeadReader, PortalError};
use common::failure::{Failure, FailureClass};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::fake::{Bench, FakeBudget, FakePortal, lead, leads_below, leads_of, reply};

type Caller = JoinHandle<Result<Read, PortalError>>;

fn fields() -> Arc<Fields> {
    Arc::new(Fields::default())
}

fn read_all(reader: &Arc<LeadReader>, ids: impl IntoIterator<Item = u64>) -> Vec<Caller> {
    let spawn = |id| {
        let reader = reader.clone();
        tokio::spawn(async move { reader.read(lead(id), &fields()).await })
    };
    ids.into_iter().map(spawn).collect()
}

async fn answers(callers: Vec<Caller>) -> Vec<Result<Option<u64>, PortalError>> {
    let mut all = Vec::new();
    for caller in callers {
        let answer = timeout(Duration::from_mins(1), caller).await.expect("nobody waits for ever").unwrap();
        all.push(answer.map(|read| read.lead.map(|found| found.id.get())));
    }
    all
}

/// Holds the budget until everybody has asked, then opens it: one pack of all.
async fn read_together(fake: Arc<FakePortal>, ids: &[u64]) -> (Bench, Vec<Result<Option<u64>, PortalError>>) {
    let budget = Arc::new(FakeBudget::default());
    let bench = Bench::with_budget(fake, Some(budget.clone()));
    let callers = read_all(&Arc::new(LeadReader::new(bench.portal.clone())), ids.iter().copied());
    while budget.asked.load(Ordering::SeqCst) < 3 {
        tokio::time::sleep(FakeBudget::WAIT).await;
    }
    budget.open.store(true, Ordering::SeqCst);
    let answers = answers(callers).await;
    (bench, answers)
}

#[tokio::test(start_paused = true)]
async fn a_lone_lead_waits_for_nothing() {
    let fake = FakePortal::new(leads_below(1_000, &[]));
    let bench = Bench::with_budget(fake.clone(), Some(FakeBudget::opened()));
    let reader = LeadReader::new(bench.portal.clone());
    let started = tokio::time::Instant::now();
    assert_eq!(reader.read(lead(42), &fields()).await.unwrap().lead.unwrap().title, "Lead 42");
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(fake.methods(), ["crm.lead.get"]);
    assert_eq!(fake.params(0), serde_json::json!({"id": 42}));
    assert!(reader.read(lead(1_001), &fields()).await.unwrap().lead.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_the_budget_becomes_one_request() {
    for (leads, methods) in [
        (1, &["crm.lead.get"][..]),
        (2, &["crm.lead.list"]),
        // Lead 7 is left out, and asked for by itself.
        (50, &["crm.lead.list", "crm.lead.get"]),
        (120, &["batch", "crm.lead.get"]),
    ] {
        let fake = FakePortal::new(leads_below(1_000, &[7]));
        let ids: Vec<u64> = (1..=leads).collect();
        let (bench, answers) = read_together(fake.clone(), &ids).await;
        assert_eq!(fake.methods(), methods, "{leads} leads");
        for (id, answer) in ids.iter().zip(answers) {
            assert_eq!(answer.unwrap(), (*id != 7).then_some(*id));
        }
        assert_eq!(
            bench.metric("rota_portal_pack_leads_sum{kind=\"read\",portal=\"acme\"}"),
            leads.to_string()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_lead_wanted_twice_is_read_once() {
    let fake = FakePortal::new(leads_below(1_000, &[]));
    let (_, answers) = read_together(fake.clone(), &[42, 42, 42]).await;
    assert_eq!(fake.methods(), ["crm.lead.get"]);
    assert!(answers.into_iter().all(|answer| answer.unwrap() == Some(42)));
}

#[tokio::test(start_paused = true)]
async fn a_pack_that_fails_fails_for_everybody_in_it() {
    let fake = FakePortal::new(|_, _| reply(502, "<html>Bad Gateway</html>"));
    let (_, answers) = read_together(fake.clone(), &(1..=120).collect::<Vec<_>>()).await;
    assert_eq!((fake.methods().len(), answers.len()), (1, 120));
    for answer in answers {
        assert_eq!(answer.unwrap_err().class(), FailureClass::Transient);
    }
}

/// A portal with all leads, whose whole answer is that it cannot be encoded as soon as one of `bad` is in it.
fn not_encodable(bad: &'static [u64]) -> Arc<FakePortal> {
    let leads = leads_below(10_000, &[]);
    FakePortal::new(move |method, params| {
        if leads_of(method, params).iter().any(|id| bad.contains(id)) {
            return reply(200, r#"{"error":"WRONG_ENCODING","error_description":"Wrong encoding"}"#);
        }
        leads(method, params)
    })
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_spoils_the_answer_is_alone_with_it() {
    for (bad, requests_at_most) in [(&[700][..], 23), (&[1, 400, 1000], 60)] {
        let fake = not_encodable(bad);
        let ids: Vec<u64> = (1..=1000).collect();
        let (_, answers) = read_together(fake.clone(), &ids).await;
        for (id, answer) in ids.iter().zip(answers) {
            assert_eq!(answer.ok().flatten(), (!bad.contains(id)).then_some(*id), "{id}");
        }
        assert!(fake.methods().len() <= requests_at_most, "{} for {bad:?}", fake.methods().len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lead_whose_other_texts_spoil_its_answer_is_read_by_a_list() {
    let leads = leads_below(10, &[]);
    let fake = FakePortal::new(move |method, params| match method {
        // It has no mask, and so the answer has the comments too.
        "crm.lead.get" => reply(200, r#"{"error":"WRONG_ENCODING","error_description":""}"#),
        _ => leads(method, params),
    });
    let bench = Bench::new(fake.clone());
    let read = LeadReader::new(bench.portal.clone()).read(lead(3), &fields()).await.unwrap();
    assert_eq!(read.lead.unwrap().title, "Lead 3");
    assert_eq!(fake.methods(), ["crm.lead.get", "crm.lead.list"]);
}

#[tokio::test(start_paused = true)]
async fn a_portal_of_which_nothing_can_be_read_gets_a_few_requests_more_and_then_none() {
    let warning = "<br />\n<b>Warning</b>: Undefined array key in include.php<br />\n{\"result\":[]}";
    let fake = FakePortal::new(move |_, _| reply(200, warning));
    let bench = Bench::new(fake.clone());
    let reader = Arc::new(LeadReader::new(bench.portal.clone()));
    for answer in answers(read_all(&reader, 1..=1000)).await {
        assert!(matches!(answer, Err(PortalError::Unreadable { .. })), "{answer:?}");
    }
    let asked = fake.methods().len();
    // Down to one, which is asked for by a list too.
    assert!(asked <= 16, "{asked} requests");
    assert!(bench.portal.unreadable().is_none(), "that may be one lead's fault");
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!(bench.portal.unreadable().is_some_and(|unreadable| unreadable.answers >= 5));
    drop(answers(read_all(&reader, 1..=1000)).await);
    let asked = fake.methods().len() - asked;
    assert!(asked <= 2, "{asked} requests");
    assert_eq!(bench.metric("rota_portal_unreadable{portal=\"acme\"}"), "1");
}

#[tokio::test(start_paused = true)]
async fn a_pack_that_takes_too_long_comes_back_in_halves_and_then_smaller() {
    let leads = leads_below(10_000, &[]);
    let fake = FakePortal::new(move |method, params| {
        let asked = leads_of(method, params);
        if asked.contains(&77) { reply(504, "<html>Gateway Time-out</html>") } else { leads(method, params) }
    });
    let bench = Bench::new(fake.clone());
    let reader = Arc::new(LeadReader::new(bench.portal.clone()));
    let (mut waiting, mut sizes): (Vec<u64>, _) = ((1..=100).collect(), Vec::new());
    while !waiting.is_empty() && sizes.len() < 6 {
        // Something else is answered meanwhile.
        tokio::time::advance(Duration::from_secs(30)).await;
        reader.read(lead(5_000), &fields()).await.unwrap();
        let before = fake.methods().len();
        let read = answers(read_all(&reader, waiting.clone())).await;
        let requests = before..fake.methods().len();
        let of_the_slow = requests.map(|index| leads_of(&fake.methods()[index], &fake.params(index)));
        sizes.push(of_the_slow.filter(|asked| asked.contains(&77)).map(|asked| asked.len()).max().unwrap());
        waiting = waiting.iter().zip(read).filter(|(_, read)| read.is_err()).map(|(id, _)| *id).collect();
    }
    assert_eq!(waiting, [77]);
    assert_eq!(sizes[..2], [100, 50]);
    assert_eq!(sizes[5], 1, "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_list_leaves_out_is_hidden_or_gone_and_only_the_lead_itself_tells() {
    let leads = leads_below(100, &[7, 8, 9]);
    let fake = FakePortal::new(move |method, params| {
        // Lead 8 is hidden: a list has it as little as a deleted one.
        let answer = leads(method, params);
        match (method, answer) {
            ("batch", Ok(mut answer)) => {
                let mut body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                for (key, command) in params["cmd"].as_object().unwrap() {
                    if command == "crm.lead.get?id=8" {
                        body["result"]["result_error"][key]["error_description"] = "Access denied.".into();
                    }
                }
                answer.body = body.to_string().into_bytes();
                Ok(answer)
            }
            (_, answer) => answer,
        }
    });
    let (_, answers) = read_together(fake.clone(), &(1..=20).collect::<Vec<_>>()).await;
    assert_eq!(fake.methods(), ["crm.lead.list", "batch"]);
    for (id, answer) in (1..).zip(answers) {
        match (id, answer) {
            (7 | 9, Ok(None)) => {}
            (8, Err(error @ PortalError::Denied { .. })) => {
                assert_eq!(error.class(), FailureClass::Throttled);
                assert_eq!(error.retry_after(), Some(Duration::from_mins(10)));
            }
            (_, answer) => assert_eq!(answer.unwrap(), Some(id)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lead_is_the_same_however_it_was_read() {
    let row = serde_json::json!({
        "ID": "1", "ASSIGNED_BY_ID": "7", "TITLE": "Flat", "COMMENTS": "long", "UF_CRM_A": "a", "UF_CRM_B": "b",
        "PHONE": [{ "VALUE": "+7 916 123-45-67" }], "EMAIL": [{ "VALUE": "a@b.c" }],
    });
    let fake = FakePortal::new(move |method, params| {
        if method == "crm.lead.get" {
            crate::fake::result(row.clone())
        } else {
            let select = params["select"].as_array().unwrap();
            assert!(select.iter().all(|code| !code.as_str().unwrap().contains('*')), "{select:?}");
            let mut row = row.as_object().unwrap().clone();
            row.retain(|code, _| select.iter().any(|selected| selected == code));
            crate::fake::result(serde_json::json!([row]))
        }
    });
    let portal = Bench::new(fake).portal;
    let fields = Fields::default().with(["UF_CRM_A", "PHONE"]);
    let alone = portal.get_lead(lead(1), &fields).await.unwrap();
    let listed = portal.get_leads(&[lead(1)], &fields).await.unwrap().remove(0).unwrap();
    assert_eq!(alone.as_ref().unwrap().fields.len(), 5);
    assert_eq!(alone, listed);
}

#[tokio::test(start_paused = true)]
async fn more_than_a_request_carries_are_several() {
    let fake = FakePortal::new(leads_below(10_000, &[]));
    let ids: Vec<u64> = (1..=1_100).collect();
    let (_, answers) = read_together(fake.clone(), &ids).await;
    assert_eq!(fake.methods(), ["batch", "batch"]);
    assert!(answers.into_iter().zip(ids).all(|(answer, id)| answer.unwrap() == Some(id)));
}

#[tokio::test(start_paused = true)]
async fn while_many_leads_are_in_use_the_next_come_together() {
    let fake = FakePortal::new(leads_below(1_000, &[]));
    let reader = Arc::new(LeadReader::new(Bench::new(fake.clone()).portal));
    let mut in_use: Vec<_> = (0..60).map(|_| reader.in_use()).collect();
    let mut callers = Vec::new();
    for id in 1..=40 {
        let reader = reader.clone();
        callers.push(tokio::spawn(async move { reader.read(lead(id), &fields()).await }));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(fake.methods().is_empty(), "there is enough to do");
    in_use.truncate(10);
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap().together, 40);
    }
    assert_eq!(fake.methods(), ["crm.lead.list"]);
}
