//! The binary `ingest`.

use std::process::ExitCode;

use common::config::Reader;

fn main() -> ExitCode {
    common::process::main("ingest", Reader::Ingest, bitrix24::connect::check, ingest::run)
}
