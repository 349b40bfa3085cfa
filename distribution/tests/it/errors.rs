//! The texts of everything that can be wrong with a routing file, as a person reads them.

use distribution::Routing;

/// Checks that the file has exactly these problems, one per line, without the file's name.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let errors = Routing::from_yaml(text, "routing.yaml").expect_err("the file is wrong").to_string();
    let found: Vec<&str> = errors.lines().map(|line| line.strip_prefix("routing.yaml:").unwrap()).collect();
    assert_eq!(found, expected, "\n{errors}");
}

/// The same for a file whose first rule has this `when`; its conditions stand on line 4, its values from column 10.
#[track_caller]
fn check_when(when: &str, expected: &[&str]) {
    let text = format!(
        "version: 1\nrules:\n- name: R\n  when: {when}\n  assign: anna\npeople: {{ anna: {{ user: 1 }} }}\ndefault: {{ assign: anna }}\n"
    );
    check(&text, expected);
}

#[test]
fn all_problems_at_once_in_the_order_of_the_file() {
    check(
        "version: 2
colour: red
fields: { product: uf_crm_product, city: 7, AREA: UF_CRM_AREA }
people:
  ivanov:  { user: 11, wieght: 2 }
  petrov:  { user: 11, weight: 0 }
  sidorov: { user: zero }
  anna:    { weight: -1 }
  anna:    { user: 14 }
queues:
  main:  { members: [ivanov, petrof, { person: ivanov, weight: 3 }] }
  empty: { members: [] }
  none:  { strategy: rotaton }
rules:
  - { name: One, when: { sourse: CALL }, assign: ivanof }
  - { name: One, when: {}, queue: mian, assign: petrov }
  - { name: Two, when: { amount: { ower: 5 } }, queue: emtpy }
  - { when: { source: CALL } }
defualt: { queue: main }
",
        &[
            "1:1: `default` is missing; it says who gets the leads that no rule takes: `default: { queue: NAME }`",
            "1:10: `version` must be 1, the version of this file's language",
            "2:1: unknown key `colour` in the routing file; known: `version`, `time_zone`, `country_code`, `fields`, `calendar`, `schedules`, `only_if_owner_in`, `made_by_hand`, `service_users`, `people`, `queues`, `rules`, `default`",
            "3:20: `uf_crm_product` is not the code of a field; codes are in capitals, such as ADDRESS_REGION or UF_CRM_PRODUCT",
            "3:42: `7` is not the code of a field; codes are in capitals, such as ADDRESS_REGION or UF_CRM_PRODUCT",
            "3:45: `AREA` is a field's own code and cannot be a short name; write short names in small letters",
            "5:24: unknown key `wieght` in a person; did you mean `weight`?",
            "6:20: `petrov` and `ivanov` are the same user 11",
            "6:32: `weight` must be a whole number from 1 to 10000",
            "7:20: `user` must be a whole number from 1; it is the number in the address of his page in the portal, such as `user: 11`",
            "8:12: `user` is missing in a person",
            "8:22: `weight` must be a whole number from 1 to 10000",
            "9:3: `anna` is in `people` twice, first on line 8",
            "11:30: unknown person `petrof`; did you mean `petrov`?",
            "11:38: `ivanov` is in queue `main` twice, first on line 11; give him a weight instead",
            "12:21: queue `empty` has no members",
            "13:10: `members` is missing in a queue",
            "13:22: unknown strategy `rotaton`; did you mean `rotation`?",
            "15:26: unknown field `sourse`; did you mean `source`?",
            "15:50: unknown person `ivanof`; did you mean `ivanov`?",
            "16:5: a rule has both `assign` and `queue`; write `assign: PERSON` or `queue: NAME`",
            "16:13: two rules are called `One`, the first on line 15",
            "17:36: unknown key `ower` in a condition; did you mean `over`?",
            "17:56: unknown queue `emtpy`; did you mean `empty`?",
            "18:5: `name` is missing in a rule",
            "18:5: a rule sends its leads nowhere; write `assign: PERSON` or `queue: NAME`",
            "19:1: unknown key `defualt` in the routing file; did you mean `default`?",
        ],
    );
}

