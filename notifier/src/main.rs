//! The binary `notifier`.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::process::main("notifier", bitrix24::connect::check, notifier::run)
}
