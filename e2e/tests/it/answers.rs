//! Leads that are to be answered within a time: their owner is reminded, they go to another, somebody is told at last; and
//! who answered keeps his.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::harness::Plan;
use jiff::SignedDuration;
use serde_json::json;

use crate::clocked::Clocked;
use crate::common_parts::{assert_spent, plan};

/// Moscow's nine o'clock of a Monday.
const NINE: &str = "2026-11-23T06:00:00Z";

/// Two people, who have a quarter of an hour, and their head.
fn office(answer: &str) -> Plan {
    let mut plan = plan();
    plan.routers = 2;
    plan.routing = format!(
        "version: 1\ntime_zone: Europe/Moscow\n\
         schedules: {{ office: {{ days: mon-fri, hours: \"09:00-18:00\" }} }}\n\
         people:\n\
         \x20 p11: {{ user: 11, schedule: office }}\n\
         \x20 p12: {{ user: 12, schedule: office }}\n\
         \x20 head: {{ user: 20 }}\n\
         queues:\n\
         \x20 main: {{ members: [p11, p12], answer: {{ within: 15m, remind_at: 10m, escalate_to: head{answer} }} }}\n\
         default: {{ queue: main }}\n"
    );
    plan
}

/// The notices beside those of assignments, by who got them; links are left out.
async fn told(clocked: &Clocked) -> Vec<(u64, String)> {
    let notices = clocked.portal.notifications().await.unwrap();
    let others = notices.into_iter().filter(|notice| !notice.message.starts_with("You have been assigned"));
    let short = |text: &str| {
        let (before, link) = text.split_once("[URL=").unwrap();
        let (_, after) = link.split_once("[/URL]").unwrap();
        format!("{before}…{after}")
    };
    others.map(|notice| (notice.user, short(&notice.message))).collect()
}

async fn owner(clocked: &Clocked, lead: u64) -> String {
    let leads = clocked.leads().await;
    let lead = leads.iter().find(|known| known.text("ID") == lead.to_string()).unwrap();
    lead.text("ASSIGNED_BY_ID").to_owned()
}

/// Until so many timers have started.
async fn wait_for_timers(clocked: &Clocked, count: i64) {
    let started = async || Ok(clocked.count("FROM answer_timers WHERE since IS NOT NULL").await? == count);
    clocked.wait_for(&format!("{count} timers run"), started).await;
}

/// How many leads the portal was asked of by themselves, and not by what happened of late.
async fn asked_one_by_one(clocked: &Clocked) -> u64 {
    let commands = clocked.portal.stats().await.unwrap().commands;
    let count = |method: &str| commands.get(method).copied().unwrap_or_default();
    count("crm.activity.list") - count("crm.stagehistory.list")
}

/// Two looks at the timers, and one for notices: time for what must not happen.
async fn pause() {
    tokio::time::sleep(Duration::from_secs(16)).await;
}

#[tokio::test]
async fn who_does_not_answer_is_reminded_and_loses_the_lead_until_nobody_is_left() {
    let clocked = Clocked::start(&office(""), NINE).await;
    let lead = clocked.add_leads(json!({ "count": 1 })).await[0];
    clocked.wait_for_notices(1).await;
    wait_for_timers(&clocked, 1).await;
    clocked.advance(SignedDuration::from_secs(601));
    clocked.wait_for_notices(2).await;
    let reminder = "Lead … still waits for your answer. In 5 min it goes to somebody else.".to_owned();
    assert_eq!(told(&clocked).await, [(11, reminder.clone())]);
    clocked.advance(SignedDuration::from_mins(5));
    clocked.wait_for_notices(4).await;
    assert_eq!(owner(&clocked, lead).await, "12");
    let taken = (11, "Lead … was not answered in time and was given to p12.".to_owned());
    assert_eq!(told(&clocked).await, [(11, reminder), taken]);
    let moved = clocked.decision(lead, 2).await;
    assert_eq!(moved.reason, "unanswered: as asked → queue main → p12 (credit +1.50 → +0.50)");
    wait_for_timers(&clocked, 1).await;
    clocked.advance(SignedDuration::from_mins(16));
    clocked.wait_for_notices(5).await;
    let last = told(&clocked).await.pop().unwrap();
    assert_eq!(last, (20, "Lead … of p12 was not answered in time, and nobody else may take it.".to_owned()));
    // No loop: nobody is told again, and nobody gets it again.
    clocked.advance(SignedDuration::from_hours(3));
    pause().await;
    assert_eq!(clocked.portal.notifications().await.unwrap().len(), 5);
    assert_eq!(owner(&clocked, lead).await, "12");
    assert!((clocked.metric("rota_answer_timers_total").await - 3.0).abs() < 0.5);
    assert_eq!(asked_one_by_one(&clocked).await, 3, "only when somebody was to be reminded or late");
    assert_spent(&clocked.portal, "reminded, moved, escalated: 1 lead", 20).await;
    clocked.stop().await;
}

