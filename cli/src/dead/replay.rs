//! `rota dead replay`: begins a replay, says how far it is, ends it.

use clap::Args;
use common::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use store::{KeptLetter, NewReplay, Refused, Replay, ReplayState, Replays as _};

use super::filter::{Which, work_queues};
use super::{Desk, Source, count, listed, meant_letters, moment, refused};
use crate::failure::Failure;
use crate::output;
use crate::published::Author;

/// It is done, and something is worth a look.
const WITH_WARNINGS: u8 = 1;

/// How many replays are shown.
const SHOWN: u32 = 5;

/// A slower one would take years, a faster one would not leave new leads first.
const RATES: std::ops::RangeInclusive<f64> = 0.01..=100.0;

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option that may be given or not")]
pub(crate) struct Replaying {
    #[command(flatten)]
    which: Which,
    /// How many are sent in a second.
    #[arg(long, default_value_t = 5.0, value_name = "PER_SECOND")]
    rate: f64,
    /// Has the leads decided anew by the routing and the people of now, where what was decided is not carried out.
    #[arg(long)]
    decide_again: bool,
    /// Says which these are, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Says how far the replay is that runs, and how the last ones ended.
    #[arg(long, conflicts_with_all = ["cancel", "dry_run", "decide_again"])]
    status: bool,
    /// Ends the replay that runs. What it has not sent waits as before.
    #[arg(long, conflicts_with_all = ["dry_run", "decide_again"])]
    cancel: bool,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    author: Author,
    #[command(flatten)]
    source: Source,
}

pub(super) async fn run(replaying: Replaying) -> Result<u8, Failure> {
    let config = replaying.source.config()?;
    if (replaying.status || replaying.cancel) && !replaying.which.is_empty() {
        return Err(Failure::arguments(
            "there is one replay at a time: --status and --cancel need neither numbers nor filters",
        ));
    }
    if replaying.status {
        return status(&Desk::open(config).await?, replaying.json).await;
    }
    if replaying.cancel {
        return cancel(&Desk::open(config).await?, &replaying.author, replaying.json).await;
    }
    if !RATES.contains(&replaying.rate) {
        let (low, high) = (RATES.start(), RATES.end());
        return Err(Failure::arguments(format!("--rate must be {low} to {high}")));
    }
    let meant = replaying.which.read(&config, SystemClock.now())?;
    let desk = Desk::open(config).await?;
    let letters = meant_letters(&desk, &meant).await?;
    begin(&desk, letters, &replaying).await
}

/// Why a letter cannot be sent to where it failed.
fn unsendable(kept: &KeptLetter, queues: &[String]) -> Option<String> {
    match &kept.letter.queue {
        Some(queue) if queues.contains(queue) => None,
        Some(queue) => Some(format!("its queue {queue} is not in the configuration")),
        None => Some("it does not say in which queue it failed".to_owned()),
    }
}

