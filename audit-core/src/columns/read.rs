//! The fields of an event that become columns, borrowed from its bytes.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Text that is borrowed where it holds no escape, also inside of an `Option`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(borrow)]
    pub(super) chain_id: Text<'a>,
    pub(super) sequence: u64,
    #[serde(borrow)]
    pub(super) event_id: Text<'a>,
    #[serde(borrow)]
    pub(super) event_type: Text<'a>,
    #[serde(borrow)]
    pub(super) session_id: Text<'a>,
    #[serde(borrow)]
    pub(super) agent_id: Text<'a>,
    #[serde(borrow)]
    pub(super) timestamp_utc: Text<'a>,
    #[serde(borrow)]
    pub(super) occurred_at: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) parent_event_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) trace_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) span_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) subject_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) writer_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) content: Vec<Part<'a>>,
    #[serde(borrow)]
    pub(super) payload: &'a RawValue,
}

/// What an event says of one part.
#[derive(Debug, Deserialize)]
pub(super) struct Part<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) media_type: Text<'a>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ExternalId<'a> {
    #[serde(borrow)]
    pub(super) key: Text<'a>,
    #[serde(borrow)]
    pub(super) value: Text<'a>,
}

/// The fields that any payload of the taxonomy shares with a column.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Payload<'a> {
    #[serde(borrow)]
    pub(super) status: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) outcome: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) provider: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) served_model: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) requested_model: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) model_version: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) tool_name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) call_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) proposed_call_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) approval_event_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) review_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) reviewer: Option<Reviewer<'a>>,
    #[serde(borrow)]
    pub(super) decision: Option<Word<'a>>,
    #[serde(borrow)]
    pub(super) presented_event_id: Option<Text<'a>>,
    pub(super) decided_after_us: Option<i64>,
    #[serde(borrow)]
    pub(super) parent_session_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) spawned_by: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) external_ids: Vec<ExternalId<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Reviewer<'a> {
    #[serde(borrow)]
    pub(super) reviewer_id: Text<'a>,
}

impl<'a> Payload<'a> {
    /// A user's own types, and a later schema's that have other shapes, have no columns: the same
    /// bytes give the same columns for ever.
    pub(super) fn read(event_type: &str, payload: &'a RawValue) -> Self {
        let family = event_type.split_once('.').map_or("", |(family, _)| family);
        if !matches!(family, "session" | "model" | "tool" | "review") {
            return Self::default();
        }
        serde_json::from_str(payload.get()).unwrap_or_default()
    }
}

/// Text, or nothing where it is of another shape.
#[derive(Debug)]
pub(super) struct Word<'a>(pub(super) Option<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'a RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(raw.get()).ok()))
    }
}