#[test]
fn what_is_wrong_with_a_queue_and_its_people_is_named() {
    check(
        "version: 1
time_zone: Europe/Moskow
people:
  anna:  { user: 1, schedule: offise, skills: [a, a], limits: { open: 0, per_our: 3 } }
  boris: { user: 2, time_zone: Mars }
schedules: { office: { days: mon-fri, hours: 09:00-18:00 } }
queues:
  a: { members: [anna], if_nobody: [on_duty, b, hold] }
  b: { members: [boris], working_day: needed, absences: yes, on_duty: [] }
  c: { members: [boris], on_duty: [anna, anna], if_nobody: [onduty, { queue: d }] }
default: { queue: a, if_nobody: [hold] }
",
        &[
            "2:12: unknown time zone `Europe/Moskow`; did you mean `Europe/Moscow`?",
            "4:31: unknown schedule `offise`; did you mean `office`?",
            "4:51: `a` is in `skills` twice",
            "4:71: `open` must be a whole number from 1",
            "4:74: unknown key `per_our` in `limits`; did you mean `per_hour`?",
            "5:32: unknown time zone `Mars`; write its name in the IANA database, such as Europe/Moscow",
            "8:46: `b` is a queue; write `{ queue: b }`",
            "9:39: unknown word `needed` in `working_day`; known: `required`, `required_of_all`, `ignored`",
            "9:57: unknown word `yes` in `absences`; known: `respected`, `ignored`",
            "9:71: nobody is on duty for queue `b`",
            "10:42: `anna` is on duty twice, first on line 10; give him a weight instead",
            "10:61: unknown word `onduty` in `if_nobody`; did you mean `on_duty`?",
            "11:33: `if_nobody` beside `queue`: the queue has its own; write it into the queue",
        ],
    );
    check(
        "version: 1\npeople: { anna: { user: 1 } }\nqueues: { a: { members: [anna], if_nobody: [on_duty] } }\ndefault: { queue: a }\n",
        &["3:44: nobody is on duty for queue `a`; name them: `on_duty: [PERSON]`"],
    );
}

#[test]
fn what_is_wrong_with_the_leads_that_wait_is_named() {
    // What is wrong stands on line 6, after `hold:`, from column 11.
    let found = [
        "{ deadline: 2h }",
        "{ escalate_to: anna }",
        "{ deadline: 2h, escalate_to: ana }",
        "{ deadline: 2 hours, escalate_to: anna }",
        "{ deadline: 2, escalate_to: anna }",
        "{ deadline: 0m, escalate_to: anna }",
        "{ deadline: 367d, escalate_to: anna }",
        "{ release_per_minute: 0 }",
        "{ release_per_minute: many }",
        "{ first: newest }",
        "{ until: 9 }",
        "2h",
    ]
    .map(|hold| {
        let text = format!(
            "version: 1\npeople: {{ anna: {{ user: 1 }} }}\nqueues:\n  main:\n    members: [anna]\n    hold: {hold}\ndefault: {{ queue: main }}\n"
        );
        Routing::from_yaml(&text, "hold").expect_err(hold).to_string()
    });
    assert_eq!(
        found,
        [
            "hold:6:11: `deadline` without `escalate_to`; name who is told: `escalate_to: PERSON`",
            "hold:6:11: `escalate_to` without `deadline`; say after how long he is told: `deadline: 2h`",
            "hold:6:40: unknown person `ana`; did you mean `anna`?",
            "hold:6:23: `deadline`: `2 hours` is no duration; write a number and its unit: `90s`, `15m`, `4h` or `90d`",
            "hold:6:23: `deadline`: `2` is no duration; write a number and its unit: `90s`, `15m`, `4h` or `90d`",
            "hold:6:23: `deadline`: `0m` is no duration; write a number and its unit: `90s`, `15m`, `4h` or `90d`",
            "hold:6:23: `deadline`: `367d` is no duration; write a number and its unit: `90s`, `15m`, `4h` or `90d`",
            "hold:6:33: `release_per_minute` must be a whole number from 1",
            "hold:6:33: `release_per_minute` must be a whole number from 1",
            "hold:6:20: unknown word `newest` in `first`; known: `oldest`, `most_valuable`",
            "hold:6:13: unknown key `until` in `hold`; known: `deadline`, `escalate_to`, `release_per_minute`, `first`",
            "hold:6:11: `hold` must be a mapping; its keys: `deadline`, `escalate_to`, `release_per_minute`, `first`",
        ]
    );
}

