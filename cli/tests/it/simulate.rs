//! `rota simulate`

use serde_json::{Value, json};

use crate::Desk;

/// So many leads, one every ten minutes from Monday midnight on.
fn leads(count: u32) -> String {
    let line = |number: u32| {
        let (day, hour, minute) = (23 + number / 144, number / 6 % 24, number % 6 * 10);
        let at = format!("2026-11-{day}T{hour:02}:{minute:02}:00+03:00");
        let source = if number.is_multiple_of(4) { "POOL" } else { "WEB" };
        json!({ "ID": (number + 1).to_string(), "SOURCE_ID": source, "DATE_CREATE": at }).to_string() + "\n"
    };
    (0..count).map(line).collect()
}

fn person<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["people"].as_array().unwrap().iter().find(|person| person["person"] == name).unwrap()
}

#[test]
fn a_day_goes_by_schedules_limits_and_credits() {
    let desk = Desk::new().write("leads.jsonl", leads(144));
    let all = desk.json(&["simulate", "routing.yaml", "--leads", "leads.jsonl", "--json"], 0);
    let report = &all["files"][0];
    assert_eq!(
        (&report["leads"], &report["assigned"], &report["still_held"]),
        (&json!(144), &json!(144), &json!(0))
    );
    // At night every fourth waits for the morning, the others go to the person on duty.
    assert_eq!(report["held"], json!(36 - 12), "{report}");
    assert!(report["longest_wait_seconds"].as_i64().unwrap() >= 14 * 3600, "{report}");
    assert!(person(report, "duty")["leads"].as_i64().unwrap() > 60, "{report}");
    let (ivanov, petrov) = (person(report, "ivanov"), person(report, "petrov"));
    assert!(
        ivanov["leads"].as_i64().unwrap() > petrov["leads"].as_i64().unwrap(),
        "he may have two in an hour: {report}"
    );
    let sum: i64 =
        report["people"].as_array().unwrap().iter().map(|person| person["leads"].as_i64().unwrap()).sum();
    assert_eq!(sum, 144);
}

#[test]
fn two_files_side_by_side_and_what_would_go_elsewhere() {
    let desk = Desk::new().write("leads.jsonl", leads(30));
    let other =
        crate::ROUTING.replace("on_duty: [duty]", "on_duty: [petrov]").replace("duty:   {", "second: {");
    let other = other.replace("petrov: { user: 12, schedule: office", "petrov: { user: 12, schedule: always");
    let desk = desk.write("other.yaml", other);
    let arguments = ["simulate", "routing.yaml", "--leads", "leads.jsonl", "--against", "other.yaml"];
    let all = desk.json(&[arguments.as_slice(), &["--json"]].concat(), 0);
    assert_eq!(all["files"].as_array().unwrap().len(), 2);
    assert!(all["moved"].as_u64().unwrap() > 10, "{all}");
    assert_eq!(all["first_moved"].as_array().unwrap().len(), 10);
    assert_eq!(all["first_moved"][0]["from"], "duty");
    let text = desk.rota(&arguments);
    assert_eq!(text.code, 0, "{}", text.err);
    for part in [
        "A: routing.yaml\nB: other.yaml\n",
        "leads A",
        "off his share B",
        "would go elsewhere",
        "still waiting",
    ] {
        assert!(text.out.contains(part), "{part}: {}", text.out);
    }
}

#[test]
fn a_line_that_is_no_lead_is_named_and_left_out() {
    let desk = Desk::new().write("leads.jsonl", format!("{}oops\n\n{{}}\n", leads(2)));
    let ended = desk.rota(&["simulate", "routing.yaml", "--leads", "leads.jsonl"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.err.contains("leads.jsonl:3: this is no JSON")
            && ended.err.contains("leads.jsonl:5: the lead has no `ID`"),
        "{}",
        ended.err
    );
    let desk = desk.write("leads.jsonl", "");
    desk.refuses(
        &["simulate", "routing.yaml", "--leads", "leads.jsonl"],
        65,
        "leads.jsonl: there is no lead in it",
    );
}

#[test]
fn a_limit_of_the_roster_ends_at_midnight() {
    let routing = "version: 1\npeople: { a: { user: 1, limits: { per_day: 3 } } }\nqueues: { main: { members: [a] } }\ndefault: { queue: main }\n";
    let desk = Desk::new()
        .write("leads.jsonl", leads(6))
        .write("limited.yaml", routing)
        .write("roster.json", r#"{"people": {"a": {"day": 2}}}"#);
    let arguments =
        ["simulate", "limited.yaml", "--leads", "leads.jsonl", "--roster", "roster.json", "--json"];
    let report = &desk.json(&arguments, 0)["files"][0];
    // In UTC it is 21 o'clock: one that day, three on each of the next.
    assert_eq!((&report["assigned"], &report["held"]), (&json!(6), &json!(5)), "{report}");
    assert_eq!(report["longest_wait_seconds"], json!((27 * 60 - 40) * 60), "{report}");
}
