//! One event as JSON, with its content.

use std::collections::BTreeMap;

use agent_audit_core::{
    content::{AbsentReason, PartBody},
    record::Record,
    timestamp::Timestamp,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::failure::Failure;

/// The event exactly as it is hashed, its hash, and its content by name.
#[derive(Serialize)]
struct Exported<'a> {
    event_hash: String,
    event: &'a RawValue,
    content: BTreeMap<&'a str, Content<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Content<'a> {
    Clear {
        /// Whether the content matches its commitment.
        authentic: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
    },
    Sealed {
        key_id: &'a str,
    },
    Erased {
        #[serde(skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
    },
    Purged {
        #[serde(skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
    },
    /// The record does not hold what its event names.
    Missing,
}

/// The record as one line of JSON.
pub(crate) fn json(record: &Record) -> Result<String, Failure> {
    let event = record.event()?;
    let text = std::str::from_utf8(record.event_bytes())?;
    let mut content = BTreeMap::new();
    for (at, reference) in event.content.iter().enumerate() {
        let body = match record.parts().get(at) {
            Some(body @ PartBody::Clear { bytes, .. }) => {
                let text = std::str::from_utf8(bytes).ok();
                let base64 = text.is_none().then(|| STANDARD.encode(bytes));
                Content::Clear { authentic: body.check(reference).is_ok(), text, base64 }
            }
            Some(PartBody::Sealed(sealed)) => Content::Sealed { key_id: &sealed.key_id },
            Some(PartBody::Absent { reason: AbsentReason::Erased, at, .. }) => {
                Content::Erased { at: *at }
            }
            Some(PartBody::Absent { at, .. }) => Content::Purged { at: *at },
            _ => Content::Missing,
        };
        content.insert(reference.name.as_str(), body);
    }
    let exported = Exported {
        event_hash: record.event_hash().to_string(),
        event: serde_json::from_str(text)?,
        content,
    };
    Ok(serde_json::to_string(&exported)?)
}
