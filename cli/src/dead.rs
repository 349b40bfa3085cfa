//! Messages that wait for a human: `rota dead list`, `show`, `replay`, `discard`.

mod end;
mod filter;
mod replay;

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use common::clock::{Clock as _, SystemClock};
use common::config::Config;
use jiff::Timestamp;
use serde_json::{Value, json};
use store::postgres::Postgres;
use store::{DeadLetters as _, KeptLetter, LetterFilter, Refused};

use crate::dead::filter::{Filter, Which};
use crate::dead::replay::Replaying;
use crate::failure::Failure;
use crate::files::configuration;
use crate::output::{self, text_table};
use crate::published::{Author, store_of};

/// Reasons longer than this are cut in the table.
const REASON_CHARS: usize = 80;

#[derive(Subcommand)]
pub(crate) enum Dead {
    /// Lists dead letters, oldest first.
    List {
        #[command(flatten)]
        filter: Filter,
        /// Those too that were dealt with.
        #[arg(long)]
        settled: bool,
        /// How many at the most; how many more there are is said.
        #[arg(long, default_value_t = 50, value_name = "NUMBER")]
        limit: usize,
        /// A JSON list instead of a table; whole, unless --limit is given.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Shows one dead letter with its bytes, and what became of it.
    Show {
        /// Its number, as `rota dead list` shows it.
        #[arg(value_name = "ID")]
        id: u64,
        /// Only the bytes, as they came.
        #[arg(long, conflicts_with = "json")]
        raw: bool,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Sends dead letters again: routers do that, slowly enough that new leads go first.
    ///
    /// Each goes through the queue it failed in, and finds what was decided and done about its lead before: nothing is
    /// done twice. One replay runs at a time; a router that dies is followed by another.
    ///
    /// Example: rota dead replay --portal acme --class transient --newer-than 4h --dry-run
    Replay(Replaying),
    /// Notes that dead letters need nobody any more. They stay in the list of those that were dealt with.
    ///
    /// Example: rota dead discard 17 18 --reason "given by hand"
    Discard {
        #[command(flatten)]
        which: Which,
        /// Why, for those who look later.
        #[arg(long = "note", value_name = "TEXT")]
        note: Option<String>,
        /// Says which these are, and changes nothing.
        #[arg(long)]
        dry_run: bool,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        author: Author,
        #[command(flatten)]
        source: Source,
    },
}

/// Which store.
#[derive(Args)]
pub(crate) struct Source {
    /// The configuration that the stages run with: its database is used.
    #[arg(long, env = "ROTA_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: PathBuf,
}

/// A store, and the configuration that names it.
struct Desk {
    store: Postgres,
    config: Config,
}

impl Source {
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        configuration(Some(&self.config))
    }
}

impl Desk {
    async fn open(config: Config) -> Result<Self, Failure> {
        Ok(Self { store: store_of(&config).await?, config })
    }
}

pub(crate) async fn run(command: Dead) -> Result<u8, Failure> {
    match command {
        Dead::List { filter, settled, limit, json, source } => {
            let config = source.config()?;
            let meant = LetterFilter { settled, ..filter.read(&config, SystemClock.now())? };
            let desk = Desk::open(config).await?;
            list(&desk, &meant, limit, json).await
        }
        Dead::Show { id, raw, json, source } => {
            let desk = Desk::open(source.config()?).await?;
            show(&desk, id, raw, json).await
        }
        Dead::Replay(replaying) => replay::run(replaying).await,
        Dead::Discard { which, note, dry_run, json, author, source } => {
            let config = source.config()?;
            let meant = which.read(&config, SystemClock.now())?;
            let desk = Desk::open(config).await?;
            discard(&desk, &meant, note, dry_run, &author, json).await
        }
    }
}

async fn list(desk: &Desk, meant: &LetterFilter, limit: usize, as_json: bool) -> Result<u8, Failure> {
    let letters = desk.store.find_letters(meant).await?;
    let shown = letters.get(..limit).unwrap_or(&letters);
    if as_json {
        output::print_json(&Value::Array(shown.iter().map(in_json).collect()));
        return Ok(0);
    }
    output::print(&listed(shown));
    if letters.len() > shown.len() {
        output::print(&format!("… and {} more\n", letters.len() - shown.len()));
    }
    Ok(0)
}

fn listed(letters: &[KeptLetter]) -> String {
    if letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let row = |kept: &KeptLetter| {
        let letter = &kept.letter;
        vec![
            kept.id.to_string(),
            moment(letter.died_at),
            letter.lead.map(|lead| lead.to_string()).unwrap_or_default(),
            letter.queue.clone().unwrap_or_default(),
            letter.class.clone(),
            cut(&letter.reason),
            end::words(kept),
        ]
    };
    let rows: Vec<Vec<String>> = letters.iter().map(row).collect();
    text_table(&["id", "died", "lead", "queue", "class", "reason", "what became of it"], &rows)
}

/// What became of a letter, in words.
pub(crate) fn end_of(kept: &KeptLetter) -> String {
    end::words(kept)
}

fn cut(reason: &str) -> String {
    let line = reason.replace(['\n', '\r', '\t'], " ");
    if line.chars().count() <= REASON_CHARS {
        return line;
    }
    line.chars().take(REASON_CHARS - 1).chain(['…']).collect()
}

pub(crate) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

async fn show(desk: &Desk, id: u64, raw: bool, as_json: bool) -> Result<u8, Failure> {
    let meant = LetterFilter { ids: Some(vec![id]), settled: true, ..LetterFilter::default() };
    let kept = desk.store.find_letters(&meant).await?.pop();
    let kept = kept.ok_or_else(|| refused(&Refused::Unknown(id)))?;
    if raw {
        let mut out = std::io::stdout().lock();
        // Nothing can be told where stdout is closed.
        drop(out.write_all(&kept.letter.body).and_then(|()| out.flush()));
    } else if as_json {
        output::print_json(&in_json(&kept));
    } else {
        output::print(&in_text(&kept));
    }
    Ok(0)
}

fn in_text(kept: &KeptLetter) -> String {
    let letter = &kept.letter;
    let unknown = || "not known".to_owned();
    let lines = [
        ("dead letter", kept.id.to_string()),
        ("what became of it", end::words(kept)),
        ("portal", letter.portal.clone().unwrap_or_else(unknown)),
        ("lead", letter.lead.map_or_else(unknown, |lead| lead.to_string())),
        ("queue", letter.queue.clone().unwrap_or_else(unknown)),
        ("class", letter.class.clone()),
        ("reason", letter.reason.clone()),
        ("attempts", letter.attempt.to_string()),
        ("first seen", letter.first_seen.map_or_else(unknown, moment)),
        ("died", moment(letter.died_at)),
        ("message", format!("{} ({})", letter.message_id, letter.kind)),
    ];
    let lines: Vec<String> = lines.iter().map(|(name, value)| format!("{name:<18} {value}")).collect();
    format!("{}\n\n{}\n", lines.join("\n"), body(&letter.body))
}

/// As text where it is UTF-8; else each byte that is no plain character as `\xff`.
fn body(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string(), str::to_owned)
}

