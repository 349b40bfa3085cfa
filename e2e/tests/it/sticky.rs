//! The same client, the same person: who has the contact, the company, a deal or another lead of the client gets the lead,
//! or who stands in for him, or the lead waits; and a portal that does not tell stops nothing.

use std::collections::BTreeMap;

use e2e::harness::Plan;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::clocked::Clocked;
use crate::common_parts::{assert_spent, plan};

/// Three people in turn. Queues differ by what becomes of a client whose person is away.
fn office() -> Plan {
    let routing = "\
version: 1
country_code: 7
people:
  p11: { user: 11 }
  p12: { user: 12 }
  p13: { user: 13, substitute: p12, successor: p11 }
queues:
  main:  { members: [p11, p12, p13], sticky: { by: [contact, company, phone, email], within: 90d } }
  stand: { members: [p11, p12, p13], sticky: { by: phone, if_absent: substitute } }
  waits: { members: [p11, p12], sticky: { by: phone, if_absent: { wait_until_back: 4h } } }
rules:
  - { name: Stand, when: { source: STAND }, queue: stand }
  - { name: Waits, when: { source: WAITS }, queue: waits }
default: { queue: main }
";
    Plan { routing: routing.to_owned(), ..plan() }
}

async fn start(plan: &Plan) -> Clocked {
    // Pauses are noted by the machine's clock, which goes on.
    use common::clock::{Clock as _, SystemClock};
    Clocked::start(plan, &SystemClock.now().to_string()).await
}

/// Adds one lead, waits for its notice, and answers its owner and what was spent on it.
async fn give(clocked: &Clocked, fields: Value) -> (u64, String, u64) {
    let (notices, spent) = (clocked.portal.notifications().await.unwrap().len(), clocked.spent().await);
    let id = clocked.add_leads(json!({ "leads": [fields] })).await[0];
    clocked.wait_for_notices(notices + 1).await;
    (id, owner(clocked, id).await, clocked.spent().await - spent)
}

async fn owner(clocked: &Clocked, id: u64) -> String {
    let leads = clocked.leads().await;
    leads.iter().find(|lead| lead.text("ID") == id.to_string()).unwrap().text("ASSIGNED_BY_ID").to_owned()
}

#[tokio::test]
async fn who_has_the_client_gets_the_lead() {
    let clocked = start(&office()).await;
    let portal = &clocked.portal;
    let contact =
        json!({ "assignedById": 13, "PHONE": ["+7 (916) 123-45-67"], "EMAIL": ["olga@example.com"] });
    let contact = portal.add_contact(&contact).await.unwrap();
    portal.add_contact(&json!({ "assignedById": 12, "PHONE": ["9035550001"] })).await.unwrap();
    let company = portal.add_company(&json!({ "assignedById": 12 })).await.unwrap();
    // Of whom nobody of the routing has the contact, but one a deal.
    let of_nobody =
        portal.add_contact(&json!({ "assignedById": 1, "PHONE": ["+7 903 555-00-02"] })).await.unwrap();
    let deal = json!({ "assignedById": 13, "contactIds": [contact + 1000, of_nobody], "stageId": "NEW" });
    portal.add_deal(&deal).await.unwrap();
    let long_ago = json!({ "assignedById": 13, "PHONE": ["+7 903 555-00-03"], "updatedTime": "2026-01-10T10:00:00+03:00" });
    portal.add_contact(&long_ago).await.unwrap();
    let phone = |phone: &str| json!({ "PHONE": [phone] });
    for (fields, expected, requests) in [
        (json!({ "CONTACT_ID": contact.to_string() }), "13", 3),
        (json!({ "COMPANY_ID": company.to_string() }), "12", 3),
        // Written in another way, or without the country's code.
        (phone("8 916 123 45 67"), "13", 4),
        (phone("+7 903 555-00-01"), "12", 4),
        (json!({ "EMAIL": [" Olga@Example.com"] }), "13", 4),
        (phone("+7 903 555-00-02"), "13", 4),
    ] {
        let (_, owner, spent) = give(&clocked, fields.clone()).await;
        assert_eq!((owner.as_str(), spent), (expected, requests), "{fields}");
    }
    // In turn: those who have paid for their clients are not first.
    let (old, owner, spent) = give(&clocked, phone("+7 903 555-00-03")).await;
    assert_eq!((owner.as_str(), spent), ("11", 4));
    assert!(clocked.decision(old, 1).await.reason.starts_with("default → queue main → p11"));
    let (new, owner, spent) = give(&clocked, phone("+7 903 555-00-04")).await;
    assert_eq!((owner.as_str(), spent), ("11", 3));
    assert!(clocked.decision(new, 1).await.explanation["client"].is_null());
    // What becomes of a client who comes again: the lead in process is his person's.
    let (again, owner, _) = give(&clocked, phone("+7 903 555-00-04")).await;
    let why = clocked.decision(again, 1).await.explanation["client"].clone();
    assert_eq!((owner.as_str(), &why["by"], &why["of"]), ("11", &json!("phone"), &json!({ "lead": new })));
    for (outcome, count) in [("kept", 7.0), ("stood_in", 0.0), ("waits", 0.0), ("given_away", 0.0)] {
        assert_eq!(clocked.metric_of("rota_known_clients_total", outcome).await, count, "{outcome}");
    }
    clocked.stop().await;
}

