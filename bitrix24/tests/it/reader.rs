//! Many callers, few requests.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bitrix24::lead_reader::Read;
use bitrix24::{LeadReader, PortalError};
use common::failure::{Failure, FailureClass};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::fake::{Bench, FakeBudget, FakePortal, lead, leads_below, reply};

type Caller = JoinHandle<Result<Read, PortalError>>;

fn read_all(reader: &Arc<LeadReader>, ids: impl IntoIterator<Item = u64>) -> Vec<Caller> {
    let spawn = |id| {
        let reader = reader.clone();
        tokio::spawn(async move { reader.read(lead(id)).await })
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
    assert_eq!(reader.read(lead(42)).await.unwrap().lead.unwrap().title, "Lead 42");
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(fake.methods(), ["crm.lead.get"]);
    assert_eq!(fake.params(0), serde_json::json!({"id": 42}));
    assert!(reader.read(lead(1_001)).await.unwrap().lead.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_the_budget_becomes_one_request() {
    for (leads, method) in [(1, "crm.lead.get"), (2, "crm.lead.list"), (50, "crm.lead.list"), (120, "batch")]
    {
        let fake = FakePortal::new(leads_below(1_000, &[7]));
        let ids: Vec<u64> = (1..=leads).collect();
        let (bench, answers) = read_together(fake.clone(), &ids).await;
        assert_eq!(fake.methods(), [method], "{leads} leads");
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
        callers.push(tokio::spawn(async move { reader.read(lead(id)).await }));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(fake.methods().is_empty(), "there is enough to do");
    in_use.truncate(10);
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap().together, 40);
    }
    assert_eq!(fake.methods(), ["crm.lead.list"]);
}
