//! A record as one line of JSON, for archives and queues that people and other programs read.
//!
//! ```text
//! {"event_hash":"<hex>","event":<canonical bytes>,"content":[<body>, …]}
//! body = {"state":"clear","salt":"<base64>","text":"…"}            content that is UTF-8
//!      | {"state":"clear","salt":"<base64>","base64":"…"}          content of other bytes
//!      | {"state":"sealed","key_id":"…","algorithm":1,"nonce":"<base64>","base64":"…"}
//!      | {"state":"absent","reason":"erased" or "purged","at":"<time>","evidence":"<event id>"}
//! ```
//!
//! The canonical bytes stand in it verbatim, so that they are hashed as they are found. `content` has
//! one body for each part that the event names, in the same order; `at` and `evidence` are left out
//! where they are not known. Base64 is that of RFC 4648 section 4, with padding.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{MalformedRecord, Record};
use crate::{
    canonical::write_string,
    content::{AbsentReason, PartBody, Salt, Sealed},
    hash::Hash,
    id::EventId,
    timestamp::Timestamp,
};

#[derive(Deserialize)]
struct Line<'a> {
    event_hash: Hash,
    #[serde(borrow)]
    event: &'a RawValue,
    content: Vec<Body>,
}

#[derive(Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
enum Body {
    Clear {
        salt: String,
        #[serde(default)]
        text: Option<String>,
        #[serde(default)]
        base64: Option<String>,
    },
    Sealed {
        key_id: String,
        algorithm: u8,
        nonce: String,
        base64: String,
    },
    Absent {
        reason: Reason,
        #[serde(default)]
        at: Option<Timestamp>,
        #[serde(default)]
        evidence: Option<EventId>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reason {
    Erased,
    Purged,
}

impl Record {
    /// The record as one line of JSON, without the line feed. See [`docs/SPEC.md`] for its form.
    ///
    /// [`docs/SPEC.md`]: https://github.com/agent-audit/agent-audit/blob/main/docs/SPEC.md
    ///
    /// # Errors
    /// [`MalformedRecord`] where the event bytes are not JSON: no writer writes such a record.
    ///
    /// ```
    /// use agent_audit_core::{content::Part, event::{Event, chain::ChainClosed}, record::Record};
    /// let (reference, body) = Part::text("note", "hello").commit();
    /// let event = Event::example(ChainClosed::new("shutdown")).with_content(reference);
    /// let record = Record::new(event.canonical_bytes()?, vec![body]);
    /// let line = record.to_json_line()?;
    /// assert!(line.contains(r#""text":"hello""#));
    /// assert_eq!(Record::from_json_line(line.as_bytes())?, record);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_json_line(&self) -> Result<String, MalformedRecord> {
        let text = std::str::from_utf8(&self.event_bytes)
            .map_err(|_| MalformedRecord("its event is not UTF-8".into()))?;
        let event: &RawValue = serde_json::from_str(text)
            .map_err(|_| MalformedRecord("its event is not JSON".into()))?;
        if event.get().len() != text.len() || text.contains('\n') {
            return Err(MalformedRecord("its event is not canonical".into()));
        }
        let line = self.to_json_line_with(&self.event_hash());
        Ok(String::from_utf8(line).expect("the line is put together from text"))
    }

    /// The same line where the event hash is known, without hashing and parsing the event again.
    ///
    /// The event bytes MUST be canonical and have that hash, as those of a
    /// [segment](crate::sink::Segment) are and have: they are copied as they are.
    ///
    /// ```
    /// use agent_audit_core::{event::{Event, chain::ChainClosed}, record::Record};
    /// let event = Event::example(ChainClosed::new("shutdown"));
    /// let record = Record::new(event.canonical_bytes()?, Vec::new());
    /// let line = record.to_json_line_with(&record.event_hash());
    /// assert_eq!(line, record.to_json_line()?.into_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn to_json_line_with(&self, event_hash: &Hash) -> Vec<u8> {
        let content: usize = self.parts.iter().map(room).sum();
        let mut out = Vec::with_capacity(self.event_bytes.len() + content + 110);
        let mut hex = [0; 64];
        event_hash.write_hex(&mut hex);
        out.extend_from_slice(br#"{"event_hash":""#);
        out.extend_from_slice(&hex);
        out.extend_from_slice(br#"","event":"#);
        out.extend_from_slice(&self.event_bytes);
        out.extend_from_slice(br#","content":["#);
        for (at, part) in self.parts.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_body(&mut out, part);
        }
        out.extend_from_slice(b"]}");
        out
    }

    /// Reads the form of [`to_json_line`](Self::to_json_line), with or without a line feed.
    ///
    /// # Errors
    /// [`MalformedRecord`] where it is not one record, or the event does not have the hash that
    /// stands beside it. The message shows nothing of the line.
    pub fn from_json_line(line: &[u8]) -> Result<Self, MalformedRecord> {
        // Only the place: the parser's own message can quote a value.
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| {
            MalformedRecord(format!("the line is none at column {}", error.column()).into())
        })?;
        let parts = line.content.into_iter().map(Body::into_part).collect::<Result<_, _>>()?;
        let record = Self::new(line.event.get().as_bytes().to_vec(), parts);
        if record.event_hash() == line.event_hash {
            Ok(record)
        } else {
            Err(MalformedRecord("its event does not have the hash beside it".into()))
        }
    }
}

/// About how many bytes a body takes.
fn room(part: &PartBody) -> usize {
    match part {
        PartBody::Clear { bytes, .. } => 100 + bytes.len() * 4 / 3,
        PartBody::Sealed(sealed) => 150 + sealed.ciphertext.len() * 4 / 3,
        PartBody::Absent { .. } => 120,
    }
}

fn write_body(out: &mut Vec<u8>, part: &PartBody) {
    match part {
        PartBody::Clear { salt, bytes } => {
            out.extend_from_slice(br#"{"state":"clear","salt":"#);
            write_base64(out, salt.as_bytes());
            if let Ok(text) = std::str::from_utf8(bytes) {
                out.extend_from_slice(br#","text":"#);
                write_string(out, text);
            } else {
                out.extend_from_slice(br#","base64":"#);
                write_base64(out, bytes);
            }
        }
        PartBody::Sealed(sealed) => {
            out.extend_from_slice(br#"{"state":"sealed","key_id":"#);
            write_string(out, &sealed.key_id);
            out.extend_from_slice(
                format!(r#","algorithm":{},"nonce":"#, sealed.algorithm).as_bytes(),
            );
            write_base64(out, &sealed.nonce);
            out.extend_from_slice(br#","base64":"#);
            write_base64(out, &sealed.ciphertext);
        }
        PartBody::Absent { reason, at, evidence } => {
            out.extend_from_slice(br#"{"state":"absent","reason":"#);
            out.extend_from_slice(match reason {
                AbsentReason::Erased => br#""erased""#,
                AbsentReason::Purged => br#""purged""#,
            });
            if let Some(at) = at {
                out.extend_from_slice(br#","at":"#);
                write_string(out, &at.to_string());
            }
            if let Some(evidence) = evidence {
                out.extend_from_slice(br#","evidence":"#);
                write_string(out, &evidence.to_string());
            }
        }
    }
    out.push(b'}');
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let from = out.len() + 1;
    let len = base64::encoded_len(bytes.len(), true).expect("bytes in memory have a length");
    out.push(b'"');
    out.resize(from + len, 0);
    STANDARD.encode_slice(bytes, &mut out[from..]).expect("there is room for what was counted");
    out.push(b'"');
}

impl Body {
    fn into_part(self) -> Result<PartBody, MalformedRecord> {
        Ok(match self {
            Self::Clear { salt, text, base64 } => {
                let salt: [u8; 32] = decode("salt", &salt)?
                    .try_into()
                    .map_err(|_| MalformedRecord("a salt is not 32 bytes".into()))?;
                let bytes = match (text, base64) {
                    (Some(text), None) => text.into_bytes(),
                    (None, Some(base64)) => decode("content", &base64)?,
                    _ => return Err(MalformedRecord("content is not in one form".into())),
                };
                PartBody::Clear { salt: Salt::from_bytes(salt), bytes }
            }
            Self::Sealed { key_id, algorithm, nonce, base64 } => PartBody::Sealed(Sealed::new(
                key_id,
                algorithm,
                decode("nonce", &nonce)?,
                decode("ciphertext", &base64)?,
            )),
            Self::Absent { reason, at, evidence } => PartBody::Absent {
                reason: match reason {
                    Reason::Erased => AbsentReason::Erased,
                    Reason::Purged => AbsentReason::Purged,
                },
                at,
                evidence,
            },
        })
    }
}

fn decode(what: &str, base64: &str) -> Result<Vec<u8>, MalformedRecord> {
    STANDARD.decode(base64).map_err(|_| MalformedRecord(format!("a {what} is not base64").into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Event, chain::ChainClosed};

    fn body() -> impl Strategy<Value = PartBody> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..60);
        let clear = |bytes| PartBody::Clear { salt: Salt::random(), bytes };
        prop_oneof![
            bytes().prop_map(clear),
            any::<String>().prop_map(move |text| clear(text.into_bytes())),
            (any::<String>(), any::<u8>(), bytes(), bytes())
                .prop_map(|(key, how, nonce, text)| Sealed::new(key, how, nonce, text))
                .prop_map(PartBody::Sealed),
            (any::<bool>(), prop::option::of(1..1u64 << 60), any::<bool>()).prop_map(
                |(erased, at, evidence)| PartBody::Absent {
                    reason: if erased { AbsentReason::Erased } else { AbsentReason::Purged },
                    at: at.map(Timestamp::from_nanos),
                    evidence: evidence.then(EventId::new),
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn every_record_survives_as_a_line(parts in prop::collection::vec(body(), 0..4)) {
            let event = Event::example(ChainClosed::new("a \"quoted\" \u{2028} reason"));
            let record = Record::new(event.canonical_bytes().unwrap(), parts);
            let line = record.to_json_line().unwrap();
            prop_assert!(!line.contains('\n'));
            prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
            prop_assert_eq!(Record::from_json_line(line.as_bytes()).unwrap(), record);
        }

        #[test]
        fn hostile_lines_never_panic(line in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = Record::from_json_line(&line);
        }
    }

    #[test]
    fn a_changed_event_is_refused_and_not_shown() {
        let event = Event::example(ChainClosed::new("shutdown"));
        let record = Record::new(event.canonical_bytes().unwrap(), Vec::new());
        let line = record.to_json_line().unwrap();
        let error = Record::from_json_line(line.replace("shutdown", "shutdowm").as_bytes());
        assert!(error.unwrap_err().to_string().ends_with("does not have the hash beside it"));
        let error = Record::from_json_line(line.replace("[]", "7").as_bytes()).unwrap_err();
        assert!(!error.to_string().contains('7') || error.to_string().contains("column"));
        let broken = Record::new(b"{\"a\":1}\n".to_vec(), Vec::new());
        assert!(broken.to_json_line().is_err());
    }
}
