//! The command `rota`: looks at routing files before they decide anything, and publishes them.
//!
//! Exit codes: 0 done, 1 done and something is worth a look, 64 wrong arguments, 65 a file cannot be read or is wrong,
//! 69 the database cannot be reached, 70 it did not do what was asked.

mod check;
mod dead;
mod explain;
mod failure;
mod files;
mod lead;
mod migrate;
mod output;
mod people;
mod portal;
mod published;
mod roster;
mod simulate;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use distribution::{Language, LeadId};

use crate::dead::Dead;
use crate::failure::{Failure, WRONG_ARGUMENTS};
use crate::people::People;
use crate::portal::Portal;
use crate::published::{Author, Place};

/// Checks and tries routing files: who gets which Bitrix24 lead, and why.
#[derive(Parser)]
#[command(name = "rota", version, disable_help_subcommand = true, max_term_width = 100)]
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
        /// As if the lead's client were this person's, for queues that are `sticky`; without it nobody knows whose he is.
        #[arg(long, value_name = "PERSON")]
        client_of: Option<String>,
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
    /// Makes a routing file the one that decides, as a new version. A file with errors changes nothing.
    Publish {
        /// The routing file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Why, for those who look at the versions later.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        #[command(flatten)]
        author: Author,
        #[command(flatten)]
        place: Place,
    },
    /// Lists the published versions, newest first; the one that decides has a star.
    Versions {
        /// Prints the routing file of this version instead.
        #[arg(long, value_name = "NUMBER")]
        show: Option<u64>,
        /// A JSON list instead of a table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Makes a version that was published before the one that decides.
    Rollback {
        /// The version's number.
        #[arg(value_name = "NUMBER")]
        version: u64,
        #[command(flatten)]
        author: Author,
        #[command(flatten)]
        place: Place,
    },
    /// Shows how many turns each person is owed, or has had too many.
    Credits {
        /// A JSON list instead of a table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Gives a member of a queue turns, or takes them with a number below zero. The other members pay or get them.
    Correct {
        /// The queue.
        #[arg(value_name = "QUEUE")]
        queue: String,
        /// The member, by his name in the routing file.
        #[arg(value_name = "PERSON")]
        person: String,
        /// How many turns, such as 1 or -0.5.
        #[arg(value_name = "TURNS", allow_negative_numbers = true)]
        turns: f64,
        /// Why, for those who look at the ledger later.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        author: Author,
        #[command(flatten)]
        place: Place,
    },
    /// Shows who is at work, and notes pauses and absences.
    #[command(subcommand)]
    People(People),
    /// Tells the whole story of a lead in the order of time: what was decided and why, what was done, what failed.
    ///
    /// From the database alone; the portal is not asked.
    #[command(visible_alias = "why")]
    Lead {
        /// The lead's id.
        #[arg(value_name = "LEAD")]
        lead: LeadId,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
        /// Of the text: en or ru.
        #[arg(long, default_value_t, value_name = "LANGUAGE")]
        language: Language,
        #[command(flatten)]
        place: Place,
    },
    /// Shows messages that wait for a human, sends them again, or puts them aside.
    #[command(subcommand)]
    Dead(Dead),
    /// Brings the database's schema up to date and grants the roles of an installation, those that are there, what each needs.
    ///
    /// For installations where each process has a role of its own: run it as the role that owns the database, before the
    /// stages of a new version start. Where one role does everything the stages do this by themselves.
    Migrate {
        /// The configuration whose database is used; without it, `ROTA__DATABASE__URL` or `ROTA__DATABASE__URL_FILE`.
        #[arg(long, env = "ROTA_CONFIG", hide_env_values = true, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Shows where portals have moved to, and forgets it.
    #[command(subcommand)]
    Portal(Portal),
    /// Gives a lead back: it counts as nobody's turn any more. The lead itself is not touched.
    Refund {
        /// The lead's id.
        #[arg(value_name = "LEAD")]
        lead: LeadId,
        /// Why, for those who look at the ledger later.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        author: Author,
        #[command(flatten)]
        place: Place,
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
        Command::Check { files, json } => Ok(check::run(&files, json)),
        Command::Explain { file, lead, at, roster, client_of, json, language } => {
            let input = explain::Input {
                file: &file,
                lead: &lead,
                at: at.as_deref(),
                roster: roster.as_deref(),
                client_of: client_of.as_deref(),
            };
            explain::run(input, json, language)
        }
        Command::Simulate { file, leads, against, roster, json } => {
            let input = simulate::Input { leads: &leads, roster: roster.as_deref() };
            simulate::run(&file, against.as_deref(), input, json)
        }
        Command::Publish { file, note, author, place } => {
            wait_for(published::publish(&place, &file, &author, note))
        }
        Command::Versions { show, json, place } => wait_for(published::versions(&place, show, json)),
        Command::Rollback { version, author, place } => {
            wait_for(published::rollback(&place, version, &author))
        }
        Command::Credits { json, place } => wait_for(published::credits(&place, json)),
        Command::Correct { queue, person, turns, reason, author, place } => {
            wait_for(published::correct(&place, (&queue, &person, turns), &author, reason))
        }
        Command::People(command) => wait_for(people::run(command)),
        Command::Lead { lead, json, language, place } => wait_for(lead::run(&place, lead, json, language)),
        Command::Dead(command) => wait_for(dead::run(command)),
        Command::Portal(command) => wait_for(portal::run(command)),
        Command::Migrate { config } => wait_for(migrate::run(config.as_deref())),
        Command::Refund { lead, reason, author, place } => {
            wait_for(published::refund(&place, lead, &author, reason))
        }
    }
}

fn wait_for(command: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::arguments(format!("cannot start: {error}")))?;
    runtime.block_on(command)
}
