//! The holding pool: leads wait while nobody may take them, go fairly and at a rate when somebody may, and somebody is told
//! of those that wait too long.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::harness::Plan;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::clocked::Clocked;
use crate::common_parts::{assert_spent, plan};

/// Moscow's nine o'clock of a Monday, but ten seconds.
const BEFORE_NINE: &str = "2026-11-23T05:59:50Z";

/// Three people of an office, and who is on duty at night.
fn office(queue: &str) -> Plan {
    let mut plan = plan();
    plan.routing = format!(
        "version: 1\ntime_zone: Europe/Moscow\n\
         schedules:\n\
         \x20 office: {{ days: mon-fri, hours: \"09:00-18:00\" }}\n\
         \x20 nights: {{ days: mon-sun, hours: \"18:00-09:00\" }}\n\
         people:\n\
         \x20 p11: {{ user: 11, schedule: office }}\n\
         \x20 p12: {{ user: 12, schedule: office }}\n\
         \x20 p13: {{ user: 13, schedule: office }}\n\
         \x20 head: {{ user: 20, schedule: nights }}\n\
         queues: {{ main: {{ members: [p11, p12, p13]{queue} }} }}\n\
         default: {{ queue: main }}\n"
    );
    plan.config.push_str("\nroster: { every: 1s, absences_every: 1s }");
    plan
}

async fn owners(clocked: &Clocked) -> BTreeMap<String, usize> {
    let mut owners = BTreeMap::new();
    for lead in clocked.leads().await.iter().filter(|lead| !lead.history.is_empty()) {
        *owners.entry(lead.text("ASSIGNED_BY_ID").to_owned()).or_default() += 1;
    }
    owners
}

fn shares(shares: &[(&str, usize)]) -> BTreeMap<String, usize> {
    shares.iter().map(|(user, count)| ((*user).to_owned(), *count)).collect()
}

/// Two looks of the pool, and some: time for what must not happen.
async fn two_looks() {
    tokio::time::sleep(Duration::from_secs(11)).await;
}

#[tokio::test]
async fn outside_hours_leads_go_to_who_is_on_duty_and_at_nine_to_the_office() {
    let clocked = Clocked::start(&office(", on_duty: [head]"), BEFORE_NINE).await;
    clocked.add_leads(json!({ "count": 2 })).await;
    clocked.wait_for_notices(2).await;
    assert_eq!(owners(&clocked).await, shares(&[("20", 2)]));
    clocked.advance(SignedDuration::from_secs(10));
    clocked.add_leads(json!({ "count": 3 })).await;
    clocked.wait_for_notices(5).await;
    assert_eq!(owners(&clocked).await, shares(&[("20", 2), ("11", 1), ("12", 1), ("13", 1)]));
    assert_spent(&clocked.portal, "on duty, then the office: 5 leads", 10).await;
    clocked.stop().await;
}

#[tokio::test]
async fn what_was_held_at_night_goes_at_nine_to_those_who_began_their_day() {
    let mut plan = office(", working_day: required");
    plan.routers = 2;
    let clocked = Clocked::start(&plan, BEFORE_NINE).await;
    let began = json!({ "STATUS": "OPENED", "TIME_START": "2026-11-23T08:55:00+03:00" });
    for user in [11, 12] {
        clocked.portal.set_working_day(user, &began).await.unwrap();
    }
    clocked.portal.set_working_day(13, &json!({ "STATUS": "CLOSED" })).await.unwrap();
    clocked.wait_for_roster().await;
    let ids = clocked.add_leads(json!({ "count": 6 })).await;
    clocked.wait_for_held(6).await;
    let held = clocked.decision(ids[0], 1).await;
    assert!(held.reason.contains("nobody may take it before 23 Nov 09:00"), "{}", held.reason);
    let before = clocked.portal.stats().await.unwrap().by_method;
    // Nobody may take them, so the pool asks the portal nothing.
    two_looks().await;
    let asked =
        |methods: &BTreeMap<String, u64>, method: &str| methods.get(method).copied().unwrap_or_default();
    let after = clocked.portal.stats().await.unwrap().by_method;
    for method in ["crm.lead.list", "crm.lead.get"] {
        assert_eq!(asked(&before, method), asked(&after, method), "{method}");
    }
    // Not at one go: what the portal said of working days is known for five seconds here.
    for _ in 0..4 {
        clocked.advance(SignedDuration::from_secs(3));
        clocked.wait_for_roster().await;
    }
    clocked.wait_for_notices(6).await;
    assert_eq!(owners(&clocked).await, shares(&[("11", 3), ("12", 3)]));
    assert_spent(&clocked.portal, "held, given at nine to who began his day: 6 leads", 18).await;
    clocked.stop().await;
}