#[test]
fn what_is_wrong_with_answers_is_named() {
    // What is wrong stands on line 6, after `answer:`, from column 13.
    let found = [
        "{ within: 15m }",
        "{ escalate_to: anna }",
        "{ within: 15m, escalate_to: ana }",
        "{ within: soon, escalate_to: anna }",
        "{ within: 15m, remind_at: 15m, escalate_to: anna }",
        "{ within: 15m, then: nobody, escalate_to: anna }",
        "{ within: 15m, then: { queue: mian }, escalate_to: anna }",
        "{ within: 15m, then: { person: ana }, escalate_to: anna }",
        "{ within: 15m, then: {}, escalate_to: anna }",
        "{ within: 15m, then: { queue: main, person: anna }, escalate_to: anna }",
        "{ within: 15m, rounds: 0, escalate_to: anna }",
        "{ within: 15m, missed_turn: free, escalate_to: anna }",
        "15m",
    ]
    .map(|answer| {
        let text = format!(
            "version: 1\npeople: {{ anna: {{ user: 1 }} }}\nqueues:\n  main:\n    members: [anna]\n    answer: {answer}\ndefault: {{ queue: main }}\n"
        );
        Routing::from_yaml(&text, "answer").expect_err(answer).to_string()
    });
    assert_eq!(
        found,
        [
            "answer:6:13: `escalate_to` is missing in `answer`",
            "answer:6:13: `within` is missing in `answer`",
            "answer:6:41: unknown person `ana`; did you mean `anna`?",
            "answer:6:23: `within`: `soon` is no duration; write a number and its unit: `90s`, `15m`, `4h` or `90d`",
            "answer:6:39: `remind_at` is not before `within`; remind earlier",
            "answer:6:34: unknown word `nobody` in `then`; write `next`, `{ queue: NAME }` or `{ person: NAME }`",
            "answer:6:43: unknown queue `mian`; did you mean `main`?",
            "answer:6:44: unknown person `ana`; did you mean `anna`?",
            "answer:6:34: `then` must say one of queue and person; write `next`, `{ queue: NAME }` or `{ person: NAME }`",
            "answer:6:34: `then` must say one of queue and person; write `next`, `{ queue: NAME }` or `{ person: NAME }`",
            "answer:6:36: `rounds` must be a whole number from 1",
            "answer:6:41: unknown word `free` in `missed_turn`; known: `pays`, `refunded`",
            "answer:6:13: `answer` must be a mapping; its keys: `within`, `remind_at`, `then`, `rounds`, `escalate_to`, `missed_turn`",
        ]
    );
}

#[test]
fn queues_that_hand_leads_round_in_a_circle_are_named_once() {
    check(
        "version: 1
people: { anna: { user: 1 } }
queues:
  a: { members: [anna], if_nobody: [{ queue: b }] }
  b: { members: [anna], if_nobody: [{ queue: c }, hold] }
  c: { members: [anna], if_nobody: [{ queue: a }] }
  d: { members: [anna], if_nobody: [{ queue: d }] }
  e: { members: [anna], if_nobody: [{ queue: a }] }
default: { queue: a }
",
        &[
            "4:3: `if_nobody` leads round in a circle: a → b → c → a; let one of them end in `hold`",
            "7:3: `if_nobody` leads round in a circle: d → d; let one of them end in `hold`",
        ],
    );
}

