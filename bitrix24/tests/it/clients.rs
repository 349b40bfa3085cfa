//! Whose client sent a lead: what is asked, and what is made of the answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitrix24::clients::Sought;
use bitrix24::{ClientFinder, PortalError};
use common::failure::{Failure, FailureClass};
use common::ids::UserId;
use distribution::{Tie, TieBy, TieOf};
use serde_json::{Value, json};

use crate::fake::{Bench, FakePortal, by_command, lead, reply};

fn sought(id: u64) -> Sought {
    Sought {
        lead: lead(id),
        contact: None,
        company: None,
        phones: Vec::new(),
        emails: Vec::new(),
        country_code: Some("7".to_owned()),
        since: "2026-08-25T09:00:00Z".parse().ok(),
        settled_by: BTreeSet::new(),
    }
}

fn by_phone(id: u64) -> Sought {
    Sought { phones: vec!["8 (916) 123-45-67".to_owned()], ..sought(id) }
}

fn tie(owner: u64, by: TieBy, of: TieOf, at: &str) -> Tie {
    Tie { owner: UserId::new(owner).unwrap(), by, of, at: format!("{at}T10:00:00+03:00").parse().unwrap() }
}

async fn find(fake: &Arc<FakePortal>, sought: Sought) -> Result<Vec<Tie>, PortalError> {
    ClientFinder::new(Bench::new(fake.clone()).portal).find(sought).await
}

fn item(id: u64, owner: u64, changed: &str) -> Value {
    json!({ "id": id, "assignedById": owner, "updatedTime": format!("{changed}T10:00:00+03:00"),
            "stageSemanticId": "P" })
}

fn row(id: u64, owner: u64, semantics: &str, changed: &str, contact: u64) -> Value {
    json!({ "ID": id.to_string(), "ASSIGNED_BY_ID": owner.to_string(), "STATUS_SEMANTIC_ID": semantics,
            "DATE_MODIFY": format!("{changed}T10:00:00+03:00"), "CONTACT_ID": contact.to_string() })
}

#[tokio::test]
async fn a_bound_contact_costs_one_request_and_tells_of_its_deals_and_leads() {
    let fake = by_command(|method, query| {
        Ok(match (method, query) {
            ("crm.item.list", "entityTypeId=3&filter[@id][0]=84&select[0]=id&select[1]=assignedById&select[2]=updatedTime&start=-1") => {
                json!({ "items": [item(84, 11, "2026-01-01")] })
            }
            ("crm.item.list", deals) if deals.starts_with("entityTypeId=2&filter[>=updatedTime]=2026-08-25T09:00:00Z&filter[contactIds][0]=84&order[id]=DESC&") => {
                json!({ "items": [item(7, 12, "2026-11-02"),
                    { "id": 6, "assignedById": 13, "updatedTime": "2026-11-01T10:00:00+03:00", "stageSemanticId": "S" }] })
            }
            ("crm.lead.list", leads) if leads.starts_with("filter[>=DATE_MODIFY]=2026-08-25T09:00:00Z&filter[@CONTACT_ID][0]=84&") => {
                // The lead itself, another, one that is closed, and one that the condition should have left out.
                json!([row(42, 1, "P", "2026-11-20", 84), row(41, 14, "P", "2026-10-01", 84),
                       row(40, 15, "F", "2026-11-19", 84), row(39, 16, "P", "2026-11-18", 85)])
            }
            other => panic!("{other:?}"),
        })
    });
    let ties = find(&fake, Sought { contact: Some(84), ..sought(42) }).await.unwrap();
    assert_eq!(fake.methods(), ["batch"]);
    let by = TieBy::Contact;
    // The contact was last touched when the closed lead was.
    let expected = [
        tie(11, by, TieOf::Contact, "2026-11-19"),
        tie(12, by, TieOf::Deal, "2026-11-02"),
        tie(14, by, TieOf::Lead(lead(41)), "2026-10-01"),
    ];
    assert_eq!(ties, expected);
}

#[tokio::test]
async fn a_new_client_costs_one_search_in_both_spellings() {
    let fake = by_command(|method, query| {
        let expected = if query.starts_with("type=PHONE") {
            "type=PHONE&values[0]=79161234567&values[1]=9161234567"
        } else {
            "type=EMAIL&values[0]=olga@example.com"
        };
        assert_eq!((method, query), ("crm.duplicate.findbycomm", expected));
        // Only the lead itself has them.
        Ok(if query.starts_with("type=PHONE") { json!({ "LEAD": [42] }) } else { json!([]) })
    });
    let both = Sought { emails: vec![" Olga@Example.com ".to_owned(), String::new()], ..by_phone(42) };
    assert_eq!(find(&fake, both).await.unwrap(), []);
    assert_eq!(fake.methods(), ["batch"]);
    assert_eq!(find(&fake, sought(42)).await.unwrap(), []);
    let short = Sought { phones: vec!["101".to_owned(), "call me".to_owned()], ..sought(42) };
    assert_eq!(find(&fake, short).await.unwrap(), []);
    assert_eq!(fake.methods(), ["batch"], "nothing is asked where there is nothing to know him by");
}

