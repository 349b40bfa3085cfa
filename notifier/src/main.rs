//! The binary `notifier`.

use std::process::ExitCode;

use common::config::Reader;

fn main() -> ExitCode {
    common::process::main("notifier", Reader::Notifier, bitrix24::connect::check, notifier::run)
}
