//! Any body is a form or an error, by both notations, and what a form holds can be written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| ingest::check_form(body));