#[tokio::test]
async fn twenty_hits_may_hide_others_so_each_kind_is_asked_for() {
    let fake = by_command(|method, query| {
        let kind = query.split('&').find_map(|pair| pair.strip_prefix("entity_type="));
        Ok(match (method, kind) {
            ("crm.duplicate.findbycomm", None | Some("LEAD")) => {
                json!({ "LEAD": (1..=20).collect::<Vec<_>>() })
            }
            ("crm.duplicate.findbycomm", Some("CONTACT")) => json!({ "CONTACT": [84] }),
            ("crm.item.list", _) if query.starts_with("entityTypeId=3") => {
                json!({ "items": [item(84, 11, "2026-11-01")] })
            }
            ("crm.item.list", _) => json!({ "items": [] }),
            ("crm.lead.list", _) if query.starts_with("filter[@ID]") => {
                json!([row(1, 12, "F", "2026-11-01", 0), row(2, 13, "P", "2026-11-02", 0)])
            }
            ("crm.duplicate.findbycomm", Some("COMPANY")) | ("crm.lead.list", _) => json!([]),
            other => panic!("{other:?}"),
        })
    });
    let ties = find(&fake, by_phone(42)).await.unwrap();
    let by = TieBy::Phone;
    let mut found: Vec<(u64, TieOf)> = ties.iter().map(|tie| (tie.owner.get(), tie.of)).collect();
    found.sort_unstable();
    assert_eq!(found, [(11, TieOf::Contact), (13, TieOf::Lead(lead(2)))]);
    assert!(ties.iter().all(|tie| tie.by == by));
    assert_eq!(fake.methods().len(), 3, "search, search by kinds, owners");
}

#[tokio::test]
async fn many_leads_share_requests_and_a_failure_meets_only_those_it_is_for() {
    let fake = by_command(|method, query| {
        Ok(match method {
            "crm.duplicate.findbycomm" if query.contains("79160000007") => {
                return Err(json!({ "error": "", "error_description": "Access denied." }));
            }
            "crm.duplicate.findbycomm" => json!([]),
            other => panic!("{other}"),
        })
    });
    let bench = Bench::new(fake.clone());
    let all: Vec<Sought> = (0..25)
        .map(|number| Sought {
            phones: vec![format!("+7 916 000-00-{number:02}")],
            emails: vec![format!("{number}@example.com")],
            ..sought(number + 1)
        })
        .collect();
    let permit = bench.portal.permit(&[]).await.unwrap();
    let outcomes = bench.portal.ties_with(permit, &all).await.unwrap();
    assert_eq!(fake.methods(), ["batch"]);
    assert_eq!(fake.params(0)["cmd"].as_object().unwrap().len(), 50);
    for (number, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Ok(ties) => assert!(ties.is_empty() && number != 7),
            Err(error) => assert_eq!((number, error.class()), (7, FailureClass::Permanent)),
        }
    }
}

#[tokio::test]
async fn a_search_that_spoils_the_answer_for_all_fails_alone() {
    let others = by_command(|_, _| Ok(json!([])));
    let fake = FakePortal::new(move |method, params| {
        if params["cmd"].to_string().contains("79160000007") {
            return reply(200, r#"{"error":"WRONG_ENCODING","error_description":"Wrong encoding"}"#);
        }
        others.answer(method, params)
    });
    let bench = Bench::new(fake.clone());
    let all: Vec<Sought> = (0..25)
        .map(|id| Sought { phones: vec![format!("+7 916 000-00-{id:02}")], ..sought(100 + id) })
        .collect();
    let permit = bench.portal.permit(&[]).await.unwrap();
    let outcomes = bench.portal.ties_with(permit, &all).await.unwrap();
    let failed: Vec<usize> =
        outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_err()).map(|(index, _)| index).collect();
    assert_eq!(failed, [7]);
    assert!(fake.methods().len() <= 12, "{:?}", fake.methods().len());
}

#[tokio::test]
async fn of_many_clients_deals_are_asked_for_only_where_the_owner_does_not_settle_it() {
    let fake = by_command(|_, query| {
        let ids: Vec<u64> = query
            .split('&')
            .filter_map(|pair| pair.strip_prefix("filter[@id][")?.split_once("]=")?.1.parse().ok())
            .collect();
        if !ids.is_empty() {
            // The contacts of 11 settle it, but for one that was not touched for long; those of 12 do not.
            let items: Vec<Value> = ids
                .iter()
                .map(|id| {
                    item(
                        *id,
                        if *id < 100 { 11 } else { 12 },
                        if *id == 7 { "2026-01-01" } else { "2026-11-01" },
                    )
                })
                .collect();
            return Ok(json!({ "items": items }));
        }
        let of = |id: u64| query.contains(&format!("filter[contactIds][0]={id}&"));
        Ok(if of(7) { json!({ "items": [item(1, 13, "2026-11-02")] }) } else { json!([]) })
    });
    let bench = Bench::new(fake.clone());
    let settled_by: BTreeSet<UserId> = UserId::new(11).into_iter().collect();
    let contacts: Vec<u64> = (1..=40).chain([101, 102]).collect();
    let all: Vec<Sought> = contacts
        .iter()
        .map(|contact| Sought {
            contact: Some(*contact),
            settled_by: settled_by.clone(),
            ..sought(contact + 1000)
        })
        .collect();
    let permit = bench.portal.permit(&[]).await.unwrap();
    let outcomes = bench.portal.ties_with(permit, &all).await.unwrap();
    let commands = |request: usize| fake.params(request)["cmd"].as_object().unwrap().len();
    assert_eq!((fake.methods().len(), commands(0), commands(1)), (2, 1, 2 * 3));
    let ties: Vec<Vec<Tie>> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(ties[0], [tie(11, TieBy::Contact, TieOf::Contact, "2026-11-01")]);
    assert_eq!(
        ties[6],
        [
            tie(11, TieBy::Contact, TieOf::Contact, "2026-11-02"),
            tie(13, TieBy::Contact, TieOf::Deal, "2026-11-02"),
        ]
    );
    assert_eq!(ties[40], [tie(12, TieBy::Contact, TieOf::Contact, "2026-11-01")]);
}