/// The commonest of all: somebody presses the button twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leads_of_one_client_that_come_at_once_go_to_one_person() {
    const CLIENTS: usize = 40;
    let mut plan = office();
    plan.routers = 3;
    let clocked = start(&plan).await;
    let phone = |number: usize| json!({ "PHONE": [format!("+7 916 000-10-{:02}", number % CLIENTS)] });
    let leads: Vec<Value> = (0..3 * CLIENTS).map(phone).collect();
    let ids = clocked.add_leads(json!({ "leads": leads })).await;
    clocked.wait_for_notices(3 * CLIENTS).await;
    let mut owners: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let leads = clocked.leads().await;
    for (number, id) in ids.iter().enumerate() {
        let lead = leads.iter().find(|lead| lead.text("ID") == id.to_string()).unwrap();
        assert_eq!(lead.history.len(), 1);
        owners.entry(number % CLIENTS).or_default().push(lead.text("ASSIGNED_BY_ID").to_owned());
    }
    for (client, owners) in &owners {
        assert!(owners.windows(2).all(|pair| pair[0] == pair[1]), "client {client}: {owners:?}");
    }
    let mut clients: BTreeMap<&String, usize> = BTreeMap::new();
    for owners in owners.values() {
        *clients.entry(&owners[0]).or_default() += 1;
    }
    // Each lead is a turn. Whoever gets a new client has had no more turns than the others then, at the most three for
    // each of their clients: so he has at the most three times as many clients and one, in whatever order leads come.
    let (least, most) = (clients.values().min().unwrap(), clients.values().max().unwrap());
    assert!(clients.len() == 3 && *most <= 3 * least + 1, "{clients:?}");
    // Read, two questions whose client it is, written: no more for any.
    let spent = u64::try_from(4 * 3 * CLIENTS).unwrap();
    assert_spent(&clocked.portal, "one client, three leads at once, three routers: 120 leads", spent).await;
    clocked.stop().await;
}

/// Until the routers know of it, by the test's clock too.
async fn pause_him(clocked: &Clocked, time: &str) {
    assert!(clocked.ground.rota(&["people", "pause", "p13", "--for", time]).unwrap().status.success());
    clocked.advance(SignedDuration::from_secs(10));
    clocked.wait_until_followed().await;
}

/// The members of the queue in which leads wait.
async fn absent_or_back(clocked: &Clocked, absent: bool) {
    for person in ["p11", "p12"] {
        let away = ["people", "absent", person, "--from", "2020-01-01", "--to", "2100-01-01"];
        let done = if absent {
            clocked.ground.rota(&away)
        } else {
            clocked.ground.rota(&["people", "resume", person])
        };
        assert!(done.unwrap().status.success());
    }
    clocked.wait_until_followed().await;
}

