//! The texts of warnings, and that their harmless neighbours are quiet.

use distribution::{Routing, Severity};

/// Checks that the file has exactly these warnings, and no error.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let checked = Routing::check(text);
    let found: Vec<String> = checked.problems.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
    assert!(checked.problems.iter().all(|problem| problem.severity == Severity::Warning));
    assert!(checked.routing.is_some());
}

/// The same for rules between Anna, who is the first of these names, and others; they begin on line 4.
#[track_caller]
fn check_rules(rules: &str, expected: &[&str]) {
    check(
        &format!(
            "version: 1\npeople: {{ anna: {{ user: 1 }}, boris: {{ user: 2 }} }}\nrules:\n{rules}default: {{ queue: all }}\nqueues: {{ all: {{ members: [anna, boris] }} }}\n"
        ),
        expected,
    );
}

#[test]
fn a_rule_that_an_earlier_one_leaves_nothing() {
    let narrower_first = "put the narrower rule first";
    let covered = |first: &str, second: &str| {
        let rules = format!(
            "- {{ name: One, when: {{ {first} }}, assign: anna }}\n- {{ name: Two, when: {{ {second} }}, assign: boris }}\n"
        );
        check_rules(
            &rules,
            &[&format!("5:3: `Two` is never reached: `One` above it takes all its leads; {narrower_first}")],
        );
        // The other way round it is a narrow rule above a wide one, unless they are equal.
        if first != second {
            let rules = format!(
                "- {{ name: One, when: {{ {second} }}, assign: anna }}\n- {{ name: Two, when: {{ {first} }}, assign: boris }}\n"
            );
            check_rules(&rules, &[]);
        }
    };
    covered("source: CALL", "source: CALL");
    covered("source: [CALL, WEB]", "source: web");
    covered("source: CALL", "source: CALL, city: Tver");
    covered("amount: { over: 1000 }", "amount: { over: 5000 }");
    covered("amount: { at_least: 1000 }", "amount: { between: [1000, 2000] }");
    covered("amount: { under: 1000 }", "amount: { all: [{ over: 10 }, { at_most: 999 }] }");
    covered("amount: { any: [{ under: 10 }, { over: 1000 }] }", "amount: { over: 1000 }");
    covered("amount: { over: 1000 }", "amount: [5000, 6000]");
    covered("title: { contains: vip }", "title: { starts_with: a vip }");
    covered("city: { empty: false }", "city: Tver");
    covered("any: [{ source: CALL }, { city: Tver }]", "city: Tver");
    covered("source: CALL", "all: [{ source: CALL }, { city: Tver }]");
    check_rules(
        "- { name: One, when: {}, assign: anna }\n- { name: Two, when: { source: CALL }, assign: boris }\n",
        &[&format!("5:3: `Two` is never reached: `One` above it takes every lead; {narrower_first}")],
    );
    check_rules(
        "- { name: One, by: city, cases: { Tver: { assign: anna } }, else: { assign: anna } }\n- { name: Two, when: {}, assign: boris }\n",
        &[&format!("5:3: `Two` is never reached: `One` above it takes every lead; {narrower_first}")],
    );
    // A tree without `else` lets leads pass.
    check_rules(
        "- { name: One, by: city, cases: { Tver: { assign: anna } } }\n- { name: Two, when: {}, assign: boris }\n",
        &[],
    );
    check_rules(
        "- { name: One, when: { amount: { over: 1000 } }, assign: anna }\n- { name: Two, when: { amount: { at_least: 1000 } }, assign: boris }\n",
        &[],
    );
    check_rules(
        "- { name: One, when: { not: { source: CALL } }, assign: anna }\n- { name: Two, when: { source: CALL }, assign: boris }\n",
        &[],
    );
}

#[test]
fn rules_that_share_values_and_not_their_target() {
    check_rules(
        "- { name: One, when: { source: [CALL, WEB, 7] }, assign: anna }\n- { name: Two, when: { source: [web, EMAIL, 7] }, assign: boris }\n",
        &[
            "5:3: `Two` and `One` above it disagree about `web`, 7: these go by `One`; leave out of one rule what belongs to the other",
        ],
    );
    check_rules(
        "- { name: One, when: { amount: { between: [0, 1000] } }, assign: anna }\n- { name: Two, when: { amount: { over: 500 } }, assign: boris }\n",
        &[
            "5:3: `Two` and `One` above it disagree about some numbers: these go by `One`; leave out of one rule what belongs to the other",
        ],
    );
    for quiet in [
        "- { name: One, when: { source: [CALL, WEB] }, assign: anna }\n- { name: Two, when: { source: [WEB, EMAIL] }, assign: anna }\n",
        "- { name: One, when: { source: [CALL, WEB] }, assign: anna }\n- { name: Two, when: { status: [WEB, EMAIL] }, assign: boris }\n",
        "- { name: One, when: { amount: { under: 1000 } }, assign: anna }\n- { name: Two, when: { amount: { at_least: 1000 } }, assign: boris }\n",
    ] {
        check_rules(quiet, &[]);
    }
}

