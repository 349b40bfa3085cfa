//! The leads that wait during a simulation, in the lines of their queues.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use distribution::{Ahead, First, Needs, Place, Roster, Routing};
use jiff::Timestamp;

use super::Arrival;

/// A lead that waits, or is about to be decided.
#[derive(Clone, Copy)]
pub(crate) struct Held<'a> {
    pub(crate) arrival: &'a Arrival,
    /// Its number among all leads.
    pub(crate) taker: usize,
    /// Since when it waits, if it does.
    pub(crate) since: Option<Timestamp>,
}

impl Held<'_> {
    fn place(&self) -> Place {
        let Arrival { lead, at } = self.arrival;
        Place { since: *at, amount: lead.amount(), lead: lead.id }
    }
}

/// Leads that wait, by what they need, each kind in the order in which it goes.
#[derive(Default)]
pub(crate) struct Lines<'a> {
    kinds: BTreeMap<Option<Needs>, VecDeque<Held<'a>>>,
}

/// The place in an ordered list at which this lead stands, or would.
fn position(held: &VecDeque<Held<'_>>, first: First, place: &Place) -> usize {
    held.partition_point(|other| first.compare(&other.place(), place).is_lt())
}

fn first(routing: &Routing, needs: Option<&Needs>) -> First {
    needs.map(|needs| routing.first(needs)).unwrap_or_default()
}

impl<'a> Lines<'a> {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.kinds.values().map(VecDeque::len).sum()
    }

    /// Puts a lead where it belongs.
    pub(crate) fn join(&mut self, routing: &Routing, needs: Option<Needs>, held: Held<'a>) {
        let first = first(routing, needs.as_ref());
        let kind = self.kinds.entry(needs).or_default();
        kind.insert(position(kind, first, &held.place()), held);
    }

    /// The leads that wait ahead of this one.
    pub(crate) fn ahead(&self, routing: &Routing, held: &Held<'_>) -> Vec<Ahead> {
        let place = held.place();
        let ahead = self.kinds.iter().filter_map(|(needs, kind)| {
            let needs = needs.as_ref()?;
            let count = position(kind, routing.first(needs), &place);
            Some(Ahead { needs: needs.clone(), count: u32::try_from(count).unwrap_or(u32::MAX) })
        });
        ahead.filter(|ahead| ahead.count > 0).collect()
    }

    /// Takes out one that goes first in its line, and that somebody may take at this moment. Those of which nothing tells
    /// when they may go are tried too.
    pub(crate) fn pop_foremost(
        &mut self,
        routing: &Routing,
        roster: &Roster,
        now: Timestamp,
    ) -> Option<Held<'a>> {
        let may_go = |needs: Option<&Needs>| needs.is_none_or(|needs| routing.places(needs, roster, now) > 0);
        let mut best: Option<(&Option<Needs>, Place)> = None;
        for (needs, kind) in &self.kinds {
            let Some(held) = kind.front().filter(|_| may_go(needs.as_ref())) else { continue };
            let place = held.place();
            // Lines beside each other have no order of their own: by that of the first of them.
            let goes_before = |(other, best): &(&Option<Needs>, Place)| {
                first(routing, other.as_ref()).compare(&place, best).is_lt()
            };
            if best.as_ref().is_none_or(goes_before) {
                best = Some((needs, place));
            }
        }
        let needs = best?.0.clone();
        self.pop(needs)
    }

    /// Takes out the first of each kind.
    pub(crate) fn pop_one_of_each_kind(&mut self) -> Vec<Held<'a>> {
        let kinds: Vec<Option<Needs>> = self.kinds.keys().cloned().collect();
        kinds.into_iter().filter_map(|needs| self.pop(needs)).collect()
    }

    fn pop(&mut self, needs: Option<Needs>) -> Option<Held<'a>> {
        let Entry::Occupied(mut kind) = self.kinds.entry(needs) else { return None };
        let held = kind.get_mut().pop_front();
        if kind.get().is_empty() {
            kind.remove();
        }
        held
    }
}