async fn begin(desk: &Desk, letters: Vec<KeptLetter>, replaying: &Replaying) -> Result<u8, Failure> {
    let queues = work_queues(&desk.config);
    let (mut sendable, mut left_out) = (Vec::new(), Vec::new());
    for kept in letters {
        match unsendable(&kept, &queues) {
            None => sendable.push(kept),
            Some(why) => left_out.push((kept.id, why)),
        }
    }
    let whole = replaying.which.by_number() || sendable.is_empty();
    if let Some((id, why)) = left_out.first().filter(|_| whole) {
        return Err(Failure::file(format!(
            "dead letter {id} cannot be sent again: {why}; nothing was changed"
        )));
    }
    let wrong = sendable.iter().find_map(|kept| match (&kept.settled, kept.in_replay) {
        (_, Some(replay)) => Some(Refused::InReplay { letter: kept.id, replay }),
        (Some((_, settlement)), None) if kept.sent.is_none() => {
            Some(Refused::Settled { letter: kept.id, settlement: settlement.clone() })
        }
        (_, None) => None,
    });
    if let Some(wrong) = wrong {
        return Err(refused(&wrong));
    }
    let ids: Vec<u64> = sendable.iter().map(|kept| kept.id).collect();
    let mut replay = None;
    if !replaying.dry_run {
        let new = NewReplay {
            letters: ids.clone(),
            what: replaying.which.words(),
            author: replaying.author.name(),
            per_second: replaying.rate,
            decide_again: replaying.decide_again,
            at: SystemClock.now(),
        };
        replay = Some(desk.store.start_replay(&new).await?.map_err(|error| refused(&error))?);
    }
    let left: Vec<Value> = left_out.iter().map(|(id, why)| json!({ "id": id, "why": why })).collect();
    match replay {
        _ if replaying.json => {
            output::print_json(&json!({ "replay": replay, "letters": ids, "left_out": left }));
        }
        None => {
            output::print(&listed(&sendable));
            output::print(&format!("{} would be sent again; nothing was changed\n", count(ids.len())));
        }
        Some(replay) => {
            let rate = replaying.rate;
            let hint = "`rota dead replay --status` says how far it is";
            output::print(&format!(
                "replay {replay}: {} to be sent again, {rate} in a second; {hint}\n",
                count(ids.len())
            ));
        }
    }
    for (id, why) in &left_out {
        output::complain(&format!("dead letter {id} is left out: {why}"));
    }
    Ok(if left_out.is_empty() { 0 } else { WITH_WARNINGS })
}

async fn status(desk: &Desk, as_json: bool) -> Result<u8, Failure> {
    let replays = desk.store.replays(SHOWN).await?;
    if as_json {
        output::print_json(&Value::Array(replays.iter().map(in_json).collect()));
    } else if replays.is_empty() {
        output::print("nothing was ever sent again\n");
    } else {
        output::print(&replays.iter().map(in_text).collect::<String>());
    }
    Ok(0)
}

async fn cancel(desk: &Desk, author: &Author, as_json: bool) -> Result<u8, Failure> {
    let cancelled = desk.store.cancel_replay(&author.name(), SystemClock.now()).await?;
    let cancelled = cancelled.ok_or_else(|| Failure::file("no replay is running; nothing was changed"))?;
    if as_json {
        output::print_json(&in_json(&cancelled));
    } else {
        output::print(&in_text(&cancelled));
    }
    Ok(0)
}

fn word(state: ReplayState) -> &'static str {
    match state {
        ReplayState::Running => "running",
        ReplayState::Done => "done",
        ReplayState::Cancelled => "cancelled",
    }
}

fn in_text(replay: &Replay) -> String {
    let ended = match (replay.state, replay.ended_at) {
        (ReplayState::Cancelled, Some(at)) => {
            format!(", cancelled {} by {}", moment(at), replay.ended_by.as_deref().unwrap_or("unknown"))
        }
        (ReplayState::Done, Some(at)) => format!(", done {}", moment(at)),
        (ReplayState::Running | ReplayState::Done | ReplayState::Cancelled, _) => {
            format!(", running, {} in a second", replay.per_second)
        }
    };
    let again = if replay.decide_again { ", decided anew" } else { "" };
    let mut text = format!(
        "replay {} of {} ({}{again}), begun {}{ended}: {} of {} sent\n",
        replay.id,
        replay.author,
        replay.what,
        moment(replay.created_at),
        replay.sent,
        replay.letters,
    );
    for (letter, problem) in &replay.problems {
        text.push_str(&["  dead letter ", &letter.to_string(), " was not sent: ", problem, "\n"].concat());
    }
    text
}

fn in_json(replay: &Replay) -> Value {
    let problem = |(letter, problem): &(u64, String)| json!({ "id": letter, "why": problem });
    json!({
        "replay": replay.id,
        "what": replay.what,
        "author": replay.author,
        "per_second": replay.per_second,
        "decide_again": replay.decide_again,
        "state": word(replay.state),
        "created_at": replay.created_at,
        "ended_at": replay.ended_at,
        "ended_by": replay.ended_by,
        "letters": replay.letters,
        "sent": replay.sent,
        "not_sent": replay.problems.iter().map(problem).collect::<Vec<_>>(),
    })
}
