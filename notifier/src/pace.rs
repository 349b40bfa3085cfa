//! How large packs are, and how many are under way at once: what the portal's answers teach.
//!
//! A pack must end well before the portal interrupts its request, so its size follows the time that a lead
//! takes. And as long as packs do not become slower by it, one more may be under way: additive increase;
//! a request whose end is unknown, or a portal that becomes slow, takes some back.

use std::time::Duration;

use bitrix24::command::MAX_COMMANDS;

/// What a request may take by our will: a quarter of the 60 s after which the cloud interrupts it.
///
/// Source: "Limits" of the REST documentation.
const PACK_SECONDS: f64 = 15.0;

/// Packs under way at first, and at the most.
const PACKS: (u32, u32) = (4, 16);

/// The weight of the newest pack in the average time of a lead.
const SMOOTHING: f64 = 0.3;

/// A pack that takes no more than this times the best average is as fast as ever; one that takes more than
/// the second is slow.
const FLAT: f64 = 1.3;
const SLOW: f64 = 2.0;

/// Packs smaller than this say nothing about the time of a lead: most of it is the request's own.
const TELLING: usize = 10;

/// The pace of one portal's packs.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Seconds a lead, smoothed; none before the first telling pack.
    lead_seconds: Option<f64>,
    /// The lowest it has been, which is forgotten slowly.
    best: Option<f64>,
    packs: u32,
    /// Packs as fast as ever since the last change.
    flat: u32,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { lead_seconds: None, best: None, packs: PACKS.0, flat: 0 }
    }

    /// Packs that may be under way at once.
    pub(crate) fn packs(&self) -> usize {
        usize::try_from(self.packs).unwrap_or(1)
    }

    /// Leads in one pack, so that it takes no more than `seconds` of the portal's time.
    pub(crate) fn leads(&self, seconds: Option<f64>) -> usize {
        let seconds = seconds.unwrap_or(PACK_SECONDS).min(PACK_SECONDS);
        let fits = |leads: &usize| {
            let leads = u32::try_from(*leads).unwrap_or(u32::MAX);
            self.lead_seconds.is_none_or(|lead| lead * f64::from(leads) <= seconds)
        };
        (1..=MAX_COMMANDS).rev().find(fits).unwrap_or(1)
    }

    /// A pack has ended; `took` is none where its end is unknown.
    pub(crate) fn ended(&mut self, leads: usize, took: Option<Duration>) {
        let Some(took) = took else {
            self.packs = (self.packs / 2).max(1);
            self.flat = 0;
            return;
        };
        // A slow portal shows in small packs too.
        let leads_counted = f64::from(u32::try_from(leads.max(1)).unwrap_or(u32::MAX));
        let seconds = took.as_secs_f64() / leads_counted;
        if leads < TELLING && took.as_secs_f64() < 1.0 {
            return;
        }
        let average = self.lead_seconds.map_or(seconds, |average| average + SMOOTHING * (seconds - average));
        self.lead_seconds = Some(average);
        let best = self.best.map_or(seconds, |best| (best * 1.01).min(seconds));
        self.best = Some(best);
        if seconds <= FLAT * best {
            self.flat += 1;
            if self.flat >= self.packs {
                (self.packs, self.flat) = ((self.packs + 1).min(PACKS.1), 0);
            }
        } else if seconds > SLOW * best {
            (self.packs, self.flat) = ((self.packs - 1).max(1), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(packs: &[(usize, f64)]) -> Pace {
        let mut pace = Pace::new();
        for (leads, seconds) in packs {
            pace.ended(*leads, Some(Duration::from_secs_f64(*seconds)));
        }
        pace
    }

    #[test]
    fn a_pack_takes_a_quarter_of_what_the_portal_allows() {
        assert_eq!(Pace::new().leads(None), 50, "nothing is known yet");
        assert_eq!(after(&[(25, 2.5)]).leads(None), 50);
        assert_eq!(after(&[(25, 25.0)]).leads(None), 15);
        assert_eq!(after(&[(1, 40.0)]).leads(None), 1);
        assert_eq!(after(&[(25, 2.5)]).leads(Some(0.55)), 5, "where the method is tight");
    }

    #[test]
    fn packs_grow_in_number_while_they_stay_as_fast() {
        let flat = |packs: usize| after(&vec![(25, 3.0); packs]).packs();
        assert_eq!([flat(0), flat(4), flat(9), flat(15)], [4, 5, 6, 7]);
        assert_eq!(flat(1000), 16);
        let slower = [vec![(25, 3.0); 9], vec![(25, 7.0); 3]].concat();
        assert_eq!(after(&slower).packs(), 3);
    }

    #[test]
    fn an_unknown_end_halves_them_and_small_packs_say_nothing() {
        let mut pace = Pace::new();
        for _ in 0..5 {
            pace.ended(25, None);
        }
        assert_eq!(pace.packs(), 1);
        let small = after(&[(1, 0.03), (1, 0.03), (25, 0.3), (1, 0.03)]);
        assert_eq!((small.leads(None), small.packs()), (50, 4));
    }
}