/// Each of these would take for ever, or all memory, if it were read carelessly.
#[test]
fn files_made_to_be_hard_to_read_are_read_or_refused() {
    let refused = |text: &str, why: &str| {
        let errors = Routing::from_yaml(text, "routing.yaml").expect_err("the file is wrong").to_string();
        assert!(errors.contains(why), "{}", errors.chars().take(300).collect::<String>());
    };
    refused(&"[".repeat(100_000), "this is not YAML");
    let bomb: String =
        (1..30).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1)).collect::<Vec<_>>().concat();
    refused(&format!("a0: &a0 [x]\n{bomb}"), "this is not YAML");
    refused(&"x".repeat(1 << 20), "the routing file must be a mapping");
    // Forty queues, each with all those behind it: no circle, and 2^40 ways through them.
    let queue = |n: usize| {
        let others: Vec<String> = (n + 1..40).map(|other| format!("{{ queue: q{other} }}")).collect();
        format!("q{n}: {{ members: [a], if_nobody: [{}] }}", others.join(", "))
    };
    let queues: Vec<String> = (0..40).map(queue).collect();
    let right = format!(
        "version: 1\npeople: {{ a: {{ user: 1 }} }}\nqueues: {{ {} }}\ndefault: {{ queue: q0 }}\n",
        queues.join(", ")
    );
    let routing = Routing::from_yaml(&right, "routing.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    // And nobody is there: each queue is asked once.
    let decision = distribution::decide(
        &crate::world::any_lead(),
        &crate::world::roster_without([1]),
        &routing,
        &distribution::Ledger::default(),
        crate::world::NOW,
    );
    assert_eq!(decision.explanation().candidates.len(), 40);
    let rules: String = (0..5_000)
        .map(|n| format!("- {{ name: r{n}, when: {{ source: s{n} }}, assign: a }}\n"))
        .collect::<Vec<_>>()
        .concat();
    let many =
        format!("version: 1\npeople: {{ a: {{ user: 1 }} }}\nrules:\n{rules}default: {{ assign: a }}\n");
    assert!(Routing::check(&many).problems.is_empty());
}

#[test]
fn what_is_wrong_with_orders_is_named() {
    let rule = |keys: &str| {
        format!(
            "version: 1\npeople: {{ anna: {{ user: 1 }} }}\nrules:\n- {{ name: R, when: {{}}, assign: anna, {keys} }}\ndefault: {{ assign: anna }}\n"
        )
    };
    check(
        &rule(
            "deal: { category: five }, set: { ID: 1, owner: 7, statuss: NEW, status: A, STATUS_ID: B, city: { a: b }, title: 1e5 }",
        ),
        &[
            "4:56: `category` must be a whole number from 0; it is the number of the funnel; 0 is the portal's first",
            "4:71: `ID` cannot be set: an id never changes",
            "4:78: `owner` cannot be set: the owner is set by `assign` or `queue`",
            "4:88: unknown field `statuss`; did you mean `status`?",
            "4:113: `STATUS_ID` names a field that is set already",
            "4:133: a field is set to a text, a number, true, false, null or a list of these",
            "4:150: 1e5 is not a plain number; write \"1e5\" for a text, or the number in plain digits",
        ],
    );
    check(
        &rule("deal: { category: 5, stage: NEW }"),
        &["4:66: `NEW` is no stage of funnel 5; its stages begin with `C5:`, such as `C5:NEW`"],
    );
    check(
        &rule("deal: { category: 0, stage: \"C5:NEW\" }"),
        &["4:66: `C5:NEW` is no stage of funnel 0; stages of funnel 0 have no prefix, such as `NEW`"],
    );
    check(&rule("deal: { stage: NEW }"), &["4:44: `category` is missing in `deal`"]);
    check(
        &rule("skills: [x], if_nobody: [on_duty]"),
        &[
            "4:46: `skills` beside `assign`: the person is named already; leave them out",
            "4:62: `on_duty` beside `assign`: only a queue has people on duty; name a queue: `if_nobody: [{ queue: NAME }]`",
        ],
    );
}

