//! The event: schema 1.0.
//!
//! An [`Event`] is an envelope and a typed [`Payload`]. What is free-form or personal is not in it:
//! that is [content](crate::content), named by the event through commitments. The hashed form of an
//! event is [`Event::canonical_bytes`]; stores keep those bytes and never print an event again.
//!
//! A reader of version *m.n* reads every version before it, and later minor versions too: fields
//! and event types that it does not know survive a read and a rewrite.

pub mod access;
pub mod chain;
pub mod content;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
pub(crate) mod golden;
pub mod integrity;
pub mod key;
pub mod model;
mod payload;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod properties;
pub mod review;
pub mod session;
pub mod tool;
mod upcast;
mod value;

use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeMap},
};

pub use payload::{EventType, Other, Payload};
pub(crate) use upcast::is_readable;
pub use value::{Extra, Mistyped, Object, Value};

use crate::{
    canonical::{self, CanonicalError, NotCanonical},
    content::ContentRef,
    hash::{self, Hash},
    id::{AgentId, ChainId, EventId, SessionId, SpanId, SubjectId, TenantId, TraceId, WriterId},
    timestamp::Timestamp,
};

/// The schema that this version writes.
///
/// ```
/// assert_eq!(agent_audit_core::event::SCHEMA_VERSION, "1.0");
/// ```
pub const SCHEMA_VERSION: &str = "1.0";

/// One thing that happened: who, for whom, when, where in the chain, and what.
///
/// ```
/// use agent_audit_core::event::{Event, chain::ChainClosed};
/// let event = Event::example(ChainClosed::new("shutdown"));
/// let bytes = event.canonical_bytes()?;
/// assert_eq!(Event::from_slice(&bytes)?, event);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The schema whose fields these are: the one in which the event was written, or 1.0 where that
    /// was older.
    pub schema_version: String,
    /// The identity of the event.
    pub event_id: EventId,
    /// The customer for whom the agent acted.
    pub tenant_id: TenantId,
    /// The run of the agent.
    pub session_id: SessionId,
    /// The agent that acted.
    pub agent_id: AgentId,
    /// When the event was recorded, by the writer's clock.
    pub timestamp_utc: Timestamp,
    /// The chain.
    pub chain_id: ChainId,
    /// The position in the chain, from 0, without holes; at most 2^53−1.
    pub sequence: u64,
    /// The event hash of the position before; zeros at position 0.
    pub previous_event_hash: Hash,
    /// What happened.
    pub payload: Payload,
    /// What the event names of its content, in order.
    pub content: Vec<ContentRef>,
    /// The event that caused this one.
    pub parent_event_id: Option<EventId>,
    /// The trace that it happened in.
    pub trace_id: Option<TraceId>,
    /// The span that it happened in.
    pub span_id: Option<SpanId>,
    /// A token of the person whom the data is about.
    pub subject_id: Option<SubjectId>,
    /// The log that wrote it.
    pub writer_id: Option<WriterId>,
    /// When it happened, where that is not when it was recorded.
    pub occurred_at: Option<Timestamp>,
    /// Fields that a later schema added.
    pub extra: Extra,
}

/// Bytes or fields that are not an event.
///
/// ```
/// use agent_audit_core::event::Event;
/// assert!(Event::from_slice(b"not json").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEvent {
    /// The bytes are not canonical.
    #[error(transparent)]
    NotCanonical(#[from] NotCanonical),
    /// A field of the envelope is missing or wrong.
    #[error("event field {field}: {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The payload does not have the shape of its type.
    #[error("payload of {event_type}: {reason}")]
    Payload {
        /// The type.
        event_type: String,
        /// What is wrong.
        reason: String,
    },
    /// The event was written by a schema that this version cannot read.
    #[error(
        "schema version {0:?} is unknown: this program reads 1.x and before; use a release that knows it"
    )]
    SchemaVersion(String),
}

