//! What the router counts.

use std::collections::{BTreeMap, BTreeSet};

use common::failure::FailureClass;
use common::ids::PortalName;
use common::metrics::{counter, gauge, histogram};
use distribution::{ClientWent, Routing, SkipReason};
use jiff::{SignedDuration, Timestamp};
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Registry};
use serde_json::Value;
use store::{RosterSource, SavedDecision, Verdict, WaitingLeads};

use crate::answers::Timed;
use crate::handler::word;
use crate::overdue::Again;

/// Upper bounds in seconds of the time to an answer: from a minute to a day.
const ANSWER_SECONDS: [f64; 10] =
    [60.0, 180.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 86400.0];

/// The router's metrics.
#[derive(Debug)]
pub(crate) struct RouterMetrics {
    ends: DecisionCounters,
    /// `rota_held_leads`
    held: IntGaugeVec,
    /// `rota_held_leads_overdue`
    held_overdue: IntGaugeVec,
    /// `rota_oldest_held_lead_age_seconds`
    held_oldest: IntGaugeVec,
    /// `rota_oldest_unassigned_lead_age_seconds`
    oldest: IntGaugeVec,
    /// `rota_hidden_leads`
    hidden: IntGaugeVec,
    /// `rota_dead_letters`
    dead: IntGaugeVec,
    /// `rota_budget_used_requests`
    budget_used: IntGaugeVec,
    /// `rota_budget_burst_requests`
    budget_burst: IntGaugeVec,
    /// `rota_routing_version`
    routing_version: IntGaugeVec,
    /// `rota_routing_unreadable`
    routing_unreadable: IntGaugeVec,
    roster: RosterMetrics,
    /// `rota_portal_without_leads`
    without_leads: IntGaugeVec,
    /// `rota_answer_timers_total`
    timers: IntCounterVec,
    /// `rota_lead_answer_seconds`
    answer_seconds: HistogramVec,
    /// `rota_published_again_total`
    published_again: IntCounterVec,
    clients: ClientCounters,
    portals: Vec<PortalName>,
}

/// A lead that was not there has no explanation but this word.
const DELETED: &str = "deleted";

/// Why a lead was left alone, by the record of its decision.
fn skipped(explanation: &Value) -> &'static str {
    let reason = explanation.pointer("/outcome/reason").and_then(Value::as_str);
    let known = SkipReason::ALL.into_iter().map(SkipReason::as_str);
    known.into_iter().find(|known| Some(*known) == reason).unwrap_or(DELETED)
}

/// What is counted of decisions.
#[derive(Debug)]
struct DecisionCounters {
    /// `rota_decisions_total`
    decisions: IntCounterVec,
    /// `rota_leads_skipped_total`
    skipped: IntCounterVec,
    /// `rota_leads_given_total`
    given: IntCounterVec,
}

impl DecisionCounters {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            decisions: counter(
                registry,
                "rota_decisions_total",
                "Decisions made: assign, hold (nobody can take it now), skip (it needs nobody)",
                &["portal", "outcome"],
            )?,
            skipped: counter(
                registry,
                "rota_leads_skipped_total",
                "Leads that were left alone, by why: converted, junk, taken (a person chose the owner), made_by_hand (a \
                 person made it for themselves), nobody_else (not answered, and nobody else may take it), deleted",
                &["portal", "reason"],
            )?,
            given: counter(
                registry,
                "rota_leads_given_total",
                "Leads given to a person, by the queue whose turn it was; the queue is empty where a rule names \
                 the person. Queues and people are those of the routing file",
                &["portal", "queue", "person"],
            )?,
        })
    }
}

/// What is counted of leads whose client is known.
#[derive(Debug)]
struct ClientCounters {
    /// `rota_client_searches_total`
    searches: IntCounterVec,
    /// `rota_known_clients_total`
    known: IntCounterVec,
}