#[test]
fn what_is_wrong_with_received_is_named() {
    check_when(
        "{ received: office }",
        &["4:21: `received` must name a schedule; write `received: { within: SCHEDULE }`"],
    );
    check_when(
        "{ received: { whitin: office } }",
        &["4:23: unknown key `whitin` in `received`; did you mean `within`?"],
    );
    check_when("{ received: { within: office } }", &["4:31: unknown schedule `office`"]);
}

#[test]
fn a_missing_section_is_one_problem() {
    let rest = "queues: { main: { members: [a, b] } }\ndefault: { queue: main }\n";
    check(&format!("version: 1\n{rest}"), &["1:1: `people` is missing in the routing file"]);
    check(&format!("version: 1\npeople: {{}}\n{rest}"), &["2:9: nobody is named in `people`"]);
    check(&format!("version: 1\npeople: [a, b]\n{rest}"), &["2:9: `people` must be a mapping of names"]);
    check(
        "version: 1\npeople: { a: { user: 1 } }\nqueues: [main]\ndefault: { queue: main }\n",
        &["3:9: `queues` must be a mapping of names"],
    );
}

#[test]
fn what_is_made_by_hand_is_left_or_distributed() {
    let file = |keys: &str| {
        format!("version: 1\n{keys}\npeople: {{ anna: {{ user: 11 }} }}\ndefault: {{ assign: anna }}\n")
    };
    assert!(Routing::from_yaml(&file("made_by_hand: distribute\nservice_users: [1, 7]"), "f").is_ok());
    check(
        &file("made_by_hand: keep\nservice_users: [anna, 0]"),
        &[
            "2:15: unknown word `keep` in `made_by_hand`; known: `leave`, `distribute`",
            "3:17: a user must be a whole number from 1; these are the numbers in the addresses of people's pages in the portal",
            "3:23: a user must be a whole number from 1; these are the numbers in the addresses of people's pages in the portal",
        ],
    );
}

#[test]
fn owners_are_users_and_not_nobody() {
    let file = |owners: &str| {
        format!(
            "version: 1\nonly_if_owner_in: {owners}\npeople: {{ anna: {{ user: 1 }} }}\ndefault: {{ assign: anna }}\n"
        )
    };
    let nobody = "2:19: nobody is in `only_if_owner_in`, so that no lead with an owner would ever be given";
    check(&file("[]"), &[nobody]);
    let hint = "an owner must be a whole number from 1; these are the numbers in the addresses of people's pages in the portal";
    check(&file("[1, anna, 0]"), &[&format!("2:23: {hint}"), &format!("2:29: {hint}")]);
}

#[test]
fn what_is_not_a_mapping_or_list() {
    check(
        "",
        &[
            "1:1: the routing file must be a mapping; its keys: `version`, `time_zone`, `country_code`, `fields`, `calendar`, `schedules`, `only_if_owner_in`, `made_by_hand`, `service_users`, `people`, `queues`, `rules`, `default`",
        ],
    );
    check(
        "version: 1\npeople: { anna: 1 }\nqueues: { main: { members: anna }, other: { members: [[anna]] } }\nrules: { a: b }\ndefault: anna\n",
        &[
            "2:17: a person must be a mapping; its keys: `user`, `weight`, `schedule`, `time_zone`, `skills`, `limits`, `substitute`, `successor`",
            "3:28: `members` must be a list",
            "3:55: a member must be a text",
            "4:8: `rules` must be a list",
            "5:10: `default` must be a mapping; its keys: `assign`, `queue`, `if_nobody`, `skills`, `deal`, `set`",
        ],
    );
}

