//! Tables of leads and the decisions expected for them: `tests/cases/*.yaml`.
//!
//! Each file has one routing and a list of cases. A case is a lead as the portal answers it, who is absent, the
//! credits in turns, and what is expected: the explanation's summary, and where it matters its candidates, the rules that
//! did not match and the ledger entries. Leads of a case with `takers` come one after the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use distribution::{
    Credit, Decision, EntryKind, Explanation, Language, Ledger, LedgerEntry, Presence, Roster, Routing,
    decide,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::world::{self, NOW};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    routing: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Without `ID`, which no rule asks for, it is lead 1.
    lead: Map<String, Value>,
    #[serde(default)]
    absent: Vec<String>,
    /// By ledger and person, in turns.
    #[serde(default)]
    credits: BTreeMap<String, BTreeMap<String, f64>>,
    #[serde(default)]
    summary: Option<String>,
    /// `sidorov: largest credit`, in order.
    #[serde(default)]
    candidates: Option<Vec<String>>,
    /// `Moscow website: source: SITE_MOSCOW`, in order.
    #[serde(default)]
    not_matched: Option<Vec<String>>,
    /// `cold_calls sidorov -0.50`, in order.
    #[serde(default)]
    entries: Option<Vec<String>>,
    /// Who gets this lead when it comes again and again and the ledger is kept.
    #[serde(default)]
    takers: Option<Vec<String>>,
}

#[test]
fn every_case_is_decided_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut failures = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let file: CaseFile =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let routing =
            Routing::from_yaml(&file.routing, &path.to_string_lossy()).unwrap_or_else(|e| panic!("{e}"));
        for case in &file.cases {
            count += 1;
            let differences = check(&routing, case);
            failures.extend(differences.iter().map(|text| format!("{path:?} {:?}:\n{text}", case.name)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count >= 25, "only {count} cases were found");
}

/// What is not as expected.
fn check(routing: &Routing, case: &Case) -> Vec<String> {
    let user = |name: &str| routing.people().find(|person| person.name == name).unwrap().user;
    let mut fields = case.lead.clone();
    fields.entry("ID").or_insert("1".into());
    let lead = world::lead(&Value::Object(fields));
    let roster: Roster = case
        .absent
        .iter()
        .map(|name| (user(name), Presence { active: false, ..Presence::default() }))
        .collect();
    let credit = |ledger: &str, (name, amount): (&String, &f64)| LedgerEntry {
        ledger: ledger.into(),
        user: user(name),
        delta: world::turns(*amount),
        kind: EntryKind::Correction,
    };
    let mut ledger: Ledger = case
        .credits
        .iter()
        .flat_map(|(name, credits)| credits.iter().map(|entry| credit(name, entry)))
        .collect();

    let decision = decide(&lead, &roster, routing, &ledger, NOW);
    let why = decision.explanation();
    let mut differences = Vec::new();
    let mut expect = |what: &str, expected: Option<Vec<String>>, found: Vec<String>| {
        if expected.as_ref().is_some_and(|expected| *expected != found) {
            differences.push(format!("  {what}\n    expected {expected:?}\n    found    {found:?}"));
        }
    };
    expect("summary", case.summary.clone().map(|text| vec![text]), vec![why.summary()]);
    expect("candidates", case.candidates.clone(), candidates(why));
    let not_matched =
        why.not_matched.iter().map(|rule| format!("{}: {}", rule.rule, rule.condition)).collect();
    expect("not_matched", case.not_matched.clone(), not_matched);
    expect("entries", case.entries.clone(), entries(routing, &decision));
    if let Some(takers) = &case.takers {
        let mut found = Vec::new();
        for _ in takers {
            let Decision::Assign(assignment) = decide(&lead, &roster, routing, &ledger, NOW) else {
                break;
            };
            found.push(assignment.person.to_string());
            ledger.extend(assignment.entries);
        }
        expect("takers", Some(takers.clone()), found);
    }
    differences
}

fn candidates(why: &Explanation) -> Vec<String> {
    why.candidates
        .iter()
        .map(|candidate| format!("{}: {}", candidate.person, why.reason(candidate, Language::English)))
        .collect()
}

fn entries(routing: &Routing, decision: &Decision) -> Vec<String> {
    let entries = match decision {
        Decision::Assign(assignment) => assignment.entries.as_slice(),
        Decision::Hold(_) | Decision::Skip(_) => &[],
    };
    assert_eq!(entries.iter().map(|entry| entry.delta.units()).sum::<i64>(), Credit::ZERO.units());
    let name = |entry: &LedgerEntry| &routing.people().find(|person| person.user == entry.user).unwrap().name;
    entries.iter().map(|entry| format!("{} {} {}", entry.ledger, name(entry), entry.delta)).collect()
}
