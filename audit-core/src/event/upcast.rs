//! Reading older schemas: each step turns the fields of one version into those of the next.
//!
//! The mandatory fields of the envelope have the same names and meanings in every version, so that
//! [`scan`](crate::canonical::scan) reads them all and a verifier needs no step. Hashes are over
//! stored bytes and never over upcast fields: an upcast event is for reading.
//!
//! Version 1.0 is the first that a release wrote. The draft before it, 0.9, keeps the path from
//! version to version in use and under test. It differs in these names:
//!
//! | event | 0.9 | 1.0 |
//! |---|---|---|
//! | every event | `event_time` | `occurred_at` |
//! | `tool.attempted` | `effect_class` | `effect` |
//! | `tool.completed` | `duration_ms`, milliseconds | `duration_us`, microseconds |
//! | `model.decided` | `stop_reason` | `finish_reason` |

use super::{InvalidEvent, Object, Value};
use crate::canonical::MAX_INTEGER;

/// One step: the version it reads, the version it makes, and how.
struct Step {
    from: &'static str,
    to: &'static str,
    apply: fn(&mut Object),
}

/// Every step, oldest first; each begins where the one before it ends.
const STEPS: &[Step] = &[Step { from: "0.9", to: "1.0", apply: from_draft }];

/// The major version whose minor versions are all read: what they add survives as unknown fields.
const MAJOR: &str = "1";

/// Brings the fields of an event to the schema of this version.
pub(super) fn to_current(mut fields: Object) -> Result<Object, InvalidEvent> {
    for step in STEPS {
        if version(&fields) == step.from {
            (step.apply)(&mut fields);
            fields.insert("schema_version".to_owned(), step.to.into());
        }
    }
    if is_current(version(&fields)) {
        return Ok(fields);
    }
    Err(InvalidEvent::SchemaVersion(version(&fields).chars().take(64).collect()))
}

/// Whether events of a schema can be read.
pub(crate) fn is_readable(version: &str) -> bool {
    is_current(version) || STEPS.iter().any(|step| step.from == version)
}

fn is_current(version: &str) -> bool {
    version.split_once('.').is_some_and(|(major, minor)| major == MAJOR && is_number(minor))
}

fn version(fields: &Object) -> &str {
    fields.get("schema_version").and_then(Value::as_text).unwrap_or_default()
}

fn is_number(text: &str) -> bool {
    (1..=9).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'))
}

fn from_draft(fields: &mut Object) {
    rename(fields, "event_time", "occurred_at");
    let event_type = fields.get("event_type").and_then(Value::as_text).unwrap_or_default();
    let apply: fn(&mut Object) = match event_type {
        "tool.attempted" => |payload| rename(payload, "effect_class", "effect"),
        "tool.completed" => |payload| {
            let Some(&Value::Integer(milliseconds)) = payload.get("duration_ms") else { return };
            let microseconds = milliseconds.saturating_mul(1_000);
            if microseconds.unsigned_abs() <= MAX_INTEGER {
                payload.insert("duration_ms".to_owned(), microseconds.into());
                rename(payload, "duration_ms", "duration_us");
            }
        },
        "model.decided" => |payload| rename(payload, "stop_reason", "finish_reason"),
        _ => return,
    };
    if let Some(Value::Object(payload)) = fields.get_mut("payload") {
        apply(payload);
    }
}

