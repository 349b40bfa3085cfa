//! Leads that wait keep their order: when a place frees, no newcomer takes it, whatever kept the leads waiting. Three
//! routers decide.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use e2e::harness::Plan;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use store::Verdict;

use crate::clocked::Clocked;
use crate::common_parts::plan;

/// Against a hang only.
const LIMIT: Duration = Duration::from_mins(4);

/// Three people of an office with a queue, and three routers.
fn office(queue: &str) -> Plan {
    let mut plan = plan();
    plan.routers = 3;
    plan.routing = format!(
        "version: 1\ntime_zone: Europe/Moscow\n\
         schedules: {{ office: {{ days: mon-fri, hours: \"09:00-18:00\" }} }}\n\
         people: {{ p11: {{ user: 11 }}, p12: {{ user: 12 }}, p13: {{ user: 13 }} }}\n\
         queues: {{ main: {{ members: [p11, p12, p13]{queue} }} }}\n\
         default: {{ queue: main }}\n"
    );
    plan.config.push_str("\nroster: { every: 1s, absences_every: 1s }");
    plan
}

/// The same, but they work only in the office's hours.
fn in_hours(queue: &str) -> Plan {
    let mut plan = office(queue);
    for user in ["11", "12", "13"] {
        plan.routing = plan
            .routing
            .replace(&format!("{{ user: {user} }}"), &format!("{{ user: {user}, schedule: office }}"));
    }
    plan
}

/// Leads in the order in which they came.
struct Line {
    clocked: Clocked,
    leads: Vec<u64>,
}

impl Line {
    /// So many are given at once, and so many others wait.
    async fn start(plan: &Plan, at: &str, given: usize, waiting: usize) -> Self {
        let clocked = Clocked::start(plan, at).await;
        let mut line = Self { clocked, leads: Vec::new() };
        line.add(given).await;
        line.wait_for_given(given).await;
        line.clocked.advance(SignedDuration::from_secs(1));
        line.add(waiting).await;
        line.clocked.wait_for_held(waiting).await;
        line
    }

    async fn add(&mut self, count: usize) {
        if count > 0 {
            self.leads.extend(self.clocked.add_leads(json!({ "count": count })).await);
        }
    }

    async fn given(&self) -> BTreeSet<u64> {
        let leads = self.clocked.leads().await;
        let given = leads.iter().filter(|lead| !lead.history.is_empty());
        given.map(|lead| lead.text("ID").parse().unwrap()).collect()
    }

    async fn wait_for_given(&self, count: usize) {
        let enough = async || Ok(self.given().await.len() >= count);
        self.clocked.wait_for(&format!("{count} leads are given"), enough).await;
    }

