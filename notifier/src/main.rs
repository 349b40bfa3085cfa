//! The binary `notifier`.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::process::main("notifier", notifier::run)
}
