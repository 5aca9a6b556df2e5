//! What a store with columns extracts from an event to find it by.
//!
//! Every store keeps the canonical bytes verbatim and these columns beside them. The columns are the
//! same in every store, so that one question has one meaning; [`check_columns`] says whether stored
//! columns agree with the bytes. They depend on the bytes alone: the same bytes give the same columns
//! for ever.
//!
//! | column | what |
//! |---|---|
//! | `chain_id`, `sequence`, `event_hash` | the place in the chain and the hash |
//! | `event_id`, `event_type`, `session_id`, `agent_id` | as in the event |
//! | `timestamp_utc`, `occurred_at` | nanoseconds since 1970-01-01T00:00:00Z |
//! | `parent_event_id`, `trace_id`, `span_id`, `subject_id`, `writer_id` | as in the event |
//! | `status` | how a model call, tool call or session ended |
//! | `provider`, `requested_model`, `model_version` | of a model |
//! | `model` | that answered, or that was asked where nothing is known of the answer |
//! | `tool_name` | of a tool |
//! | `call_id` | of a tool call, or of the call that a review proposes |
//! | `approval_event_id` | the `review.decided` that a tool call relies on |
//! | `review_id`, `reviewer_id`, `decision` | of a review |
//! | `presented_event_id`, `decided_after_us` | what a decision rests on, and how long it took |
//! | `parent_session_id`, `spawned_by` | of a session that another one spawned |
//!
//! A column is absent where the event does not have it. The tenant is no column here: every store
//! has its own way to keep tenants apart.

mod read;
mod stored;

use read::{Envelope, ExternalId, Part, Payload, Text};
pub use stored::{Stored, StoredRow, check_columns};

use crate::{hash::Hash, timestamp::Timestamp};

/// The names of the columns, in the order of [`Columns::values`].
pub const COLUMNS: [&str; 29] = [
    "chain_id",
    "sequence",
    "event_hash",
    "event_id",
    "event_type",
    "session_id",
    "agent_id",
    "timestamp_utc",
    "occurred_at",
    "parent_event_id",
    "trace_id",
    "span_id",
    "subject_id",
    "writer_id",
    "status",
    "provider",
    "model",
    "requested_model",
    "model_version",
    "tool_name",
    "call_id",
    "approval_event_id",
    "review_id",
    "reviewer_id",
    "decision",
    "presented_event_id",
    "decided_after_us",
    "parent_session_id",
    "spawned_by",
];

const EVENT_HASH: usize = 2;

/// A value on its way into a column.
///
/// ```
/// use agent_audit_core::columns::Value;
/// assert_ne!(Value::Text("7"), Value::Integer(7));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a store must have a column type for each of them")]
pub enum Value<'a> {
    /// The event does not have it.
    Null,
    /// A number, or a point in time in nanoseconds.
    Integer(i64),
    /// Text.
    Text(&'a str),
    /// The 32 bytes of a hash.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The text, where it is one.
    #[must_use]
    pub fn as_text(self) -> Option<&'a str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The number, where it is one.
    #[must_use]
    pub fn as_integer(self) -> Option<i64> {
        if let Self::Integer(number) = self { Some(number) } else { None }
    }
}

/// An event from which columns cannot be extracted.
///
/// ```
/// use agent_audit_core::columns::Columns;
/// let error = Columns::of(b"{}").unwrap_err();
/// assert_eq!(error.to_string(), "the event's envelope cannot be read");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event's {field} cannot be read")]
pub struct UnreadableEvent {
    field: &'static str,
}

/// What is extracted from one event.
///
/// ```
/// use agent_audit_core::{columns::{COLUMNS, Columns, Value}, event::{Event, chain::ChainClosed}, hash};
/// let event = Event::example(ChainClosed::new("shutdown"));
/// let bytes = event.canonical_bytes()?;
/// let columns = Columns::of(&bytes)?;
/// let event_hash = hash::leaf(&bytes);
/// let values = columns.values(&event_hash);
/// let at = COLUMNS.iter().position(|name| *name == "event_type").expect("a column");
/// assert_eq!(values[at], Value::Text("chain.closed"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Columns<'a> {
    envelope: Envelope<'a>,
    timestamp_utc: i64,
    occurred_at: Option<i64>,
    sequence: i64,
    payload: Payload<'a>,
    parts: Vec<Part<'a>>,
    external_ids: Vec<ExternalId<'a>>,
}

