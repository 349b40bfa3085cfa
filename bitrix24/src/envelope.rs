//! Reads what the portal answered: the envelope of one method, and that of a batch.
//!
//! The portal is written in PHP, and its answers show it: an empty map is `[]`, a map whose keys are
//! 0, 1, 2… is a JSON array, and numbers come as text. All of that is met here, once. What an error
//! means is not decided here but in [`crate::error`].

use serde_json::{Map, Value};

use crate::code::PortalCode;
use crate::error::PortalError;
use crate::json::{self, NoValue};
use crate::moves::Verdict;
use crate::size::{self, Excess, Limits, SMALL_BODY_BYTES, SMALL_MEMORY};
use crate::transport::Answer;

/// The longest description of an error that is kept, in characters.
const MAX_DESCRIPTION_CHARS: usize = 300;

/// The answer of one method that succeeded.
///
/// **Shape**: `{"result": …, "next": 50, "total": 654, "time": {"duration": 0.1, "operating": 0.3}}`.
/// Source: page "General principles", and "Data types" for `time`.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// The method's result: any JSON value.
    pub result: Value,
    /// Where the next page of a list starts; absent on the last one.
    pub next: Option<u64>,
    /// How many rows a list has; 0 or absent when it was asked not to count.
    pub total: Option<u64>,
    /// What the portal says about the time it took; some answers leave it out.
    pub time: Timing,
}

/// The member `time` of an answer; each part may be missing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timing {
    /// The whole request, in seconds.
    pub duration: Option<f64>,
    /// The time this method has used within the last ten minutes, in seconds: a running total, not
    /// this request's share.
    pub operating: Option<f64>,
    /// In how many seconds the oldest part of that leaves the window, by the portal's own clock.
    pub resets_in: Option<f64>,
}

/// Reads the answer to `method`.
///
/// # Errors
/// Whatever the answer says went wrong; an answer that says nothing readable is
/// [`PortalError::Unreadable`] after a success and [`PortalError::Status`] otherwise, and one that would become too much is
/// [`PortalError::Excessive`].
pub(crate) async fn read(method: &str, answer: &Answer) -> Result<Envelope, PortalError> {
    if answer.body.len() <= SMALL_BODY_BYTES {
        let small = read_within(SMALL_MEMORY, method, answer);
        if !matches!(small, Err(PortalError::Excessive { excess: Excess::Memory(_), .. })) {
            return small;
        }
    }
    let _turn = size::turn().await;
    read_within(Limits::of(method).memory, method, answer)
}

fn read_within(memory: usize, method: &str, answer: &Answer) -> Result<Envelope, PortalError> {
    if let Verdict::Follow(host) | Verdict::Elsewhere(host) = &answer.verdict {
        return Err(PortalError::Elsewhere { method: method.to_owned(), host: host.clone() });
    }
    let success = (200..300).contains(&answer.status);
    let unreadable = || {
        if success {
            PortalError::Unreadable { method: method.to_owned() }
        } else {
            PortalError::Status { method: method.to_owned(), status: answer.status }
        }
    };
    let mut body = match json::parse(&answer.body, memory) {
        Ok(Value::Object(body)) => body,
        Ok(_) | Err(NoValue::Unreadable) => return Err(unreadable()),
        Err(NoValue::Excessive(excess)) => {
            return Err(PortalError::Excessive { method: method.to_owned(), excess });
        }
    };
    if let Some(code) = body.get("error") {
        return Err(refused(method, Some(answer.status), code, body.get("error_description")));
    }
    match body.remove("result") {
        Some(result) if success => Ok(Envelope {
            result,
            next: body.get("next").and_then(unsigned),
            total: body.get("total").and_then(unsigned),
            time: body.get("time").map(timing).unwrap_or_default(),
        }),
        Some(_) | None => Err(unreadable()),
    }
}