/// Gives a field its new name. Where that is taken already, both stay: nothing is lost.
fn rename(fields: &mut Object, from: &str, to: &str) {
    if fields.contains_key(to) {
        return;
    }
    if let Some(value) = fields.remove(from) {
        fields.insert(to.to_owned(), value);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        canonical,
        event::{Event, EventType, Payload, SCHEMA_VERSION, tool::Effect},
        hash,
    };

    fn stored(version: &str, event_type: &str, payload: serde_json::Value) -> serde_json::Value {
        json!({
            "agent_id": "support-agent",
            "chain_id": "chain-1",
            "event_id": "01890a5d-ac96-774b-bcce-b302099a8057",
            "event_type": event_type,
            "payload": payload,
            "previous_event_hash": "0".repeat(64),
            "schema_version": version,
            "sequence": 0,
            "session_id": "session-1",
            "tenant_id": "acme",
            "timestamp_utc": "2026-11-23T07:52:56.123456789Z",
        })
    }

    fn bytes(value: &serde_json::Value) -> Vec<u8> {
        canonical::to_vec(value).unwrap()
    }

    #[test]
    fn the_steps_lead_to_the_current_version() {
        for pair in STEPS.windows(2) {
            assert_eq!(pair[0].to, pair[1].from);
        }
        assert_eq!(STEPS.last().unwrap().to, SCHEMA_VERSION);
        assert_eq!(SCHEMA_VERSION.split_once('.').unwrap().0, MAJOR);
    }

    /// The file is frozen: it must stay readable for ever.
    #[test]
    fn a_draft_event_is_read_in_the_current_shape() {
        let golden = include_bytes!("../../tests/golden/0.9/tool.attempted.json");
        assert_eq!(
            hash::leaf(golden).to_string(),
            include_str!("../../tests/golden/0.9/hashes.txt").split_whitespace().nth(1).unwrap(),
        );
        let event = Event::from_slice(golden).unwrap();
        assert_eq!(event.schema_version, "1.0");
        assert_eq!(event.occurred_at.unwrap().to_string(), "2026-01-02T03:04:05.000000006Z");
        assert!(event.extra.is_empty());
        let Payload::ToolAttempted(payload) = &event.payload else { panic!("{event:?}") };
        assert_eq!(payload.effect, Some(Effect::Destructive));
        assert!(payload.extra.is_empty());
        // What was read is an event of the current schema, and stays one.
        assert_eq!(Event::from_slice(&event.canonical_bytes().unwrap()).unwrap(), event);
    }

    #[test]
    fn draft_durations_become_microseconds_and_lose_nothing() {
        let payload = |ms: i64| {
            let completed = json!({
                "tool_name": "t", "attempt_event_id": "01890a5d-ac96-774b-bcce-b302099a8057",
                "status": "ok", "duration_ms": ms,
            });
            let event = Event::from_slice(&bytes(&stored("0.9", "tool.completed", completed)));
            match event.unwrap().payload {
                Payload::ToolCompleted(payload) => payload,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(payload(7).duration_us, Some(7_000));
        let huge = payload(9_007_199_254_740_991);
        assert_eq!(huge.duration_us, None);
        assert_eq!(huge.extra["duration_ms"], Value::Integer(9_007_199_254_740_991));
    }

    #[test]
    fn a_later_minor_version_survives_read_and_rewrite() {
        let mut value = stored(
            "1.7",
            "tool.attempted",
            json!({
                "tool_name": "refund", "effect": "reversible", "limits": {"eur": [1, {"n": -5}]},
            }),
        );
        value["region"] = json!({"name": "eu", "zones": [true]});
        value["content"] = json!([{
            "name": "input", "bytes": 3, "commitment": "ab".repeat(32),
            "media_type": "text/plain", "language": "de",
        }]);
        let later = bytes(&value);
        let event = Event::from_slice(&later).unwrap();
        assert_eq!(event.extra["region"].field("name"), Some(&"eu".into()));
        assert_eq!(event.content[0].extra["language"].as_text(), Some("de"));
        let Payload::ToolAttempted(payload) = &event.payload else { panic!("{event:?}") };
        assert_eq!(payload.effect, Some(Effect::Other("reversible".to_owned())));
        assert_eq!(event.canonical_bytes().unwrap(), later);

        let nested = json!({
            "provider": "p", "requested_model": "m", "status": "ok",
            "usage": {"input_tokens": 1, "audio_tokens": 2},
            "decision": {"kind": "tools", "plan": {"steps": 3},
                "tool_calls": [{"call_id": "c", "tool_name": "t", "priority": 1}]},
        });
        let later = bytes(&stored("1.7", "model.decided", nested));
        assert_eq!(Event::from_slice(&later).unwrap().canonical_bytes().unwrap(), later);
    }

    #[test]
    fn a_later_event_type_survives_read_and_rewrite() {
        let later = bytes(&stored("1.7", "tool.rolled_back", json!({"why": ["x", {"y": false}]})));
        let event = Event::from_slice(&later).unwrap();
        assert_eq!(event.event_type(), EventType::Other("tool.rolled_back".to_owned()));
        assert_eq!(event.canonical_bytes().unwrap(), later);
    }

    #[test]
    fn unknown_versions_are_refused_by_name() {
        for version in ["2.0", "0.8", "1", "1.", "1.x", "1.07", "01.0", "1.0 ", "1.0.0", ""] {
            let event = bytes(&stored(version, "chain.closed", json!({"reason": "x"})));
            let error = Event::from_slice(&event).unwrap_err();
            assert_eq!(error, InvalidEvent::SchemaVersion(version.to_owned()));
            assert!(error.to_string().contains(&format!("{version:?}")), "{error}");
        }
    }
}
