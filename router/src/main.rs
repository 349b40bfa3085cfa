//! The binary `router`.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::process::main("router", router::check, router::run)
}
