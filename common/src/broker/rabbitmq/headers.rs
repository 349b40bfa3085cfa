//! Between our [`Message`] and AMQP's properties and header table.

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::broker::{Headers, Message};

const ATTEMPT: &str = "x-rota-attempt";
const FIRST_SEEN: &str = "x-rota-first-seen";
const THROTTLED_SINCE: &str = "x-rota-throttled-since";
const QUEUE: &str = "x-rota-queue";
const CLASS: &str = "x-rota-class";
const REASON: &str = "x-rota-reason";
const TRACEPARENT: &str = "traceparent";

/// AMQP's delivery mode for messages that survive a restart of the broker.
const PERSISTENT: u8 = 2;

pub(super) fn properties(message: &Message) -> BasicProperties {
    let Headers { attempt, first_seen, throttled_since, queue, class, reason, traceparent, broker_death: _ } =
        &message.headers;
    let mut table = FieldTable::default();
    let mut text = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            table.insert(name.into(), AMQPValue::LongString(value.into()));
        }
    };
    text(FIRST_SEEN, first_seen.map(|at| at.to_string()));
    text(THROTTLED_SINCE, throttled_since.map(|at| at.to_string()));
    text(QUEUE, queue.clone());
    text(CLASS, class.clone());
    text(REASON, reason.clone());
    text(TRACEPARENT, traceparent.clone());
    if let Some(attempt) = attempt {
        table.insert(ATTEMPT.into(), AMQPValue::LongUInt(*attempt));
    }
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_message_id(message.id.clone().into())
        .with_type(message.kind.clone().into())
        .with_headers(table)
}

pub(super) fn message(properties: &BasicProperties, body: Vec<u8>) -> Message {
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string).unwrap_or_default();
    let headers = properties.headers().as_ref().map(read).unwrap_or_default();
    Message { id: text(properties.message_id()), kind: text(properties.kind()), body, headers }
}

fn read(table: &FieldTable) -> Headers {
    let text = |name: &str| table.inner().get(name).and_then(as_text);
    let time = |name: &str| text(name).and_then(|at| at.parse::<Timestamp>().ok());
    Headers {
        attempt: table.inner().get(ATTEMPT).and_then(as_number),
        first_seen: time(FIRST_SEEN),
        throttled_since: time(THROTTLED_SINCE),
        queue: text(QUEUE),
        class: text(CLASS),
        reason: text(REASON),
        traceparent: text(TRACEPARENT),
        broker_death: table.inner().get("x-death").and_then(last_death),
    }
}

fn as_text(value: &AMQPValue) -> Option<String> {
    if let AMQPValue::LongString(text) = value {
        Some(text.to_string())
    } else if let AMQPValue::ShortString(text) = value {
        Some(text.to_string())
    } else {
        None
    }
}

/// Brokers and tools in between may change the width of a number.
fn as_number(value: &AMQPValue) -> Option<u32> {
    let wide = if let AMQPValue::LongUInt(number) = value {
        i64::from(*number)
    } else if let AMQPValue::LongLongInt(number) = value {
        *number
    } else if let AMQPValue::LongInt(number) = value {
        i64::from(*number)
    } else {
        return None;
    };
    u32::try_from(wide).ok()
}

/// The reason of the newest entry of `x-death` that is not a delay of ours running out.
fn last_death(value: &AMQPValue) -> Option<String> {
    let AMQPValue::FieldArray(deaths) = value else {
        return None;
    };
    let reasons = deaths.as_slice().iter().filter_map(|death| {
        let AMQPValue::FieldTable(death) = death else {
            return None;
        };
        death.inner().get("reason").and_then(as_text)
    });
    reasons.into_iter().find(|reason| reason != "expired")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let headers = Headers {
            attempt: Some(3),
            first_seen: Some("2026-11-23T09:00:00.5Z".parse().unwrap()),
            throttled_since: Some("2026-11-24T09:00:00Z".parse().unwrap()),
            queue: Some("rota.acme.lead-events".to_owned()),
            class: Some("transient".to_owned()),
            reason: Some("reading lead 42: timed out".to_owned()),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            broker_death: None,
        };
        let original =
            Message { id: "id".to_owned(), kind: "lead-event".to_owned(), body: b"{}".to_vec(), headers };
        assert_eq!(message(&properties(&original), original.body.clone()), original);
    }

    #[test]
    fn a_stranger_message_reads_as_a_first_attempt() {
        let read = message(&BasicProperties::default(), b"?".to_vec());
        assert_eq!(read.headers, Headers::default());
        assert_eq!(read.attempt(Timestamp::UNIX_EPOCH).number, 1);
    }
}
