//! An event as a log record of OpenTelemetry. The table is in the documentation of the crate.

mod agents;
mod attributes;
mod body;
mod content;
mod envelope;
mod ledger;
pub(crate) mod names;
mod reviews;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

use agent_audit_core::{
    event::{Object, Value as Field},
    hash::Hash,
    id::TenantId,
    record::Record,
};
use bytes::Bytes;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value},
    logs::v1::{LogRecord, SeverityNumber},
    resource::v1::Resource,
};
use prost::Message;

use attributes::{Attributes, text};
use content::Carries;
use envelope::Envelope;
pub(crate) use envelope::Unreadable;

use crate::config::OtlpConfig;

/// What is sent of an event.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    resource: Vec<KeyValue>,
    content: bool,
    event: bool,
}

/// What an event says beyond its attributes.
struct Told {
    severity: SeverityNumber,
    outcome: &'static str,
    /// Who acted, where it was not the agent: id and type.
    actor: Option<(String, &'static str)>,
    /// One line for an operator, without content.
    body: String,
    /// What the content of the event is, by the conventions.
    carries: Carries,
}

const SUCCESS: &str = "success";
const FAILURE: &str = "failure";
const UNKNOWN: &str = "unknown";

impl Told {
    /// Something went as it should.
    fn success(body: String) -> Self {
        let (severity, carries) = (SeverityNumber::Info, Carries::Parts);
        Self { severity, outcome: SUCCESS, actor: None, body, carries }
    }

    /// Something began, and how it ends is not known yet.
    fn pending(body: String) -> Self {
        Self { outcome: UNKNOWN, ..Self::success(body) }
    }

    /// Something went otherwise, or nobody knows how it went.
    fn warning(outcome: &'static str, body: String) -> Self {
        Self { severity: SeverityNumber::Warn, outcome, ..Self::success(body) }
    }

    /// Something failed.
    fn failure(body: String) -> Self {
        Self { severity: SeverityNumber::Error, outcome: FAILURE, ..Self::success(body) }
    }

    fn by(mut self, id: impl Into<String>, kind: &'static str) -> Self {
        self.actor = Some((id.into(), kind));
        self
    }

    fn carrying(mut self, carries: Carries) -> Self {
        self.carries = carries;
        self
    }
}

impl Mapping {
    pub(crate) fn new(config: &OtlpConfig) -> Self {
        let resource =
            config.resource.iter().map(|(name, value)| attributes::pair(name, text(value)));
        Self { resource: resource.collect(), content: config.content, event: config.event }
    }

    /// The resource of a tenant's records, encoded.
    pub(crate) fn resource(&self, tenant: &TenantId) -> Bytes {
        let mut attributes = self.resource.clone();
        attributes.push(attributes::pair(names::TENANT_ID, text(tenant.as_str())));
        Resource { attributes, ..Resource::default() }.encode_to_vec().into()
    }

    /// The scope of all records, encoded.
    pub(crate) fn scope() -> Bytes {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        scope.encode_to_vec().into()
    }

    /// Whether records carry content.
    pub(crate) fn has_content(&self) -> bool {
        self.content
    }

    /// The log record of an event, encoded.
    ///
    /// # Errors
    /// [`Unreadable`] where the event cannot be read.
    pub(crate) fn encode(&self, record: &Record, hash: &Hash) -> Result<Bytes, Unreadable> {
        let content = if self.content { Content::Whole } else { Content::Commitments };
        self.log_record(record, hash, content)
    }

    /// The log record of an event whose content is left out because it is too large.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub(crate) fn encode_without_content(
        &self,
        record: &Record,
        hash: &Hash,
    ) -> Result<Bytes, Unreadable> {
        self.log_record(record, hash, Content::LeftOut)
    }

    fn log_record(
        &self,
        record: &Record,
        hash: &Hash,
        content: Content,
    ) -> Result<Bytes, Unreadable> {
        let bytes = envelope::current(record.event_bytes())?;
        let event = Envelope::read(&bytes)?;
        let mut out = Attributes::with_capacity(2 * bytes.len() + 2048);
        let told = payload(&event, &mut out)?;
        envelope(&event, hash, &told, &mut out);
        let bodies = if content == Content::Whole { record.parts() } else { &[] };
        content::attributes(&event, told.carries, bodies, &mut out);
        if content == Content::LeftOut {
            out.flag(names::CONTENT_LEFT_OUT, Some(true));
        }
        if self.event {
            out.text(names::EVENT, String::from_utf8_lossy(record.event_bytes()));
        }
        let hex = |id: Option<&envelope::Text<'_>>| id.map(hex_bytes).unwrap_or_default();
        let log_record = LogRecord {
            time_unix_nano: event.occurred_at.unwrap_or(event.timestamp_utc).as_nanos(),
            observed_time_unix_nano: event.timestamp_utc.as_nanos(),
            severity_number: told.severity.into(),
            severity_text: severity_text(told.severity).to_owned(),
            body: Some(AnyValue { value: Some(text(told.body)) }),
            trace_id: hex(event.trace_id.as_ref()),
            span_id: hex(event.span_id.as_ref()),
            event_name: format!("{}{}", names::EVENT_NAME_PREFIX, event.event_type),
            ..LogRecord::default()
        };
        // Fields may come in any order, and the attributes are encoded already.
        let mut encoded = Vec::with_capacity(log_record.encoded_len() + out.encoded().len());
        log_record.encode_raw(&mut encoded);
        encoded.extend_from_slice(out.encoded());
        Ok(encoded.into())
    }
}

