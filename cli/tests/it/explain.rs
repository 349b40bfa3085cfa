//! `rota explain`

use serde_json::{Value, json};

use crate::Desk;

const DAY: &str = "2026-11-23T10:00:00+03:00";
const NIGHT: &str = "2026-11-23T22:15:00+03:00";

fn explain(desk: &Desk, at: &str, more: &[&str]) -> Value {
    let arguments = ["explain", "routing.yaml", "--lead", "lead.json", "--at", at, "--json"];
    desk.json(&[arguments.as_slice(), more].concat(), 0)
}

#[test]
fn the_object_has_every_member_and_what_is_absent_is_null() {
    let desk = Desk::new();
    let assigned = explain(&desk, DAY, &[]);
    let expected = json!({
        "outcome": "assign", "rule": null, "cases": [], "queue": "main", "person": "petrov", "user": 12,
        "reason": "default → queue main → petrov (credit +0.67 → -0.33)", "code": "largest_credit",
        "credit": "+0.67", "version": null, "until": null, "deal": null, "set": null,
    });
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(assigned.get(member), Some(value), "{member}: {assigned}");
    }
    assert_eq!(
        assigned["candidates"][0],
        json!({
            "person": "ivanov", "user": 11, "role": "member", "queue": "main", "eligible": true, "taken": false,
            "code": "smaller_credit", "reason": "smaller credit", "until": null, "credit": "+0.33",
        })
    );
    assert_eq!(
        assigned["explanation"]["outcome"],
        json!({ "kind": "assign", "person": "petrov", "user": 12 })
    );

    let desk = desk.write("lead.json", r#"{"result":{"ID":"42","UTM_CAMPAIGN":"vk_retarget"},"time":{}}"#);
    let dealt = explain(&desk, NIGHT, &[]);
    assert_eq!((&dealt["person"], &dealt["rule"]), (&json!("duty"), &json!("Retargeting")));
    assert_eq!(dealt["deal"], json!({ "category": 5, "stage": "C5:NEW" }));
    assert_eq!(dealt["set"], json!({ "STATUS_ID": "IN_PROCESS" }));

    let desk = desk.write("lead.json", r#"{"ID":"42","SOURCE_ID":"POOL"}"#);
    let held = explain(&desk, NIGHT, &[]);
    assert_eq!((&held["outcome"], &held["until"]), (&json!("hold"), &json!("2026-11-24T06:00:00Z")));
    assert_eq!(
        (&held["person"], &held["user"], &held["queue"]),
        (&Value::Null, &Value::Null, &json!("pool"))
    );

    let desk = desk.write("lead.json", r#"{"ID":"42","STATUS_SEMANTIC_ID":"S"}"#);
    let skipped = explain(&desk, DAY, &[]);
    assert_eq!(
        (&skipped["outcome"], &skipped["reason"]),
        (&json!("skip"), &json!("skipped: the lead is converted"))
    );
}

#[test]
fn the_roster_says_who_is_there_and_what_they_have() {
    let roster = |people: &str, credits: &str| {
        format!(r#"{{ "people": {{ {people} }}, "credits": {{ {credits} }} }}"#)
    };
    let person = |people: &str, credits: &str, source: &str| {
        let desk = Desk::new()
            .write("roster.json", roster(people, credits))
            .write("lead.json", format!(r#"{{"ID":"42","SOURCE_ID":"{source}"}}"#));
        explain(&desk, DAY, &["--roster", "roster.json"])
    };
    let taker = |people: &str, credits: &str, source: &str| person(people, credits, source)["person"].clone();
    assert_eq!(taker("", "", ""), "petrov");
    assert_eq!(taker("", r#""main": { "ivanov": 0.5, "petrov": -0.5 }"#, ""), "ivanov");
    assert_eq!(taker(r#""petrov": { "active": false }"#, "", ""), "ivanov");
    assert_eq!(taker(r#""petrov": { "hour": 2, "day": 9, "open": 40 }"#, "", ""), "ivanov");
    assert_eq!(taker(r#""petrov": { "absent": [["2026-11-23", "2026-12-03"]] }"#, "", ""), "ivanov");
    assert_eq!(taker(r#""petrov": { "paused_until": "2026-11-23T11:00" }"#, "", ""), "ivanov");
    assert_eq!(taker(r#""petrov": { "paused_until": null, "working_day": "CLOSED" }"#, "", "POOL"), "ivanov");
    // Of people whose zone is not the portal's affair it changes nothing.
    assert_eq!(taker(r#""petrov": { "time_zone": "Asia/Vladivostok" }"#, "", ""), "petrov");
    let left_out = person(r#""petrov": { "absent": [["2026-11-23", "2026-12-03"]] }"#, "", "");
    assert_eq!(left_out["candidates"][1]["reason"], "on leave until 3 Dec");
}

#[test]
fn whose_client_it_is_can_be_said() {
    let routing = "version: 1\npeople: { ivanov: { user: 11 }, petrov: { user: 12 } }\n\
                   queues: { main: { members: [ivanov, petrov], sticky: { by: [phone] } } }\ndefault: { queue: main }\n";
    let desk = Desk::new().write("routing.yaml", routing).write("lead.json", r#"{"ID":"42"}"#);
    let known = explain(&desk, DAY, &["--client-of", "petrov"]);
    assert_eq!((&known["person"], &known["code"]), (&json!("petrov"), &json!("same_client")));
    assert_eq!(known["client"], json!({ "person": "petrov", "user": 12, "by": "phone", "of": "contact" }));
    let unknown = explain(&desk, DAY, &[]);
    assert_eq!((&unknown["person"], &unknown["client"]), (&json!("ivanov"), &json!(null)));
    assert_eq!(unknown["explanation"]["not_known"], json!(["clients"]));
    let arguments = ["explain", "routing.yaml", "--lead", "lead.json", "--client-of", "petrof"];
    desk.refuses(&arguments, 64, "nobody is called `petrof` in the routing file; did you mean `petrov`?");
}

#[test]
fn the_text_is_for_people_in_their_language() {
    let desk = Desk::new().write("lead.json", r#"{"ID":"42","UTM_CAMPAIGN":"vk_retarget"}"#);
    let arguments = ["explain", "routing.yaml", "--lead", "lead.json", "--at", "2026-11-23T10:00"];
    let english = desk.rota(&arguments).out;
    assert!(
        english.starts_with("The lead goes to petrov.\nRule \"Retargeting\".\nQueue main:\n"),
        "{english}"
    );
    assert!(
        english.ends_with("A deal is created in funnel 5, C5:NEW.\nSet: STATUS_ID = \"IN_PROCESS\"\n"),
        "{english}"
    );
    let russian = desk.rota(&[arguments.as_slice(), &["--language", "ru"]].concat()).out;
    assert!(
        russian.starts_with("Лид получает petrov.\n") && russian.contains("Создаётся сделка в воронке 5"),
        "{russian}"
    );
}

#[test]
fn a_file_that_is_wrong_is_named() {
    let refuses = |name: &str, text: &str, says: &str| {
        let desk = Desk::new().write("roster.json", "{}").write(name, text);
        let arguments = ["explain", "routing.yaml", "--lead", "lead.json", "--roster", "roster.json"];
        desk.refuses(&arguments, 65, says);
    };
    refuses("routing.yaml", "version: 2\n", "routing.yaml:1:10: `version` must be 1");
    refuses("lead.json", "[]", "lead.json: a lead must be a JSON object");
    refuses("lead.json", "{", "lead.json: this is no JSON: EOF");
    refuses("lead.json", "{}", "lead.json: the lead has no `ID`");
    refuses("lead.json", r#"{"result": 1}"#, "lead.json: `result` must be the lead");
    refuses(
        "roster.json",
        r#"{"peple": {}}"#,
        "roster.json: unknown field `peple`, expected `people` or `credits`",
    );
    refuses(
        "roster.json",
        r#"{"people": {"ivanof": {}}}"#,
        "nobody is called `ivanof` in the routing file; did you mean `ivanov`?",
    );
    refuses(
        "roster.json",
        r#"{"credits": {"mian": {}}}"#,
        "no queue of the routing file has the ledger `mian`; did you mean `main`?",
    );
    refuses("roster.json", r#"{"people": {"ivanov": {"working_day": "open"}}}"#, "unknown variant `open`");
    refuses(
        "roster.json",
        r#"{"people": {"ivanov": {"paused_until": "soon"}}}"#,
        "ivanov: `soon` is no time",
    );
    refuses(
        "roster.json",
        r#"{"people": {"ivanov": {"absent": [["2026-12-03", "2026-11-23"]]}}}"#,
        "before it begins",
    );
    refuses(
        "roster.json",
        r#"{"people": {"ivanov": {"time_zone": "Mars"}}}"#,
        "ivanov: unknown time zone `Mars`",
    );
    refuses("roster.json", r#"{"credits": {"main": {"ivanov": 1e300}}}"#, "turns are too many");
}
