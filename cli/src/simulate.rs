//! `rota simulate`: a file of leads, one after the other, through a routing file.
//!
//! Credits are kept from lead to lead, and so is what limits look at: how many leads somebody was given in the last 60
//! minutes and since his midnight. What the roster file says holds all the time; so does the number of open leads, because
//! nothing tells when one is closed.

mod lines;
mod report;
mod world;

use std::path::Path;

use common::clock::{Clock as _, SystemClock};
use distribution::{Lead, Ledger, Roster, Routing};
use jiff::Timestamp;

use crate::failure::Failure;
use crate::{files, output, roster};
use report::Report;
use world::World;

/// What is run through the routing.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) leads: &'a Path,
    pub(crate) roster: Option<&'a Path>,
}

/// A lead and when it came.
pub(crate) struct Arrival {
    pub(crate) lead: Lead,
    pub(crate) at: Timestamp,
}

/// Runs the leads through the file, and through another to compare with. Ends with 1 when a line was no lead.
pub(crate) fn run(
    file: &Path,
    against: Option<&Path>,
    input: Input<'_>,
    as_json: bool,
) -> Result<u8, Failure> {
    let routings: Vec<(&Path, Routing)> = [Some(file), against]
        .into_iter()
        .flatten()
        .map(|path| Ok((path, files::routing(path)?)))
        .collect::<Result<_, Failure>>()?;
    let (arrivals, bad_lines) = arrivals(&files::text(input.leads)?);
    for (line, error) in &bad_lines {
        output::complain(&format!("{}:{line}: {error}; the line is left out", input.leads.display()));
    }
    if arrivals.is_empty() {
        return Err(Failure::file(format!("{}: there is no lead in it", input.leads.display())));
    }
    let reports: Vec<Report> = routings
        .iter()
        .map(|(path, routing)| {
            let (routing, roster, ledger) = match input.roster {
                Some(path) => roster::read(path, routing)?,
                None => (routing.clone(), Roster::default(), Ledger::default()),
            };
            let mut world = World::new(&routing, roster, ledger);
            for arrival in &arrivals {
                world.receive(arrival);
            }
            world.drain();
            Ok(Report::new(path, &routing, world.into_tally()))
        })
        .collect::<Result<_, Failure>>()?;
    if as_json {
        output::print_json(&report::in_json(&reports, bad_lines.len()));
    } else {
        output::print(&report::in_text(&reports));
    }
    Ok(u8::from(!bad_lines.is_empty()))
}

/// The leads of a file in the order of their times, and the lines that are none, by number. A lead without a time comes
/// with the one before it; where there is none, now.
fn arrivals(text: &str) -> (Vec<Arrival>, Vec<(usize, String)>) {
    let (mut arrivals, mut bad) = (Vec::new(), Vec::new());
    let mut last = None;
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        match files::lead_in(line) {
            Ok(lead) => {
                let at = lead.created_at().or(last).unwrap_or_else(|| SystemClock.now());
                last = Some(at);
                arrivals.push(Arrival { lead, at });
            }
            Err(error) => bad.push((number, error)),
        }
    }
    arrivals.sort_by_key(|arrival: &Arrival| arrival.at);
    (arrivals, bad)
}
