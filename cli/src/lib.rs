//! The command `rota`: looks at routing files before they decide anything.
//!
//! Exit codes: 0 done, 1 done and something is worth a look, 64 wrong arguments, 65 a file cannot be read or is wrong.

mod check;
mod explain;
mod failure;
mod files;
mod output;
mod roster;
mod simulate;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use distribution::Language;

use crate::failure::{Failure, WRONG_ARGUMENTS};

/// Checks and tries routing files: who gets which Bitrix24 lead, and why.
#[derive(Parser)]
#[command(name = "rota", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Finds what is wrong with routing files, with line and column.
    ///
    /// Ends with 0 when nothing is, with 1 when there are warnings only, with 65 when there are errors.
    Check {
        /// The routing files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// One JSON object for each file instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Says who would get a lead, and why. Nothing is changed anywhere.
    ///
    /// Example: rota explain routing.yaml --lead lead.json --at 2026-11-23T22:15:00+03:00 --roster roster.json
    Explain {
        /// The routing file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The lead as `crm.lead.get` answers it.
        #[arg(long, value_name = "FILE")]
        lead: PathBuf,
        /// When it is decided: `2026-11-23T22:15:00+03:00`, or `2026-11-23T22:15` in the routing file's time zone. Now, without.
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// Who is there, who is not, and the credits; without it everybody is there and all credits are zero.
        #[arg(long, value_name = "FILE")]
        roster: Option<PathBuf>,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
        /// Of the text: en or ru.
        #[arg(long, default_value_t, value_name = "LANGUAGE")]
        language: Language,
    },
    /// Runs a file of leads through a routing file, one after the other, and shows who would have got how many.
    ///
    /// A lead comes at the time of its DATE_CREATE. Held leads are decided again when somebody may take them.
    Simulate {
        /// The routing file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The leads, one in a line, as `crm.lead.get` answers them.
        #[arg(long, value_name = "FILE")]
        leads: PathBuf,
        /// Another routing file to compare with.
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        /// Who is there, who is not, and the credits at the beginning.
        #[arg(long, value_name = "FILE")]
        roster: Option<PathBuf>,
        /// One JSON object instead of tables.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { WRONG_ARGUMENTS } else { 0 };
            // Nothing can be told where stdout and stderr are closed.
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    match run(arguments.command) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output::complain(&failure.to_string());
            ExitCode::from(failure.code)
        }
    }
}

fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Check { files, json } => check::run(&files, json),
        Command::Explain { file, lead, at, roster, json, language } => {
            let input =
                explain::Input { file: &file, lead: &lead, at: at.as_deref(), roster: roster.as_deref() };
            explain::run(input, json, language)
        }
        Command::Simulate { file, leads, against, roster, json } => {
            let input = simulate::Input { leads: &leads, roster: roster.as_deref() };
            simulate::run(&file, against.as_deref(), input, json)
        }
    }
}
