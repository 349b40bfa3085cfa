//! What a simulation brought, as tables or JSON.

use std::path::Path;

use distribution::{Name, Routing};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::world::Tally;
use crate::output::table;

/// How many leads that would go elsewhere are listed; the others are counted.
const MOVED_LISTED_MAX: usize = 10;

/// One routing file and what it did.
pub(crate) struct Report {
    file: String,
    /// Everybody of the routing file, in its order.
    people: Vec<Name>,
    tally: Tally,
}

impl Report {
    pub(crate) fn new(path: &Path, routing: &Routing, tally: Tally) -> Self {
        let people = routing.people().map(|person| person.name.clone()).collect();
        Self { file: path.display().to_string(), people, tally }
    }

    fn given(&self, person: &Name) -> usize {
        self.tally.given.get(person).copied().unwrap_or(0)
    }

    /// How many leads more than his share.
    fn deviation(&self, person: &Name) -> f64 {
        let expected = self.tally.expected.get(person).copied().unwrap_or(0.0);
        #[expect(clippy::cast_precision_loss, reason = "a file has far fewer leads than 2^53")]
        let given = self.given(person) as f64;
        given - expected
    }

    fn assigned(&self) -> usize {
        self.tally.given.values().sum()
    }

    fn share(&self, person: &Name) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a file has far fewer leads than 2^53")]
        let share = self.given(person) as f64 / self.assigned().max(1) as f64;
        share
    }

    /// The largest deviation from a share, in leads.
    fn fairness(&self) -> f64 {
        self.people.iter().map(|person| self.deviation(person).abs()).fold(0.0, f64::max)
    }
}

pub(crate) fn in_json(reports: &[Report], bad_lines: usize) -> Value {
    let one = |report: &Report| {
        let tally = &report.tally;
        let person = |name: &Name| {
            json!({
                "person": name, "leads": report.given(name), "share": rounded(report.share(name)),
                "deviation": rounded(report.deviation(name)),
            })
        };
        let counted = |counts: &std::collections::BTreeMap<Option<Name>, usize>, key: &str| {
            let entry = |(name, leads): (&Option<Name>, &usize)| json!({ key: name, "leads": leads });
            counts.iter().map(entry).collect::<Vec<Value>>()
        };
        json!({
            "file": report.file, "leads": tally.leads, "assigned": report.assigned(), "skipped": tally.skipped,
            "held": tally.held, "still_held": tally.still_held, "longest_wait_seconds": tally.longest_wait.as_secs(),
            "max_deviation": rounded(report.fairness()),
            "people": report.people.iter().map(person).collect::<Vec<Value>>(),
            "order": tally.order.iter().map(|lead| lead.get()).collect::<Vec<u64>>(),
            "rules": counted(&tally.by_rule, "rule"), "queues": counted(&tally.by_queue, "queue"),
        })
    };
    let mut all = json!({ "bad_lines": bad_lines, "files": reports.iter().map(one).collect::<Vec<Value>>() });
    if let [one, other] = reports {
        let mut moved: Vec<_> = moved(one, other).collect();
        moved.sort_by_key(|(lead, _, _)| *lead);
        let entry = |(lead, from, to): &(u64, _, _)| json!({ "lead": lead, "from": from, "to": to });
        all["moved"] = json!(moved.len());
        all["first_moved"] = moved.iter().take(MOVED_LISTED_MAX).map(entry).collect();
    }
    all
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// The leads that another person gets in the other report.
fn moved<'r>(
    one: &'r Report,
    other: &'r Report,
) -> impl Iterator<Item = (u64, Option<&'r Name>, Option<&'r Name>)> {
    let pairs = one.tally.takers.iter().zip(&other.tally.takers);
    pairs
        .filter(|(one, other)| one.1 != other.1)
        .map(|(one, other)| (one.0.get(), one.1.as_ref(), other.1.as_ref()))
}

