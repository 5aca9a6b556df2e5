//! What is extracted from an event to find it by, and whether stored columns agree with it.

use std::borrow::Cow;

use agent_audit_core::{
    hash::{self, Hash},
    timestamp::Timestamp,
};
use rusqlite::{
    ToSql,
    types::{ToSqlOutput, ValueRef},
};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The columns of `events` before `event`, in the order of [`Columns::values`].
pub(crate) const COLUMNS: [&str; 29] = [
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

const SEQUENCE: usize = 1;
const EVENT_HASH: usize = 2;

/// One event's columns as a database holds them, beside the record that they were extracted from.
///
/// ```
/// use agent_audit_core::{event::{Event, chain::ChainClosed}, record::Record, sink::{Batch, ChainRef, Segment, Sink}};
/// use agent_audit_sqlite::{SqliteSink, SqliteStore, check_columns};
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// # let dir = tempfile::tempdir()?;
/// # let sink = SqliteSink::open(dir.path())?;
/// # let event = Event::example(ChainClosed::new("shutdown"));
/// # let chain = ChainRef::new(event.tenant_id.clone(), event.chain_id.clone());
/// # let record = Record::new(event.canonical_bytes()?, Vec::new());
/// # sink.append(&Batch::new(vec![Segment::new(chain.clone(), vec![record])?])).await?;
/// let store = SqliteStore::open_read_only(dir.path())?;
/// let (row, record) = store.records(&chain, 0)?.next().expect("one record")?;
/// assert_eq!(row.sequence(), 0);
/// assert_eq!(row.event_hash(), Some(record.event_hash()));
/// assert_eq!(row.column("event_type").as_deref(), Some("chain.closed"));
/// assert_eq!(check_columns(&row, record.event_bytes()), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    pub(crate) sequence: u64,
    pub(crate) values: Vec<Stored>,
    /// Ordinal, name and media type of each part.
    pub(crate) content: Vec<(i64, String, String)>,
    pub(crate) external_ids: Vec<(String, String)>,
}

impl StoredRow {
    /// The position that the row is stored under.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The event hash that is stored, where it is one. The verifier computes its own.
    #[must_use]
    pub fn event_hash(&self) -> Option<Hash> {
        match &self.values[EVENT_HASH] {
            Stored::Blob(bytes) => bytes.as_slice().try_into().ok().map(Hash::from_bytes),
            _ => None,
        }
    }

    /// A column by its name, as text, where it has a value that can be read as text.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<String> {
        let at = COLUMNS.iter().position(|column| *column == name)?;
        match &self.values[at] {
            Stored::Integer(value) => Some(value.to_string()),
            Stored::Text(text) => Some(text.clone()),
            Stored::Null | Stored::Blob(_) | Stored::Other => None,
        }
    }
}

/// The first column that does not say what the canonical bytes of the event say.
///
/// The names are those of the columns of `events`; `content` and `external_ids` stand for the tables
/// of that name (of content only names and media types are compared here: its bytes are bound by
/// their commitment), and `event` for bytes that nothing can be extracted from.
#[must_use]
pub fn check_columns(row: &StoredRow, event_bytes: &[u8]) -> Option<&'static str> {
    let event_hash = hash::leaf(event_bytes);
    let Ok(expected) = Columns::of(event_bytes) else { return Some("event") };
    let values = expected.values(&event_hash);
    for ((name, expected), stored) in COLUMNS.iter().zip(&values).zip(&row.values) {
        if *stored != *expected {
            return Some(name);
        }
    }
    let parts =
        (0i64..).zip(&expected.parts).map(|(at, part)| (at, &*part.name, &*part.media_type));
    if !parts.eq(row.content.iter().map(|(at, name, media)| (*at, name.as_str(), media.as_str()))) {
        return Some("content");
    }
    let ids = expected.external_ids.iter().map(|id| (&*id.key, &*id.value));
    if !ids.eq(row.external_ids.iter().map(|(key, value)| (key.as_str(), value.as_str()))) {
        return Some("external_ids");
    }
    None
}

/// A value as it is stored, whatever someone has made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
    /// What this schema never writes: a float, or text that is not UTF-8.
    Other,
}

impl From<ValueRef<'_>> for Stored {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(value) => Self::Integer(value),
            ValueRef::Text(bytes) => {
                str::from_utf8(bytes).map_or(Self::Other, |text| Self::Text(text.to_owned()))
            }
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
            ValueRef::Real(_) => Self::Other,
        }
    }
}

/// A value on its way into a column.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Null,
    Integer(i64),
    Text(&'a str),
    Blob(&'a [u8]),
}

impl PartialEq<Value<'_>> for Stored {
    fn eq(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Integer(stored), Value::Integer(value)) => stored == value,
            (Self::Text(stored), Value::Text(value)) => stored == value,
            (Self::Blob(stored), Value::Blob(value)) => stored == value,
            _ => false,
        }
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// What is extracted from one event.
#[derive(Debug)]
pub(crate) struct Columns<'a> {
    envelope: Envelope<'a>,
    timestamp_utc: i64,
    occurred_at: Option<i64>,
    sequence: i64,
    payload: Payload<'a>,
    pub(crate) parts: Vec<Part<'a>>,
    pub(crate) external_ids: Vec<ExternalId<'a>>,
}

