//! The frozen events of schema 1.0 as log records, against a golden file.

use std::{collections::BTreeSet, fmt::Write, path::Path};

use agent_audit_core::{
    content::{AbsentReason, Part, PartBody, Sealed},
    event::{
        Event, EventType, Other,
        model::{ContextItem, ContextRole, ModelDecided},
        tool::{ToolAttempted, ToolCompleted},
    },
    id::EventId,
};

use super::*;

const DEPRECATED: [&str; 5] = [
    "gen_ai.system",
    "gen_ai.prompt",
    "gen_ai.completion",
    "gen_ai.usage.prompt_tokens",
    "gen_ai.usage.completion_tokens",
];

fn mapping(content: bool) -> Mapping {
    let config = OtlpConfig::http("http://localhost").with_resource("service.name", "support");
    Mapping::new(&config.with_content(content))
}

fn frozen(event_type: &str) -> Record {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../audit-core/tests/golden/1.0")
        .join(format!("{event_type}.json"));
    let text = std::fs::read_to_string(golden).unwrap();
    Record::new(text.trim_end().into(), Vec::new())
}

fn decoded(mapping: &Mapping, record: &Record) -> LogRecord {
    let encoded = mapping.encode(record, &record.event_hash()).unwrap();
    LogRecord::decode(encoded).unwrap()
}

fn attribute<'a>(record: &'a LogRecord, name: &str) -> Option<&'a Value> {
    let pair = record.attributes.iter().find(|pair| pair.key == name)?;
    pair.value.as_ref()?.value.as_ref()
}

/// A value as a person reads it.
fn shown(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        None => "none".to_owned(),
        Some(Value::StringValue(text)) => format!("{text:?}"),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => format!("{value:?}"),
        Some(Value::BytesValue(bytes)) => format!("{bytes:?}"),
        Some(Value::ArrayValue(array)) => {
            let values: Vec<_> = array.values.iter().map(|value| shown(Some(value))).collect();
            format!("[{}]", values.join(", "))
        }
        Some(Value::KvlistValue(list)) => {
            let pair = |pair: &KeyValue| format!("{}: {}", pair.key, shown(pair.value.as_ref()));
            let pairs: Vec<_> = list.values.iter().map(pair).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Some(other) => format!("{other:?}"),
    }
}

fn described(record: &LogRecord) -> String {
    let mut out = String::new();
    let LogRecord { time_unix_nano, observed_time_unix_nano, severity_text, .. } = record;
    writeln!(out, "event_name {}", record.event_name).unwrap();
    writeln!(out, "severity {} {severity_text}", record.severity_number).unwrap();
    writeln!(out, "body {}", shown(record.body.as_ref())).unwrap();
    writeln!(out, "time {time_unix_nano} observed {observed_time_unix_nano}").unwrap();
    writeln!(out, "trace {:02x?} span {:02x?}", record.trace_id, record.span_id).unwrap();
    for pair in record.attributes.iter().filter(|pair| pair.key != names::EVENT) {
        writeln!(out, "{} = {}", pair.key, shown(pair.value.as_ref())).unwrap();
    }
    out
}

