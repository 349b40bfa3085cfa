//! Tables of leads and the decisions expected for them: `tests/cases/*.yaml`.
//!
//! Each file has one routing and a list of cases. A case is a lead as the portal answers it, a time, who is there, the
//! credits in turns, and what is expected: the explanation's summary, and where it matters its candidates, the rules that
//! did not match, the ledger entries, the orders, until when it waits, and the text for people. Leads of a case with
//! `takers` come one after the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use distribution::{
    Absence, Ahead, Cause, Credit, Decision, Destination, EntryKind, Explanation, Giving, Language, Ledger,
    LedgerEntry, Needs, Presence, Roster, Routing, Tie, TieBy, TieOf, UserId, WorkingDay, decide_giving,
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

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
    /// When it is decided.
    #[serde(default)]
    at: Option<Timestamp>,
    #[serde(default)]
    giving: Given,
    /// Who has its client; without it nobody asked.
    #[serde(default)]
    ties: Option<Vec<HeldBy>>,
    /// Who is not active.
    #[serde(default)]
    absent: Vec<String>,
    #[serde(default)]
    roster: BTreeMap<String, Known>,
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
    /// When somebody may take it, or `unknown`.
    #[serde(default)]
    until: Option<String>,
    /// The orders in JSON.
    #[serde(default)]
    orders: Option<Value>,
    #[serde(default)]
    english: Option<String>,
    #[serde(default)]
    russian: Option<String>,
    /// Who gets this lead when it comes again and again and the ledger is kept.
    #[serde(default)]
    takers: Option<Vec<String>>,
}

/// What is particular about this giving of the lead.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Given {
    cause: Cause,
    to: Option<Destination>,
    had: Vec<String>,
    held: bool,
    held_since: Option<Timestamp>,
    from: Option<String>,
    /// So many leads wait ahead of it, by what they need.
    ahead: Vec<(Needs, u32)>,
}

/// Somebody has the client.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeldBy {
    user: u64,
    by: TieBy,
    of: TieOf,
    #[serde(default)]
    at: Option<Timestamp>,
}

impl HeldBy {
    fn tie(&self) -> Tie {
        let owner = UserId::new(self.user).unwrap();
        Tie { owner, by: self.by, of: self.of, at: self.at.unwrap_or(NOW) }
    }
}

/// What is known of somebody; the rest is as for who is there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Known {
    active: bool,
    working_day: WorkingDay,
    absent: Vec<Absence>,
    paused_until: Option<Timestamp>,
    open: u32,
    hour: u32,
    day: u32,
    released: u32,
}

impl Default for Known {
    fn default() -> Self {
        let Presence { active, working_day, absent, paused_until, open, hour, day, released } =
            Presence::default();
        Self { active, working_day, absent, paused_until, open, hour, day, released }
    }
}

impl Known {
    fn presence(&self) -> Presence {
        Presence {
            active: self.active,
            working_day: self.working_day,
            absent: self.absent.clone(),
            paused_until: self.paused_until,
            open: self.open,
            hour: self.hour,
            day: self.day,
            released: self.released,
        }
    }
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
    assert!(count >= 165, "only {count} cases were found");
}

/// What is not as expected.
fn check(routing: &Routing, case: &Case) -> Vec<String> {
    let user = |name: &str| routing.people().find(|person| person.name == name).unwrap().user;
    let mut fields = case.lead.clone();
    fields.entry("ID").or_insert("1".into());
    let mut lead = world::lead(&Value::Object(fields));
    lead.ties = case.ties.as_ref().map(|ties| ties.iter().map(HeldBy::tie).collect());
    let now = case.at.unwrap_or(NOW);
    let mut roster: Roster = case
        .absent
        .iter()
        .map(|name| (user(name), Presence { active: false, ..Presence::default() }))
        .collect();
    for (name, known) in &case.roster {
        roster.set(user(name), known.presence());
    }
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

    let giving = Giving {
        cause: case.giving.cause,
        to: case.giving.to.clone(),
        had: case.giving.had.iter().map(|name| user(name)).collect(),
        held_since: case.giving.held_since.or(case.giving.held.then_some(now)),
        from: case.giving.from.as_deref().map(user),
        ahead: case
            .giving
            .ahead
            .iter()
            .map(|(needs, count)| Ahead { needs: needs.clone(), count: *count })
            .collect(),
    };
    let decision = decide_giving(&lead, &giving, &roster, routing, &ledger, now);
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
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<String>>();
    expect("english", case.english.as_deref().map(lines), lines(&why.text(Language::English)));
    expect("russian", case.russian.as_deref().map(lines), lines(&why.text(Language::Russian)));
    let (until, orders) = match &decision {
        Decision::Hold(hold) => (hold.until, None),
        Decision::Assign(assignment) => (None, Some(json!(assignment.orders))),
        Decision::Skip(_) => (None, None),
    };
    let shown =
        |until: Option<Timestamp>| vec![until.map_or("unknown".to_owned(), |until| until.to_string())];
    expect("until", case.until.as_deref().map(|until| shown(until.parse().ok())), shown(until));
    let orders = orders.unwrap_or_default().to_string();
    expect("orders", case.orders.as_ref().map(|orders| vec![orders.to_string()]), vec![orders]);
    if let Some(takers) = &case.takers {
        let mut found = Vec::new();
        for _ in takers {
            let decision = decide_giving(&lead, &giving, &roster, routing, &ledger, now);
            let Decision::Assign(assignment) = decision else { break };
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
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for entry in entries {
        *sums.entry(&entry.ledger).or_default() += entry.delta.units();
    }
    assert!(sums.values().all(|sum| *sum == Credit::ZERO.units()), "{sums:?}");
    let name = |entry: &LedgerEntry| &routing.people().find(|person| person.user == entry.user).unwrap().name;
    let kind = |entry: &LedgerEntry| match entry.kind {
        EntryKind::Turn => String::new(),
        EntryKind::Duty | EntryKind::Left | EntryKind::Correction | EntryKind::Refund => {
            format!(" ({})", json!(entry.kind).as_str().unwrap())
        }
    };
    let text =
        |entry: &LedgerEntry| format!("{} {} {}{}", entry.ledger, name(entry), entry.delta, kind(entry));
    entries.iter().map(text).collect()
}
