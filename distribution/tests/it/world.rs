//! What the tests build their input with.

use distribution::{Credit, Decision, Lead, Ledger, Presence, Roster, Routing, UserId, decide};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The time of every decision that does not ask for another.
pub const NOW: Timestamp = Timestamp::constant(1_795_000_000, 0);

/// A lead from the object that the portal answers.
pub fn lead(fields: &Value) -> Lead {
    Lead::from_fields(fields.as_object().unwrap()).unwrap()
}

/// A lead with nothing but an id.
pub fn any_lead() -> Lead {
    lead(&json!({"ID": "1"}))
}

pub fn routing(text: &str) -> Routing {
    Routing::from_yaml(text, "routing.yaml").unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

pub fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

/// A routing with one queue `main`, in it `p1`, `p2`, … as users 1, 2, … with these weights.
pub fn one_queue(weights: &[u32]) -> Routing {
    let people: Vec<String> =
        (1..).zip(weights).map(|(id, weight)| format!("p{id}: {{ user: {id}, weight: {weight} }}")).collect();
    let members: Vec<String> = (1..=weights.len()).map(|id| format!("p{id}")).collect();
    let (people, members) = (people.join(", "), members.join(", "));
    routing(&format!(
        "version: 1\npeople: {{ {people} }}\nqueues: {{ main: {{ members: [{members}] }} }}\ndefault: {{ queue: main }}\n"
    ))
}

/// Everybody is here but these users.
pub fn roster_without(absent: impl IntoIterator<Item = u64>) -> Roster {
    absent.into_iter().map(|id| (user(id), Presence { active: false, ..Presence::default() })).collect()
}

/// Decides about a lead of the default queue, books the entries, and says who got it.
pub fn give_next(routing: &Routing, roster: &Roster, ledger: &mut Ledger) -> UserId {
    let Decision::Assign(assignment) = decide(&any_lead(), roster, routing, ledger, NOW) else {
        panic!("somebody is eligible");
    };
    ledger.extend(assignment.entries);
    assignment.user
}

/// The sum of all balances of the queue `main` of [`one_queue`], in units.
pub fn sum(ledger: &Ledger, people: usize) -> i64 {
    (1..=people as u64).map(|id| ledger.balance("main", user(id)).units()).sum()
}

/// This part of a turn.
pub fn turns(amount: f64) -> Credit {
    #[expect(clippy::cast_possible_truncation, reason = "tests write a few turns")]
    #[expect(clippy::cast_precision_loss, reason = "a turn is far below 2^53 units")]
    Credit::from_units((amount * Credit::TURN.units() as f64).round() as i64)
}
