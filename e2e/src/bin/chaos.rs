//! `make chaos`: everything goes wrong that can; then the portal's own log must agree with the store.
//!
//! docs/RELIABILITY.md says what is promised and how to read the table. Exit code 1 where a promise is broken: the stories
//! of the leads are printed, and everything that is known is left in a folder.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use e2e::chaos::{self, Fault, Options};

/// Kills, breaks and loses everything for some minutes, and checks that no lead was lost and the record is true.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long leads and faults come, in minutes; some more pass until all is quiet.
    #[arg(long, default_value_t = 5.0, value_parser = minutes)]
    minutes: f64,
    /// The seed of the first run; without it one is drawn.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds are played, one after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Leads in a second.
    #[arg(long, default_value_t = 15.0, value_parser = rate)]
    rate: f64,
    /// Only these faults, by their names in the table.
    #[arg(long, value_delimiter = ',', default_values_t = Fault::ALL)]
    faults: Vec<Fault>,
    /// Where everything that is known about a run that failed is left, in a folder for each seed.
    #[arg(long, default_value = "target/chaos")]
    evidence: PathBuf,
}

fn minutes(text: &str) -> Result<f64, String> {
    between(text, 0.1..=600.0)
}

fn rate(text: &str) -> Result<f64, String> {
    between(text, 0.1..=100.0)
}

fn between(text: &str, range: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("a number from {} to {} is needed", range.start(), range.end()))
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let played = tokio::select! {
        result = run(&arguments) => result,
        _ = tokio::signal::ctrl_c() => {
            say("\nStopping. Everything that was started ends, and its files are removed.");
            return ExitCode::from(130);
        }
    };
    match played {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            say(&format!("\n{failed} of {} seeds failed", arguments.seeds));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("chaos: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Plays all seeds; answers how many failed.
async fn run(arguments: &Arguments) -> anyhow::Result<usize> {
    let first = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u16>()));
    let mut failed = 0;
    for seed in (0..arguments.seeds).map(|number| first.wrapping_add(number)) {
        let options = Options {
            seed,
            lasts: Duration::from_secs_f64(arguments.minutes * 60.0),
            per_second: arguments.rate,
            faults: arguments.faults.iter().copied().collect(),
        };
        say(&format!(
            "seed {seed}: {} min of {} leads/s; play it again by `make chaos SEED={seed} MINUTES={}`",
            arguments.minutes, arguments.rate, arguments.minutes
        ));
        let played =
            chaos::play(&options).await.with_context(|| format!("seed {seed} could not be played"))?;
        let verdict = played.verdict();
        say(&played.report(&verdict));
        if !verdict.violations.is_empty() {
            failed += 1;
            let folder = arguments.evidence.join(seed.to_string());
            played.write(&folder)?;
            say(&format!("everything that is known is in {}\n", folder.display()));
        }
    }
    Ok(failed)
}

#[expect(clippy::print_stdout, reason = "this program is there to be read")]
fn say(line: &str) {
    println!("{line}");
}
