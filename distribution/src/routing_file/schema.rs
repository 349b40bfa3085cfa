//! The JSON Schema of the routing file, for editors: made from the tables of keys and words that the readers use.
//!
//! It says what has which form; that names are known, that rules are reached and the like only `check` says.

use serde_json::{Map, Value, json};

use super::{answer, conditions, handover, people, queues, rules, schedules, sticky, waiting};
use crate::fields;
use crate::routing::Weight;

/// The schema, draft 2020-12.
#[must_use]
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Rota's routing file",
        "description": "Who gets which lead of a Bitrix24 portal",
        "$ref": "#/$defs/file",
        "$defs": definitions(),
    })
}

fn definitions() -> Value {
    let section = |name: &str, keys: &[&str], required: &[&str]| {
        let properties: Map<String, Value> =
            keys.iter().map(|key| ((*key).to_owned(), of_key(name, key))).collect();
        json!({
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        })
    };
    let target = json!({ "oneOf": [{ "required": ["assign"] }, { "required": ["queue"] }] });
    let routed = json!({ "oneOf": [{ "required": ["assign"] }, { "required": ["queue"] }, { "required": ["by", "cases"] }] });
    let with = |mut section: Value, condition: &Value| {
        if let (Value::Object(section), Value::Object(condition)) = (&mut section, condition) {
            section.extend(condition.clone());
        }
        section
    };
    json!({
        "file": section("file", super::KEYS, &["version", "people", "default"]),
        "schedule": with(section("schedule", schedules::KEYS, &["hours"]),
            &json!({ "oneOf": [{ "required": ["days"] }, { "required": ["cycle"] }] })),
        "cycle": section("cycle", schedules::CYCLE, schedules::CYCLE),
        "calendar": section("calendar", schedules::CALENDAR, &[]),
        "person": section("person", people::KEYS, &["user"]),
        "limits": section("limits", people::LIMITS, &[]),
        "queue": section("queue", queues::KEYS, &["members"]),
        "hold": section("hold", waiting::HOLD, &[]),
        "answer": section("answer", answer::ANSWER, &["within", "escalate_to"]),
        "sticky": section("sticky", sticky::STICKY, &["by"]),
        "if_absent": section("if_absent", sticky::IF_ABSENT, sticky::IF_ABSENT),
        "then": with(section("then", answer::THEN, &[]),
            &json!({ "oneOf": [{ "required": ["queue"] }, { "required": ["person"] }] })),
        "member": section("member", queues::MEMBER, &["person"]),
        "rule": with(section("rule", rules::KEYS, &["name"]), &routed),
        "case": with(section("case", rules::CASE, &[]), &routed),
        "default": with(section("default", handover::KEYS, &[]), &target),
        "deal": section("deal", handover::DEAL, &["category"]),
        "fallback": { "anyOf": [
            { "enum": words(queues::FALLBACKS) },
            { "type": "object", "properties": { "queue": name() }, "required": ["queue"], "additionalProperties": false },
        ]},
        "when": {
            "type": "object",
            "properties": {
                "all": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/when" } },
                "any": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/when" } },
                "not": { "$ref": "#/$defs/when" },
                "received": { "$ref": "#/$defs/received" },
            },
            // Own short names are of the file's choice, so any other name may be a field.
            "additionalProperties": { "$ref": "#/$defs/condition" },
            "description": format!("Fields: {}, or a code such as UF_CRM_1", fields::built_in_names().collect::<Vec<_>>().join(", ")),
        },
        "received": {
            "type": "object",
            "properties": { "within": name(), "not": { "$ref": "#/$defs/received" } },
            "minProperties": 1, "maxProperties": 1, "additionalProperties": false,
        },
        "condition": { "anyOf": [
            { "type": ["string", "number", "boolean"] },
            { "type": "array", "minItems": 1, "items": { "type": ["string", "number", "boolean"] } },
            { "type": "object", "properties": operators(), "minProperties": 1, "maxProperties": 1, "additionalProperties": false },
        ]},
    })
}

fn operators() -> Map<String, Value> {
    let condition = json!({ "$ref": "#/$defs/condition" });
    let of = |operator: &str| match operator {
        "over" | "at_least" | "under" | "at_most" => json!({ "type": "number" }),
        "between" => json!({ "type": "array", "items": { "type": "number" }, "minItems": 2, "maxItems": 2 }),
        "contains" | "starts_with" => json!({ "type": ["string", "number"] }),
        "matches" => json!({ "type": "string" }),
        "empty" => json!({ "type": "boolean" }),
        "all" | "any" => json!({ "type": "array", "minItems": 1, "items": condition }),
        _ => condition.clone(),
    };
    conditions::OPERATORS.iter().map(|operator| ((*operator).to_owned(), of(operator))).collect()
}