/// Takes the outcome of each command out of a batch's `result`, in the order of `commands`, which
/// are pairs of key and method.
///
/// A command of which the answer says nothing is [`PortalError::Unanswered`]: the portal may have
/// been cut off after running it.
pub(crate) fn read_batch(
    result: Value,
    commands: &[(String, &str)],
) -> Result<Vec<Result<Value, PortalError>>, PortalError> {
    let Value::Object(mut containers) = result else {
        return Err(PortalError::Unexpected { method: "batch".to_owned(), expected: "a batch's answer" });
    };
    let mut results = container(containers.remove("result"));
    let errors = container(containers.remove("result_error"));
    let outcome = |(key, method): &(String, &str)| {
        if let Some(error) = errors.get(key) {
            let none = Value::Null;
            let code = error.get("error").unwrap_or(&none);
            return Err(refused(method, None, code, error.get("error_description")));
        }
        results.remove(key).ok_or_else(|| PortalError::Unanswered { method: (*method).to_owned() })
    };
    Ok(commands.iter().map(outcome).collect())
}

/// How many rows each command's list has in all, of those lists that were asked to count.
pub(crate) fn batch_totals(result: &Value, commands: &[(String, &str)]) -> Vec<Option<u64>> {
    let totals = container(result.get("result_total").cloned());
    commands.iter().map(|(key, _)| totals.get(key).and_then(unsigned)).collect()
}

/// What a batch's `result_time` says about each command that ran, with its method, in their order.
pub(crate) fn batch_times<'a>(
    result: &'a Value,
    commands: &'a [(String, &'a str)],
) -> impl Iterator<Item = (&'a str, Timing)> {
    let times = result.get("result_time");
    commands.iter().filter_map(move |(key, method)| Some((*method, timing(times?.get(key)?))))
}

/// A PHP array as a map: `[]` is empty, and a list has the keys `0`, `1`, `2`…
fn container(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(map)) => map,
        Some(Value::Array(list)) => {
            list.into_iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect()
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => Map::new(),
    }
}

fn refused(method: &str, status: Option<u16>, code: &Value, description: Option<&Value>) -> PortalError {
    let text = description.and_then(Value::as_str).unwrap_or_default();
    PortalError::Refused {
        method: method.to_owned(),
        status,
        code: PortalCode::parse(code),
        description: text.chars().take(MAX_DESCRIPTION_CHARS).collect(),
    }
}