impl<'a> Columns<'a> {
    /// Reads the canonical bytes of an event; the error says which field cannot be read.
    pub(crate) fn of(event_bytes: &'a [u8]) -> Result<Self, &'static str> {
        let mut envelope: Envelope<'a> =
            serde_json::from_slice(event_bytes).map_err(|_| "envelope")?;
        let nanos = |text: &str| text.parse::<Timestamp>().map(Timestamp::as_nanos_i64).ok();
        let mut payload = Payload::read(&envelope.event_type, envelope.payload);
        Ok(Self {
            timestamp_utc: nanos(&envelope.timestamp_utc).ok_or("timestamp_utc")?,
            occurred_at: match &envelope.occurred_at {
                Some(Text(text)) => Some(nanos(text).ok_or("occurred_at")?),
                None => None,
            },
            sequence: i64::try_from(envelope.sequence).map_err(|_| "sequence")?,
            parts: std::mem::take(&mut envelope.content),
            external_ids: std::mem::take(&mut payload.external_ids),
            envelope,
            payload,
        })
    }

    /// The values, in the order of [`COLUMNS`].
    pub(crate) fn values<'v>(&'v self, event_hash: &'v Hash) -> [Value<'v>; COLUMNS.len()] {
        let Self { envelope, payload, .. } = self;
        let integer = |value: Option<i64>| value.map_or(Value::Null, Value::Integer);
        let reviewer = payload.reviewer.as_ref().map(|reviewer| &reviewer.reviewer_id);
        [
            Value::Text(&envelope.chain_id),
            Value::Integer(self.sequence),
            Value::Blob(event_hash.as_bytes()),
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
}

fn text<'v>(text: Option<&'v Text<'_>>) -> Value<'v> {
    text.map_or(Value::Null, |text| Value::Text(&text.0))
}

/// Text that is borrowed where it holds no escape, also inside of an `Option`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    chain_id: Text<'a>,
    sequence: u64,
    #[serde(borrow)]
    event_id: Text<'a>,
    #[serde(borrow)]
    event_type: Text<'a>,
    #[serde(borrow)]
    session_id: Text<'a>,
    #[serde(borrow)]
    agent_id: Text<'a>,
    #[serde(borrow)]
    timestamp_utc: Text<'a>,
    #[serde(borrow)]
    occurred_at: Option<Text<'a>>,
    #[serde(borrow)]
    parent_event_id: Option<Text<'a>>,
    #[serde(borrow)]
    trace_id: Option<Text<'a>>,
    #[serde(borrow)]
    span_id: Option<Text<'a>>,
    #[serde(borrow)]
    subject_id: Option<Text<'a>>,
    #[serde(borrow)]
    writer_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    content: Vec<Part<'a>>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// What an event says of one part.
#[derive(Debug, Deserialize)]
pub(crate) struct Part<'a> {
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(borrow)]
    pub(crate) media_type: Text<'a>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ExternalId<'a> {
    #[serde(borrow)]
    pub(crate) key: Text<'a>,
    #[serde(borrow)]
    pub(crate) value: Text<'a>,
}

/// The fields that any payload of the taxonomy shares with a column.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Payload<'a> {
    #[serde(borrow)]
    status: Option<Text<'a>>,
    #[serde(borrow)]
    outcome: Option<Text<'a>>,
    #[serde(borrow)]
    provider: Option<Text<'a>>,
    #[serde(borrow)]
    served_model: Option<Text<'a>>,
    #[serde(borrow)]
    requested_model: Option<Text<'a>>,
    #[serde(borrow)]
    model_version: Option<Text<'a>>,
    #[serde(borrow)]
    tool_name: Option<Text<'a>>,
    #[serde(borrow)]
    call_id: Option<Text<'a>>,
    #[serde(borrow)]
    proposed_call_id: Option<Text<'a>>,
    #[serde(borrow)]
    approval_event_id: Option<Text<'a>>,
    #[serde(borrow)]
    review_id: Option<Text<'a>>,
    #[serde(borrow)]
    reviewer: Option<Reviewer<'a>>,
    #[serde(borrow)]
    decision: Option<Word<'a>>,
    #[serde(borrow)]
    presented_event_id: Option<Text<'a>>,
    decided_after_us: Option<i64>,
    #[serde(borrow)]
    parent_session_id: Option<Text<'a>>,
    #[serde(borrow)]
    spawned_by: Option<Text<'a>>,
    #[serde(borrow)]
    external_ids: Vec<ExternalId<'a>>,
}

#[derive(Debug, Deserialize)]
struct Reviewer<'a> {
    #[serde(borrow)]
    reviewer_id: Text<'a>,
}

impl<'a> Payload<'a> {
    /// A user's own types, and a later schema's that have other shapes, have no columns: the same
    /// bytes give the same columns for ever.
    fn read(event_type: &str, payload: &'a RawValue) -> Self {
        let family = event_type.split_once('.').map_or("", |(family, _)| family);
        if !matches!(family, "session" | "model" | "tool" | "review") {
            return Self::default();
        }
        serde_json::from_str(payload.get()).unwrap_or_default()
    }
}

/// Text, or nothing where it is of another shape.
#[derive(Debug)]
struct Word<'a>(Option<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'a RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(raw.get()).ok()))
    }
}

impl StoredRow {
    /// The columns of a row that starts with [`COLUMNS`].
    pub(crate) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let values = (0..COLUMNS.len())
            .map(|at| row.get_ref(at).map(Stored::from))
            .collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(Self {
            sequence: row.get(SEQUENCE)?,
            values,
            content: Vec::new(),
            external_ids: Vec::new(),
        })
    }
}