#[test]
fn what_is_not_yaml() {
    check("version: 1\nrules: [1,\n", &["2:8: this is not YAML: unclosed bracket '['"]);
    check(
        "version: 1\n version: 2\n",
        &["2:9: this is not YAML: mapping values are not allowed in this context"],
    );
    check("a: \"x\nb: 1\n", &["1:4: this is not YAML: unclosed quote"]);
    check("a: *nobody\n", &["1:4: this is not YAML: reference to unknown value"]);
    check(
        "---\na: 1\n---\nb: 1\n",
        &["4:1: this is not YAML: only single YAML document expected but multiple found"],
    );
}

#[test]
fn a_rule_says_for_whom() {
    check(
        "version: 1\npeople: { anna: { user: 1 } }\nrules:\n- { name: R, assign: anna }\n- { name: S, when: CALL, assign: anna }\n- { name: '', when: {}, assign: }\ndefault: { assign: anna }\n",
        &[
            "4:3: `when` is missing in a rule; write `when: {}` for a rule that takes every lead",
            "5:20: `when` must be a mapping of fields; write `when: { source: CALL }`, or `when: {}` for every lead",
            "6:11: `name` is empty",
            "6:31: `assign` is empty",
        ],
    );
}

#[test]
fn keys_that_are_not_in_the_language_are_named() {
    check(
        "version: 1\ntimezone: Europe/Moscow\npeople: { anna: { user: 1, shift: office } }\nrules:\n- { name: R, when: {}, sort: region }\ndefault: { assign: anna }\n",
        &[
            "2:1: unknown key `timezone` in the routing file; did you mean `time_zone`?",
            "3:28: unknown key `shift` in a person; known: `user`, `weight`, `schedule`, `time_zone`, `skills`, `limits`, `substitute`, `successor`",
            "5:3: a rule sends its leads nowhere; write `assign: PERSON` or `queue: NAME`",
            "5:24: unknown key `sort` in a rule; known: `name`, `when`, `by`, `cases`, `else`, `assign`, `queue`, `if_nobody`, `skills`, `deal`, `set`",
        ],
    );
    check_when(
        "{ source: { within: x } }",
        &[
            "4:21: unknown key `within` in a condition; known: `over`, `at_least`, `under`, `at_most`, `between`, `contains`, `starts_with`, `matches`, `empty`, `not`, `all`, `any`",
        ],
    );
}

#[test]
fn groups_and_expressions_that_say_nothing_are_named() {
    check_when(
        "{ all: [] }",
        &["4:16: this must be a list of conditions such as `[{ source: CALL }, { city: Tver }]`"],
    );
    check_when(
        "{ any: { city: Tver } }",
        &["4:16: this must be a list of conditions such as `[{ source: CALL }, { city: Tver }]`"],
    );
    check_when(
        "{ any: [{ sity: Tver }, CALL] }",
        &[
            "4:19: unknown field `sity`; did you mean `city`?",
            "4:33: `when` must be a mapping of fields; write `when: { source: CALL }`, or `when: {}` for every lead",
        ],
    );
    check_when(
        "{ amount: { any: [] } }",
        &["4:26: this must be a list of conditions such as `[{ over: 1000 }, { not: 5000 }]`"],
    );
    check_when("{ title: { matches: 5 } }", &["4:29: `matches` must be a regular expression in quotes"]);
    check_when("{ title: { matches: \"(a\" } }", &["4:29: this is no regular expression: unclosed group"]);
    check_when(
        "{ title: { matches: \"(a{1000}){1000}\" } }",
        &["4:29: this is no regular expression: Compiled regex exceeds size limit of 1048576 bytes."],
    );
}