#[tokio::test]
async fn who_answered_keeps_the_lead_and_so_does_who_took_it() {
    let clocked = Clocked::start(&office(""), NINE).await;
    let leads = clocked.add_leads(json!({ "count": 6 })).await;
    clocked.wait_for_notices(6).await;
    wait_for_timers(&clocked, 6).await;
    let before = clocked.leads().await;
    let mut owners: BTreeMap<u64, String> = BTreeMap::new();
    for (id, lead) in leads.iter().zip(&before) {
        owners.insert(*id, lead.text("ASSIGNED_BY_ID").to_owned());
    }
    let [called, chatted, moved, missed, given, closed] = leads[..] else { panic!("six") };
    // A call that is bound to the client first, and to the lead only then.
    let call = json!({ "OWNER_TYPE_ID": "3", "OWNER_ID": "7" });
    clocked.portal.add_activity(called, &call).await.unwrap();
    let chat = json!({ "PROVIDER_ID": "IMOPENLINES_SESSION", "DIRECTION": "1", "RESULT_STATUS": "2" });
    clocked.portal.add_activity(chatted, &chat).await.unwrap();
    clocked.portal.change_lead(moved, &json!({ "STATUS_ID": "IN_PROCESS" })).await.unwrap();
    // Nobody picked up; and a plan is no answer.
    clocked.portal.add_activity(missed, &json!({ "RESULT_STREAM": "4" })).await.unwrap();
    clocked.portal.add_activity(missed, &json!({ "PROVIDER_ID": "CRM_TODO" })).await.unwrap();
    clocked.portal.change_lead(given, &json!({ "ASSIGNED_BY_ID": "19" })).await.unwrap();
    clocked.portal.change_lead(closed, &json!({ "STATUS_ID": "JUNK" })).await.unwrap();
    clocked.advance(SignedDuration::from_mins(16));
    // The new owner of the one, and who lost it.
    clocked.wait_for_notices(8).await;
    pause().await;
    assert_eq!(told(&clocked).await.len(), 1);
    for (lead, before) in owners {
        let now = owner(&clocked, lead).await;
        if lead == missed {
            assert_ne!(now, before);
        } else if lead == given {
            assert_eq!(now, "19");
        } else {
            assert_eq!(now, before, "{lead}");
        }
    }
    assert_spent(&clocked.portal, "answered, missed, taken by a person, closed: 6 leads", 20).await;
    clocked.stop().await;
}

