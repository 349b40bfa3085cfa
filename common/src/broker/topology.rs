//! The table of exchanges, queues and bindings. Declaring, tests and documents read this table.
//!
//! Two quorum queues for each portal, so that a portal with a backlog never delays another. Delays
//! are shared: a message to be put off goes to the fanout exchange of its step with the name of its
//! work queue as routing key, lies in that step's queue until its time to live is over, and is
//! dead-lettered to the default exchange, which brings it back to the queue of that name.
//!
//! Works on RabbitMQ 3.10 and 4.x and relies on no default of either. A queue's arguments cannot be
//! changed once it is declared: other arguments are another name.

use std::time::Duration;

use super::Route;
use crate::ids::PortalName;

/// How often a message may be given back without an ack (a crash, a lost connection) before the
/// broker dead-letters it. A guard against a message that kills its consumer: attempts of ours are
/// counted in a header and never use this up. Twenty rolling restarts in a row are not expected.
pub const DELIVERY_LIMIT: i32 = 20;

/// The dead queue has no queue behind it, so its messages must not reach a limit.
const NO_DELIVERY_LIMIT: i32 = i32::MAX;

/// What is declared on the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    prefix: String,
    delays: Vec<Duration>,
    portals: Vec<PortalName>,
}

/// An exchange of the table; all are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeEntry {
    /// Its name.
    pub name: String,
    /// Whether it sends to every bound queue whatever the key; otherwise by equal key.
    pub fanout: bool,
    /// Where messages go that no queue is bound for.
    pub alternate: Option<String>,
}

/// A queue of the table; all are durable quorum queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueEntry {
    /// Its name.
    pub name: String,
    /// `x-delivery-limit`.
    pub delivery_limit: i32,
    /// `x-message-ttl`, for delay queues.
    pub time_to_live: Option<Duration>,
    /// `x-dead-letter-exchange`; the empty name is the default exchange.
    pub dead_letter_exchange: Option<String>,
    /// The exchange the queue is bound to, and the key.
    pub bound_to: (String, String),
}

impl Topology {
    /// The table for these portals.
    ///
    /// `prefix` starts every name, so that several installations can share a broker; `delays` are
    /// the steps of the delay ladder.
    #[must_use]
    pub fn new(prefix: &str, delays: &[Duration], portals: impl IntoIterator<Item = PortalName>) -> Self {
        Self { prefix: prefix.to_owned(), delays: delays.to_vec(), portals: portals.into_iter().collect() }
    }

    /// The queue with a portal's lead events: `rota.acme.lead-events`.
    #[must_use]
    pub fn lead_events(&self, portal: &PortalName) -> String {
        format!("{}.{portal}.lead-events", self.prefix)
    }

    /// The queue with a portal's assignment commands: `rota.acme.assignments`.
    #[must_use]
    pub fn assignments(&self, portal: &PortalName) -> String {
        format!("{}.{portal}.assignments", self.prefix)
    }

    /// The queue of what waits for a human: `rota.dead`. The exchange before it has the same name.
    #[must_use]
    pub fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// The way into a work queue.
    #[must_use]
    pub fn to_queue(&self, queue: String) -> Route {
        Route { exchange: self.work(), routing_key: queue }
    }

    /// The way back into a work queue after a step of the ladder.
    #[must_use]
    pub fn to_delay(&self, step: Duration, queue: &str) -> Route {
        Route { exchange: self.delay(step), routing_key: queue.to_owned() }
    }

    /// The way to the dead letters, for a message of this queue.
    #[must_use]
    pub fn to_dead(&self, queue: &str) -> Route {
        Route { exchange: self.dead(), routing_key: queue.to_owned() }
    }

