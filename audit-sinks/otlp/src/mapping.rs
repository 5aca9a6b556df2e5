//! An event as a log record of OpenTelemetry. The table is in the documentation of the crate.

mod agents;
mod attributes;
mod body;
mod content;
mod ledger;
pub(crate) mod names;
mod reviews;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

use agent_audit_core::{
    event::{Event, InvalidEvent, Payload, Value as Field},
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
}

const SUCCESS: &str = "success";
const FAILURE: &str = "failure";
const UNKNOWN: &str = "unknown";

impl Told {
    /// Something went as it should.
    fn success(body: String) -> Self {
        Self { severity: SeverityNumber::Info, outcome: SUCCESS, actor: None, body }
    }

    /// Something began, and how it ends is not known yet.
    fn pending(body: String) -> Self {
        Self { outcome: UNKNOWN, ..Self::success(body) }
    }

    /// Something went otherwise, or nobody knows how it went.
    fn warning(outcome: &'static str, body: String) -> Self {
        Self { severity: SeverityNumber::Warn, outcome, actor: None, body }
    }

    /// Something failed.
    fn failure(body: String) -> Self {
        Self { severity: SeverityNumber::Error, outcome: FAILURE, actor: None, body }
    }

    fn by(mut self, id: impl Into<String>, kind: &'static str) -> Self {
        self.actor = Some((id.into(), kind));
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
    /// [`InvalidEvent`] where the event cannot be read.
    pub(crate) fn encode(&self, record: &Record, hash: &Hash) -> Result<Bytes, InvalidEvent> {
        Ok(self.log_record(record, hash, self.content)?.encode_to_vec().into())
    }

    /// The log record of an event whose content is left out because it is too large.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub(crate) fn encode_without_content(
        &self,
        record: &Record,
        hash: &Hash,
    ) -> Result<Bytes, InvalidEvent> {
        let mut log_record = self.log_record(record, hash, false)?;
        log_record
            .attributes
            .push(attributes::pair(names::CONTENT_LEFT_OUT, Value::BoolValue(true)));
        Ok(log_record.encode_to_vec().into())
    }

    fn log_record(
        &self,
        record: &Record,
        hash: &Hash,
        with_content: bool,
    ) -> Result<LogRecord, InvalidEvent> {
        let event = record.event()?;
        let mut out = Attributes::with_capacity(48);
        let told = payload(&event, &mut out);
        envelope(&event, hash, &told, &mut out);
        let bodies = if with_content { record.parts() } else { &[] };
        content::attributes(&event, bodies, &mut out);
        if self.event {
            out.text(names::EVENT, String::from_utf8_lossy(record.event_bytes()));
        }
        let hex = |id: Option<&str>| id.map(hex_bytes).unwrap_or_default();
        Ok(LogRecord {
            time_unix_nano: event.occurred_at.unwrap_or(event.timestamp_utc).as_nanos(),
            observed_time_unix_nano: event.timestamp_utc.as_nanos(),
            severity_number: told.severity.into(),
            severity_text: severity_text(told.severity).to_owned(),
            body: Some(AnyValue { value: Some(text(told.body)) }),
            attributes: out.into_vec(),
            trace_id: hex(event.trace_id.as_ref().map(|id| id.as_str())),
            span_id: hex(event.span_id.as_ref().map(|id| id.as_str())),
            event_name: format!("{}{}", names::EVENT_NAME_PREFIX, event.event_type()),
            ..LogRecord::default()
        })
    }
}

/// The attributes that every record has.
fn envelope(event: &Event, hash: &Hash, told: &Told, out: &mut Attributes) {
    out.text(names::RECORD_ID, event.event_id.to_string());
    let (actor, kind) = match &told.actor {
        Some((id, kind)) => (id.as_str(), *kind),
        None => (event.agent_id.as_str(), names::ACTOR_SERVICE),
    };
    out.text(names::ACTOR_ID, actor);
    out.text(names::ACTOR_TYPE, kind);
    out.text(names::ACTION, event.event_type().as_str());
    out.text(names::OUTCOME, told.outcome);
    out.text(names::INTEGRITY_VALUE, hash.to_string());
    out.text(names::INTEGRITY_CANONICALIZATION, "jcs");
    out.integer(names::SEQUENCE_NUMBER, event.sequence);
    out.text(names::PREVIOUS_HASH, event.previous_event_hash.to_string());
    out.text(names::STREAM_ID, format!("{}/{}", event.tenant_id, event.chain_id));
    out.text(names::CONVERSATION_ID, event.session_id.as_str());
    out.text(names::AGENT_ID, event.agent_id.as_str());
    out.text(names::SCHEMA_VERSION, event.schema_version.as_str());
    out.optional(names::PARENT_EVENT_ID, event.parent_event_id.as_ref());
    out.optional(names::SUBJECT_ID, event.subject_id.as_ref());
    out.optional(names::WRITER_ID, event.writer_id.as_ref());
}

/// The attributes of a type, and what the event says.
fn payload(event: &Event, out: &mut Attributes) -> Told {
    match &event.payload {
        Payload::SessionStarted(payload) => agents::session_started(event, payload, out),
        Payload::SessionEnded(payload) => agents::session_ended(event, payload, out),
        Payload::ModelRequested(payload) => agents::model_requested(payload, out),
        Payload::ModelDecided(payload) => agents::model_decided(payload, out),
        Payload::ToolAttempted(payload) => agents::tool_attempted(payload, out),
        Payload::ToolCompleted(payload) => agents::tool_completed(payload, out),
        Payload::ReviewProposed(payload) => reviews::proposed(payload, out),
        Payload::ReviewPresented(payload) => reviews::presented(payload, out),
        Payload::ReviewDecided(payload) => reviews::decided(payload, out),
        Payload::ReviewApplied(payload) => reviews::applied(payload, out),
        Payload::AccessQueried(payload) => ledger::access_queried(payload, out),
        Payload::AccessExported(payload) => ledger::access_exported(payload, out),
        Payload::IntegrityVerified(payload) => ledger::integrity_verified(payload, out),
        Payload::IntegrityFailed(payload) => ledger::integrity_failed(payload, out),
        Payload::ChainOpened(payload) => ledger::chain_opened(event, payload, out),
        Payload::ChainResumed(payload) => ledger::chain_resumed(event, payload, out),
        Payload::ChainClosed(payload) => ledger::chain_closed(event, payload, out),
        Payload::ChainGap(payload) => ledger::chain_gap(event, payload, out),
        Payload::KeyCreated(payload) => ledger::key_created(event, payload, out),
        Payload::KeyRotated(payload) => ledger::key_rotated(event, payload, out),
        Payload::KeyDestroyed(payload) => ledger::key_destroyed(payload, out),
        Payload::ContentPurged(payload) => ledger::content_purged(payload, out),
        Payload::Other(payload) => {
            for (name, field) in &payload.fields {
                out.value(format!("{}{name}", names::CUSTOM_PREFIX), Some(any(field)));
            }
            Told::success(body::line(format_args!("{}", payload.event_type())))
        }
        // A type that this version of the crate does not know yet.
        _ => Told::success(body::line(format_args!("{}", event.event_type()))),
    }
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
fn hex_bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.filter_map(byte).collect()
}