impl ClientCounters {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            searches: counter(
                registry,
                "rota_client_searches_total",
                "Questions to a portal whose client a lead is: known (somebody has him), new, refused (the lead is given as if \
                 he were new)",
                &["portal", "outcome"],
            )?,
            known: counter(
                registry,
                "rota_known_clients_total",
                "Decisions about leads whose client somebody of the routing has: kept (he got the lead), stood_in (his \
                 substitute or successor did), waits (it is held for him), given_away (the queue gave it)",
                &["portal", "outcome"],
            )?,
        })
    }
}

/// What is known of people.
#[derive(Debug)]
struct RosterMetrics {
    /// `rota_roster_change`
    change: IntGaugeVec,
    /// `rota_roster_questions_total`
    questions: IntCounterVec,
}

impl RosterMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            change: gauge(
                registry,
                "rota_roster_change",
                "The number of the last change of what is known of people that this router goes by; routers that differ for \
                 longer than some seconds do not follow",
                &["portal"],
            )?,
            questions: counter(
                registry,
                "rota_roster_questions_total",
                "Questions to a portal who is at work, by source: people (who is active), time_zones, working_days, \
                 open_leads, calendar and messenger (absences). Refused: leads are distributed without it",
                &["portal", "source", "outcome"],
            )?,
        })
    }
}

fn published_again(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    counter(
        registry,
        "rota_published_again_total",
        "Messages published again because nothing came of them for longer than a message is on its way: command (decided, \
         not carried out), call (a robot asked for it, not decided), lead (new, not decided after some minutes: a \
         backlog, or it was lost)",
        &["portal", "what"],
    )
}

/// What came of the question whose client a lead is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientSearch {
    /// Somebody has him.
    Known,
    /// Nobody has.
    New,
    /// The portal does not tell.
    Refused,
}

impl ClientSearch {
    const ALL: [Self; 3] = [Self::Known, Self::New, Self::Refused];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::New => "new",
            Self::Refused => "refused",
        }
    }
}

fn hidden(registry: &Registry) -> prometheus::Result<IntGaugeVec> {
    gauge(
        registry,
        "rota_hidden_leads",
        "Leads to which the owner of the webhook had no right when they were asked for last, within half an hour: they wait \
         for the right",
        &["portal"],
    )
}

fn dead(registry: &Registry) -> prometheus::Result<IntGaugeVec> {
    gauge(
        registry,
        "rota_dead_letters",
        "Messages that wait for a human; the portal is empty where it cannot be told",
        &["portal", "class"],
    )
}