#[tokio::test]
async fn while_he_is_away_the_queue_his_substitute_or_time_decides() {
    let clocked = start(&office()).await;
    let contact = json!({ "assignedById": 13, "PHONE": ["+7 916 123-45-67"] });
    clocked.portal.add_contact(&contact).await.unwrap();
    pause_him(&clocked, "1h").await;
    let lead = |source: &str| json!({ "PHONE": ["+7 916 123-45-67"], "SOURCE_ID": source });
    let (id, first, _) = give(&clocked, lead("WEB")).await;
    let reason = clocked.decision(id, 1).await.reason;
    assert!(first == "11" && reason.starts_with("default → client of p13 (paused until "), "{reason}");
    let (id, second, _) = give(&clocked, lead("STAND")).await;
    assert_eq!(second, "12");
    assert!(clocked.decision(id, 1).await.reason.contains("→ substitute p12 → p12"));
    let waits = clocked.add_leads(json!({ "leads": [lead("WAITS")] })).await[0];
    clocked.wait_for_held(1).await;
    let before = clocked.spent().await;
    clocked.advance(SignedDuration::from_mins(50));
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    clocked.wait_for_held(1).await;
    assert_eq!(clocked.spent().await, before, "the others could take it, but it waits for him");
    // He is no member of the queue, and its members are away when he is back.
    absent_or_back(&clocked, true).await;
    clocked.advance(SignedDuration::from_mins(11));
    clocked.wait_for_notices(3).await;
    assert_eq!(owner(&clocked, waits).await, "13");
    absent_or_back(&clocked, false).await;
    // Away for longer than a lead waits.
    pause_him(&clocked, "9h").await;
    let (id, third, _) = give(&clocked, lead("WAITS")).await;
    assert_ne!(third, "13", "{}", clocked.decision(id, 1).await.reason);
    assert_spent(&clocked.portal, "client of who is away: 4 leads", 28).await;
    clocked.stop().await;
}

#[tokio::test]
async fn the_clients_of_who_is_dismissed_are_his_successors() {
    let mut plan = office();
    plan.config.push_str("\nroster: { every: 1s }");
    let clocked = start(&plan).await;
    let contact = json!({ "assignedById": 13, "PHONE": ["+7 916 123-45-67"] });
    clocked.portal.add_contact(&contact).await.unwrap();
    let other = json!({ "assignedById": 14, "PHONE": ["+7 916 123-45-68"] });
    clocked.portal.add_contact(&other).await.unwrap();
    clocked.portal.change_user(13, json!({ "ACTIVE": false })).await.unwrap();
    let told = "FROM roster_readings WHERE source = 'people' AND (facts ->> '13')::boolean = false";
    clocked.wait_for("the portal has told it", async || Ok(clocked.count(told).await? == 1)).await;
    clocked.wait_until_followed().await;
    for expected in ["11", "11"] {
        let (id, owner, _) = give(&clocked, json!({ "PHONE": ["+7 916 123-45-67"] })).await;
        assert_eq!(owner, expected);
        let reason = clocked.decision(id, 1).await.reason;
        assert!(
            reason.contains("client of p13 (not active in the portal) → successor p11 → p11"),
            "{reason}"
        );
    }
    // Who left the routing altogether has no successor there.
    let (id, owner, _) = give(&clocked, json!({ "PHONE": ["+7 916 123-45-68"] })).await;
    assert_eq!(owner, "12", "{}", clocked.decision(id, 1).await.reason);
    assert_spent(&clocked.portal, "client of who is dismissed: 3 leads", 18).await;
    clocked.stop().await;
}

#[tokio::test]
async fn a_portal_that_does_not_tell_whose_client_it_is_stops_nothing() {
    let clocked = start(&office()).await;
    let contact = json!({ "assignedById": 13, "PHONE": ["+7 916 123-45-67"] });
    clocked.portal.add_contact(&contact).await.unwrap();
    let kind = json!({ "error": { "status": 400, "code": "", "description": "Access denied." } });
    let refused = json!({ "method": "crm.duplicate.findbycomm", "kind": kind });
    clocked.portal.add_fault(&refused).await.unwrap();
    let (id, owner, _) = give(&clocked, json!({ "PHONE": ["+7 916 123-45-67"] })).await;
    assert_eq!(owner, "11");
    assert_eq!(clocked.decision(id, 1).await.explanation["not_known"], json!(["clients"]));
    assert_eq!(clocked.metric_of("rota_client_searches_total", "refused").await, 1.0);
    // A moment's failure is waited for.
    clocked.portal.clear_faults().await.unwrap();
    let away =
        json!({ "method": "batch", "kind": { "answer": { "status": 502, "body": "away" } }, "times": 1 });
    clocked.portal.add_fault(&away).await.unwrap();
    let (_, owner, _) = give(&clocked, json!({ "PHONE": ["+7 916 123-45-67"] })).await;
    assert_eq!(owner, "13");
    assert_eq!(clocked.count("FROM dead_letters").await.unwrap(), 0);
    clocked.stop().await;
}
