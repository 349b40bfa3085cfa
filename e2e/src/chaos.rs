//! Everything goes wrong that can, for some minutes; then the portal's own log must agree with the store.
//!
//! What is promised, and how this checks it, is in docs/RELIABILITY.md. All that is left to chance comes from a seed
//! ([`schedule`]): which fault, when, which lead it meets. When each process is in which line is not, so a seed gives the
//! same faults again, and mostly the same trouble.
//!
//! In order of reading: `fault` (what there is), `schedule` (when), `door` (two ingests at one address), `stage_play` (how
//! it is done), `record` (what the store says), `story` (what the portal says), `verdict` (whether they agree), `table`.

mod door;
mod fault;
mod record;
mod schedule;
mod stage_play;
mod story;
mod table;
mod verdict;

pub use fault::Fault;
pub use record::Record;
pub use schedule::{Options, Schedule};
pub use stage_play::{Disturbance, Played, play};
pub use verdict::{Rule, Verdict, Violation};

impl Played {
    /// Whether what the portal did and what the store says agree.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        verdict::judge(self)
    }

    /// What happened, for people.
    #[must_use]
    pub fn report(&self, verdict: &Verdict) -> String {
        table::report(self, verdict)
    }
}