/// How much of the content goes with a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Commitments,
    Whole,
    LeftOut,
}

/// The attributes that every record has.
fn envelope(event: &Envelope<'_>, hash: &Hash, told: &Told, out: &mut Attributes) {
    out.text(names::RECORD_ID, &event.event_id);
    let (actor, kind) = match &told.actor {
        Some((id, kind)) => (id.as_str(), *kind),
        None => (event.agent_id.as_ref(), names::ACTOR_SERVICE),
    };
    out.text(names::ACTOR_ID, actor);
    out.text(names::ACTOR_TYPE, kind);
    out.text(names::ACTION, &event.event_type);
    out.text(names::OUTCOME, told.outcome);
    out.display(names::INTEGRITY_VALUE, hash);
    out.text(names::INTEGRITY_CANONICALIZATION, "jcs");
    out.integer(names::SEQUENCE_NUMBER, event.sequence);
    out.text(names::PREVIOUS_HASH, &event.previous_event_hash);
    out.display(names::STREAM_ID, format_args!("{}/{}", event.tenant_id, event.chain_id));
    out.text(names::CONVERSATION_ID, &event.session_id);
    out.text(names::AGENT_ID, &event.agent_id);
    out.text(names::SCHEMA_VERSION, &event.schema_version);
    out.optional(names::PARENT_EVENT_ID, event.parent_event_id.as_ref());
    out.optional(names::SUBJECT_ID, event.subject_id.as_ref());
    out.optional(names::WRITER_ID, event.writer_id.as_ref());
}

/// The attributes of a type, and what the event says.
fn payload(event: &Envelope<'_>, out: &mut Attributes) -> Result<Told, Unreadable> {
    Ok(match event.event_type.as_ref() {
        "session.started" => agents::session_started(event, &event.payload()?, out),
        "session.ended" => agents::session_ended(event, &event.payload()?, out),
        "model.requested" => agents::model_requested(event.payload()?, out),
        "model.decided" => agents::model_decided(event.payload()?, out),
        "tool.attempted" => agents::tool_attempted(&event.payload()?, out),
        "tool.completed" => agents::tool_completed(&event.payload()?, out),
        "review.proposed" => reviews::proposed(&event.payload()?, out),
        "review.presented" => reviews::presented(&event.payload()?, out),
        "review.decided" => reviews::decided(&event.payload()?, out),
        "review.applied" => reviews::applied(&event.payload()?, out),
        "access.queried" => ledger::access_queried(&event.payload()?, out),
        "access.exported" => ledger::access_exported(&event.payload()?, out),
        "integrity.verified" => ledger::integrity_verified(&event.payload()?, out),
        "integrity.failed" => ledger::integrity_failed(&event.payload()?, out),
        "chain.opened" => ledger::chain_opened(event, &event.payload()?, out),
        "chain.resumed" => ledger::chain_resumed(event, &event.payload()?, out),
        "chain.closed" => ledger::chain_closed(event, &event.payload()?, out),
        "chain.gap" => ledger::chain_gap(event, &event.payload()?, out),
        "key.created" => ledger::key_created(event, &event.payload()?, out),
        "key.rotated" => ledger::key_rotated(event, &event.payload()?, out),
        "key.destroyed" => ledger::key_destroyed(&event.payload()?, out),
        "content.purged" => ledger::content_purged(&event.payload()?, out),
        // A user's own type, or one of a later schema.
        other => {
            let fields: Object = event.payload()?;
            for (name, field) in &fields {
                out.value(&format!("{}{name}", names::CUSTOM_PREFIX), Some(any(field)));
            }
            Told::success(body::line(format_args!("{other}")))
        }
    })
}

fn any(field: &Field) -> Value {
    let wrapped = |field| AnyValue { value: Some(any(field)) };
    match field {
        Field::Bool(value) => Value::BoolValue(*value),
        Field::Integer(value) => Value::IntValue(*value),
        Field::Text(value) => text(value),
        Field::List(values) => attributes::list(values.iter().map(any)),
        Field::Object(fields) => Value::KvlistValue(KeyValueList {
            values: fields
                .iter()
                .map(|(name, field)| KeyValue {
                    key: name.clone(),
                    value: Some(wrapped(field)),
                    ..KeyValue::default()
                })
                .collect(),
        }),
    }
}

fn severity_text(severity: SeverityNumber) -> &'static str {
    match severity {
        SeverityNumber::Error => "ERROR",
        SeverityNumber::Warn => "WARN",
        _ => "INFO",
    }
}

/// The bytes of hexadecimal digits; ids have been checked to be some.
fn hex_bytes(digits: &envelope::Text<'_>) -> Vec<u8> {
    let pairs = digits.as_ref().as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.filter_map(byte).collect()
}
