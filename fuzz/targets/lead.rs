//! Any JSON object is a lead or an error, and whatever is a lead is decided.

#![no_main]

use std::sync::LazyLock;

use distribution::{Language, Lead, Ledger, Roster, Routing, decide};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static ROUTING: LazyLock<Routing> = LazyLock::new(|| {
    let text = include_str!("../../config/routing.example.yaml");
    Routing::from_yaml(text, "routing.example.yaml").unwrap_or_else(|errors| panic!("{errors}"))
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(bytes) else { return };
    let Ok(lead) = Lead::from_fields(&fields) else { return };
    let now = Timestamp::from_second(1_795_000_000).unwrap_or_default();
    let decision = decide(&lead, &Roster::default(), &ROUTING, &Ledger::default(), now);
    assert!(decision.explanation().text(Language::Russian).ends_with(".\n"));
});