#[test]
fn what_is_wrong_with_a_tree_is_named() {
    let rule = |rule: &str| {
        format!(
            "version: 1\npeople: {{ anna: {{ user: 1 }} }}\nrules:\n- {rule}\ndefault: {{ assign: anna }}\n"
        )
    };
    check(
        &rule(
            "{ name: R, by: sity, cases: { Tver: { assign: ana }, tver: { assign: anna } }, assign: anna }",
        ),
        &[
            "4:18: unknown field `sity`; did you mean `city`?",
            "4:49: unknown person `ana`; did you mean `anna`?",
            "4:56: `tver` is in `cases` twice, first on line 4",
            "4:90: a rule has both `by` and `assign`; put it into a case, or under `else`",
        ],
    );
    check(
        &rule("{ name: R, by: city, cases: [Tver], else: {} }"),
        &[
            "4:31: `cases` must be a mapping of values; such as `cases: { Moscow: { assign: ivanov } }`",
            "4:45: a case sends its leads nowhere; write `assign: PERSON` or `queue: NAME`",
        ],
    );
    check(
        &rule("{ name: R, when: {}, cases: {}, assign: anna }"),
        &["4:31: `cases` without `by` in a rule; write `by: FIELD` beside it"],
    );
    check(&rule("{ name: R, by: city, cases: {} }"), &["4:31: `cases` is empty"]);
}

#[test]
fn a_short_name_may_not_mean_something_else_in_a_rule() {
    check(
        "version: 1\nfields: { any: UF_CRM_ANY }\npeople: { anna: { user: 1 } }\ndefault: { assign: anna }\n",
        &["2:11: `any` means something else in a rule and cannot be a short name"],
    );
}

#[test]
fn numbers_that_yaml_would_change_are_refused() {
    let hint = |written: &str| format!("write \"{written}\" for a text, or the number in plain digits");
    check_when("{ PHONE: 0495 }", &[&format!("4:18: 0495 would lose its leading zero; {}", hint("0495"))]);
    check_when("{ PHONE: [1, 007] }", &[&format!("4:22: 007 would lose its leading zero; {}", hint("007"))]);
    for written in ["+7900", "1e5", "1_000", "0x1F", "9999999999999999999999999999999"] {
        let expected = format!("4:18: {written} is not a plain number; {}", hint(written));
        check_when(&format!("{{ PHONE: {written} }}"), &[&expected]);
    }
}

#[test]
fn conditions_that_say_nothing_are_refused() {
    let missing = "a value is missing; to ask for an empty field write `{ empty: true }`";
    check_when("{ city: }", &[&format!("4:15: {missing}")]);
    check_when("{ city: ' ' }", &[&format!("4:17: {missing}")]);
    check_when("{ city: [] }", &["4:17: this list of values is empty, so nothing can match"]);
    check_when("{ city: [[a]] }", &["4:18: each item of a list must be a text, a number, true or false"]);
    check_when("{ city: { empty: 1 } }", &["4:26: `empty` must be true or false"]);
    check_when("{ city: { contains: true } }", &["4:29: this must be a text"]);
    check_when("{ amount: { over: '5' } }", &["4:27: `5` is not a number; write 5 without quotes"]);
    check_when(
        "{ amount: { over: 500 000 } }",
        &["4:27: `500 000` is not a number; write it in digits, such as 500000 or 0.5"],
    );
    check_when("{ amount: { over: [5] } }", &["4:27: a number is expected here"]);
    check_when(
        "{ amount: { over: 1, under: 5 } }",
        &["4:19: a condition must have exactly one key; for a range write `{ between: [LOW, HIGH] }`"],
    );
    check_when("{ amount: { between: 5 } }", &["4:30: `between` must be a list of two numbers: [LOW, HIGH]"]);
    check_when(
        "{ amount: { between: [5, 1] } }",
        &["4:30: nothing is between these: the first is the larger; write [1, 5]"],
    );
    check_when("{ city: a, city: b }", &["4:20: `city` is in `when` twice, first on line 4"]);
}

