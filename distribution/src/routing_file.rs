//! The routing file: text in, a [`Routing`] or every problem in it out.
//!
//! The text becomes a tree of nodes that know their places (`yaml`). Each section is then read from that tree, and what
//! is wrong is noted and read over, so that one look shows all there is to mend. A problem is reported once: who names
//! a person whose entry is wrong is not told that the person is unknown.

mod problem;
mod yaml;

mod known;
mod section;

mod answer;
mod schedules;
mod sticky;
mod times;
mod waiting;

mod conditions;
mod handover;
mod people;
mod queues;
mod rules;

mod lints;
mod nearest;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::fields;
use crate::ids::UserId;
use crate::made_by_hand::MadeByHand;
use crate::name::Name;
use crate::routing::{Handover, Parties, Queue, Routing};
use crate::rule_index::RuleIndex;
use conditions::{Asks, FieldNames};
use handover::Names;
use people::People;
pub use problem::{Checked, Problem, RoutingErrors, Severity};
use problem::{Place, Problems};
use rules::Rules;
pub use schema::schema;
use section::Section;
use times::Times;
use yaml::{Node, Value};

/// `; did you mean `ivanov`?`, or the known words if they are few, for who wrote `word` where one of `known` was
/// expected; nothing when there is nothing to propose.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    nearest::hint(word, known).map(|hint| format!("; {hint}")).unwrap_or_default()
}

/// The version of the file's language that this crate reads.
const VERSION: &str = "1";

/// Whether leads that people made for themselves are left alone.
const MADE_BY_HAND: &[(&str, bool)] = &[("leave", true), ("distribute", false)];

/// The keys at the top of the file.
const KEYS: &[&str] = &[
    "version",
    "time_zone",
    "country_code",
    "fields",
    "calendar",
    "schedules",
    "only_if_owner_in",
    "made_by_hand",
    "service_users",
    "people",
    "queues",
    "rules",
    "default",
];

impl Routing {
    /// Reads a routing file. `file_name` is only for the messages.
    ///
    /// **Shape** (`config/routing.example.yaml` explains each key):
    ///
    /// ```yaml
    /// version: 1
    /// people:
    ///   ivanov: { user: 11 }
    ///   petrov: { user: 12, weight: 2 }
    /// queues:
    ///   main: { members: [ivanov, petrov] }
    /// rules:
    ///   - { name: Large, when: { amount: { over: 500000 } }, assign: petrov }
    /// default: { queue: main }
    /// ```
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file, in its order. A text that is no YAML has one problem: where it ends to be.
    pub fn from_yaml(text: &str, file_name: &str) -> Result<Self, RoutingErrors> {
        let Checked { routing, problems } = Self::check(text);
        routing.ok_or_else(|| RoutingErrors::new(file_name, problems))
    }

    /// Reads a routing file and tells warnings too.
    #[must_use]
    pub fn check(text: &str) -> Checked {
        let mut problems = Problems::default();
        let routing = yaml::parse(text, &mut problems).and_then(|root| routing(&root, &mut problems));
        Checked { routing: routing.filter(|_| !problems.any_error()), problems: problems.into_list() }
    }
}

/// Reads all sections. `None` only when a problem was noted.
fn routing(root: &Node, problems: &mut Problems) -> Option<Routing> {
    let file = Section::read(root, "the routing file", KEYS, problems)?;
    if let Some(version) = file.require("version", problems) {
        check_version(version, problems);
    }
    let fields = file.get("fields").map(|node| own_names(node, problems)).unwrap_or_default();
    let country_code = file.get("country_code").and_then(|node| sticky::country_code(node, problems));
    let only_from = file.get("only_if_owner_in").map(|node| owners(node, problems));
    let left = queues::choice(&file, "made_by_hand", MADE_BY_HAND, true, problems);
    let service_users =
        file.get("service_users").map(|node| users(node, "service_users", problems)).unwrap_or_default();
    let mut times = Times::read(&file, problems);
    let people = match file.require("people", problems) {
        Some(node) => people::read(node, &mut times, problems),
        None => People::unreadable(people::WHAT),
    };
    let queues = queues::read(file.get("queues"), &people, problems);
    let names = Names { people: &people, queues: &queues.names };
    let mut asks = Asks { fields, times };
    let rules = match file.get("rules") {
        Some(node) => rules::read(node, &names, &mut asks, problems),
        None => Rules::default(),
    };
    let default = default_handover(&file, &names, &asks.fields, problems)?;
    if problems.any_error() {
        return None;
    }
    queues::note_circles(&queues.list, &queues.places, problems);
    if problems.any_error() {
        return None;
    }
    let routing = Routing {
        version: 0,
        parties: parties(&queues.list),
        only_from,
        made_by_hand: MadeByHand { left: left?, service_users },
        country_code,
        fields: asks.fields.into_codes(),
        zone: asks.times.zone,
        holidays: asks.times.holidays,
        hours: asks.times.hours,
        people: people.entries().map(|(person, _)| Arc::clone(person)).collect(),
        queues: queues.list,
        rule_index: RuleIndex::of(&rules.list),
        rules: rules.list,
        default,
    };
    let places = lints::Places { people: &people, queues: &queues.places, rules: &rules.places };
    lints::note(&routing, &places, problems);
    Some(routing)
}

