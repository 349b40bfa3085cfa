//! What was ever sent stays readable, and what is sent is what was promised.

use common::failure::{Failure, FailureClass};
use common::ids::{LeadId, UserId};
use common::messages::{
    AssignmentCommand, Deal, Envelope, Epoch, EventSource, LeadEvent, Orders, Payload, Unreadable,
};
use serde_json::{Value, json};

const LEAD_EVENT: &str = include_str!("../messages/lead-event.v1.json");
const ROBOT_EVENT: &str = include_str!("../messages/lead-event.v2.json");
const ASSIGNMENT_COMMAND: &str = include_str!("../messages/assignment-command.v2.json");
const ASSIGNMENT_COMMAND_V1: &str = include_str!("../messages/assignment-command.v1.json");

fn lead_event() -> Envelope<LeadEvent> {
    Envelope {
        id: "0198c0de-0000-7000-8000-000000000042".to_owned(),
        portal: "acme".parse().unwrap(),
        occurred_at: "2026-11-23T09:00:00.25Z".parse().unwrap(),
        payload: LeadEvent {
            ts: Some(1_795_424_400),
            ..LeadEvent::of(LeadId::new(42).unwrap(), EventSource::Webhook)
        },
    }
}

fn robot_event() -> Envelope<LeadEvent> {
    Envelope {
        id: "0198c0de-0000-7000-8000-000000000044".to_owned(),
        payload: LeadEvent {
            epoch: Some(Epoch(2)),
            queue: Some("vip".to_owned()),
            ..LeadEvent::of(LeadId::new(42).unwrap(), EventSource::Robot)
        },
        ..lead_event()
    }
}

fn assignment_command() -> Envelope<AssignmentCommand> {
    Envelope {
        id: "0198c0de-0000-7000-8000-000000000043".to_owned(),
        portal: "acme".parse().unwrap(),
        occurred_at: "2026-11-23T09:00:00Z".parse().unwrap(),
        payload: AssignmentCommand {
            lead: LeadId::new(42).unwrap(),
            epoch: Epoch::FIRST,
            from: UserId::new(7),
            to: UserId::new(9).unwrap(),
            person: "petrov".to_owned(),
            reason: "rotation «main»: petrov has the largest credit".to_owned(),
            looked_at: "2026-11-23T08:59:59.5Z".parse().ok(),
            looked_at_with: Some(500),
            orders: Orders {
                set: [
                    ("STATUS_ID".to_owned(), json!("IN_PROCESS")),
                    ("UF_CRM_TAGS".to_owned(), json!(["a", "b"])),
                ]
                .into(),
                deal: Some(Deal { category: 5, stage: Some("C5:NEW".to_owned()) }),
            },
        },
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The fixture after a change.
fn changed(fixture: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value = json(fixture);
    change(&mut value);
    value.to_string().into_bytes()
}

fn read(bytes: &[u8]) -> Result<Envelope<LeadEvent>, Unreadable> {
    Envelope::from_bytes(bytes)
}

fn check<P>(fixture: &str, message: &Envelope<P>)
where
    P: Payload + PartialEq + std::fmt::Debug,
{
    assert_eq!(&Envelope::<P>::from_bytes(fixture.as_bytes()).unwrap(), message);
    assert_eq!(serde_json::from_slice::<Value>(&message.to_bytes()).unwrap(), json(fixture));
    let from_the_future = changed(fixture, |value| {
        value["priority"] = json!("high");
        value["payload"]["stage"] = json!({ "id": "NEW" });
    });
    assert_eq!(&Envelope::<P>::from_bytes(&from_the_future).unwrap(), message);
}

#[test]
fn the_fixtures_are_read_and_written_and_unknown_fields_are_ignored() {
    check(LEAD_EVENT, &lead_event());
    check(ROBOT_EVENT, &robot_event());
    check(ASSIGNMENT_COMMAND, &assignment_command());
}

#[test]
fn a_command_of_version_1_asks_for_nothing_besides() {
    let mut expected = assignment_command();
    expected.payload.orders = Orders::default();
    expected.payload.looked_at = None;
    expected.payload.looked_at_with = None;
    assert_eq!(Envelope::from_bytes(ASSIGNMENT_COMMAND_V1.as_bytes()).unwrap(), expected);
}

#[test]
fn an_event_is_written_as_the_oldest_version_that_says_all_of_it() {
    let version = |change: fn(&mut LeadEvent)| {
        let mut event = lead_event();
        change(&mut event.payload);
        serde_json::from_slice::<Value>(&event.to_bytes()).unwrap()["version"].as_u64().unwrap()
    };
    assert_eq!(version(|_| {}), 1);
    assert_eq!(version(|event| event.epoch = Some(Epoch::FIRST)), 1);
    assert_eq!(version(|event| event.source = EventSource::Hold), 1);
    assert_eq!(version(|event| event.epoch = Some(Epoch(2))), 2);
    assert_eq!(version(|event| event.source = EventSource::Robot), 2);
    assert_eq!(version(|event| event.source = EventSource::Unanswered), 2);
    assert_eq!(version(|event| event.source = EventSource::Replay), 2);
}

#[test]
fn what_may_be_absent_may_be_absent() {
    let without_time = changed(LEAD_EVENT, |value| {
        value["payload"].as_object_mut().unwrap().remove("ts").unwrap();
    });
    let event = read(&without_time).unwrap();
    assert_eq!(event.payload.ts, None);
    assert_eq!(event.to_bytes().len(), without_time.len(), "it is not written either");
    let without_owner = changed(ASSIGNMENT_COMMAND, |value| value["payload"]["from"] = Value::Null);
    assert_eq!(Envelope::<AssignmentCommand>::from_bytes(&without_owner).unwrap().payload.from, None);
}

#[test]
fn what_cannot_be_read_says_why_and_is_poison() {
    let failure = |bytes: &[u8]| {
        let failure = read(bytes).unwrap_err();
        assert_eq!(failure.class(), FailureClass::Poison);
        failure
    };
    let changed = |change: fn(&mut Value)| failure(&changed(LEAD_EVENT, change));
    let other_type = failure(ASSIGNMENT_COMMAND.as_bytes());
    assert!(
        matches!(&other_type, Unreadable::OtherType { found, expected: "lead-event" } if found == "assignment-command"),
        "{other_type:?}"
    );
    // A type or version that is not ours is named even where the rest has another shape.
    let other_version = changed(|value| {
        value["version"] = json!(3);
        value["payload"] = json!("moved");
    });
    assert!(
        matches!(other_version, Unreadable::OtherVersion { kind: "lead-event", found: 3, reads: [1, 2] }),
        "{other_version:?}"
    );
    for malformed in [
        failure(b""),
        failure(b"[]"),
        failure(b"{\"type\":\"lead-event\""),
        failure(b"\xff\xfe{}"),
        changed(|value| value["version"] = json!("1")),
        changed(|value| value["portal"] = json!("Acme Inc.")),
        changed(|value| value["occurred_at"] = json!("yesterday")),
        changed(|value| value["payload"]["lead"] = json!(0)),
        changed(|value| value["payload"]["source"] = json!("rumour")),
        changed(|value| drop(value.as_object_mut().unwrap().remove("id"))),
    ] {
        assert!(matches!(malformed, Unreadable::Malformed(_)), "{malformed:?}");
    }
}