/// What a key of a section holds. Each key of the readers' tables must be here: a test sees to it.
fn of_key(section: &str, key: &str) -> Value {
    let of = |definition: &str| json!({ "$ref": format!("#/$defs/{definition}") });
    let list = |items: Value| json!({ "type": "array", "items": items });
    let named = |values: Value| json!({ "type": "object", "additionalProperties": values });
    let count = json!({ "type": "integer", "minimum": 1 });
    let member = json!({ "anyOf": [name(), of("member")] });
    match (section, key) {
        (_, "version") => json!({ "const": 1 }),
        ("person", "time_zone") => {
            let text = format!("An IANA name, or `{}`", people::PORTAL);
            json!({ "type": "string", "description": text })
        }
        (_, "time_zone") => json!({ "type": "string", "description": "An IANA name, such as Europe/Moscow" }),
        (_, "fields") => named(json!({ "type": "string", "pattern": "^[A-Z][A-Z0-9_]*$" })),
        (_, "calendar") => of("calendar"),
        (_, "schedules") => named(of("schedule")),
        (_, "people") => named(of("person")),
        (_, "queues") => named(of("queue")),
        (_, "rules") => list(of("rule")),
        (_, "default") => of("default"),
        ("calendar", "holidays") => list(json!({ "type": "string", "pattern": "^\\d{4}-\\d{2}-\\d{2}$" })),
        (_, "holidays") => json!({ "enum": words(schedules::HOLIDAYS) }),
        (_, "days") => {
            let day = format!("^({0})(-({0}))?$", schedules::DAYS.join("|"));
            let day = json!({ "type": "string", "pattern": day });
            json!({ "anyOf": [day, { "type": "array", "minItems": 1, "items": day }] })
        }
        (_, "hours") => {
            let hours = json!({ "type": "string", "pattern": "^\\d{1,2}:\\d{2}-\\d{1,2}:\\d{2}$" });
            json!({ "anyOf": [hours, { "type": "array", "minItems": 1, "items": hours }] })
        }
        (_, "cycle") => of("cycle"),
        ("cycle", "from") => json!({ "type": "string", "pattern": "^\\d{4}-\\d{2}-\\d{2}$" }),
        ("cycle", _) => json!({ "type": "integer", "minimum": 1, "maximum": 366 }),
        (_, "only_if_owner_in") => json!({ "type": "array", "minItems": 1, "items": count }),
        (_, "service_users") => list(count),
        (_, "made_by_hand") => json!({ "enum": words(super::MADE_BY_HAND) }),
        (_, "user" | "open" | "per_hour" | "per_day" | "release_per_minute" | "rounds") => count,
        (_, "weight") => json!({ "type": "integer", "minimum": 1, "maximum": Weight::MAX.get() }),
        (_, "skills") => list(name()),
        (_, "limits") => of("limits"),
        (_, "hold") => of("hold"),
        (_, "answer") => of("answer"),
        (_, "sticky") => of("sticky"),
        ("sticky", "by") => {
            let by = json!({ "enum": words(sticky::BY) });
            json!({ "anyOf": [by, { "type": "array", "minItems": 1, "uniqueItems": true, "items": by }] })
        }
        (_, "if_absent") => json!({ "anyOf": [{ "enum": words(sticky::ABSENT) }, of("if_absent")] }),
        (_, "turn") => json!({ "enum": words(sticky::TURN) }),
        (_, "country_code") => json!({ "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": 999 }, { "type": "string", "pattern": sticky::COUNTRY_CODE },
        ] }),
        (_, "then") => json!({ "anyOf": [{ "const": answer::NEXT }, of("then")] }),
        (_, "missed_turn") => json!({ "enum": words(answer::MISSED_TURN) }),
        (_, "deadline" | "within" | "remind_at" | "wait_until_back") => {
            json!({ "type": "string", "pattern": waiting::DURATION })
        }
        (_, "first") => json!({ "enum": words(waiting::FIRST) }),
        (_, "members" | "on_duty") => json!({ "type": "array", "minItems": 1, "items": member }),
        (_, "strategy") => json!({ "enum": words(queues::STRATEGIES) }),
        (_, "working_day") => json!({ "enum": words(queues::WORKING_DAY) }),
        (_, "absences") => json!({ "enum": words(queues::ABSENCES) }),
        (_, "if_nobody") => list(of("fallback")),
        (_, "when") => of("when"),
        (_, "cases") => json!({ "type": "object", "minProperties": 1, "additionalProperties": of("case") }),
        (_, "else") => of("case"),
        (_, "deal") => of("deal"),
        (_, "category") => json!({ "type": "integer", "minimum": 0 }),
        (_, "set") => named(json!({ "type": ["string", "number", "boolean", "null", "array"] })),
        (
            _,
            "name" | "by" | "assign" | "escalate_to" | "substitute" | "successor" | "queue" | "person"
            | "schedule" | "ledger" | "stage",
        ) => name(),
        (section, key) => unreachable!("`{key}` in {section} has no schema"),
    }
}

/// A name may look like a number.
fn name() -> Value {
    json!({ "type": ["string", "number"] })
}

fn words<T>(table: &[(&'static str, T)]) -> Vec<&'static str> {
    table.iter().map(|(word, _)| *word).collect()
}
