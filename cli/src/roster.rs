//! The roster file: who is there, what they have, and their credits.
//!
//! ```json
//! { "people": { "ivanov": { "active": true, "working_day": "OPENED", "absent": [["2026-11-23", "2026-12-03"]],
//!                           "paused_until": null, "open": 12, "hour": 1, "day": 7, "time_zone": "Asia/Omsk" } },
//!   "credits": { "main": { "ivanov": 0.5 } } }
//! ```
//!
//! What is missing means present, opened, not absent, not paused, 0. `time_zone` is what the portal would tell of people
//! whose `time_zone` in the routing file is `portal`.

use std::collections::BTreeMap;
use std::path::Path;

use distribution::{
    Absence, Credit, EntryKind, Ledger, LedgerEntry, Person, Presence, Roster, Routing, WorkingDay,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::failure::Failure;
use crate::files;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RosterFile {
    people: BTreeMap<String, PersonEntry>,
    credits: BTreeMap<String, BTreeMap<String, f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PersonEntry {
    active: bool,
    working_day: Option<WorkingDay>,
    absent: Vec<(String, String)>,
    paused_until: Option<String>,
    open: u32,
    hour: u32,
    day: u32,
    time_zone: Option<String>,
}

impl Default for PersonEntry {
    fn default() -> Self {
        Self {
            active: true,
            working_day: None,
            absent: Vec::new(),
            paused_until: None,
            open: 0,
            hour: 0,
            day: 0,
            time_zone: None,
        }
    }
}

/// Reads a roster file for the people of a routing; answers the routing with everybody where he lives, too.
pub(crate) fn read(path: &Path, routing: &Routing) -> Result<(Routing, Roster, Ledger), Failure> {
    let wrong = |message: String| Failure::file(format!("{}: {message}", path.display()));
    let file: RosterFile =
        serde_json::from_str(&files::text(path)?).map_err(|error| wrong(error.to_string()))?;
    let reader = Reader { routing };
    let (mut roster, mut zones) = (Roster::default(), BTreeMap::new());
    for (name, entry) in &file.people {
        let person = reader.person(name).map_err(&wrong)?;
        let presence = reader.presence(entry).map_err(|error| wrong(format!("{name}: {error}")))?;
        roster.set(person.user, presence);
        if let Some(zone) = &entry.time_zone {
            let unknown = |_| wrong(format!("{name}: unknown time zone `{zone}`"));
            zones.insert(person.user, TimeZone::get(zone).map_err(unknown)?);
        }
    }
    let mut entries = Vec::new();
    for (ledger, credits) in &file.credits {
        reader.ledger(ledger).map_err(&wrong)?;
        for (name, turns) in credits {
            let user = reader.person(name).map_err(&wrong)?.user;
            let delta = credit(*turns)
                .ok_or_else(|| wrong(format!("{ledger}, {name}: {turns} turns are too many")))?;
            entries.push(LedgerEntry {
                ledger: ledger.as_str().into(),
                user,
                delta,
                kind: EntryKind::Correction,
            });
        }
    }
    Ok((routing.with_portal_zones(&zones), roster, entries.into_iter().collect()))
}

/// So many turns; `None` for more than a ledger can hold.
pub(crate) fn credit(turns: f64) -> Option<Credit> {
    #[expect(clippy::cast_precision_loss, reason = "a turn is far below 2^53 units")]
    let units = (turns * Credit::TURN.units() as f64).round();
    #[expect(clippy::cast_possible_truncation, reason = "a million turns are far below 2^63 units")]
    (turns.abs() <= 1e6).then_some(Credit::from_units(units as i64))
}

struct Reader<'r> {
    routing: &'r Routing,
}

impl<'r> Reader<'r> {
    fn person(&self, name: &str) -> Result<&'r Person, String> {
        let mut people = self.routing.people();
        people.find(|person| person.name == name).ok_or_else(|| {
            let known = self.routing.people().map(|person| person.name.as_str());
            format!("nobody is called `{name}` in the routing file{}", distribution::nearest(name, known))
        })
    }

    fn ledger(&self, name: &str) -> Result<(), String> {
        let ledgers = || self.routing.ledgers().map(distribution::Name::as_str);
        if ledgers().any(|ledger| ledger == name) {
            return Ok(());
        }
        Err(format!(
            "no queue of the routing file has the ledger `{name}`{}",
            distribution::nearest(name, ledgers())
        ))
    }

    fn presence(&self, entry: &PersonEntry) -> Result<Presence, String> {
        let absence = |(from, to): &(String, String)| {
            let absence = Absence(self.moment(from)?, self.moment(to)?);
            if absence.0 < absence.1 {
                Ok(absence)
            } else {
                Err(format!("an absence ends at {to}, before it begins"))
            }
        };
        Ok(Presence {
            active: entry.active,
            working_day: entry.working_day.unwrap_or_default(),
            absent: entry.absent.iter().map(absence).collect::<Result<_, _>>()?,
            paused_until: entry.paused_until.as_deref().map(|text| self.moment(text)).transpose()?,
            open: entry.open,
            hour: entry.hour,
            day: entry.day,
            released: 0,
        })
    }

    fn moment(&self, text: &str) -> Result<Timestamp, String> {
        files::moment(text, self.routing)
            .ok_or_else(|| format!("`{text}` is no time; write it as 2026-11-23T09:00:00+03:00"))
    }
}
