//! How an event becomes the value of a message, and back.

use std::{error::Error, fmt};

use agent_audit_core::{canonical::EventView, hash::Hash, record::Record};
use serde::Deserialize;

use crate::wire;

/// How events are written into messages. A reader tells the two apart by themselves.
///
/// ```
/// use agent_audit_core::{event::{Event, chain::ChainClosed}, record::Record};
/// use agent_audit_kafka::{Encoding, decode};
/// let event = Event::example(ChainClosed::new("shutdown"));
/// let record = Record::new(event.canonical_bytes()?, Vec::new());
/// for encoding in [Encoding::Json, Encoding::Protobuf] {
///     assert_eq!(decode(&encoding.encode(&record)?)?, record);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Encoding {
    /// One JSON object, in which the canonical bytes of the event stand verbatim.
    #[default]
    Json,
    /// The message `Record` of `docs/schema/agent-audit-1.0.proto`.
    Protobuf,
}

impl Encoding {
    /// The value of a message with this record.
    ///
    /// # Errors
    /// [`MalformedMessage`] where the record holds what no writer writes.
    pub fn encode(self, record: &Record) -> Result<Vec<u8>, MalformedMessage> {
        let view = record.view().map_err(|_| MalformedMessage("its event is not canonical"))?;
        self.encode_known(record, &view, &record.event_hash())
    }

    /// The same where it is known what the event says, and its hash.
    pub(crate) fn encode_known(
        self,
        record: &Record,
        view: &EventView<'_>,
        hash: &Hash,
    ) -> Result<Vec<u8>, MalformedMessage> {
        match self {
            Self::Json => Ok(record.to_json_line_with(hash)),
            Self::Protobuf => wire::encode(record, view, hash).map_err(MalformedMessage),
        }
    }

    /// The name of the encoding, as in the header `audit-encoding`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Protobuf => "protobuf",
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The record in the value of a message, in either encoding. The hash that stands beside the event,
/// and with Protobuf all else that does, is compared with the event.
///
/// # Errors
/// [`MalformedMessage`] where there is none. It shows nothing of the value.
///
/// ```
/// let error = agent_audit_kafka::decode(b"{}").unwrap_err();
/// assert!(error.to_string().starts_with("not a record: "));
/// ```
pub fn decode(value: &[u8]) -> Result<Record, MalformedMessage> {
    // A Protobuf record begins with the key of its first field, which is no `{`.
    let record = if value.first() == Some(&b'{') {
        Record::from_json_line(value)
            .map_err(|_| MalformedMessage("it is not a line of JSON with an event and its hash"))?
    } else {
        wire::decode(value).map_err(MalformedMessage)?
    };
    Ok(record)
}

/// The value of a message that is not a record.
///
/// ```
/// let error = agent_audit_kafka::decode(b"\x0a").unwrap_err();
/// assert_eq!(error.to_string(), "not a record: it is not a Protobuf record");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedMessage(&'static str);

impl MalformedMessage {
    pub(crate) fn reason(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for MalformedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a record: {}", self.0)
    }
}

impl Error for MalformedMessage {}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::conformance::TestChain;

    use super::*;

    #[test]
    fn every_cut_is_refused() {
        let record = TestChain::new().extend(3).records()[2].clone();
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let value = encoding.encode(&record).unwrap();
            assert_eq!(decode(&value).unwrap(), record, "{encoding}");
            for len in 0..value.len() {
                assert!(decode(&value[..len]).is_err(), "{encoding} cut at {len}");
            }
        }
    }
}