#[test]
fn every_frozen_event_is_the_record_that_it_was() {
    let mapping = mapping(false);
    let mut actual = String::new();
    for event_type in EventType::ALL {
        let record = frozen(event_type.as_str());
        let log_record = decoded(&mapping, &record);
        writeln!(actual, "# {event_type}\n{}", described(&log_record)).unwrap();
        let carried = attribute(&log_record, names::EVENT);
        let bytes = String::from_utf8(record.event_bytes().to_vec()).unwrap();
        assert_eq!(carried, Some(&text(bytes)), "the canonical bytes of {event_type}");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/1.0.txt");
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    for (line, (actual, golden)) in actual.lines().zip(golden.lines()).enumerate() {
        assert_eq!(actual, golden, "line {} of {}", line + 1, file.display());
    }
    assert_eq!(actual.lines().count(), golden.lines().count(), "lines; it is now:\n{actual}");
}

/// What the payload of a frozen event says is in the attributes too, so that nobody has to take the
/// event apart to ask for it.
#[test]
fn every_value_of_a_payload_is_an_attribute() {
    // A seed that is larger than OpenTelemetry's integers, a time that the conventions have in
    // seconds, and the code of an error that came with an answer that is no error.
    let elsewhere = ["18446744073709551615", "310000", "content_filter"];
    for event_type in EventType::ALL {
        let record = frozen(event_type.as_str());
        let told = described(&decoded(&mapping(false), &record));
        let event: serde_json::Value = serde_json::from_slice(record.event_bytes()).unwrap();
        let mut values = vec![&event["payload"]];
        while let Some(value) = values.pop() {
            let leaf = match value {
                serde_json::Value::Object(fields) => {
                    values.extend(fields.values());
                    continue;
                }
                serde_json::Value::Array(list) => {
                    values.extend(list);
                    continue;
                }
                serde_json::Value::String(text) => format!("{text:?}"),
                other => other.to_string(),
            };
            let known = told.contains(&leaf) || told.contains(leaf.trim_matches('"'));
            let elsewhere = elsewhere.contains(&leaf.trim_matches('"'));
            assert!(known || elsewhere, "{leaf} of {event_type} is in no attribute");
        }
    }
}

/// An event of an older schema says the same in the names of the current one, and what it carries
/// are its own bytes.
#[test]
fn an_event_of_an_older_schema_is_translated() {
    let older = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../audit-core/tests/golden/0.9/tool.attempted.json"
    );
    let bytes = std::fs::read_to_string(older).unwrap();
    let record = Record::new(bytes.trim_end().into(), Vec::new());
    let log_record = decoded(&mapping(false), &record);
    let event = record.event().unwrap();
    let agent_audit_core::event::Payload::ToolAttempted(payload) = event.payload else {
        panic!("{event:?}");
    };
    assert_eq!(attribute(&log_record, names::TOOL_NAME), Some(&text(payload.tool_name)));
    assert_eq!(attribute(&log_record, names::EVENT), Some(&text(bytes.trim_end())));
    assert_eq!(log_record.observed_time_unix_nano, event.timestamp_utc.as_nanos());
}

#[test]
fn what_is_no_event_is_told_as_such() {
    for bytes in ["{}", "", r#"{"schema_version":"9.0"}"#] {
        let record = Record::new(bytes.into(), Vec::new());
        let encoded = mapping(false).encode(&record, &record.event_hash());
        assert_eq!(encoded.unwrap_err(), Unreadable);
    }
}

#[test]
fn names_are_current_unique_and_each_value_is_there() {
    for event_type in EventType::ALL {
        let record = decoded(&mapping(true), &frozen(event_type.as_str()));
        let mut seen = BTreeSet::new();
        for pair in &record.attributes {
            assert!(!DEPRECATED.contains(&pair.key.as_str()), "{} is deprecated", pair.key);
            assert!(seen.insert(&pair.key), "{} twice in {event_type}", pair.key);
            assert_ne!(shown(pair.value.as_ref()), "none", "{} of {event_type}", pair.key);
        }
    }
}

#[test]
fn what_the_event_does_not_have_is_left_out() {
    let event = Event::example(ModelDecided::new(
        "openai",
        "gpt-5",
        agent_audit_core::event::model::ModelStatus::Ok,
    ));
    let record = Record::new(event.canonical_bytes().unwrap(), Vec::new());
    let record = decoded(&mapping(false), &record);
    for name in [
        names::USAGE_INPUT,
        names::RESPONSE_MODEL,
        names::RESPONSE_FINISH_REASONS,
        names::ERROR_TYPE,
        names::CONTENT,
        names::PARENT_EVENT_ID,
    ] {
        assert_eq!(attribute(&record, name), None, "{name}");
    }
    assert!(record.trace_id.is_empty() && record.span_id.is_empty());
    assert_eq!(record.time_unix_nano, record.observed_time_unix_nano);
}

