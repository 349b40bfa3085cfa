//! What a run shows, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use super::fault::Fault;
use super::schedule::Schedule;
use super::stage_play::Played;
use super::story::{Lead, Portal};
use super::verdict::Verdict;
use crate::portal::Logged;

/// A lead that waits no longer than this does not count as waiting.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Stories that are printed; all are in the files.
const STORIES: usize = 10;

/// The table, the sums, and all that is wrong with the stories of the leads.
pub(super) fn report(played: &Played, verdict: &Verdict) -> String {
    let portal = Portal::of(&played.log);
    let mut text = String::new();
    let seed = played.options.seed;
    let heads = ["fault", "times", "told twice"];
    line(
        &mut text,
        &format!(
            "{:<17} {:>5}  {:>10}  until a lead is given: median, longest",
            heads[0], heads[1], heads[2]
        ),
    );
    for (fault, (times, waits)) in recoveries(played, &portal) {
        let doubled = verdict.doubled.get(&fault).copied().unwrap_or_default();
        line(&mut text, &format!("{fault:<17} {times:>5}  {doubled:>10}  {}", spread(&waits)));
    }
    let ends: Vec<String> = verdict.ends.iter().map(|(end, count)| format!("{end} {count}")).collect();
    line(&mut text, &format!("\nleads             {}: {}", verdict.leads, ends.join(", ")));
    line(&mut text, &format!("lost              {}", verdict.lost));
    let doubled: usize = verdict.doubled.values().sum();
    line(&mut text, &format!("told twice        {doubled}, each in doubt after a lost answer"));
    line(
        &mut text,
        &format!("taken back        {} from a person within the documented window", verdict.taken_back),
    );
    line(&mut text, &format!("dead letters      {} that faults explain", verdict.dead));
    line(
        &mut text,
        &format!("too fast          {} of {} requests", played.stats.refused, played.stats.requests),
    );
    line(&mut text, &format!("lead to owner     {}", spread(&verdict.waits)));
    let quiet = played.quiet.map_or_else(|| "never".to_owned(), |at| seconds(between(played.faults_end, at)));
    line(
        &mut text,
        &format!(
            "after the faults  oldest waiting lead under 5 s {}, all quiet {quiet}",
            fresh(played, &portal)
        ),
    );
    if verdict.violations.is_empty() {
        line(&mut text, &format!("seed {seed}: passed"));
        return text;
    }
    line(&mut text, &format!("\nseed {seed}: FAILED, {} violations", verdict.violations.len()));
    for wrong in &verdict.violations {
        let lead = wrong.lead.map_or_else(String::new, |lead| format!("lead {lead}: "));
        line(&mut text, &format!("  {}: {lead}{}", wrong.rule, wrong.text));
    }
    let leads: BTreeSet<u64> = verdict.violations.iter().filter_map(|wrong| wrong.lead).collect();
    for lead in leads.into_iter().take(STORIES) {
        line(&mut text, &format!("\n{}", portal.tell(lead, played)));
    }
    text
}

fn line(text: &mut String, line: &str) {
    // Writing into a text does not fail.
    writeln!(text, "{line}").ok();
}

/// How often each fault came, and how long it took from its end until a lead that came later was given. For what befell
/// one lead alone: until that lead was.
fn recoveries(played: &Played, portal: &Portal<'_>) -> BTreeMap<Fault, (usize, Vec<Duration>)> {
    let mut all: BTreeMap<Fault, (usize, Vec<Duration>)> = BTreeMap::new();
    let mut add = |fault: Fault, wait: Option<Duration>| {
        let (times, waits) = all.entry(fault).or_default();
        *times += 1;
        waits.extend(wait);
    };
    for done in &played.disturbances {
        add(done.fault, next_given(portal, done.to));
    }
    for entry in &played.log {
        if let Logged::Fault { kind, status, .. } = &entry.what
            && let Some(fault) = Fault::logged(kind, *status)
        {
            add(fault, next_given(portal, entry.at));
        }
    }
    let schedule = Schedule::of(&played.options);
    for (arrival, lead) in schedule.leads.iter().zip(portal.leads.values()) {
        let own = given(lead).map(|at| between(lead.added, at));
        if arrival.events.is_empty() {
            add(Fault::EventLost, own);
        }
        if arrival.events.len() > 1 {
            add(Fault::EventDoubled, own);
        }
        if arrival.events.iter().any(|after| !after.is_zero()) {
            add(Fault::EventLate, own);
        }
        if arrival.taken.is_some() {
            add(Fault::PersonTakes, own);
        }
    }
    for (_, waits) in all.values_mut() {
        waits.sort();
    }
    all
}

/// When a lead got its first owner beside the one it came with.
fn given(lead: &Lead) -> Option<Timestamp> {
    lead.owners.iter().find(|owner| owner.changes()).map(|owner| owner.at)
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

fn next_given(portal: &Portal<'_>, end: Timestamp) -> Option<Duration> {
    let later = portal.leads.values().filter(|lead| lead.added >= end);
    later.filter_map(given).min().map(|at| between(end, at))
}

/// How long after the last fault no lead waited for more than a moment any more.
fn fresh(played: &Played, portal: &Portal<'_>) -> String {
    let waited = |lead: &Lead| given(lead).filter(|at| between(lead.added, *at) > AT_ONCE);
    let last = portal.leads.values().filter_map(waited).max();
    seconds(last.map_or(Duration::ZERO, |at| between(played.faults_end, at)))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Of sorted times.
fn spread(times: &[Duration]) -> String {
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(longest)) => format!("{:>7}, {:>7}", seconds(*median), seconds(*longest)),
        _ => "      -".to_owned(),
    }
}
