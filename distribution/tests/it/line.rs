//! The line of a queue, for every number of places and every order in which leads are looked at.

use std::collections::{BTreeMap, BTreeSet};

use distribution::{
    Ahead, Decision, First, Giving, HoldReason, LeadId, Ledger, Needs, Place, Presence, Roster, Routing,
    UserId, decide_giving,
};
use jiff::ToSpan as _;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use crate::world::{NOW, lead, routing, user};

/// What one person may be given in an hour.
const PER_HOUR: u32 = 5;

const PEOPLE: u64 = 3;

/// Some know German; those who wait for it, wait for them.
fn office(first: First) -> Routing {
    let first = match first {
        First::Oldest => "oldest",
        First::MostValuable => "most_valuable",
    };
    routing(&format!(
        "version: 1\n\
         people: {{ p1: {{ user: 1, skills: [german] }}, p2: {{ user: 2 }}, p3: {{ user: 3, skills: [german] }} }}\n\
         queues: {{ main: {{ members: [p1, p2, p3], limits: {{ per_hour: {PER_HOUR} }}, hold: {{ first: {first} }} }} }}\n\
         rules: [{{ name: German, when: {{ source: GERMAN }}, queue: main, skills: [german] }}]\n\
         default: {{ queue: main }}\n"
    ))
}

#[derive(Debug, Clone, Copy)]
struct Waits {
    place: Place,
    german: bool,
    /// Whether it was held before.
    held: bool,
}

struct World {
    routing: Routing,
    first: First,
    /// What each was given.
    hour: BTreeMap<UserId, u32>,
    waiting: Vec<Waits>,
    given: Vec<LeadId>,
}

fn needs(german: bool) -> Needs {
    let skills: &[&str] = if german { &["german"] } else { &[] };
    serde_json::from_value(json!({ "queues": ["main"], "skills": skills })).unwrap()
}

impl World {
    fn new(first: First, places: &[u32], waiting: Vec<Waits>) -> Self {
        let hour = (1..).zip(places).map(|(id, places)| (user(id), PER_HOUR - places)).collect();
        Self { routing: office(first), first, hour, waiting, given: Vec::new() }
    }

    fn roster(&self) -> Roster {
        self.hour
            .iter()
            .map(|(user, hour)| (*user, Presence { hour: *hour, ..Presence::default() }))
            .collect()
    }

    fn places(&self, german: bool) -> u32 {
        self.routing.places(&needs(german), &self.roster(), NOW)
    }

    fn ahead(&self, of: &Waits, german: bool) -> u32 {
        let is_ahead = |other: &&Waits| {
            other.held && other.german == german && self.first.compare(&other.place, &of.place).is_lt()
        };
        u32::try_from(self.waiting.iter().filter(is_ahead).count()).unwrap()
    }

    /// Looks at one that is not given yet; answers whether it was given.
    fn look(&mut self, number: usize) -> bool {
        let Some(waits) = self.waiting.get(number).copied() else { return false };
        let source = if waits.german { "GERMAN" } else { "WEB" };
        let lead = lead(&json!({ "ID": waits.place.lead.get().to_string(), "SOURCE_ID": source }));
        let ahead =
            [false, true].map(|german| Ahead { needs: needs(german), count: self.ahead(&waits, german) });
        let held_since = waits.held.then_some(NOW);
        let giving = Giving { held_since, ahead: ahead.to_vec(), ..Giving::default() };
        match decide_giving(&lead, &giving, &self.roster(), &self.routing, &Ledger::default(), NOW) {
            Decision::Assign(assignment) => {
                *self.hour.entry(assignment.user).or_default() += 1;
                self.given.push(waits.place.lead);
                self.waiting.remove(number);
                true
            }
            Decision::Hold(hold) => {
                assert_eq!(hold.needs, Some(needs(waits.german)));
                let may = self.places(waits.german) > 0;
                assert_eq!(hold.reason == HoldReason::BehindOthers, may, "{waits:?}");
                self.waiting[number].held = true;
                false
            }
            Decision::Skip(_) => panic!("nothing says that the lead is final"),
        }
    }
}

fn waits() -> impl Strategy<Value = Waits> {
    (0..20_i64, proptest::option::of(0..5_u32), any::<bool>(), any::<bool>()).prop_map(
        |(age, amount, german, held)| {
            let since = NOW - age.minutes();
            let place = Place { since, amount: amount.map(f64::from), lead: LeadId::new(1).unwrap() };
            Waits { place, german, held }
        },
    )
}

fn numbered(mut waiting: Vec<Waits>) -> Vec<Waits> {
    for (number, waits) in (1..).zip(&mut waiting) {
        waits.place.lead = LeadId::new(number).unwrap();
    }
    waiting
}

fn firsts() -> impl Strategy<Value = First> {
    prop_oneof![Just(First::Oldest), Just(First::MostValuable)]
}

fn places() -> impl Strategy<Value = Vec<u32>> {
    vec(0..=PER_HOUR, usize::try_from(PEOPLE).unwrap())
}

proptest! {
    /// Leads that have waited come back in any order: those get the places that go first.
    #[test]
    fn whoever_is_looked_at_first_the_places_go_to_who_goes_first(
        first in firsts(),
        places in places(),
        waiting in vec(waits(), 1..20),
        looks in vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let waiting = numbered(waiting.into_iter().map(|waits| Waits { german: false, held: true, ..waits }).collect());
        let mut sorted: Vec<Place> = waiting.iter().map(|waits| waits.place).collect();
        sorted.sort_by(|one, other| first.compare(one, other));
        let free: u32 = places.iter().sum();
        let mut world = World::new(first, &places, waiting);
        for look in looks {
            if !world.waiting.is_empty() {
                world.look(look.index(world.waiting.len()));
            }
        }
        while (0..world.waiting.len()).any(|number| world.look(number)) {}
        let given: BTreeSet<LeadId> = world.given.into_iter().collect();
        let expected: BTreeSet<LeadId> = sorted.iter().map(|place| place.lead).take(usize::try_from(free).unwrap()).collect();
        prop_assert_eq!(given, expected);
    }

    /// Also with other needs and newcomers between: nobody takes a place from who is ahead, and the line goes on as long
    /// as somebody may take one.
    #[test]
    fn nobody_is_overtaken_and_the_line_goes_on(
        first in firsts(),
        places in places(),
        waiting in vec(waits(), 1..20),
        looks in vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let mut world = World::new(first, &places, numbered(waiting));
        for look in looks {
            if world.waiting.is_empty() {
                break;
            }
            let number = look.index(world.waiting.len());
            let waits = world.waiting[number];
            let (plain, german) = (world.ahead(&waits, false), world.ahead(&waits, true));
            let no_german = world.places(true) == 0;
            if world.look(number) {
                let ahead = if no_german { plain } else { plain + german };
                prop_assert!(waits.held || ahead == 0, "{:?}", waits);
                prop_assert!(world.places(waits.german) >= ahead, "{:?}", waits);
            }
        }
        while (0..world.waiting.len()).any(|number| world.look(number)) {}
        for waits in &world.waiting {
            prop_assert_eq!(world.places(waits.german), 0, "{:?}", waits);
        }
    }
}