#[test]
fn a_custom_event_has_its_fields() {
    let list = Field::List(vec![Field::Bool(true), Field::Integer(-3)]);
    let payload = Other::custom("cache_hit")
        .unwrap()
        .with_field("keys", 3u32)
        .with_field("detail", Field::Object([("list".to_owned(), list)].into()));
    let record = Record::new(Event::example(payload).canonical_bytes().unwrap(), Vec::new());
    let record = decoded(&mapping(false), &record);
    assert_eq!(attribute(&record, "agent_audit.custom.keys"), Some(&Value::IntValue(3)));
    let detail = attribute(&record, "agent_audit.custom.detail").cloned();
    assert_eq!(shown(Some(&AnyValue { value: detail })), "{list: [true, -3]}");
    assert_eq!(shown(record.body.as_ref()), "\"custom.cache_hit\"");
}

#[test]
fn content_is_sent_only_when_asked_for() {
    let (reference, body) = Part::text("output", "4111-1111").commit();
    let payload =
        ToolCompleted::new("pay", EventId::new(), agent_audit_core::event::tool::ToolStatus::Ok);
    let event = Event::example(payload).with_content(reference);
    let record = Record::new(event.canonical_bytes().unwrap(), vec![body]);
    let hash = record.event_hash();
    let holds = |encoded: Bytes| encoded.windows(9).any(|window| window == b"4111-1111");
    assert!(!holds(mapping(false).encode(&record, &hash).unwrap()));
    assert!(holds(mapping(true).encode(&record, &hash).unwrap()));
    let without = mapping(true).encode_without_content(&record, &hash).unwrap();
    assert!(!holds(without.clone()));
    let without = LogRecord::decode(without).unwrap();
    assert_eq!(attribute(&without, names::CONTENT_LEFT_OUT), Some(&Value::BoolValue(true)));
}

#[test]
fn content_is_where_the_conventions_have_a_name_for_it() {
    let mut parts = vec![
        Part::text("context.0", "be kind").commit(),
        Part::text("context.1", "refund me").commit(),
        Part::text("output", "I will").commit(),
        Part::text("reasoning", "he is right").commit(),
        Part::new("picture", "image/png", [0xff, 0xd8]).commit(),
    ];
    let sealed = PartBody::Sealed(Sealed::new("key", 1, vec![0; 12], vec![0; 48]));
    parts.push((Part::text("sealed", "x").commit().0, sealed));
    let gone = PartBody::Absent { reason: AbsentReason::Erased, at: None, evidence: None };
    parts.push((Part::text("gone", "x").commit().0, gone));
    let payload =
        ModelDecided::new("openai", "gpt-5", agent_audit_core::event::model::ModelStatus::Ok)
            .with_finish_reason("stop")
            .with_context([
                ContextItem::new(ContextRole::System, "context.0"),
                ContextItem::new(ContextRole::User, "context.1"),
            ]);
    let mut event = Event::example(payload);
    let (references, bodies): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    event.content = references;
    let record = Record::new(event.canonical_bytes().unwrap(), bodies);
    let record = decoded(&mapping(true), &record);
    let told = |name| shown(Some(&AnyValue { value: attribute(&record, name).cloned() }));
    assert_eq!(told(names::SYSTEM_INSTRUCTIONS), r#"[{type: "text", content: "be kind"}]"#);
    assert_eq!(
        told(names::INPUT_MESSAGES),
        r#"[{role: "user", parts: [{type: "text", content: "refund me"}]}]"#
    );
    assert_eq!(
        told(names::OUTPUT_MESSAGES),
        "[{role: \"assistant\", parts: [{type: \"reasoning\", content: \"he is right\"}, \
         {type: \"text\", content: \"I will\"}], finish_reason: \"stop\"}]"
    );
    let content = told(names::CONTENT);
    for said in [
        r#"attribute: "gen_ai.output.messages""#,
        "data: [255, 216]",
        r#"state: "sealed""#,
        r#"state: "erased""#,
    ] {
        assert!(content.contains(said), "{said} in {content}");
    }
    let event = Event::example(ToolAttempted::new("pay"));
    let (reference, body) = Part::new("input", "application/json", br#"{"eur":1}"#).commit();
    let event = event.with_content(reference);
    let record = Record::new(event.canonical_bytes().unwrap(), vec![body]);
    let record = decoded(&mapping(true), &record);
    assert_eq!(attribute(&record, names::TOOL_CALL_ARGUMENTS), Some(&text(r#"{"eur":1}"#)));
}
