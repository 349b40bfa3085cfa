//! The binary `ingest`.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::process::main("ingest", bitrix24::connect::check, ingest::run)
}
