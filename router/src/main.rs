//! The binary `router`.

use std::process::ExitCode;

use common::config::Reader;

fn main() -> ExitCode {
    common::process::main("router", Reader::Router, router::check, router::run)
}
