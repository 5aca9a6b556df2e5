//! The JSON Schema (draft 2020-12).

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    canonical::MAX_INTEGER,
    content::ContentRef,
    event::{EventType, Extra, Object, Payload},
    hash::Hash,
    id::{AgentId, ChainId, EventId, SessionId, SpanId, SubjectId, TenantId, TraceId, WriterId},
    timestamp::Timestamp,
};

/// The JSON Schema of an event: the envelope, and for each event type its payload.
///
/// ```
/// let schema = agent_audit_core::schema::json_schema();
/// assert_eq!(schema["oneOf"][0]["title"], "session.started");
/// assert!(schema["required"].as_array().is_some_and(|names| names.contains(&"tenant_id".into())));
/// ```
#[must_use]
pub fn json_schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let payloads = Payload::schemas(&mut generator);
    let Value::Object(mut root) = Envelope::json_schema(&mut generator).to_value() else {
        return Value::Null;
    };
    let known: Vec<&str> = EventType::ALL.iter().map(EventType::as_str).collect();
    let mut branches: Vec<Value> =
        payloads.into_iter().map(|(name, payload)| branch(name, payload)).collect();
    branches.push(json!({
        "title": "custom.* and later types",
        "properties": { "event_type": { "not": { "enum": known } } },
    }));
    root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("$id".to_owned(), json!("urn:agent-audit:event:1.0"));
    root.insert("title".to_owned(), json!("agent-audit event, schema 1.0"));
    let description = "One thing that happened: who, for whom, when, where in the chain, and what.";
    root.insert("description".to_owned(), json!(description));
    root.insert("oneOf".to_owned(), Value::Array(branches));
    root.insert("$defs".to_owned(), Value::Object(generator.take_definitions(true)));
    tidy(Value::Object(root))
}

/// The text of the JSON Schema file: two spaces, keys in order, a newline at the end.
///
/// ```
/// assert!(agent_audit_core::schema::json_schema_text().ends_with("}\n"));
/// ```
#[must_use]
pub fn json_schema_text() -> String {
    format!("{:#}\n", json_schema())
}

fn branch(event_type: &str, payload: Schema) -> Value {
    json!({
        "title": event_type,
        "properties": { "event_type": { "const": event_type }, "payload": payload },
    })
}

/// The envelope for [`json_schema`]; a test holds it equal to what an event writes.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Envelope {
    /// The schema whose fields these are.
    #[schemars(regex(pattern = r"^1\.(0|[1-9][0-9]*)$"))]
    schema_version: String,
    /// The identity of the event: a UUID of version 7.
    event_id: EventId,
    /// The customer for whom the agent acted.
    tenant_id: TenantId,
    /// The run of the agent.
    session_id: SessionId,
    /// The agent that acted.
    agent_id: AgentId,
    /// The type of the event, which says what the payload is.
    #[schemars(regex(pattern = r"^[a-z0-9_]+(\.[a-z0-9_]+)+$"), length(max = 128))]
    event_type: String,
    /// When the event was recorded, by the writer's clock: nine fractional digits, `Z`.
    timestamp_utc: Timestamp,
    /// The chain.
    chain_id: ChainId,
    /// The position in the chain, from 0, without holes.
    sequence: u64,
    /// The event hash of the position before; zeros at position 0.
    previous_event_hash: Hash,
    /// What happened.
    payload: Object,
    /// What the event names of its content, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    content: Vec<ContentRef>,
    /// The event that caused this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_event_id: Option<EventId>,
    /// The W3C trace that it happened in.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<TraceId>,
    /// The W3C span that it happened in.
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<SpanId>,
    /// A token of the person whom the data is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_id: Option<SubjectId>,
    /// The log that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    writer_id: Option<WriterId>,
    /// When it happened, where that is not when it was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Timestamp>,
    /// Fields that a later schema added.
    #[serde(flatten)]
    extra: Extra,
}

/// Says what the general rules of the hashed form add to a generated schema: no null, no default,
/// integers within 2^53−1; and puts the keys in order whatever the features of `serde_json` are.
fn tidy(schema: Value) -> Value {
    match schema {
        Value::Array(values) => Value::Array(values.into_iter().map(tidy).collect()),
        Value::Object(mut fields) => {
            without_null(&mut fields);
            if let Some(Value::String(description)) = fields.get_mut("description")
                && let Some(end) = description.find("\n\n")
            {
                // What follows the first paragraph is an example in Rust.
                description.truncate(end);
            }
            if fields.get("format").is_some_and(|format| format == "uint64") {
                fields.remove("format");
                fields.insert("maximum".to_owned(), json!(MAX_INTEGER));
            }
            let sorted: BTreeMap<String, Value> =
                fields.into_iter().map(|(name, value)| (name, tidy(value))).collect();
            Value::Object(sorted.into_iter().collect())
        }
        other => other,
    }
}

/// A field that is absent is left out; it is never null.
fn without_null(fields: &mut Map<String, Value>) {
    fields.remove("default");
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            fields.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(any)) = fields.get_mut("anyOf") {
        any.retain(|schema| *schema != json!({ "type": "null" }));
        if let [Value::Object(only)] = &any[..] {
            let only = only.clone();
            fields.remove("anyOf");
            for (name, value) in only {
                fields.entry(name).or_insert(value);
            }
        }
    }
}