impl<'a> Columns<'a> {
    /// Reads the canonical bytes of an event.
    ///
    /// # Errors
    /// [`UnreadableEvent`] names the field that cannot be read.
    pub fn of(event_bytes: &'a [u8]) -> Result<Self, UnreadableEvent> {
        let unreadable = |field| UnreadableEvent { field };
        let mut envelope: Envelope<'a> =
            serde_json::from_slice(event_bytes).map_err(|_| unreadable("envelope"))?;
        let nanos = |text: &str| text.parse::<Timestamp>().map(Timestamp::as_nanos_i64).ok();
        let mut payload = Payload::read(&envelope.event_type, envelope.payload);
        Ok(Self {
            timestamp_utc: nanos(&envelope.timestamp_utc).ok_or(unreadable("timestamp_utc"))?,
            occurred_at: match &envelope.occurred_at {
                Some(text) => Some(nanos(text).ok_or(unreadable("occurred_at"))?),
                None => None,
            },
            sequence: i64::try_from(envelope.sequence).map_err(|_| unreadable("sequence"))?,
            parts: std::mem::take(&mut envelope.content),
            external_ids: std::mem::take(&mut payload.external_ids),
            envelope,
            payload,
        })
    }

    /// The values, in the order of [`COLUMNS`].
    #[must_use]
    pub fn values<'v>(&'v self, event_hash: &'v Hash) -> [Value<'v>; COLUMNS.len()] {
        let Self { envelope, payload, .. } = self;
        let integer = |value: Option<i64>| value.map_or(Value::Null, Value::Integer);
        let reviewer = payload.reviewer.as_ref().map(|reviewer| &reviewer.reviewer_id);
        [
            Value::Text(&envelope.chain_id),
            Value::Integer(self.sequence),
            Value::Bytes(event_hash.as_bytes()),
            Value::Text(&envelope.event_id),
            Value::Text(&envelope.event_type),
            Value::Text(&envelope.session_id),
            Value::Text(&envelope.agent_id),
            Value::Integer(self.timestamp_utc),
            integer(self.occurred_at),
            text(envelope.parent_event_id.as_ref()),
            text(envelope.trace_id.as_ref()),
            text(envelope.span_id.as_ref()),
            text(envelope.subject_id.as_ref()),
            text(envelope.writer_id.as_ref()),
            text(payload.status.as_ref().or(payload.outcome.as_ref())),
            text(payload.provider.as_ref()),
            text(payload.served_model.as_ref().or(payload.requested_model.as_ref())),
            text(payload.requested_model.as_ref()),
            text(payload.model_version.as_ref()),
            text(payload.tool_name.as_ref()),
            text(payload.call_id.as_ref().or(payload.proposed_call_id.as_ref())),
            text(payload.approval_event_id.as_ref()),
            text(payload.review_id.as_ref()),
            text(reviewer),
            // A model's decision is an object, a reviewer's is a word.
            text(payload.decision.as_ref().and_then(|decision| decision.0.as_ref())),
            text(payload.presented_event_id.as_ref()),
            integer(payload.decided_after_us),
            text(payload.parent_session_id.as_ref()),
            text(payload.spawned_by.as_ref()),
        ]
    }

    /// Name and media type of each part of content, in order.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.parts.iter().map(|part| (&*part.name, &*part.media_type))
    }

    /// Key and value of each thing outside that a tool call touched, in order.
    pub fn external_ids(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.external_ids.iter().map(|id| (&*id.key, &*id.value))
    }
}

fn text<'v>(text: Option<&'v Text<'_>>) -> Value<'v> {
    text.map_or(Value::Null, |text| Value::Text(text))
}
