use std::{io::Write as _, path::PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    content::{AbsentReason, PartBody},
    event::{
        Event, Payload,
        model::{ContextRole, DecisionKind},
        tool::{DecisionLink, ToolStatus},
    },
    record::Record,
};

/// The records that a log would keep of a transcript.
fn records(line: &str) -> Vec<Record> {
    let events = Transcript::parse(line.as_bytes()).unwrap().events();
    let record = |(sequence, told): (u64, TranscriptEvent)| {
        let (references, bodies): (Vec<_>, Vec<_>) =
            told.parts.into_iter().map(|part| part.commit()).unzip();
        let mut event = Event::example(told.payload);
        event.sequence = sequence;
        event.event_id = told.event_id;
        event.parent_event_id = told.parent_event_id;
        event.content = references;
        Record::new(event.canonical_bytes().unwrap(), bodies)
    };
    (0..).zip(events).map(record).collect()
}

fn round_trip(line: &str) -> String {
    Transcript::rebuild(&records(line)).unwrap()
}

fn events(line: &str) -> Vec<Event> {
    records(line).iter().map(|record| record.event().unwrap()).collect()
}

fn with_messages(messages: &Value) -> String {
    json!({"session_id": "s-1", "model": "m", "messages": messages}).to_string()
}

fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

#[test]
fn every_odd_message_survives() {
    for messages in [
        json!([]),
        json!([{"role": "system", "content": "only instructions"}]),
        json!([{"role": "user", "content": "nobody answered"}, {"role": "user", "content": "?"}]),
        json!([{"role": "assistant", "content": null}]),
        json!([{"role": "tool", "content": "a result without a call"}]),
        json!([{"role": "tool", "tool_call_id": "never-made", "content": "7"}]),
        json!([{"role": "assistant", "tool_calls": [{"type": "function"}]}, {"role": "tool"}]),
        json!([{"role": "assistant", "tool_calls": "not a list"}, {"role": "tool"}]),
        json!([{"role": "wizard", "content": "abracadabra"}, {"role": 7}, {"content": "no role"}]),
        json!(["text", 7, null, [], {}]),
        json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]),
        json!([{"role": "assistant", "content": "a", "refusal": "b", "x": {"y": [1.5e300, -0.0]}}]),
        json!([{"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
               {"role": "function", "name": "f", "content": "old style"}]),
        json!([{"role": "assistant", "tool_calls": [call("a", "f", "{bad json")]},
               {"role": "assistant", "content": "never waited"}]),
        json!([{"role": "assistant", "tool_calls": [call("", "", "")]}, {"role": "tool"}]),
    ] {
        let line = with_messages(&messages);
        let back: Value = serde_json::from_str(&round_trip(&line)).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(&line).unwrap());
    }
}

#[test]
fn values_are_kept_byte_for_byte() {
    let line = concat!(
        r#"{"session_id":"s","score":1.0500e+2,"big":123456789012345678901234567890,"t":"\u00e9\/","#,
        r#""messages":[{"role":"user","content":"\ud800 alone","n":0.10,"n":1E5}]}"#
    );
    assert_eq!(round_trip(line), line);
}

#[test]
fn calls_find_their_results() {
    let line = with_messages(&json!([
        {"role": "user", "content": "go"},
        {"role": "assistant", "tool_calls": [call("a", "f", "{\"x\": 1}"), call("b", "g", "")]},
        {"role": "tool", "tool_call_id": "b", "content": "Error: no"},
        {"role": "tool", "tool_call_id": "a", "content": "fine"},
        // The same id again, as some providers do.
        {"role": "assistant", "tool_calls": [call("a", "h", "{}")]},
        {"role": "tool", "tool_call_id": "a", "content": "error-free"},
        {"role": "assistant", "tool_calls": [call("c", "never", "{}")]},
    ]));
    let records = records(&line);
    let events: Vec<_> = records.iter().map(|record| record.event().unwrap()).collect();
    let decisions: Vec<_> = events
        .iter()
        .filter(|event| matches!(event.payload, Payload::ModelDecided(_)))
        .map(|event| event.event_id)
        .collect();
    let attempts: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.payload {
            Payload::ToolAttempted(attempted) => Some((
                attempted.tool_name.as_str(),
                attempted.decision_link.clone(),
                event.parent_event_id,
            )),
            _ => None,
        })
        .collect();
    let by_id = Some(DecisionLink::CallId);
    assert_eq!(
        attempts,
        [
            ("g", by_id.clone(), Some(decisions[0])),
            ("f", by_id.clone(), Some(decisions[0])),
            ("h", by_id, Some(decisions[1])),
        ],
        "the call that nobody answered was not attempted, as far as anybody knows"
    );
    let statuses: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.payload {
            Payload::ToolCompleted(completed) => {
                assert_eq!(event.parent_event_id, Some(completed.attempt_event_id));
                Some(completed.status.clone())
            }
            _ => None,
        })
        .collect();
    assert_eq!(statuses, [ToolStatus::ToolError, ToolStatus::Ok, ToolStatus::Ok]);
    let inputs: Vec<_> = records.iter().filter_map(|record| record.content("input")).collect();
    assert_eq!(inputs, [&b""[..], b"{\"x\": 1}", b"{}"]);
}