    /// The exchanges, in the order in which they can be declared.
    #[must_use]
    pub fn exchanges(&self) -> Vec<ExchangeEntry> {
        let fanout = |name| ExchangeEntry { name, fanout: true, alternate: None };
        let mut table = vec![
            fanout(self.dead()),
            // What no queue is bound for is a dead letter, not lost: confirms alone cannot be trusted
            // to tell that a message was unroutable when many are in flight.
            ExchangeEntry { name: self.work(), fanout: false, alternate: Some(self.dead()) },
        ];
        table.extend(self.delays.iter().map(|step| fanout(self.delay(*step))));
        table
    }

    /// The queues with their bindings.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueEntry> {
        let mut table = vec![QueueEntry {
            name: self.dead(),
            delivery_limit: NO_DELIVERY_LIMIT,
            time_to_live: None,
            dead_letter_exchange: None,
            bound_to: (self.dead(), String::new()),
        }];
        table.extend(self.delays.iter().map(|step| QueueEntry {
            name: self.delay(*step),
            delivery_limit: DELIVERY_LIMIT,
            time_to_live: Some(*step),
            dead_letter_exchange: Some(String::new()),
            bound_to: (self.delay(*step), String::new()),
        }));
        for portal in &self.portals {
            for name in [self.lead_events(portal), self.assignments(portal)] {
                table.push(QueueEntry {
                    delivery_limit: DELIVERY_LIMIT,
                    time_to_live: None,
                    dead_letter_exchange: Some(self.dead()),
                    bound_to: (self.work(), name.clone()),
                    name,
                });
            }
        }
        table
    }

    fn work(&self) -> String {
        format!("{}.work", self.prefix)
    }

    fn delay(&self, step: Duration) -> String {
        format!("{}.delay.{}", self.prefix, step_name(step))
    }
}

/// The name of a step: `5s`, `30s`, `2m`, `1h`, `250ms`.
fn step_name(step: Duration) -> String {
    let (millis, seconds) = (step.as_millis(), step.as_secs());
    if millis % 1000 != 0 {
        format!("{millis}ms")
    } else if seconds % 3600 == 0 {
        format!("{}h", seconds / 3600)
    } else if seconds % 60 == 0 {
        format!("{}m", seconds / 60)
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::RetryPolicy;

    fn topology() -> Topology {
        let portals = ["acme", "beta"].map(|name| name.parse().unwrap());
        Topology::new("rota", &RetryPolicy::default().delays, portals)
    }

    #[test]
    fn the_names_are_a_promise_to_operators() {
        let names: Vec<_> = topology().queues().into_iter().map(|queue| queue.name).collect();
        assert_eq!(
            names,
            [
                "rota.dead",
                "rota.delay.5s",
                "rota.delay.30s",
                "rota.delay.2m",
                "rota.delay.10m",
                "rota.delay.1h",
                "rota.acme.lead-events",
                "rota.acme.assignments",
                "rota.beta.lead-events",
                "rota.beta.assignments",
            ]
        );
    }

    #[test]
    fn every_queue_is_bound_to_an_exchange_of_the_table_and_every_work_queue_has_dead_letters() {
        let topology = topology();
        let exchanges: Vec<_> = topology.exchanges().into_iter().map(|exchange| exchange.name).collect();
        for queue in topology.queues() {
            assert!(exchanges.contains(&queue.bound_to.0), "{queue:?}");
            if queue.bound_to.0 == "rota.work" {
                assert_eq!(queue.dead_letter_exchange.as_deref(), Some("rota.dead"), "{queue:?}");
            }
        }
    }

    #[test]
    fn a_delayed_message_comes_back_by_its_routing_key() {
        let topology = topology();
        let route = topology.to_delay(Duration::from_secs(30), "rota.acme.assignments");
        assert_eq!(
            (route.exchange.as_str(), route.routing_key.as_str()),
            ("rota.delay.30s", "rota.acme.assignments")
        );
        let queue = topology.queues().into_iter().find(|queue| queue.name == "rota.delay.30s").unwrap();
        assert_eq!(
            queue.dead_letter_exchange.as_deref(),
            Some(""),
            "the default exchange routes by queue name"
        );
    }
}
