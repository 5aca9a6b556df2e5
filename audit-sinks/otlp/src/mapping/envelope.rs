//! An event as it is read for a log record: borrowed from its bytes.

use std::{borrow::Cow, fmt};

use agent_audit_core::{event::Event, timestamp::Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Text that is borrowed where it holds no escape, also inside of an `Option`.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(borrow)]
    pub(super) agent_id: Text<'a>,
    #[serde(borrow)]
    pub(super) chain_id: Text<'a>,
    #[serde(borrow, default)]
    pub(super) content: Vec<Part<'a>>,
    #[serde(borrow)]
    pub(super) event_id: Text<'a>,
    #[serde(borrow)]
    pub(super) event_type: Text<'a>,
    pub(super) occurred_at: Option<Timestamp>,
    #[serde(borrow)]
    pub(super) parent_event_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) payload: &'a RawValue,
    #[serde(borrow)]
    pub(super) previous_event_hash: Text<'a>,
    #[serde(borrow)]
    pub(super) schema_version: Text<'a>,
    pub(super) sequence: u64,
    #[serde(borrow)]
    pub(super) session_id: Text<'a>,
    #[serde(borrow)]
    pub(super) span_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) subject_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) tenant_id: Text<'a>,
    pub(super) timestamp_utc: Timestamp,
    #[serde(borrow)]
    pub(super) trace_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) writer_id: Option<Text<'a>>,
}

/// What an event says of one part.
#[derive(Deserialize)]
pub(super) struct Part<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) media_type: Text<'a>,
    pub(super) bytes: u64,
    #[serde(borrow)]
    pub(super) commitment: Text<'a>,
}

/// An event that cannot be read by this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// The bytes of an event in the shape of the current schema: its own, or those of an older one
/// translated.
pub(super) fn current(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Unreadable> {
    #[derive(Deserialize)]
    struct Version<'a> {
        #[serde(borrow)]
        schema_version: Text<'a>,
    }
    let version: Version<'_> = serde_json::from_slice(bytes).map_err(|_| Unreadable)?;
    if version.schema_version.as_ref().starts_with("1.") {
        return Ok(Cow::Borrowed(bytes));
    }
    let event = Event::from_slice(bytes).map_err(|_| Unreadable)?;
    event.canonical_bytes().map(Cow::Owned).map_err(|_| Unreadable)
}

impl<'a> Envelope<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        serde_json::from_slice(bytes).map_err(|_| Unreadable)
    }

    /// The payload as the struct of its type.
    pub(super) fn payload<T: Deserialize<'a>>(&self) -> Result<T, Unreadable> {
        serde_json::from_str(self.payload.get()).map_err(|_| Unreadable)
    }
}