#[test]
fn a_result_without_an_id_is_given_to_the_next_open_call() {
    let line = with_messages(&json!([
        {"role": "assistant", "tool_calls": [
            {"function": {"name": "f", "arguments": {"already": "parsed"}}}, call("b", "g", "")]},
        {"role": "tool", "name": "g", "content": ""},
        {"role": "tool", "content": ""},
    ]));
    let attempts: Vec<_> = events(&line)
        .into_iter()
        .filter_map(|event| match event.payload {
            Payload::ToolAttempted(attempted) => {
                assert_eq!(attempted.decision_link, Some(DecisionLink::Scope));
                Some((attempted.tool_name, attempted.call_id.unwrap().to_string()))
            }
            _ => None,
        })
        .collect();
    let expected = [("g", "b"), ("f", "message-0-call-0")];
    assert_eq!(attempts, expected.map(|(name, id)| (name.to_owned(), id.to_owned())));
    let records = records(&line);
    let inputs: Vec<_> = records.iter().filter_map(|record| record.content("input")).collect();
    assert_eq!(inputs[1], br#"{"already":"parsed"}"#);
}

#[test]
fn a_decision_knows_what_was_new_to_the_model() {
    let line = with_messages(&json!([
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "bye"},
        {"role": "assistant", "content": null, "refusal": "no"},
    ]));
    let decided: Vec<_> = events(&line)
        .into_iter()
        .filter_map(|event| match event.payload {
            Payload::ModelDecided(decided) => Some((event.event_id, decided)),
            _ => None,
        })
        .collect();
    let roles = |at: usize| -> Vec<_> { decided[at].1.context.iter().map(|c| &c.role).collect() };
    assert_eq!(roles(0), [&ContextRole::System, &ContextRole::User]);
    assert_eq!(roles(1), [&ContextRole::User]);
    assert_eq!(decided[1].1.context_after, Some(decided[0].0));
    let kind = |at: usize| decided[at].1.decision.as_ref().map(|decision| &decision.kind);
    assert_eq!((kind(0), kind(1)), (Some(&DecisionKind::Content), Some(&DecisionKind::Refusal)));
}

#[test]
fn what_is_no_transcript_is_refused_with_a_reason() {
    for (text, reason) in [
        ("", "not a JSON object: EOF"),
        ("[]", "not a JSON object: invalid type"),
        ("{\"session_id\":\"s\",\"messages\":[}", "not a JSON object: expected value"),
        ("{\"messages\":[]}", "`session_id` is missing"),
        ("{\"session_id\":7,\"messages\":[]}", "`session_id` is not text"),
        ("{\"session_id\":\"\",\"messages\":[]}", "session id \"\" is not valid"),
        ("{\"session_id\":\"s\",\"messages\":{}}", "`messages` is not an array"),
        ("{\"session_id\":\"s\",\"messages\":null}", "`messages` is missing"),
        ("{\"session_id\":\"s\",\"messages\":[],\"messages\":[]}", "`messages` is there more"),
        ("{\"session_id\":\"s\",\"messages\":[]} trailing", "not a JSON object: trailing"),
    ] {
        let error = Transcript::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(reason), "{text}: {error}");
    }
    assert!(Transcript::parse(b"{\"session_id\":\"\xff\",\"messages\":[]}").is_err());
}

#[test]
fn what_is_gone_or_altered_is_not_given_back() {
    let line = with_messages(&json!([{"role": "user", "content": "hi"}, {"role": "assistant"}]));
    let records = records(&line);
    let replaced = |body: PartBody| {
        let mut records = records.clone();
        let parts = vec![body, records[1].parts()[1].clone()];
        records[1] = Record::new(records[1].event_bytes().to_vec(), parts);
        Transcript::rebuild(&records).unwrap_err().to_string()
    };
    let gone = PartBody::Absent { reason: AbsentReason::Erased, at: None, evidence: None };
    assert!(replaced(gone).ends_with("was erased"));
    assert!(replaced(records[1].parts()[1].clone()).contains("was altered"));
    let cut = Transcript::rebuild(&records[..2]).unwrap_err().to_string();
    assert!(cut.contains("not imported to its end"), "{cut}");
}

