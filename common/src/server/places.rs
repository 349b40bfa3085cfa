//! How many places each of an unknown number of holders has, without remembering those who hold none.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places, as many for each holder.
#[derive(Debug)]
pub(super) struct Places<H> {
    each: usize,
    taken: Arc<Taken<H>>,
}

#[derive(Debug)]
struct Taken<H>(Mutex<HashMap<H, usize>>);

/// A place that is taken until it is dropped.
#[derive(Debug)]
pub(super) struct Place<H: Copy + Eq + Hash> {
    holder: H,
    taken: Arc<Taken<H>>,
}

impl<H: Copy + Eq + Hash> Places<H> {
    pub(super) fn new(each: usize) -> Self {
        Self { each, taken: Arc::new(Taken(Mutex::default())) }
    }

    /// A place of this holder's, if not all of them are taken.
    pub(super) fn take(&self, holder: H) -> Option<Place<H>> {
        let mut taken = self.taken.lock();
        let count = taken.entry(holder).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Place { holder, taken: Arc::clone(&self.taken) })
    }
}

impl<H> Taken<H> {
    fn lock(&self) -> MutexGuard<'_, HashMap<H, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: Copy + Eq + Hash> Drop for Place<H> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        if let Some(count) = taken.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holder_has_as_many_and_who_gave_all_back_is_forgotten() {
        let places = Places::new(2);
        let (first, second) = (places.take('a').unwrap(), places.take('a').unwrap());
        assert!(places.take('a').is_none());
        let other = places.take('b').unwrap();
        drop(first);
        let third = places.take('a').unwrap();
        drop((second, third, other));
        assert!(places.taken.lock().is_empty());
    }
}
