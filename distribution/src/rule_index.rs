//! Which rules a lead can meet at all, so that the others need not be looked at.
//!
//! Most rules of a large file ask whether a field has one of some texts (`source: [CALL, WEB]`). Such a rule is found
//! by these texts; of the rest each is a candidate for every lead. With a thousand rules of the first kind that is a
//! tenth of the cost of asking each (`benches/decide.rs`).

use rustc_hash::FxHashMap;

use crate::condition::{Condition, Expected};
use crate::facts::Facts;
use crate::routing::{Rule, Test};

/// The rules of a routing by what they need, each by its place in the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct RuleIndex {
    /// By field and folded text.
    by_text: FxHashMap<usize, FxHashMap<String, Vec<usize>>>,
    /// Those that no text tells.
    others: Vec<usize>,
}

impl RuleIndex {
    pub(crate) fn of(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (place, rule) in rules.iter().enumerate() {
            let Some((field, texts)) = rule.clauses.iter().find_map(|clause| texts(&clause.test)) else {
                index.others.push(place);
                continue;
            };
            let by_text = index.by_text.entry(field).or_default();
            for text in texts {
                let places = by_text.entry(text.to_owned()).or_default();
                // The same text twice in one list.
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        index
    }

    /// The places, from `first` on and in order, of all rules that this lead can meet; some of them more than once.
    pub(crate) fn candidates<'i>(
        &'i self,
        facts: &'i Facts<'_>,
        first: usize,
    ) -> impl Iterator<Item = usize> {
        let by_field = self.by_text.iter().flat_map(|(field, by_text)| {
            facts.get(*field).values.iter().filter_map(|value| by_text.get(&value.text))
        });
        let from_first =
            |places: &'i Vec<usize>| places.split_at(places.partition_point(|place| *place < first)).1;
        let mut lists: Vec<&[usize]> = by_field.chain([&self.others]).map(from_first).collect();
        std::iter::from_fn(move || {
            let next =
                lists.iter_mut().filter(|list| !list.is_empty()).min_by_key(|list| list.first().copied())?;
            let (place, rest) = next.split_first()?;
            *next = rest;
            Some(*place)
        })
    }
}

/// The field and the texts one of which it must equal.
fn texts(test: &Test) -> Option<(usize, Vec<&str>)> {
    let Test::Field { field, condition: Condition::AnyOf(expected) } = test else { return None };
    let folded: Option<Vec<&str>> = expected.iter().map(Expected::as_text).collect();
    Some((*field, folded?))
}