#[test]
fn people_and_queues_that_get_nothing() {
    check(
        "version: 1
people: { anna: { user: 1 }, boris: { user: 2 }, clara: { user: 3 }, dina: { user: 4 } }
queues:
  main:    { members: [anna], if_nobody: [{ queue: reserve }] }
  reserve: { members: [anna], on_duty: [clara] }
  old:     { members: [anna] }
rules: [{ name: R, by: city, cases: { Tver: { assign: dina } } }]
default: { queue: main }
",
        &[
            "2:30: `boris` is in no queue and named by no rule, so he gets no lead; put him into a queue, or leave him out",
            "6:3: no rule and no other queue sends a lead to `old`; use it, or leave it out",
        ],
    );
}

#[test]
fn hours_in_which_nobody_is_at_work() {
    let file = |queue: &str, rules: &str| {
        format!(
            "version: 1
time_zone: Europe/Moscow
schedules:
  office: {{ days: mon-fri, hours: [09:00-13:00, 14:00-18:00] }}
  nights: {{ days: mon-sun, hours: 18:00-09:00 }}
  days:   {{ days: mon-sun, hours: 09:00-18:00 }}
people: {{ anna: {{ user: 1, schedule: office }}, boris: {{ user: 2, schedule: nights }}, clara: {{ user: 3, schedule: days }}, dina: {{ user: 4 }} }}
queues: {{ main: {{ {queue} }}, rest: {{ members: [anna, boris, clara, dina] }} }}
rules: [{{ name: Rest, when: {{ city: Tver }}, queue: rest }}{rules}]
default: {{ queue: main }}
"
        )
    };
    check(&file("members: [anna]", ""), &[]);
    check(&file("members: [anna], on_duty: [boris]", ""), &[]);
    check(&file("members: [boris, clara]", ""), &[]);
    check(&file("members: [anna, dina]", ""), &[]);
    let nightly = ", { name: Nightly, when: { received: { within: nights } }, queue: main }";
    check(
        &file("members: [anna], if_nobody: [hold]", nightly),
        &[
            "9:60: nobody of queue `main` is at work when leads of `Nightly` come, so all of them wait; name who is on duty, or another queue",
        ],
    );
    check(&file("members: [anna], on_duty: [boris]", nightly), &[]);
}

#[test]
fn schedules_without_a_time_zone() {
    check(
        "version: 1\nschedules: { day: { days: mon-sun, hours: 00:00-24:00 } }\npeople: { anna: { user: 1, schedule: day } }\ndefault: { assign: anna }\n",
        &[
            "1:1: `time_zone` is missing, so that schedules are read in UTC; write where the office is: `time_zone: Europe/Moscow`",
        ],
    );
}

#[test]
fn what_is_never_asked_for() {
    check(
        "version: 1
people: { anna: { user: 1, skills: [moscow] }, boris: { user: 2 } }
queues:
  main: { members: [anna], on_duty: [boris], if_nobody: [hold, { queue: other }] }
  other: { members: [boris] }
rules: [{ name: R, when: { city: Tver }, queue: main, skills: [moskow, other] }]
default: { queue: main }
",
        &[
            "4:37: `on_duty` is never asked, because `if_nobody` does not name it; write `if_nobody: [on_duty, hold]`",
            "4:64: this is never reached: `hold` before it ends the list; put `hold` last",
            "6:64: nobody has the skill `moskow`, so nobody can take these leads; did you mean `moscow`?",
        ],
    );
}

#[test]
fn a_large_file_is_checked_all_the_same() {
    let people: Vec<String> = (1..=500).map(|id| format!("p{id}: {{ user: {id} }}")).collect();
    let members: Vec<String> = (1..=500).map(|id| format!("p{id}")).collect();
    let rules: Vec<String> = (0..1000)
        .map(|id| format!("- {{ name: r{id}, when: {{ source: s{id}, city: c{id} }}, assign: p1 }}\n"))
        .collect();
    let text = format!(
        "version: 1\npeople: {{ {} }}\nqueues: {{ main: {{ members: [{}] }} }}\nrules:\n{}default: {{ queue: main }}\n",
        people.join(", "),
        members.join(", "),
        rules.concat()
    );
    check(&text, &[]);
}

#[test]
fn substitutes_and_successors_that_are_never_asked() {
    let file = |people: &str, sticky: &str| {
        format!(
            "version: 1\npeople:\n{people}queues: {{ all: {{ members: [anna, boris]{sticky} }} }}\ndefault: {{ queue: all }}\n"
        )
    };
    let both = "  anna: { user: 1, substitute: boris, successor: boris }\n  boris: { user: 2 }\n";
    let none = "  anna: { user: 1 }\n  boris: { user: 2 }\n";
    check(
        &file(both, ""),
        &[
            "3:3: the substitute of `anna` is never asked; a queue asks him by `sticky: { if_absent: substitute }`",
            "3:3: the successor of `anna` is never asked; a queue asks him by `sticky`",
        ],
    );
    check(
        &file(both, ", sticky: { by: phone }"),
        &[
            "3:3: the substitute of `anna` is never asked; a queue asks him by `sticky: { if_absent: substitute }`",
        ],
    );
    check(
        &file(none, ", sticky: { by: phone, if_absent: substitute }"),
        &[
            "5:11: `if_absent: substitute` of queue `all` changes nothing: nobody has a substitute; name them in `people`: `substitute: PERSON`",
        ],
    );
    check(&file(both, ", sticky: { by: phone, if_absent: substitute }"), &[]);
    // Who is in no queue may have clients.
    check(&file(&format!("{none}  head: {{ user: 3 }}\n"), ", sticky: { by: phone }"), &[]);
}
