//! Who is at work, where the answer about one person spoils that about all.

use bitrix24::people::Question;
use common::ids::UserId;
use serde_json::{Map, Value, json};

use crate::fake::{Bench, FakePortal, reply, result};

/// A portal of which every answer with the name of employee 13 cannot be encoded.
fn answer(command: &str) -> Value {
    let ids = command.split('&').filter_map(|pair| pair.split_once("]=")?.1.parse::<u64>().ok());
    match command.split_once('?').unwrap().0 {
        "user.get" => ids.map(|id| json!({ "ID": id.to_string(), "ACTIVE": true })).collect(),
        "im.user.list.get" => ids.map(|id| json!({ "id": id, "absent": false })).collect(),
        "calendar.accessibility.get" => json!([]),
        _ => json!([{ "ID": "1" }]),
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_encoded_leaves_the_others_known() {
    let fake = FakePortal::new(|_, params| {
        let commands = params["cmd"].as_object().unwrap();
        let mut answers = Map::new();
        for (key, command) in commands {
            let command = command.as_str().unwrap();
            if command.starts_with("im.user.list.get") && command.contains("]=13") {
                return reply(200, r#"{"error":"WRONG_ENCODING","error_description":"Wrong encoding"}"#);
            }
            answers.insert(key.clone(), answer(command));
        }
        let totals: Map<String, Value> = answers.keys().map(|key| (key.clone(), json!(4))).collect();
        result(json!({ "result": answers, "result_error": [], "result_total": totals }))
    });
    let users: Vec<UserId> = (11..=20).filter_map(UserId::new).collect();
    let absences = Some(("2026-11-23".parse().unwrap(), "2026-11-24".parse().unwrap()));
    let question = Question { open_leads: true, absences, ..Question::default() };
    let now = "2026-11-23T09:00:00Z".parse().unwrap();
    let people = Bench::new(fake.clone()).portal.people(&users, question, now).await.unwrap();
    assert_eq!(people.active.unwrap().len(), 10);
    assert_eq!(people.open_leads.unwrap().unwrap().len(), 10);
    let shown = people.messenger.unwrap().unwrap();
    let known: Vec<u64> = shown.keys().map(|user| user.get()).collect();
    assert_eq!(known, [11, 12, 14, 15, 16, 17, 18, 19, 20]);
    assert!(fake.methods().len() <= 20, "{} requests", fake.methods().len());
}
