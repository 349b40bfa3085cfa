//! What a decision costs, by the number and kind of rules and the number of people.
//!
//! `make bench`. No rule matches, so all of them are looked at, and the default queue has all the people in it, half of
//! them away. Compare figures of one run: machines differ, and so do their neighbours.

#![expect(clippy::unwrap_used, reason = "helpers of benchmarks fail as tests do")]

use distribution::{Decision, Lead, Ledger, Presence, Roster, Routing, UserId, decide};
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use jiff::Timestamp;
use serde_json::json;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const NOW: Timestamp = Timestamp::constant(1_795_000_000, 0);

fn main() {
    divan::main();
}

/// A rule that does not match, of one kind.
fn rule(kind: &str, number: usize) -> String {
    let when = match kind {
        "values" => format!("source: [S{number}, T{number}]"),
        "ranges" => format!("amount: {{ between: [{}, {}] }}", number * 10 + 1, number * 10 + 5),
        "contains" => format!("title: {{ contains: word{number} }}"),
        "matches" => format!("title: {{ matches: \"word{number}\\\\b\" }}"),
        "groups" => {
            format!("any: [{{ source: S{number} }}, {{ city: C{number}, amount: {{ over: 5000 }} }}]")
        }
        "trees" => {
            return format!(
                "- {{ name: r{number}, by: city, cases: {{ A{number}: {{ queue: main }}, B{number}: {{ queue: main }} }} }}\n"
            );
        }
        _ => unreachable!("{kind} is no kind of rule"),
    };
    format!("- {{ name: r{number}, when: {{ {when} }}, queue: main }}\n")
}

struct Office {
    routing: Routing,
    roster: Roster,
    ledger: Ledger,
    lead: Lead,
}

fn office(kind: &str, rules: usize, people: usize) -> Office {
    let list: Vec<String> =
        (1..=people).map(|id| format!("p{id}: {{ user: {id}, schedule: office }}")).collect();
    let members: Vec<String> = (1..=people).map(|id| format!("p{id}")).collect();
    let rules: String = (0..rules).map(|number| rule(kind, number)).collect::<Vec<_>>().concat();
    let text = format!(
        "version: 1\ntime_zone: Europe/Moscow\nschedules: {{ office: {{ days: mon-fri, hours: 09:00-18:00 }} }}\npeople: {{ {} }}\nqueues: {{ main: {{ members: [{}] }} }}\nrules:\n{rules}default: {{ queue: main }}\n",
        list.join(", "),
        members.join(", ")
    );
    let routing = Routing::from_yaml(&text, "routing.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let away = |id: &u64| id.is_multiple_of(2);
    let presence = |id| (UserId::new(id).unwrap(), Presence { active: false, ..Presence::default() });
    let roster = (1..=people as u64).filter(away).map(presence).collect();
    let fields = json!({
        "ID": "42", "TITLE": "Lead from the site", "SOURCE_ID": "WEB", "OPPORTUNITY": "1000.00",
        "ADDRESS_CITY": "Tver",
    });
    let lead = Lead::from_fields(fields.as_object().unwrap()).unwrap();
    let mut office = Office { routing, roster, ledger: Ledger::default(), lead };
    for _ in 0..people {
        let decision = decide(&office.lead, &office.roster, &office.routing, &office.ledger, NOW);
        let Decision::Assign(assignment) = decision else { panic!("half of the people are there") };
        office.ledger.extend(assignment.entries);
    }
    office
}

fn measure(bencher: Bencher<'_, '_>, kind: &str, rules: usize, people: usize) {
    let office = office(kind, rules, people);
    bencher.counter(ItemsCount::new(rules)).bench(|| {
        decide(&office.lead, &office.roster, &office.routing, &office.ledger, divan::black_box(NOW))
    });
}

#[divan::bench(args = [0, 10, 100, 1_000, 10_000])]
fn rules_by_value_5_people(bencher: Bencher<'_, '_>, rules: usize) {
    measure(bencher, "values", rules, 5);
}

#[divan::bench(args = [1, 5, 50, 500])]
fn people_1000_rules(bencher: Bencher<'_, '_>, people: usize) {
    measure(bencher, "values", 1_000, people);
}

#[divan::bench(args = ["values", "ranges", "contains", "matches", "groups", "trees"])]
fn kinds_1000_rules_500_people(bencher: Bencher<'_, '_>, kind: &str) {
    measure(bencher, kind, 1_000, 500);
}