pub(crate) fn in_text(reports: &[Report]) -> String {
    let mut text = String::new();
    let Some(first) = reports.first() else { return text };
    let mut people = first.people.clone();
    people.extend(reports.iter().skip(1).flat_map(|report| &report.people).cloned());
    people.retain(|person| reports.iter().any(|report| report.people.contains(person)));
    let mut seen = std::collections::BTreeSet::new();
    people.retain(|person| seen.insert(person.clone()));

    if reports.len() > 1 {
        for (letter, report) in ["A", "B"].iter().zip(reports) {
            text.push_str(&[letter, ": ", &report.file, "\n"].concat());
        }
        text.push('\n');
    }
    let suffix = |index: usize| match (reports.len(), index) {
        (1, _) => "",
        (_, 0) => " A",
        _ => " B",
    };
    let columns = |names: &[&str]| {
        let of = |index: usize| names.iter().map(move |name| format!("{name}{}", suffix(index)));
        (0..reports.len()).flat_map(of).collect::<Vec<String>>()
    };
    let person_row = |person: &Name| {
        let cells = reports.iter().flat_map(|report| {
            [
                report.given(person).to_string(),
                format!("{:.1} %", report.share(person) * 100.0),
                format!("{:+.2}", report.deviation(person)),
            ]
        });
        std::iter::once(person.to_string()).chain(cells).collect::<Vec<String>>()
    };
    let rows: Vec<Vec<String>> = people.iter().map(person_row).collect();
    text.push_str(&titled_table("person", &columns(&["leads", "share", "off his share"]), &rows));

    text.push('\n');
    let figure = |name: &str, value: &dyn Fn(&Report) -> String| {
        std::iter::once(name.to_owned()).chain(reports.iter().map(value)).collect::<Vec<String>>()
    };
    let rows = [
        figure("leads", &|report| report.tally.leads.to_string()),
        figure("assigned", &|report| report.assigned().to_string()),
        figure("skipped", &|report| report.tally.skipped.to_string()),
        figure("waited", &|report| report.tally.held.to_string()),
        figure("still waiting", &|report| report.tally.still_held.to_string()),
        figure("longest wait", &|report| duration(report.tally.longest_wait)),
        figure("furthest off a share", &|report| format!("{:.2} leads", report.fairness())),
    ];
    text.push_str(&titled_table("all", &columns(&[""]), &rows));
    for (title, counts) in [
        ("rule", (|tally| &tally.by_rule) as fn(&Tally) -> &std::collections::BTreeMap<Option<Name>, usize>),
        ("queue", |tally| &tally.by_queue),
    ] {
        let names: std::collections::BTreeSet<&Option<Name>> =
            reports.iter().flat_map(|report| counts(&report.tally).keys()).collect();
        let rows: Vec<Vec<String>> = names
            .into_iter()
            .map(|name| {
                let none = if title == "rule" { "(the default)" } else { "(a person by name)" };
                let shown = name.as_ref().map_or(none.to_owned(), Name::to_string);
                let cell =
                    |report: &Report| counts(&report.tally).get(name).copied().unwrap_or(0).to_string();
                std::iter::once(shown).chain(reports.iter().map(cell)).collect()
            })
            .collect();
        text.push('\n');
        text.push_str(&titled_table(title, &columns(&["leads"]), &rows));
    }
    if let [one, other] = reports {
        let mut all: Vec<_> = moved(one, other).collect();
        all.sort_by_key(|(lead, _, _)| *lead);
        text.push_str(&["\n", &all.len().to_string(), " leads would go elsewhere\n"].concat());
        let name = |person: Option<&Name>| person.map_or("nobody".to_owned(), Name::to_string);
        for (lead, from, to) in all.iter().take(MOVED_LISTED_MAX) {
            text.push_str(
                &["  lead ", &lead.to_string(), ": ", &name(*from), " → ", &name(*to), "\n"].concat(),
            );
        }
        if all.len() > MOVED_LISTED_MAX {
            text.push_str("  …\n");
        }
    }
    text
}

fn titled_table(title: &str, columns: &[String], rows: &[Vec<String>]) -> String {
    let head: Vec<&str> = std::iter::once(title).chain(columns.iter().map(String::as_str)).collect();
    table(&head, rows)
}

/// `2 d 03:15`
fn duration(duration: SignedDuration) -> String {
    let minutes = duration.as_mins();
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    let days = if days > 0 { format!("{days} d ") } else { String::new() };
    format!("{days}{hours:02}:{minutes:02}")
}
