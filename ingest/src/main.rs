//! The binary `ingest`.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::process::main("ingest", ingest::run)
}