    /// Newcomers arrive, one after the other, until so many leads are given: these are the ones that came first. The clock
    /// goes on so far with each of them.
    async fn newcomers_until_given(&mut self, count: usize, step: SignedDuration) {
        let end = Instant::now() + LIMIT;
        while self.given().await.len() < count {
            assert!(Instant::now() < end, "not {count} leads are given: {:?}", self.given().await);
            self.add(1).await;
            self.clocked.advance(step);
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        self.assert_given(count).await;
    }

    async fn assert_given(&self, count: usize) {
        let first: BTreeSet<u64> = self.leads.iter().take(count).copied().collect();
        assert_eq!(self.given().await, first, "of {:?}", self.leads);
    }

    /// All that came are decided; nobody was overtaken on the way.
    async fn end(self, given: usize) {
        self.clocked.wait_for_held(self.leads.len() - given).await;
        self.assert_given(given).await;
        self.clocked.stop().await;
    }
}

const TWO_SECONDS: SignedDuration = SignedDuration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_of_an_hour_go_to_those_that_wait() {
    let plan = office(", limits: { per_hour: 1 }");
    let mut line = Line::start(&plan, "2026-11-23T07:00:00Z", 3, 6).await;
    for given in [6, 9] {
        line.clocked.advance(SignedDuration::from_mins(61));
        line.newcomers_until_given(given, TWO_SECONDS).await;
    }
    line.end(9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_of_a_day_go_to_those_that_wait() {
    let plan = office(", limits: { per_day: 1 }");
    // Ten minutes to midnight in Moscow.
    let mut line = Line::start(&plan, "2026-11-23T20:50:00Z", 3, 4).await;
    line.clocked.advance(SignedDuration::from_mins(11));
    line.newcomers_until_given(6, TWO_SECONDS).await;
    line.end(6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_for_open_leads_go_to_those_that_wait() {
    let plan = office(", limits: { open: 1 }");
    let mut line = Line::start(&plan, "2026-11-23T07:00:00Z", 3, 4).await;
    for lead in line.given().await {
        let closed = json!({ "STATUS_ID": "CONVERTED" });
        line.clocked.portal.change_lead(lead, &closed).await.unwrap();
    }
    line.newcomers_until_given(6, TWO_SECONDS).await;
    line.end(6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_from_a_pause_takes_those_that_wait() {
    let mut plan = office(", limits: { per_hour: 2 }");
    plan.routing = plan.routing.replace("[p11, p12, p13]", "[p11]");
    let mut line = Line::start(&plan, "2026-11-23T07:00:00Z", 2, 4).await;
    let rota = |arguments: &[&str]| line.clocked.ground.rota(arguments).unwrap().status.success();
    assert!(rota(&["people", "pause", "p11", "--for", "3h"]));
    // So that the routers know it; if not, the order is the same.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    line.clocked.advance(SignedDuration::from_mins(61));
    assert!(rota(&["people", "resume", "p11"]));
    line.newcomers_until_given(4, TWO_SECONDS).await;
    line.end(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_nine_those_of_the_night_go_first() {
    let plan = in_hours(", limits: { per_hour: 1 }");
    // Ten seconds to nine in Moscow.
    let mut line = Line::start(&plan, "2026-11-23T05:59:50Z", 0, 5).await;
    line.clocked.advance(SignedDuration::from_secs(11));
    line.newcomers_until_given(3, TWO_SECONDS).await;
    line.clocked.advance(SignedDuration::from_mins(61));
    line.newcomers_until_given(6, TWO_SECONDS).await;
    line.end(6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_holds_newcomers_back_too_while_others_wait() {
    let plan = in_hours(", hold: { release_per_minute: 1 }");
    let mut line = Line::start(&plan, "2026-11-23T05:59:50Z", 0, 8).await;
    line.clocked.advance(SignedDuration::from_secs(11));
    // The clock stands still, so each gets one.
    line.newcomers_until_given(3, SignedDuration::ZERO).await;
    line.clocked.advance(SignedDuration::from_secs(61));
    line.newcomers_until_given(6, SignedDuration::ZERO).await;
    line.end(6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_that_nobody_may_take_holds_nobody_up() {
    let mut plan = office("");
    plan.routing = plan.routing.replace(
        "default:",
        "rules: [{ name: G, when: { source: GERMAN }, queue: main, skills: [german] }]\ndefault:",
    );
    plan.routing =
        plan.routing.replace("{ user: 13 }", "{ user: 13, skills: [german], limits: { per_hour: 1 } }");
    let mut line = Line::start(&plan, "2026-11-23T07:00:00Z", 0, 0).await;
    let german = json!({ "leads": [{ "SOURCE_ID": "GERMAN" }, { "SOURCE_ID": "GERMAN" }] });
    let german = line.clocked.add_leads(german).await;
    line.clocked.wait_for_held(1).await;
    line.clocked.advance(SignedDuration::from_secs(1));
    line.add(6).await;
    line.wait_for_given(7).await;
    line.clocked.wait_for_held(1).await;
    let given = line.given().await;
    assert_eq!(german.iter().filter(|lead| given.contains(lead)).count(), 1);
    line.clocked.stop().await;
}

/// Which leads were given at each moment, by what is stored.
async fn rounds(clocked: &Clocked, leads: &[u64]) -> Vec<BTreeSet<u64>> {
    let mut rounds: BTreeMap<Timestamp, BTreeSet<u64>> = BTreeMap::new();
    for lead in leads {
        let decision = clocked.decision(*lead, 1).await;
        if matches!(decision.verdict, Verdict::Assign { .. }) {
            rounds.entry(decision.decided_at).or_default().insert(*lead);
        }
    }
    rounds.into_values().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulation_gives_the_same_leads_at_the_same_time() {
    let plan = office(", limits: { per_hour: 1 }, hold: { first: most_valuable }");
    let clocked = Clocked::start(&plan, "2026-11-23T07:00:00Z").await;
    let (mut ids, mut lines) = (Vec::new(), String::new());
    let mut add = async |amounts: &[u32]| {
        let lead = |amount: &u32| json!({ "OPPORTUNITY": amount.to_string() });
        let leads: Vec<Value> = amounts.iter().map(lead).collect();
        let added = clocked.add_leads(json!({ "leads": leads })).await;
        for (id, amount) in added.iter().zip(amounts) {
            let lead = json!({ "ID": id.to_string(), "OPPORTUNITY": amount.to_string(), "DATE_CREATE": clocked.now() });
            lines.push_str(&lead.to_string());
            lines.push('\n');
        }
        ids.extend(added);
    };
    let given = async |count: usize| {
        let notices = async || Ok(clocked.portal.notifications().await?.len() >= count);
        clocked.wait_for(&format!("{count} notices"), notices).await;
    };
    add(&[1, 1, 1]).await;
    given(3).await;
    clocked.advance(SignedDuration::from_mins(1));
    add(&[30, 500, 20, 70, 60]).await;
    clocked.wait_for_held(5).await;
    clocked.advance(SignedDuration::from_mins(30));
    // Of what comes later some goes before what waits, some behind it.
    add(&[65, 10, 900]).await;
    clocked.wait_for_held(8).await;
    clocked.advance(SignedDuration::from_mins(29));
    given(6).await;
    clocked.advance(SignedDuration::from_mins(5));
    add(&[800]).await;
    clocked.wait_for_held(6).await;
    clocked.advance(SignedDuration::from_mins(55));
    given(9).await;
    clocked.advance(SignedDuration::from_mins(60));
    given(12).await;
    let simulated = clocked.ground.simulate(&lines).unwrap();
    let order = simulated["files"][0]["order"].as_array().unwrap();
    let order: Vec<u64> = order.iter().map(|lead| lead.as_u64().unwrap()).collect();
    let expected: Vec<BTreeSet<u64>> = order.chunks(3).map(|round| round.iter().copied().collect()).collect();
    assert_eq!(rounds(&clocked, &ids).await, expected);
    let by_amount =
        |amounts: [usize; 3]| amounts.map(|place| ids[place]).into_iter().collect::<BTreeSet<u64>>();
    // 500, 900 and 70; then 800, 65 and 60.
    assert_eq!(expected[1..3], [by_amount([4, 10, 6]), by_amount([11, 8, 7])]);
    clocked.stop().await;
}
