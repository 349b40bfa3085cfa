//! `rota explain`: who would get a lead, and why.

use std::path::Path;

use common::clock::{Clock as _, SystemClock};
use distribution::{
    Candidate, Decision, Explanation, Language, Ledger, Orders, Roster, Routing, Tie, TieBy, TieOf, decide,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::{files, output, roster};

/// What is to be explained.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) file: &'a Path,
    pub(crate) lead: &'a Path,
    pub(crate) at: Option<&'a str>,
    pub(crate) roster: Option<&'a Path>,
    pub(crate) client_of: Option<&'a str>,
}

/// Decides about the lead and prints it.
pub(crate) fn run(input: Input<'_>, as_json: bool, language: Language) -> Result<u8, Failure> {
    let routing = files::routing(input.file)?;
    let at = match input.at {
        Some(text) => files::moment(text, &routing).ok_or_else(|| {
            let hint = "write it as 2026-11-23T22:15:00+03:00, or as 2026-11-23T22:15";
            Failure::arguments(format!("--at: `{text}` is no time; {hint}"))
        })?,
        None => SystemClock.now(),
    };
    let mut lead = files::lead(input.lead)?;
    lead.ties = input.client_of.map(|name| client_of(name, &routing, at)).transpose()?;
    let (routing, roster, ledger) = match input.roster {
        Some(path) => roster::read(path, &routing)?,
        None => (routing, Roster::default(), Ledger::default()),
    };
    let decision = decide(&lead, &roster, &routing, &ledger, at);
    if as_json {
        output::print_json(&in_json(&decision, language));
    } else {
        output::print(&in_text(&decision, language));
    }
    Ok(0)
}

/// The contact of a client of this person, by whatever a queue recognises him.
fn client_of(name: &str, routing: &Routing, at: Timestamp) -> Result<Vec<Tie>, Failure> {
    let person = routing.person(name).ok_or_else(|| {
        let known = routing.people().map(|person| person.name.as_str());
        let hint = distribution::nearest(name, known);
        Failure::arguments(format!("--client-of: nobody is called `{name}` in the routing file{hint}"))
    })?;
    let tie = |by| Tie { owner: person.user, by, of: TieOf::Contact, at };
    Ok([TieBy::Contact, TieBy::Company, TieBy::Phone, TieBy::Email].map(tie).to_vec())
}

fn in_text(decision: &Decision, language: Language) -> String {
    let mut text = decision.explanation().text(language);
    if let Decision::Assign(assignment) = decision {
        let Orders { set, deal } = &assignment.orders;
        if let Some(deal) = deal {
            let stage = deal.stage.as_deref().map(|stage| format!(", {stage}")).unwrap_or_default();
            let word = match language {
                Language::English => "A deal is created in funnel",
                Language::Russian => "Создаётся сделка в воронке",
            };
            text.push_str(&[word, " ", &deal.category.to_string(), &stage, ".\n"].concat());
        }
        for (field, value) in set {
            let word = match language {
                Language::English => "Set:",
                Language::Russian => "Записывается:",
            };
            text.push_str(&[word, " ", field, " = ", &value.to_string(), "\n"].concat());
        }
    }
    text
}

fn in_json(decision: &Decision, language: Language) -> Value {
    let why = decision.explanation();
    let (outcome, person, user, orders) = match decision {
        Decision::Assign(assignment) => {
            ("assign", Some(&assignment.person), Some(assignment.user), Some(&assignment.orders))
        }
        Decision::Hold(_) => ("hold", None, None, None),
        Decision::Skip(_) => ("skip", None, None, None),
    };
    let until = match decision {
        Decision::Hold(hold) => hold.until,
        Decision::Assign(_) | Decision::Skip(_) => None,
    };
    let reason = match language {
        Language::English => why.summary(),
        // The line in one language; the text in the others says first what was decided.
        Language::Russian => why.text(language).lines().next().unwrap_or_default().to_owned(),
    };
    let candidates: Vec<Value> =
        why.candidates.iter().map(|candidate| in_json_candidate(why, candidate, language)).collect();
    json!({
        "outcome": outcome,
        "rule": why.rule,
        "cases": why.cases,
        "client": why.client,
        "queue": why.queue,
        "person": person,
        "user": user,
        "reason": reason,
        "code": why.taken().and_then(|taken| json!(taken).get("reason").cloned()),
        "credit": why.taken().and_then(|taken| taken.credit).map(|credit| credit.compared.to_string()),
        "version": Some(why.routing_version).filter(|version| *version > 0),
        "until": until,
        "candidates": candidates,
        "deal": orders.and_then(|orders| orders.deal.as_ref()),
        "set": orders.map(|orders| &orders.set).filter(|set| !set.is_empty()),
        "explanation": why,
    })
}

fn in_json_candidate(why: &Explanation, candidate: &Candidate, language: Language) -> Value {
    // The word for programs stands in the structured form as `reason`.
    let structured = json!(candidate);
    json!({
        "person": candidate.person,
        "user": candidate.user,
        "role": candidate.role,
        "queue": candidate.queue,
        "eligible": candidate.eligible,
        "taken": candidate.reason.is_taken(),
        "code": structured.get("reason"),
        "reason": why.reason(candidate, language),
        "until": structured.get("until"),
        "credit": candidate.credit.map(|credit| credit.compared.to_string()),
    })
}
