//! Reading older schemas: each step turns the fields of one version into those of the next.
//!
//! Hashes are over stored bytes and never over upcast fields: an upcast event is for reading.

use super::{InvalidEvent, Object, Value};

/// Brings the fields of an event to the schema of this version.
pub(super) fn to_current(fields: Object) -> Result<Object, InvalidEvent> {
    let version = fields.get("schema_version").and_then(Value::as_text).unwrap_or_default();
    if version.starts_with("1.") {
        Ok(fields)
    } else {
        Err(InvalidEvent::SchemaVersion(version.chars().take(64).collect()))
    }
}