impl Event {
    /// The bytes that are hashed: RFC 8785 canonical JSON.
    ///
    /// # Errors
    /// [`CanonicalError`] where the event holds something that does not occur under a hash.
    pub fn canonical_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical::to_vec(self)
    }

    /// The event hash: SHA-256(0x00 ‖ canonical bytes), an RFC 6962 leaf hash.
    ///
    /// # Errors
    /// As [`canonical_bytes`](Self::canonical_bytes).
    pub fn hash(&self) -> Result<Hash, CanonicalError> {
        Ok(hash::leaf(&self.canonical_bytes()?))
    }

    /// Reads canonical bytes, of this schema or any that it can read.
    ///
    /// Of an event of 1.0 or later [`canonical_bytes`](Self::canonical_bytes) gives the same bytes
    /// again, as long as it was written without empty lists.
    ///
    /// # Errors
    /// [`InvalidEvent`] where the bytes are not canonical, not an event, or of an unknown schema.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, InvalidEvent> {
        canonical::scan(bytes)?;
        let unreadable = |reason: String| InvalidEvent::Field { field: "event", reason };
        let text = std::str::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))?;
        match value::read_canonical(text).map_err(|error| unreadable(error.0))? {
            Value::Object(fields) => Self::from_fields(upcast::to_current(fields)?),
            _ => Err(unreadable("not an object".to_owned())),
        }
    }

    fn from_fields(fields: Object) -> Result<Self, InvalidEvent> {
        let mut fields = Fields(fields);
        let event_type: String = fields.required("event_type")?;
        let payload = match fields.0.remove("payload") {
            Some(Value::Object(payload)) => Payload::read(&event_type, payload)?,
            _ => {
                return Err(InvalidEvent::Field {
                    field: "payload",
                    reason: "expected an object".to_owned(),
                });
            }
        };
        Ok(Self {
            schema_version: fields.required("schema_version")?,
            event_id: fields.required("event_id")?,
            tenant_id: fields.required("tenant_id")?,
            session_id: fields.required("session_id")?,
            agent_id: fields.required("agent_id")?,
            timestamp_utc: fields.required("timestamp_utc")?,
            chain_id: fields.required("chain_id")?,
            sequence: fields.required("sequence")?,
            previous_event_hash: fields.required("previous_event_hash")?,
            payload,
            content: fields.optional("content")?.unwrap_or_default(),
            parent_event_id: fields.optional("parent_event_id")?,
            trace_id: fields.optional("trace_id")?,
            span_id: fields.optional("span_id")?,
            subject_id: fields.optional("subject_id")?,
            writer_id: fields.optional("writer_id")?,
            occurred_at: fields.optional("occurred_at")?,
            extra: fields.0,
        })
    }

    /// The type of the event.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        self.payload.event_type()
    }

    /// An event with a fresh identity at position 0 of a chain, for examples and tests.
    #[doc(hidden)]
    #[must_use]
    pub fn example(payload: impl Into<Payload>) -> Self {
        let name = "the name is valid";
        Self {
            schema_version: SCHEMA_VERSION.to_owned(),
            event_id: EventId::new(),
            tenant_id: TenantId::new("acme").expect(name),
            session_id: SessionId::new("session-1").expect(name),
            agent_id: AgentId::new("support-agent").expect(name),
            timestamp_utc: Timestamp::now(),
            chain_id: ChainId::new("chain-1").expect(name),
            sequence: 0,
            previous_event_hash: Hash::ZERO,
            payload: payload.into(),
            content: Vec::new(),
            parent_event_id: None,
            trace_id: None,
            span_id: None,
            subject_id: None,
            writer_id: None,
            occurred_at: None,
            extra: Extra::new(),
        }
    }

    /// Adds a content reference, for examples and tests.
    #[doc(hidden)]
    #[must_use]
    pub fn with_content(mut self, content: ContentRef) -> Self {
        self.content.push(content);
        self
    }
}

struct Fields(Object);

impl Fields {
    fn optional<T: serde::de::DeserializeOwned>(
        &mut self,
        field: &'static str,
    ) -> Result<Option<T>, InvalidEvent> {
        let Some(value) = self.0.remove(field) else { return Ok(None) };
        T::deserialize(value)
            .map(Some)
            .map_err(|error| InvalidEvent::Field { field, reason: error.0 })
    }

    fn required<T: serde::de::DeserializeOwned>(
        &mut self,
        field: &'static str,
    ) -> Result<T, InvalidEvent> {
        self.optional(field)?.ok_or_else(|| InvalidEvent::Field {
            field,
            reason: "missing; every event carries it".to_owned(),
        })
    }
}

/// Mandatory fields need no such list: they would be there twice, which is refused.
const OPTIONAL_FIELDS: &[&str] = &[
    "content",
    "occurred_at",
    "parent_event_id",
    "span_id",
    "subject_id",
    "trace_id",
    "writer_id",
];

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // In the order of the canonical bytes, so that nothing needs to be sorted.
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("agent_id", &self.agent_id)?;
        map.serialize_entry("chain_id", &self.chain_id)?;
        if !self.content.is_empty() {
            map.serialize_entry("content", &self.content)?;
        }
        map.serialize_entry("event_id", &self.event_id)?;
        map.serialize_entry("event_type", self.payload.type_name())?;
        optional(&mut map, "occurred_at", self.occurred_at.as_ref())?;
        optional(&mut map, "parent_event_id", self.parent_event_id.as_ref())?;
        map.serialize_entry("payload", &self.payload)?;
        map.serialize_entry("previous_event_hash", &self.previous_event_hash)?;
        map.serialize_entry("schema_version", &self.schema_version)?;
        map.serialize_entry("sequence", &self.sequence)?;
        map.serialize_entry("session_id", &self.session_id)?;
        optional(&mut map, "span_id", self.span_id.as_ref())?;
        optional(&mut map, "subject_id", self.subject_id.as_ref())?;
        map.serialize_entry("tenant_id", &self.tenant_id)?;
        map.serialize_entry("timestamp_utc", &self.timestamp_utc)?;
        optional(&mut map, "trace_id", self.trace_id.as_ref())?;
        optional(&mut map, "writer_id", self.writer_id.as_ref())?;
        for (name, value) in &self.extra {
            if OPTIONAL_FIELDS.contains(&name.as_str()) {
                return Err(S::Error::custom(format!(
                    "{name} is a field of the envelope and cannot be an unknown one"
                )));
            }
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn optional<M: SerializeMap, T: Serialize>(
    map: &mut M,
    name: &'static str,
    value: Option<&T>,
) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(name, value))
}
