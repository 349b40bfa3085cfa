//! Any text is a routing file or has problems with places; what is a routing file decides.

#![no_main]

use distribution::{Lead, Ledger, Roster, Routing, Severity, decide};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|text: &str| {
    let checked = Routing::check(text);
    assert!(checked.problems.iter().all(|problem| problem.line >= 1 && problem.column >= 1));
    let errors = checked.problems.iter().any(|problem| problem.severity == Severity::Error);
    assert_eq!(checked.routing.is_none(), errors);
    let Some(routing) = checked.routing else { return };
    let fields = json!({
        "ID": "1", "SOURCE_ID": "CALL", "OPPORTUNITY": "500000.00", "ADDRESS_CITY": "Tver", "TITLE": "vip",
        "DATE_CREATE": "2026-11-18T14:06:40+03:00",
    });
    let Ok(lead) = Lead::from_fields(fields.as_object().unwrap_or(&serde_json::Map::new())) else { return };
    for second in [0, 1_795_000_000, 1_795_050_000] {
        let now = Timestamp::from_second(second).unwrap_or_default();
        let decision = decide(&lead, &Roster::default(), &routing, &Ledger::default(), now);
        assert!(!decision.explanation().summary().is_empty());
    }
});
