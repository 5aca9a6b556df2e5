//! Answers as JSON.

use agent_audit_core::timestamp::Timestamp;
use agent_audit_query::{Cursor, Found, questions::links::Link};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{failure::Failure, record_json};

/// An event: exactly as it is hashed, its hash, and its content where it was asked for.
pub(super) fn event(found: &Found) -> Result<Box<RawValue>, Failure> {
    let with_content = !found.record().parts().is_empty();
    let text = if with_content {
        record_json::json(found.record())?
    } else {
        let event = str::from_utf8(found.record().event_bytes())?;
        format!(r#"{{"event_hash":"{}","event":{event}}}"#, found.hash())
    };
    Ok(RawValue::from_string(text)?)
}

/// An event, and how it stands to others.
#[derive(Serialize)]
pub(super) struct Linked<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) depth: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) distance: Option<usize>,
    pub(super) causes: &'a [Link],
    #[serde(flatten)]
    pub(super) event: Flat,
}

/// The fields of an event's JSON form.
#[derive(Serialize)]
pub(super) struct Flat {
    event_hash: String,
    event: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Box<RawValue>>,
}

#[derive(serde::Deserialize)]
struct Parts {
    content: Option<Box<RawValue>>,
}

impl Flat {
    pub(super) fn of(found: &Found) -> Result<Self, Failure> {
        let event =
            RawValue::from_string(str::from_utf8(found.record().event_bytes())?.to_owned())?;
        let content = if found.record().parts().is_empty() {
            None
        } else {
            serde_json::from_str::<Parts>(&record_json::json(found.record())?)?.content
        };
        Ok(Self { event_hash: found.hash().to_string(), event, content })
    }
}

/// The places to go on from.
#[derive(Serialize)]
pub(super) struct Places {
    pub(super) next: Option<String>,
    pub(super) previous: Option<String>,
}

impl Places {
    pub(super) fn new(next: Option<&Cursor>, previous: Option<&Cursor>) -> Self {
        Self { next: next.map(Cursor::to_string), previous: previous.map(Cursor::to_string) }
    }
}

/// A time as it is recorded.
pub(super) fn time(nanos: i64) -> String {
    Timestamp::from_nanos(u64::try_from(nanos).unwrap_or_default()).to_string()
}