fn in_json(kept: &KeptLetter) -> Value {
    let letter = &kept.letter;
    let (settled_at, settlement) = kept.settled.clone().unzip();
    let text = std::str::from_utf8(&letter.body).ok();
    json!({
        "id": kept.id,
        "portal": letter.portal,
        "lead": letter.lead,
        "queue": letter.queue,
        "class": letter.class,
        "reason": letter.reason,
        "attempts": letter.attempt,
        "first_seen": letter.first_seen,
        "died_at": letter.died_at,
        "message_id": letter.message_id,
        "type": letter.kind,
        "traceparent": letter.traceparent,
        "body": text,
        "body_escaped": letter.body.escape_ascii().to_string(),
        "settled_at": settled_at,
        "settlement": settlement,
        "replay": kept.sent.map(|(replay, _)| replay).or(kept.in_replay),
        "end": end::words(kept),
    })
}

/// Reads the letters that are meant, all of them or none.
async fn meant_letters(desk: &Desk, meant: &LetterFilter) -> Result<Vec<KeptLetter>, Failure> {
    let letters = desk.store.find_letters(meant).await?;
    let found = |id: &&u64| letters.iter().any(|kept| kept.id == **id);
    if let Some(unknown) = meant.ids.iter().flatten().find(|id| !found(id)) {
        return Err(refused(&Refused::Unknown(*unknown)));
    }
    if letters.is_empty() {
        let hint = "`rota dead list` shows what waits";
        return Err(Failure::file(format!("no dead letter is like that; nothing was changed. {hint}")));
    }
    Ok(letters)
}

fn refused(refused: &Refused) -> Failure {
    let hint = match refused {
        Refused::Unknown(_) => "`rota dead list --settled` shows all there are",
        Refused::Settled { .. } => "it can be looked at by `rota dead show`",
        Refused::InReplay { .. } | Refused::Runs { .. } => {
            "`rota dead replay --status` says how far that is, `rota dead replay --cancel` ends it"
        }
    };
    Failure::file(format!("{refused}; nothing was changed. {hint}"))
}

async fn discard(
    desk: &Desk,
    meant: &LetterFilter,
    note: Option<String>,
    dry_run: bool,
    author: &Author,
    as_json: bool,
) -> Result<u8, Failure> {
    let letters = meant_letters(desk, meant).await?;
    let wrong = letters.iter().find_map(|kept| match (&kept.settled, kept.in_replay) {
        (_, Some(replay)) => Some(Refused::InReplay { letter: kept.id, replay }),
        (Some((_, settlement)), None) => {
            Some(Refused::Settled { letter: kept.id, settlement: settlement.clone() })
        }
        (None, None) => None,
    });
    if let Some(wrong) = wrong {
        return Err(refused(&wrong));
    }
    let ids: Vec<u64> = letters.iter().map(|kept| kept.id).collect();
    if !dry_run {
        let note = note.map(|note| format!(": {note}")).unwrap_or_default();
        let settlement = format!("discarded by {}{note}", author.name());
        let settled = desk.store.settle_letters(&ids, &settlement, SystemClock.now()).await?;
        settled.map_err(|error| refused(&error))?;
    }
    if as_json {
        output::print_json(&json!({ "discarded": ids, "dry_run": dry_run }));
    } else if dry_run {
        output::print(&listed(&letters));
        output::print(&format!("{} would be discarded; nothing was changed\n", count(ids.len())));
    } else {
        output::print(&format!("{} discarded\n", count(ids.len())));
    }
    Ok(0)
}

fn count(letters: usize) -> String {
    if letters == 1 { "1 dead letter".to_owned() } else { format!("{letters} dead letters") }
}