#[tokio::test]
async fn who_lives_where_the_portal_says_begins_at_nine_of_his_own_clock() {
    let mut plan = office("");
    plan.routing = plan.routing.replace("p12: { user: 12,", "p12: { user: 12, time_zone: portal,");
    // Two hours before nine in Omsk, which is five before nine in Moscow.
    let clocked = Clocked::start(&plan, "2026-11-23T01:00:00Z").await;
    clocked.portal.change_user(12, json!({ "TIME_ZONE": "Asia/Omsk" })).await.unwrap();
    let told = "FROM roster_readings WHERE source = 'time_zones' AND facts::text LIKE '%Omsk%'";
    clocked
        .wait_for("the portal has told where he lives", async || Ok(clocked.count(told).await? == 1))
        .await;
    clocked.wait_until_followed().await;
    let ids = clocked.add_leads(json!({ "count": 3 })).await;
    clocked.wait_for_held(3).await;
    let held = clocked.decision(ids[0], 1).await;
    assert!(held.reason.contains("nobody may take it before 23 Nov 06:00"), "{}", held.reason);
    clocked.advance(SignedDuration::from_hours(2) + SignedDuration::from_secs(5));
    clocked.wait_for_notices(3).await;
    assert_eq!(owners(&clocked).await, shares(&[("12", 3)]));
    assert_spent(&clocked.portal, "own time zone by the portal: 3 leads", 12).await;
    clocked.stop().await;
}

#[tokio::test]
async fn somebody_is_told_of_leads_that_wait_too_long() {
    // A quarter to six in the evening: fifteen minutes of the office's time are left.
    let plan = office(", hold: { deadline: 30m, escalate_to: head }");
    let clocked = Clocked::start(&plan, "2026-11-23T14:45:00Z").await;
    for person in ["p11", "p12", "p13"] {
        let absent = ["people", "absent", person, "--from", "2020-01-01", "--to", "2100-01-01"];
        assert!(clocked.ground.rota(&absent).unwrap().status.success());
    }
    clocked.wait_until_followed().await;
    clocked.add_leads(json!({ "count": 7 })).await;
    clocked.wait_for_held(7).await;
    clocked.advance(SignedDuration::from_mins(31));
    two_looks().await;
    assert_eq!(clocked.portal.notifications().await.unwrap().len(), 0, "the night does not count");
    assert!(clocked.metric("rota_held_leads_overdue").await < 0.5);
    // A quarter past nine.
    clocked.advance(SignedDuration::from_hours(15));
    clocked.wait_for_notices(1).await;
    let overdue = async || Ok((clocked.metric("rota_held_leads_overdue").await - 7.0).abs() < 0.5);
    clocked.wait_for("seven are overdue", overdue).await;
    let notices = clocked.portal.notifications().await.unwrap();
    assert_eq!((notices.len(), notices[0].user), (1, 20));
    let message = &notices[0].message;
    assert!(message.starts_with("Leads that wait too long in the queue main: 7. [URL="), "{message}");
    assert!(message.ends_with(", and more: 2"), "{message}");
    // Somebody is back: they are given, and nobody is told again.
    assert!(clocked.ground.rota(&["people", "resume", "p12"]).unwrap().status.success());
    clocked.wait_for_notices(8).await;
    assert_eq!(owners(&clocked).await, shares(&[("12", 7)]));
    assert_spent(&clocked.portal, "held too long, somebody told: 7 leads", 40).await;
    clocked.stop().await;
}