#[test]
fn places_count_characters_and_follow_aliases() {
    check(
        "version: 1\npeople: { анна: { user: 1 } }\nrules:\n- { name: R, when: { source: &calls [CALL, 01] }, assign: анна }\n- { name: S, when: { source: *calls }, assign: анма }\ndefault: { assign: анна }\n",
        &[
            "4:44: 01 would lose its leading zero; write \"01\" for a text, or the number in plain digits",
            "5:30: 01 would lose its leading zero; write \"01\" for a text, or the number in plain digits",
            "5:48: unknown person `анма`; did you mean `анна`?",
        ],
    );
}

#[test]
fn nesting_and_aliases_are_bounded() {
    let deep = format!("a: {}x{}", "[".repeat(40), "]".repeat(40));
    assert!(Routing::from_yaml(&deep, "r").unwrap_err().to_string().starts_with("r:1:"));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let below = format!("*a{},", level - 1).repeat(10);
        bomb.push_str(&["a", &level.to_string(), ": &a", &level.to_string(), " [", &below, "]\n"].concat());
    }
    assert!(Routing::from_yaml(&bomb, "r").unwrap_err().to_string().contains("this is not YAML"));
}

#[test]
fn the_example_is_right() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/routing.example.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let routing =
        Routing::from_yaml(&text, "config/routing.example.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(routing.people().count(), 4);
    assert_eq!(
        routing.queues().map(|queue| queue.name.as_str()).collect::<Vec<_>>(),
        ["main", "cold_calls", "regions"]
    );
}

#[test]
fn what_is_wrong_with_clients_is_named() {
    check(
        "version: 1
country_code: +7
people: { a: { user: 1, substitute: a, successor: c }, b: { user: 2, substitute: 5 } }
queues:
  q1: { members: [a], sticky: { within: 90d } }
  q2: { members: [a], sticky: { by: [contact, fax, phone] } }
  q3: { members: [a], sticky: { by: [phone, phone] } }
  q4: { members: [a], sticky: { by: [] } }
  q5: { members: [a], sticky: { by: phone, within: soon } }
  q6: { members: [a], sticky: { by: phone, if_absent: wait } }
  q7: { members: [a], sticky: { by: phone, if_absent: { wait_until_back: 4 } } }
  q8: { members: [a], sticky: { by: phone, if_absent: { wait: 4h }, turn: pay } }
  q9: { members: [a], sticky: phone }
default: { queue: q1 }
",
        &[
            "2:15: `country_code` must be one to three digits; it is that of phone numbers that are written without one, such as `country_code: 7`",
            "3:37: `a` cannot be his own substitute",
            "3:51: unknown person `c`; known: `a`, `b`",
            "3:82: unknown person `5`; known: `a`, `b`",
            "5:31: `by` is missing in `sticky`",
            "6:47: unknown word `fax` in `by`; known: `contact`, `company`, `phone`, `email`",
            "7:45: `phone` is in `by` twice",
            "8:37: `by` is empty; write what a client is recognised by: `by: [contact, phone]`",
            "9:52: `within`: `soon` is no duration; write a number and its unit: `90s`, `15m`, `4h` or `90d`",
            "10:55: unknown word `wait` in `if_absent`; write `queue`, `substitute` or `{ wait_until_back: 4h }`",
            "11:74: `wait_until_back`: `4` is no duration; write a number and its unit: `90s`, `15m`, `4h` or `90d`",
            "12:55: `wait_until_back` is missing in `if_absent`",
            "12:57: unknown key `wait` in `if_absent`; known: `wait_until_back`",
            "12:75: unknown word `pay` in `turn`; did you mean `pays`?",
            "13:31: `sticky` must be a mapping; its keys: `by`, `within`, `if_absent`, `turn`",
        ],
    );
}
