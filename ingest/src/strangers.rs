//! Those whose requests prove nothing: what they are answered, and what the log says of them.
//!
//! A client that goes on is answered 429 in place of 403. A request is proved first, so nothing that a portal sends is
//! ever answered so, from whichever address. The log has one line a minute for each client, with how often and why.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::ids::PortalName;
use common::lifecycle::Stop;
use common::server::Client;
use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::verify::Why;

/// So many at once are answered 403, and as many each minute.
const FORBIDDEN_AT_ONCE: NonZeroU32 = NonZeroU32::new(30).unwrap();

/// How often a client has a line in the log.
const LINE_EVERY: Duration = Duration::from_mins(1);

/// How often is looked whose line is due.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// So many clients are told apart within a minute. All others are one.
const CLIENTS_MAX: usize = 1000;

/// For whom a request counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Client(Client),
    /// A proxy that is trusted did not say for whom it asks.
    Unnamed,
    /// Beyond those who are told apart.
    Others,
}

/// What a request is answered that proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 403.
    Forbidden,
    /// 429.
    TooMany,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Strangers {
    buckets: RateLimiter<Who, HashMapStateStore<Who>, DefaultClock>,
    lines: Mutex<HashMap<Who, Line>>,
}

/// What the next line of a client will say.
#[derive(Debug, Default)]
struct Line {
    /// When the last one was written, if one was.
    said: Option<Instant>,
    /// Since then.
    unsaid: HashMap<(Option<PortalName>, Why), u64>,
}

impl Strangers {
    pub(crate) fn new() -> Self {
        Self { buckets: RateLimiter::hashmap(Quota::per_minute(FORBIDDEN_AT_ONCE)), lines: Mutex::default() }
    }

    /// Notes a request that proves nothing. The first one of a client has its line at once.
    pub(crate) fn refused(&self, client: Option<Client>, portal: Option<&PortalName>, why: Why) -> Answer {
        let now = Instant::now();
        let who = {
            let mut lines = self.lines();
            let who = client.map_or(Who::Unnamed, Who::Client);
            let is_known = lines.len() < CLIENTS_MAX || lines.contains_key(&who);
            let who = if is_known { who } else { Who::Others };
            let line = lines.entry(who).or_default();
            *line.unsaid.entry((portal.cloned(), why)).or_default() += 1;
            if line.said.is_none() {
                line.say(who, now);
            }
            who
        };
        if self.buckets.check_key(&who).is_ok() { Answer::Forbidden } else { Answer::TooMany }
    }

    /// Writes lines until told to stop, and then those that are left.
    pub(crate) async fn tell(self: Arc<Self>, stop: Stop) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.requested() => break,
                _ = ticks.tick() => self.look(Instant::now()),
            }
        }
        let now = Instant::now();
        for (who, mut line) in self.lines().drain() {
            line.say(who, now);
        }
    }

    /// Writes the lines that are due, and forgets who has been quiet for as long.
    fn look(&self, now: Instant) {
        self.lines().retain(|who, line| {
            let is_due = line.said.is_none_or(|said| now.duration_since(said) >= LINE_EVERY);
            let is_quiet = line.unsaid.is_empty();
            if is_due {
                line.say(*who, now);
            }
            !(is_due && is_quiet)
        });
        self.buckets.retain_recent();
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Who, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn say(&mut self, who: Who, now: Instant) {
        self.said = Some(now);
        let count: u64 = self.unsaid.values().sum();
        if count == 0 {
            return;
        }
        let client = match who {
            Who::Client(client) => client.to_string(),
            Who::Unnamed => "not named by the proxy".to_owned(),
            Who::Others => "others".to_owned(),
        };
        let said = |((portal, why), count): ((Option<PortalName>, Why), u64)| {
            let portal = portal.map(|portal| format!("{portal}: ")).unwrap_or_default();
            format!("{portal}{why} {count}")
        };
        let mut reasons: Vec<String> = self.unsaid.drain().map(said).collect();
        reasons.sort_unstable();
        tracing::warn!(event = "event.forbidden", client, count, reasons = reasons.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u32) -> Client {
        Client::at(std::net::Ipv4Addr::from_bits(n).into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_a_bucket_of_its_own() {
        let strangers = Strangers::new();
        let refused = |n| strangers.refused(Some(client(n)), None, Why::NoToken);
        let first: Vec<Answer> = (0..FORBIDDEN_AT_ONCE.get()).map(|_| refused(1)).collect();
        assert!(first.iter().all(|answer| *answer == Answer::Forbidden), "{first:?}");
        // One a two seconds comes back, so a slow machine may grant some of these.
        let more = (0..100).filter(|_| refused(1) == Answer::TooMany).count();
        assert!(more > 0);
        assert_eq!(refused(2), Answer::Forbidden);
    }

    #[tokio::test(start_paused = true)]
    async fn lines_gather_what_came_since_the_last_one_and_quiet_clients_are_forgotten() {
        let strangers = Strangers::new();
        let acme: PortalName = "acme".parse().unwrap();
        for _ in 0..5 {
            strangers.refused(Some(client(1)), Some(&acme), Why::WrongToken);
        }
        let unsaid = || strangers.lines().values().flat_map(|line| line.unsaid.values()).sum::<u64>();
        assert_eq!(unsaid(), 4, "the first had its line at once");
        tokio::time::advance(LINE_EVERY).await;
        strangers.look(Instant::now());
        assert_eq!((unsaid(), strangers.lines().len()), (0, 1));
        tokio::time::advance(LINE_EVERY).await;
        strangers.look(Instant::now());
        assert!(strangers.lines().is_empty());
    }

    #[test]
    fn so_many_clients_are_told_apart_and_no_more() {
        let strangers = Strangers::new();
        for n in 0..5000 {
            strangers.refused(Some(client(n)), None, Why::UnknownPortal);
        }
        strangers.refused(None, None, Why::UnknownPortal);
        assert_eq!(strangers.lines().len(), CLIENTS_MAX + 1);
        assert!(strangers.buckets.len() <= CLIENTS_MAX + 1);
        assert_eq!(strangers.refused(Some(client(0)), None, Why::NoToken), Answer::Forbidden, "it is known");
    }
}