impl RouterMetrics {
    pub(crate) fn register(registry: &Registry, portals: Vec<PortalName>) -> prometheus::Result<Self> {
        let metrics = Self {
            ends: DecisionCounters::register(registry)?,
            held: gauge(
                registry,
                "rota_held_leads",
                "Leads that wait because nobody can take them now",
                &["portal"],
            )?,
            held_overdue: gauge(
                registry,
                "rota_held_leads_overdue",
                "Held leads that wait longer than their queue's deadline",
                &["portal"],
            )?,
            held_oldest: gauge(
                registry,
                "rota_oldest_held_lead_age_seconds",
                "Since when the lead is held that is held longest; 0 when none is",
                &["portal"],
            )?,
            oldest: gauge(
                registry,
                "rota_oldest_unassigned_lead_age_seconds",
                "Age of the lead that has waited longest for its owner to be set: held, parked after a failure, put off \
                 as too fast, or decided and not carried out; 0 when none waits. A lead that is held until somebody's \
                 working time begins counts from then on",
                &["portal"],
            )?,
            hidden: hidden(registry)?,
            dead: dead(registry)?,
            budget_used: gauge(
                registry,
                "rota_budget_used_requests",
                "Level of the count of requests that all processes share; at the burst a request has to wait",
                &["portal"],
            )?,
            budget_burst: gauge(
                registry,
                "rota_budget_burst_requests",
                "The portal's limit for that level, as configured",
                &["portal"],
            )?,
            routing_version: gauge(
                registry,
                "rota_routing_version",
                "The number of the published routing that decides",
                &["portal"],
            )?,
            routing_unreadable: gauge(
                registry,
                "rota_routing_unreadable",
                "1 while the current version of the routing cannot be read and an older one decides",
                &["portal"],
            )?,
            roster: RosterMetrics::register(registry)?,
            without_leads: gauge(
                registry,
                "rota_portal_without_leads",
                "1 while the portal turns each lead into a deal at once, so that there is nothing to distribute",
                &["portal"],
            )?,
            timers: counter(
                registry,
                "rota_answer_timers_total",
                "What became of leads that were to be answered within a time: answered, reminded, taken_away, escalated (nobody else could take it)",
                &["portal", "outcome"],
            )?,
            answer_seconds: histogram(
                registry,
                "rota_lead_answer_seconds",
                "Time from a person becoming the owner of a lead to his answer, for leads that are to be answered within a time",
                &ANSWER_SECONDS,
                &["portal"],
            )?,
            published_again: published_again(registry)?,
            clients: ClientCounters::register(registry)?,
            portals,
        };
        metrics.start_at_zero();
        for portal in &metrics.portals {
            metrics.waiting(portal, &WaitingLeads::default(), Timestamp::UNIX_EPOCH);
            metrics.without_leads(portal, false);
            metrics.hidden_leads(portal, 0);
        }
        metrics.dead_letters(&BTreeMap::new());
        Ok(metrics)
    }

    /// So that the first of each is seen as one more.
    fn start_at_zero(&self) {
        for portal in self.portals.iter().map(PortalName::as_str) {
            for outcome in ["assign", "hold", "skip"] {
                self.ends.decisions.with_label_values(&[portal, outcome]).inc_by(0);
            }
            for reason in SkipReason::ALL.map(SkipReason::as_str).into_iter().chain([DELETED]) {
                self.ends.skipped.with_label_values(&[portal, reason]).inc_by(0);
            }
            drop(self.answer_seconds.with_label_values(&[portal]));
            for outcome in ClientSearch::ALL.map(ClientSearch::as_str) {
                self.clients.searches.with_label_values(&[portal, outcome]).inc_by(0);
            }
            for outcome in ClientWent::ALL.map(ClientWent::as_str) {
                self.clients.known.with_label_values(&[portal, outcome]).inc_by(0);
            }
            for what in Again::ALL.map(Again::as_str) {
                self.published_again.with_label_values(&[portal, what]).inc_by(0);
            }
            for outcome in Timed::ALL.map(Timed::as_str) {
                self.timers.with_label_values(&[portal, outcome]).inc_by(0);
            }
        }
    }

    pub(crate) fn without_leads(&self, portal: &PortalName, without: bool) {
        self.without_leads.with_label_values(&[portal.as_str()]).set(without.into());
    }

    pub(crate) fn roster_asked(&self, portal: &PortalName, source: RosterSource, answered: bool) {
        for (outcome, is_it) in [("answered", answered), ("refused", !answered)] {
            // Both are there from the first question on.
            self.roster
                .questions
                .with_label_values(&[portal.as_str(), source.as_str(), outcome])
                .inc_by(is_it.into());
        }
    }

    /// A lead was answered so long after its owner got it.
    pub(crate) fn answered_after(&self, portal: &PortalName, took: SignedDuration) {
        self.answer_seconds.with_label_values(&[portal.as_str()]).observe(took.as_secs_f64().max(0.0));
    }

    pub(crate) fn timed(&self, portal: &PortalName, outcome: Timed) {
        self.timers.with_label_values(&[portal.as_str(), outcome.as_str()]).inc();
    }

    pub(crate) fn published_again(&self, portal: &PortalName, what: Again) {
        self.published_again.with_label_values(&[portal.as_str(), what.as_str()]).inc();
    }

