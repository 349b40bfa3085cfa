//! The people or queues that the file names, for those who refer to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::problem::{Place, Problems};
use super::section::Word;

/// The entries of one section, by name.
pub(super) struct Known<T> {
    what: &'static str,
    /// `None` for an entry that is wrong, which was noted.
    by_name: BTreeMap<String, Option<Arc<T>>>,
    /// The right ones, in the file's order.
    list: Vec<Arc<T>>,
    /// Where those begin.
    places: Vec<Place>,
    /// Whether a name that is not here is a problem.
    complete: bool,
}

impl<T> Known<T> {
    /// No entries yet; `what` one of them is called in messages.
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, by_name: BTreeMap::new(), list: Vec::new(), places: Vec::new(), complete: true }
    }

    /// Of a section that could not be read, which was noted: whatever name is asked for, the problem is known.
    pub(super) fn unreadable(what: &'static str) -> Self {
        Self { complete: false, ..Self::new(what) }
    }

    /// Adds what was read of the entry with this name.
    pub(super) fn add(&mut self, word: Word, entry: Option<T>) {
        let entry = entry.map(Arc::new);
        if let Some(entry) = &entry {
            self.list.push(Arc::clone(entry));
            self.places.push(word.place);
        }
        self.by_name.insert(word.text, entry);
    }

    /// The entry with this name. An unknown name is noted; one whose entry is wrong is not noted again.
    pub(super) fn find(&self, word: &Word, problems: &mut Problems) -> Option<Arc<T>> {
        if let Some(entry) = self.by_name.get(&word.text) {
            return entry.clone();
        }
        if self.complete {
            let names = self.by_name.keys().map(String::as_str);
            problems.note_word(
                word.place,
                format!("unknown {} `{}`", self.what, word.text),
                &word.text,
                names,
            );
        }
        None
    }

    /// The entries that are right, with their places, in the file's order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Arc<T>, Place)> {
        self.list.iter().zip(self.places.iter().copied())
    }
}
