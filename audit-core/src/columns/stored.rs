//! Columns as a store holds them, and whether they agree with the bytes.

use super::{COLUMNS, Columns, EVENT_HASH, Value};
use crate::hash::{self, Hash};

/// A value as it is stored, whatever someone has made of it.
///
/// ```
/// use agent_audit_core::columns::{Stored, Value};
/// assert_eq!(Stored::Text("acme".to_owned()), Value::Text("acme"));
/// assert_ne!(Stored::Other, Value::Null);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the counterpart of `Value`")]
pub enum Stored {
    /// Nothing.
    Null,
    /// A number.
    Integer(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// What this schema never writes: a float, or text that is not UTF-8.
    Other,
}

impl PartialEq<Value<'_>> for Stored {
    fn eq(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Integer(stored), Value::Integer(value)) => stored == value,
            (Self::Text(stored), Value::Text(value)) => stored == value,
            (Self::Bytes(stored), Value::Bytes(value)) => stored == value,
            _ => false,
        }
    }
}

/// One event's columns as a store holds them, beside the record that they were extracted from.
///
/// ```
/// use agent_audit_core::{columns::{COLUMNS, Stored, StoredRow, check_columns}, event::{Event, chain::ChainClosed}};
/// let event = Event::example(ChainClosed::new("shutdown"));
/// let row = StoredRow::new(0, vec![Stored::Null; COLUMNS.len()]);
/// assert_eq!(row.column("event_type"), None);
/// assert_eq!(check_columns(&row, &event.canonical_bytes()?), Some("chain_id"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    sequence: u64,
    values: Vec<Stored>,
    content: Vec<(i64, String, String)>,
    external_ids: Vec<(String, String)>,
}

impl StoredRow {
    /// A row that is stored under a position, with its values in the order of [`COLUMNS`].
    #[must_use]
    pub fn new(sequence: u64, values: Vec<Stored>) -> Self {
        Self { sequence, values, content: Vec::new(), external_ids: Vec::new() }
    }

    /// Adds a part of content by its ordinal, name and media type, in the order of ordinals.
    pub fn push_part(&mut self, ordinal: i64, name: String, media_type: String) {
        self.content.push((ordinal, name, media_type));
    }

    /// Adds a thing outside that the call touched, in order.
    pub fn push_external_id(&mut self, key: String, value: String) {
        self.external_ids.push((key, value));
    }

    /// The position that the row is stored under.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The event hash that is stored, where it is one. The verifier computes its own.
    #[must_use]
    pub fn event_hash(&self) -> Option<Hash> {
        match self.values.get(EVENT_HASH)? {
            Stored::Bytes(bytes) => bytes.as_slice().try_into().ok().map(Hash::from_bytes),
            _ => None,
        }
    }

    /// A column by its name, as text, where it has a value that can be read as text.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<String> {
        let at = COLUMNS.iter().position(|column| *column == name)?;
        match self.values.get(at)? {
            Stored::Integer(value) => Some(value.to_string()),
            Stored::Text(text) => Some(text.clone()),
            Stored::Null | Stored::Bytes(_) | Stored::Other => None,
        }
    }
}

/// The first column that does not say what the canonical bytes of the event say.
///
/// The names are those of [`COLUMNS`]; `content` and `external_ids` stand for what the store keeps of
/// these (of content only names and media types are compared here: its bytes are bound by their
/// commitment), and `event` for bytes that nothing can be extracted from.
///
/// ```
/// use agent_audit_core::columns::{COLUMNS, Stored, StoredRow, check_columns};
/// let row = StoredRow::new(0, vec![Stored::Null; COLUMNS.len()]);
/// assert_eq!(check_columns(&row, b"no event"), Some("event"));
/// ```
#[must_use]
pub fn check_columns(row: &StoredRow, event_bytes: &[u8]) -> Option<&'static str> {
    let event_hash = hash::leaf(event_bytes);
    let Ok(expected) = Columns::of(event_bytes) else { return Some("event") };
    let values = expected.values(&event_hash);
    let stored = row.values.iter().chain(std::iter::repeat(&Stored::Other));
    for ((name, expected), stored) in COLUMNS.iter().zip(&values).zip(stored) {
        if *stored != *expected {
            return Some(name);
        }
    }
    let parts = (0i64..).zip(expected.parts()).map(|(at, (name, media))| (at, name, media));
    if !parts.eq(row.content.iter().map(|(at, name, media)| (*at, name.as_str(), media.as_str()))) {
        return Some("content");
    }
    let stored = row.external_ids.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    if !expected.external_ids().eq(stored) {
        return Some("external_ids");
    }
    None
}