#[tokio::test]
async fn those_who_answer_cost_a_request_a_minute_whatever_their_number() {
    let clocked = Clocked::start(&office(""), NINE).await;
    let leads = clocked.add_leads(json!({ "count": 41 })).await;
    clocked.wait_for_notices(41).await;
    wait_for_timers(&clocked, 41).await;
    let (moved, called) = leads.split_last().unwrap();
    for lead in called {
        clocked.portal.add_activity(*lead, &json!({})).await.unwrap();
    }
    clocked.portal.change_lead(*moved, &json!({ "STATUS_ID": "IN_PROCESS" })).await.unwrap();
    let before = clocked.spent().await;
    clocked.advance(SignedDuration::from_secs(61));
    let none = async || Ok(clocked.count("FROM answer_timers").await? == 0);
    clocked.wait_for("no timer runs any more", none).await;
    assert_eq!(clocked.spent().await - before, 2, "the news, and the lead that somebody moved");
    assert_eq!(asked_one_by_one(&clocked).await, 1);
    assert!((clocked.metric_of("rota_answer_timers_total", "answered").await - 41.0).abs() < 0.5);
    assert!((clocked.metric("rota_lead_answer_seconds_count").await - 41.0).abs() < 0.5);
    // Nothing is to be answered, so nothing is asked.
    clocked.advance(SignedDuration::from_mins(20));
    pause().await;
    assert_eq!(clocked.spent().await - before, 2);
    // A portal that tells no news is asked lead by lead.
    let kind =
        json!({ "error": { "status": 400, "code": "ACCESS_DENIED", "description": "Access denied." } });
    let refused = json!({ "method": "crm.stagehistory.list", "kind": kind });
    clocked.portal.add_fault(&refused).await.unwrap();
    clocked.add_leads(json!({ "count": 1 })).await;
    clocked.wait_for_notices(42).await;
    wait_for_timers(&clocked, 1).await;
    clocked.advance(SignedDuration::from_mins(11));
    clocked.wait_for_notices(43).await;
    assert!(told(&clocked).await[0].1.starts_with("Lead … still waits for your answer."));
    clocked.stop().await;
}

#[tokio::test]
async fn a_lead_goes_where_the_queue_says_and_the_turn_is_given_back() {
    let clocked = Clocked::start(&office(", then: { person: head }, missed_turn: refunded"), NINE).await;
    let lead = clocked.add_leads(json!({ "count": 1 })).await[0];
    clocked.wait_for_notices(1).await;
    assert_eq!(owner(&clocked, lead).await, "11");
    wait_for_timers(&clocked, 1).await;
    clocked.advance(SignedDuration::from_mins(16));
    clocked.wait_for_notices(3).await;
    assert_eq!(owner(&clocked, lead).await, "20");
    let next = clocked.add_leads(json!({ "count": 1 })).await[0];
    clocked.wait_for_notices(4).await;
    assert_eq!(owner(&clocked, next).await, "11", "his turn was given back");
    clocked.stop().await;
}

#[tokio::test]
async fn working_hours_count_and_a_portal_that_does_not_tell_takes_no_lead_from_anybody() {
    // Ten minutes before the evening.
    let clocked = Clocked::start(&office(""), "2026-11-23T14:50:00Z").await;
    let lead = clocked.add_leads(json!({ "count": 1 })).await[0];
    clocked.wait_for_notices(1).await;
    wait_for_timers(&clocked, 1).await;
    clocked.advance(SignedDuration::from_hours(2));
    clocked.wait_for_notices(2).await;
    pause().await;
    assert_eq!(owner(&clocked, lead).await, "11", "the evening is his");
    let kind = json!({ "error": { "status": 400, "code": "", "description": "Access denied." } });
    let refused = json!({ "method": "crm.activity.list", "kind": kind });
    clocked.portal.add_fault(&refused).await.unwrap();
    // Two minutes past nine in the morning, then ten.
    clocked.advance(SignedDuration::from_hours(13) + SignedDuration::from_mins(12));
    pause().await;
    let before = asked_one_by_one(&clocked).await;
    clocked.advance(SignedDuration::from_mins(8));
    let asked = async || Ok(asked_one_by_one(&clocked).await > before);
    clocked.wait_for("the portal is asked in vain", asked).await;
    pause().await;
    assert_eq!(owner(&clocked, lead).await, "11");
    assert_eq!(told(&clocked).await.len(), 1);
    clocked.stop().await;
}
