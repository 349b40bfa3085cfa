//! Which dead letters are meant.

use std::time::Duration;

use clap::Args;
use common::broker::topology::Topology;
use common::config::Config;
use common::failure::FailureClass;
use common::ids::PortalName;
use jiff::{SignedDuration, Timestamp};
use store::LetterFilter;

use crate::failure::Failure;

/// All that is given must hold.
#[derive(Args)]
pub(crate) struct Filter {
    /// Of this portal.
    #[arg(long, value_name = "NAME")]
    portal: Option<PortalName>,
    /// Of this class: throttled, transient, blocked, permanent, poison.
    #[arg(long, value_name = "CLASS", value_parser = class)]
    class: Option<FailureClass>,
    /// That failed in this queue: lead-events, assignments, or a queue's whole name.
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// That died longer ago than this: 90s, 15m, 4h, 7d.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<SignedDuration>,
    /// That died within this time: 90s, 15m, 4h, 7d.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    newer_than: Option<SignedDuration>,
    /// With this in the text of their reason, in large or small letters.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Which are to be changed: nothing is by accident.
#[derive(Args)]
pub(crate) struct Which {
    /// These, by their numbers.
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
    #[command(flatten)]
    filter: Filter,
    /// All that wait; needed where neither a number nor a filter is given.
    #[arg(long)]
    all: bool,
}

fn class(text: &str) -> Result<FailureClass, String> {
    let known = FailureClass::ALL.into_iter().find(|class| class.as_str() == text);
    known.ok_or_else(|| {
        let known = FailureClass::ALL.map(FailureClass::as_str).join(", ");
        format!("unknown class; known: {known}")
    })
}

/// One or more numbers with their units, such as `1h30m`.
pub(super) fn duration(text: &str) -> Result<SignedDuration, String> {
    let wrong = || "a duration such as 90s, 15m, 4h or 7d is needed".to_owned();
    let mut rest = text;
    let mut seconds: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, behind) = rest.split_at(digits);
        let number: i64 = number.parse().map_err(|_| wrong())?;
        let unit = behind.chars().next().ok_or_else(wrong)?;
        let length = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let more = number.checked_mul(length).ok_or_else(wrong)?;
        seconds = seconds.checked_add(more).ok_or_else(wrong)?;
        rest = behind.get(1..).unwrap_or_default();
    }
    // Longer than a century is a slip of the keyboard, and no moment to compare with.
    if (1..=100 * 366 * 86_400).contains(&seconds) {
        Ok(SignedDuration::from_secs(seconds))
    } else {
        Err(wrong())
    }
}

impl Filter {
    fn is_empty(&self) -> bool {
        let Self { portal, class, queue, older_than, newer_than, reason } = self;
        portal.is_none()
            && class.is_none()
            && queue.is_none()
            && older_than.is_none()
            && newer_than.is_none()
            && reason.is_none()
    }

    pub(super) fn read(&self, config: &Config, now: Timestamp) -> Result<LetterFilter, Failure> {
        if let Some(portal) = &self.portal
            && !config.portals.iter().any(|known| known.name == *portal)
        {
            let listed: Vec<&str> = config.portals.iter().map(|portal| portal.name.as_str()).collect();
            let message =
                format!("the configuration has no portal `{portal}`; it has: {}", listed.join(", "));
            return Err(Failure::arguments(message));
        }
        if self.reason.as_deref().is_some_and(|reason| reason.trim().is_empty()) {
            return Err(Failure::arguments("--reason is empty, which is in every reason; leave it out"));
        }
        if let (Some(older), Some(newer)) = (self.older_than, self.newer_than)
            && older >= newer
        {
            let message = "nothing died longer ago than --older-than and within --newer-than; swap them";
            return Err(Failure::arguments(message));
        }
        let queues = self.queue.as_deref().map(|queue| queues(queue, config)).transpose()?;
        Ok(LetterFilter {
            portal: self.portal.clone(),
            class: self.class,
            queues,
            died_before: self.older_than.map(|age| now - age),
            died_after: self.newer_than.map(|age| now - age),
            reason: self.reason.clone(),
            ..LetterFilter::default()
        })
    }

    /// As it was written, for those who look later.
    fn words(&self) -> Vec<String> {
        let Self { portal, class, queue, older_than, newer_than, reason } = self;
        let secs = |age: SignedDuration| format!("{}s", age.as_secs());
        [
            portal.as_ref().map(|portal| format!("portal {portal}")),
            class.map(|class| format!("class {class}")),
            queue.as_ref().map(|queue| format!("queue {queue}")),
            older_than.map(|age| format!("older than {}", secs(age))),
            newer_than.map(|age| format!("newer than {}", secs(age))),
            reason.as_ref().map(|reason| format!("reason with \"{reason}\"")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// The work queues of the configuration.
pub(super) fn work_queues(config: &Config) -> Vec<String> {
    let topology = topology(config);
    let names = config.portals.iter().map(|portal| &portal.name);
    names.flat_map(|portal| [topology.lead_events(portal), topology.assignments(portal)]).collect()
}

fn topology(config: &Config) -> Topology {
    let none: [Duration; 0] = [];
    Topology::new(&config.amqp.prefix, &none, config.portals.iter().map(|portal| portal.name.clone()))
}

fn queues(queue: &str, config: &Config) -> Result<Vec<String>, Failure> {
    let known = work_queues(config);
    let named: Vec<String> = match queue {
        "lead-events" | "assignments" => {
            known.iter().filter(|name| name.ends_with(&format!(".{queue}"))).cloned().collect()
        }
        _ => known.iter().filter(|name| *name == queue).cloned().collect(),
    };
    if named.is_empty() {
        let known = known.join(", ");
        let message =
            format!("--queue: there is no queue `{queue}`; known: lead-events, assignments, {known}");
        return Err(Failure::arguments(message));
    }
    Ok(named)
}

impl Which {
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.filter.is_empty() && !self.all
    }

    pub(super) fn by_number(&self) -> bool {
        !self.ids.is_empty()
    }

    pub(super) fn read(&self, config: &Config, now: Timestamp) -> Result<LetterFilter, Failure> {
        let several = [!self.ids.is_empty(), !self.filter.is_empty(), self.all];
        match several.into_iter().filter(|given| *given).count() {
            0 => Err(Failure::arguments("which? Give numbers, a filter, or --all for all that wait")),
            1 => {
                let mut ids = self.ids.clone();
                ids.sort_unstable();
                ids.dedup();
                // By number also what was dealt with, so that it can be said how.
                let (settled, ids) = (!ids.is_empty(), Some(ids).filter(|ids| !ids.is_empty()));
                Ok(LetterFilter { ids, settled, ..self.filter.read(config, now)? })
            }
            _ => Err(Failure::arguments("give either numbers, or a filter, or --all")),
        }
    }

    pub(super) fn words(&self) -> String {
        if self.all {
            "all".to_owned()
        } else if self.ids.is_empty() {
            self.filter.words().join(", ")
        } else {
            let ids: Vec<String> = self.ids.iter().map(u64::to_string).collect();
            ids.join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("4h", 14_400), ("7d", 604_800), ("1h30m", 5_400)]
        {
            assert_eq!(duration(text), Ok(SignedDuration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0s", "15", "m", "-4h", "4w", "4 h", "99999999999999999999d", "9999999d", "4ч"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