#[tokio::test]
async fn held_leads_are_given_away_at_a_rate() {
    let plan = office(", hold: { release_per_minute: 1, first: most_valuable }");
    let clocked = Clocked::start(&plan, BEFORE_NINE).await;
    let leads: Vec<Value> =
        (1..=7).map(|number| json!({ "OPPORTUNITY": (number * 100).to_string() })).collect();
    clocked.add_leads(json!({ "leads": leads })).await;
    clocked.wait_for_held(7).await;
    clocked.advance(SignedDuration::from_secs(11));
    for (given, held) in [(3, 4), (6, 1), (7, 0)] {
        clocked.wait_for_held(held).await;
        if held > 0 {
            // Nobody gets more.
            two_looks().await;
        }
        clocked.wait_for_held(held).await;
        clocked.wait_for_notices(given).await;
        let leads = clocked.leads().await;
        let (waiting, gone): (Vec<_>, Vec<_>) = leads.iter().partition(|lead| lead.history.is_empty());
        assert_eq!(gone.len(), given);
        let amount = |lead: &&e2e::portal::PortalLead| lead.text("OPPORTUNITY").parse::<f64>().unwrap();
        let most = waiting.iter().map(amount).fold(0.0, f64::max);
        let least = gone.iter().map(amount).fold(f64::MAX, f64::min);
        assert!(least > most, "the most valuable first: {least} {most}");
        clocked.advance(SignedDuration::from_secs(61));
    }
    let owners = owners(&clocked).await;
    assert!(owners.values().all(|count| (2..=3).contains(count)), "{owners:?}");
    assert_spent(&clocked.portal, "held, given at a rate: 7 leads", 35).await;
    clocked.stop().await;
}

#[tokio::test]
async fn leads_that_wait_for_a_limit_cost_nothing_until_it_frees() {
    let mut plan = office(", limits: { per_hour: 2 }");
    // Who is at work is asked of the portal once.
    plan.config = plan.config.replace("roster: { every: 1s, absences_every: 1s }", "");
    let clocked = Clocked::start(&plan, "2026-11-23T07:00:00Z").await;
    clocked.add_leads(json!({ "count": 20 })).await;
    clocked.wait_for_held(14).await;
    clocked.wait_for_notices(6).await;
    let before = clocked.spent().await;
    for _ in 0..2 {
        clocked.advance(SignedDuration::from_mins(4));
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    assert_eq!(clocked.spent().await, before, "eight minutes at the limit");
    clocked.advance(SignedDuration::from_mins(53));
    clocked.wait_for_notices(12).await;
    clocked.wait_for_held(8).await;
    assert_eq!(owners(&clocked).await, shares(&[("11", 4), ("12", 4), ("13", 4)]));
    assert_spent(&clocked.portal, "limit of an hour: 20 leads", 60).await;
    clocked.stop().await;
}

/// A thousand are brought back at once. What ten thousand cost is measured by `make bench`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_leads_than_are_brought_back_at_once_go_at_nine_in_fair_shares() {
    const LEADS: usize = 1_200;
    let mut plan = office("");
    plan.routers = 2;
    plan.portal = json!({ "burst": 250, "per_second": 50 });
    plan.portal_keys.push("limits: { burst: 250, per_second: 50 }".to_owned());
    let clocked = Clocked::start(&plan, BEFORE_NINE).await;
    clocked.add_leads(json!({ "count": LEADS })).await;
    clocked.wait_for_held(LEADS).await;
    clocked.advance(SignedDuration::from_secs(11));
    // Not by notices: the notifier draws so many for one person together.
    let updates = async || {
        let leads = clocked.portal.leads().await?;
        Ok(leads.iter().all(|lead| lead.history.len() == 1))
    };
    clocked.wait_for("all are given", updates).await;
    let owners = owners(&clocked).await;
    assert_eq!(owners.values().sum::<usize>(), LEADS);
    assert!(owners.values().all(|count| *count == LEADS / 3), "{owners:?}");
    clocked.stop().await;
}