/// Who takes turns in which ledger.
fn parties(queues: &[Queue]) -> BTreeMap<Name, Parties> {
    let mut parties: BTreeMap<Name, Parties> = BTreeMap::new();
    for queue in queues {
        for (ledger, members) in [(&queue.ledger, &queue.members), (&queue.duty_ledger, &queue.on_duty)] {
            let users = members.iter().map(|member| member.person.user);
            parties.entry(ledger.clone()).or_default().extend(users);
        }
    }
    parties
}

fn check_version(node: &Node, problems: &mut Problems) {
    if !matches!(&node.value, Value::Number(written) if written == VERSION) {
        problems
            .note(node.place, format!("`version` must be {VERSION}, the version of this file's language"));
    }
}

/// Reads `only_if_owner_in: [1, 7]`.
fn owners(node: &Node, problems: &mut Problems) -> BTreeSet<UserId> {
    if section::is_empty(node) {
        problems.note(
            node.place,
            "nobody is in `only_if_owner_in`, so that no lead with an owner would ever be given",
        );
    }
    users(node, "only_if_owner_in", problems)
}

/// Reads a list of users by their numbers.
fn users(node: &Node, key: &str, problems: &mut Problems) -> BTreeSet<UserId> {
    let mut users = BTreeSet::new();
    for item in section::items(node, &format!("`{key}`"), problems) {
        if let Some(user) = people::user(item) {
            users.insert(user);
        } else {
            let what = if key == "only_if_owner_in" { "an owner" } else { "a user" };
            let hint = "these are the numbers in the addresses of people's pages in the portal";
            problems.note_with(item.place, format!("{what} must be a whole number from 1"), hint);
        }
    }
    users
}

/// Reads `fields: { product: UF_CRM_PRODUCT }`.
fn own_names(node: &Node, problems: &mut Problems) -> FieldNames {
    let mut names = FieldNames::default();
    for (word, node) in section::entries(node, "`fields`", problems) {
        if conditions::is_reserved(&word.text) {
            problems.note(
                word.place,
                format!("`{}` means something else in a rule and cannot be a short name", word.text),
            );
        }
        if fields::is_code(&word.text) {
            let message = format!("`{}` is a field's own code and cannot be a short name", word.text);
            problems.note_with(word.place, message, "write short names in small letters");
        }
        let code = section::text(node, "the field's code", problems);
        match code {
            Some(code) if !fields::is_code(&code) => {
                let message = format!("`{code}` is not the code of a field");
                let hint = match fields::built_in(&code) {
                    Some(code) => format!("write {code}"),
                    None => "codes are in capitals, such as ADDRESS_REGION or UF_CRM_PRODUCT".to_owned(),
                };
                problems.note_with(node.place, message, hint);
                names.add(word.text, None);
            }
            Some(code) => names.add(word.text, Some(Name::from(code))),
            None => names.add(word.text, None),
        }
    }
    names
}

/// Reads `default: { queue: main }`.
fn default_handover(
    file: &Section,
    names: &Names,
    fields: &FieldNames,
    problems: &mut Problems,
) -> Option<Handover> {
    let Some(node) = file.get("default") else {
        let hint = "it says who gets the leads that no rule takes: `default: { queue: NAME }`";
        problems.note_with(Place::START, "`default` is missing", hint);
        return None;
    };
    let section = Section::read(node, "`default`", handover::KEYS, problems)?;
    handover::read(&section, names, fields, problems)
}