#[test]
fn an_answer_keeps_what_the_endpoint_said() {
    let body = json!({"id": "r-1", "model": "served", "system_fingerprint": "fp_1",
        "usage": {"prompt_tokens": 9, "completion_tokens": 0,
            "prompt_tokens_details": {"cached_tokens": 4}},
        "choices": [{"finish_reason": "tool_calls", "message": {"role": "assistant",
            "reasoning_content": "hm", "tool_calls": [{"function": {"name": "f"}}]}}]});
    let response = ChatResponse::parse(body.to_string().as_bytes()).unwrap();
    let (decided, parts) = response.decided("asked");
    assert_eq!(decided.requested_model, "asked");
    assert_eq!(decided.model_version.as_deref(), Some("fp_1"));
    let usage = decided.usage.unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens), (Some(9), Some(0)));
    assert_eq!((usage.cache_read_tokens, usage.reasoning_tokens), (Some(4), None));
    let names: Vec<_> = parts.iter().map(|part| part.name()).collect();
    assert_eq!(names, ["output", "response", "reasoning"]);
    assert_eq!(parts[1].bytes(), body.to_string().as_bytes());
    let call = &response.tool_calls()[0];
    assert_eq!((call.call_id.as_str(), call.arguments.as_str()), ("r-1-call-0", ""));
    assert_eq!(decided.decision.unwrap().tool_calls[0].call_id, call.call_id);
    for bad in ["", "[]", "{}", r#"{"choices":[]}"#, r#"{"choices":[{"message":null}]}"#] {
        assert!(ChatResponse::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn real_sessions_come_out_as_they_went_in() {
    let dir = std::env::var_os("AUDIT_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
        PathBuf::from,
    );
    let path = dir.join("airline-sessions.jsonl");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if std::env::var_os("AUDIT_REQUIRE_DATA").is_none() => {
            // Past the capture of output, so that a skipped test is seen.
            let skipped = format!("skipped: {}: {error}; set AUDIT_DATA\n", path.display());
            std::io::stderr().write_all(skipped.as_bytes()).unwrap();
            return;
        }
        Err(error) => {
            panic!("{}: {error}; AUDIT_REQUIRE_DATA says that it must be there", path.display())
        }
    };
    let mut sessions = 0;
    for line in text.lines() {
        let back: Value = serde_json::from_str(&round_trip(line)).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(line).unwrap());
        sessions += 1;
    }
    assert_eq!(sessions, 100);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,6}", inner), 0..4)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// Something like a message: known keys, with values that may or may not be what they should.
fn any_message() -> impl Strategy<Value = Value> {
    let role = prop_oneof![
        4 => prop::sample::select(vec!["system", "user", "assistant", "tool"]).prop_map(Value::from),
        1 => any_json(),
    ];
    let id = || prop::sample::select(vec!["a", "b", ""]).prop_map(Value::from);
    let call = (id(), any_json()).prop_map(
        |(id, arguments)| json!({"id": id, "function": {"name": "f", "arguments": arguments}}),
    );
    let calls = prop_oneof![prop::collection::vec(call, 0..3).prop_map(Value::from), any_json()];
    let fields = (role, any_json(), prop::option::of(calls), prop::option::of(id()), any_json());
    fields.prop_map(|(role, content, calls, id, more)| {
        let mut message = json!({"role": role, "content": content, "more": more});
        if let Some(calls) = calls {
            message["tool_calls"] = calls;
        }
        if let Some(id) = id {
            message["tool_call_id"] = id;
        }
        message
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn nothing_is_lost_whatever_the_messages_are(
        messages in prop::collection::vec(prop_oneof![9 => any_message(), 1 => any_json()], 0..12),
        more in any_json(),
    ) {
        let line = json!({"session_id": "s", "more": more, "messages": messages}).to_string();
        let back: Value = serde_json::from_str(&round_trip(&line)).unwrap();
        prop_assert_eq!(back, serde_json::from_str::<Value>(&line).unwrap());
    }

    #[test]
    fn hostile_text_never_panics(text in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Transcript::parse(&text);
        let _ = ChatResponse::parse(&text);
    }
}