/// A whole number of 0 or more, as a number or as text.
pub(crate) fn unsigned(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn timing(time: &Value) -> Timing {
    let seconds = |key| {
        let value: &Value = time.get(key)?;
        value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
    };
    let resets_in = seconds("operating_reset_at").zip(seconds("finish")).map(|(at, now)| (at - now).max(0.0));
    Timing { duration: seconds("duration"), operating: seconds("operating"), resets_in }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::failure::{Failure, FailureClass, chain};
    use serde_json::json;

    use super::*;

    fn read(method: &str, answer: &Answer) -> Result<Envelope, PortalError> {
        read_within(Limits::of(method).memory, method, answer)
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.as_bytes().to_vec(), ..Answer::default() }
    }

    #[test]
    fn numbers_may_be_text_and_time_may_be_missing() {
        let full = r#"{"result":[],"next":"50","total":654,"time":{"duration":"0.1","operating":0.31}}"#;
        let envelope = read("crm.lead.list", &answer(200, full)).unwrap();
        assert_eq!((envelope.next, envelope.total), (Some(50), Some(654)));
        assert_eq!(envelope.time, Timing { duration: Some(0.1), operating: Some(0.31), resets_in: None });

        let bare = read("crm.lead.update", &answer(200, r#"{"result":true}"#)).unwrap();
        assert_eq!((bare.result, bare.next, bare.time), (json!(true), None, Timing::default()));
    }

    #[test]
    fn an_error_wins_over_a_status_of_success() {
        let body = r#"{"error":"WRONG_ENCODING","error_description":"Wrong encoding"}"#;
        let error = read("crm.lead.get", &answer(200, body)).unwrap_err();
        assert!(matches!(error, PortalError::Refused { code: PortalCode::WrongEncoding, .. }), "{error}");
    }

    #[test]
    fn what_is_not_json_is_told_apart_by_its_status() {
        for body in ["<html>", "", r#"{"result":{"ID":"4"#, "[1]", "{}", "null"] {
            let error = read("batch", &answer(200, body)).unwrap_err();
            assert!(matches!(error, PortalError::Unreadable { .. }), "{body}");
            let error = read("batch", &answer(502, body)).unwrap_err();
            assert!(matches!(error, PortalError::Status { status: 502, .. }), "{body}");
        }
    }

    #[test]
    fn what_would_become_too_much_is_an_error_of_its_own_whatever_the_status() {
        let bomb = format!(r#"{{"result":[{}0]}}"#, r#"{"a":0},"#.repeat(10_000));
        for status in [200, 502] {
            let error = read("crm.lead.get", &answer(status, &bomb)).unwrap_err();
            assert!(matches!(error, PortalError::Excessive { .. }), "{error}");
            assert_eq!((error.class(), error.is_ambiguous()), (FailureClass::Transient, true));
            let reason = "crm.lead.get: the portal's answer is too much: it would take more than 3145728 bytes of memory";
            assert_eq!(chain(&error), reason);
        }
        assert!(read("crm.lead.list", &answer(200, &bomb)).is_ok(), "a list may be large");
    }

    #[tokio::test(start_paused = true)]
    async fn two_large_answers_become_values_at_a_time_and_small_ones_always() {
        let is_read = async |of: &str, times: usize| {
            let answer = answer(200, &format!(r#"{{"result":[{}0]}}"#, format!("{of},").repeat(times)));
            let read = super::read("crm.lead.list", &answer);
            tokio::time::timeout(Duration::from_secs(1), read).await.is_ok_and(|read| read.is_ok())
        };
        let turns = [size::turn().await, size::turn().await];
        assert!(is_read(r#"{"a":0}"#, 100).await, "a small one waits for nothing");
        assert!(!is_read(r#"{"a":0}"#, 10_000).await, "a third one that becomes large waits");
        assert!(!is_read("0", SMALL_BODY_BYTES / 2).await, "and so does a large body");
        drop(turns);
        assert!(is_read(r#"{"a":0}"#, 10_000).await);
        assert!(is_read("0", SMALL_BODY_BYTES / 2).await);
    }

    #[test]
    fn an_answer_that_points_elsewhere_is_not_read() {
        let mut moved = answer(302, r#"{"result":true}"#);
        assert!(matches!(read("batch", &moved), Err(PortalError::Status { status: 302, .. })));
        for verdict in [Verdict::Elsewhere, Verdict::Follow] {
            moved.verdict = verdict("new.bitrix24.com".to_owned());
            let error = read("batch", &moved).unwrap_err();
            assert!(matches!(&error, PortalError::Elsewhere { host, .. } if host == "new.bitrix24.com"));
        }
    }

    #[test]
    fn batch_containers_come_in_all_php_shapes() {
        let keys = [("c00".to_owned(), "crm.lead.get"), ("c01".to_owned(), "crm.lead.update")];
        for (result, expected) in [
            (json!({"result": {"c00": {"ID": "1"}, "c01": true}, "result_error": []}), [true, true]),
            (json!({"result": {"c00": null}, "result_error": {"c01": {"error": ""}}}), [true, false]),
            (json!({"result": [], "result_error": {"c00": {}, "c01": {"error": 100}}}), [false, false]),
            (json!({"result": [], "result_error": []}), [false, false]),
            (json!({"result": ["of", "others"]}), [false, false]),
        ] {
            let outcomes = read_batch(result.clone(), &keys).unwrap();
            let ran: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
            assert_eq!(ran, expected, "{result}");
        }
        assert!(read_batch(json!([]), &keys).is_err());
    }

    #[test]
    fn a_batch_tells_the_time_of_each_method_that_ran() {
        let keys = [("c00".to_owned(), "crm.lead.get"), ("c01".to_owned(), "crm.lead.update")];
        let result = json!({"result_time": {"c01": {"duration": 0.2, "operating": "3.5", "finish": 100.5,
            "operating_reset_at": 130}}});
        let times: Vec<_> = batch_times(&result, &keys).collect();
        let told = Timing { duration: Some(0.2), operating: Some(3.5), resets_in: Some(29.5) };
        assert_eq!(times, [("crm.lead.update", told)]);
        for empty in [json!({"result_time": []}), json!({}), json!([])] {
            assert_eq!(batch_times(&empty, &keys).count(), 0, "{empty}");
        }
    }

    #[test]
    fn numbered_keys_make_an_array() {
        let keys = [("0".to_owned(), "crm.lead.get"), ("1".to_owned(), "crm.lead.get")];
        let result = json!({"result": [{"ID": "1"}, {"ID": "2"}], "result_error": []});
        let outcomes = read_batch(result, &keys).unwrap();
        assert_eq!(outcomes[1].as_ref().unwrap()["ID"], "2");
    }
}