    pub(crate) fn client_sought(&self, portal: &PortalName, outcome: ClientSearch) {
        self.clients.searches.with_label_values(&[portal.as_str(), outcome.as_str()]).inc();
    }

    /// Where the lead of a known client went.
    pub(crate) fn client_went(&self, portal: &PortalName, outcome: ClientWent) {
        self.clients.known.with_label_values(&[portal.as_str(), outcome.as_str()]).inc();
    }

    /// This routing decides from now on.
    pub(crate) fn routing(&self, portal: &PortalName, routing: &Routing) {
        let portal = portal.as_str();
        for queue in routing.queues() {
            for member in queue.members.iter().chain(&queue.on_duty) {
                let labels = [portal, queue.name.as_str(), member.person.name.as_str()];
                self.ends.given.with_label_values(&labels).inc_by(0);
            }
        }
        let version = i64::try_from(routing.version()).unwrap_or(i64::MAX);
        self.routing_version.with_label_values(&[portal]).set(version);
        self.routing_unreadable.with_label_values(&[portal]).set(0);
    }

    /// People are as this change of the roster says from now on.
    pub(crate) fn roster_followed(&self, portal: &PortalName, change: u64) {
        let change = i64::try_from(change).unwrap_or(i64::MAX);
        self.roster.change.with_label_values(&[portal.as_str()]).set(change);
    }

    pub(crate) fn unreadable_routing(&self, portal: &PortalName) {
        self.routing_unreadable.with_label_values(&[portal.as_str()]).set(1);
    }

    pub(crate) fn decided(&self, portal: &PortalName, saved: &SavedDecision) {
        self.ends.decisions.with_label_values(&[portal.as_str(), word(&saved.verdict)]).inc();
        match &saved.verdict {
            Verdict::Assign { person, .. } => {
                let queue = saved.queue.as_deref().unwrap_or_default();
                self.ends.given.with_label_values(&[portal.as_str(), queue, person]).inc();
            }
            Verdict::Skip => {
                let why = skipped(&saved.explanation);
                self.ends.skipped.with_label_values(&[portal.as_str(), why]).inc();
            }
            Verdict::Hold { .. } => {}
        }
    }

    pub(crate) fn waiting(&self, portal: &PortalName, waiting: &WaitingLeads, now: Timestamp) {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let age =
            |since: Option<Timestamp>| since.map_or(0, |since| now.duration_since(since).as_secs().max(0));
        for (gauge, value) in [
            (&self.held, count(waiting.held)),
            (&self.held_overdue, count(waiting.overdue)),
            (&self.held_oldest, age(waiting.held_since)),
            (&self.oldest, age(waiting.oldest)),
        ] {
            gauge.with_label_values(&[portal.as_str()]).set(value);
        }
    }

    pub(crate) fn hidden_leads(&self, portal: &PortalName, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.hidden.with_label_values(&[portal.as_str()]).set(count);
    }

    pub(crate) fn budget(&self, portal: &PortalName, used: u32, burst: u32) {
        self.budget_used.with_label_values(&[portal.as_str()]).set(used.into());
        self.budget_burst.with_label_values(&[portal.as_str()]).set(burst.into());
    }

    /// Sets the counts; a pair that is not there (any more) is zero.
    pub(crate) fn dead_letters(&self, counts: &BTreeMap<(String, String), u64>) {
        let known = self.portals.iter().map(PortalName::as_str);
        let portals: BTreeSet<&str> = counts.keys().map(|(portal, _)| portal.as_str()).chain(known).collect();
        for portal in portals {
            for class in FailureClass::ALL.map(FailureClass::as_str) {
                let count = counts.get(&(portal.to_owned(), class.to_owned())).copied().unwrap_or_default();
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                self.dead.with_label_values(&[portal, class]).set(count);
            }
        }
    }
}
