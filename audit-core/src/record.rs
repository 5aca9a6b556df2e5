//! The stored form of an event: its canonical bytes and the bodies of its content, in binary.
//!
//! ```text
//! record  = version:u8 (1) ‖ event_len:u32 ‖ event bytes ‖ parts:u16 ‖ part*      integers little-endian
//! part    = 0 ‖ salt[32] ‖ len:u64 ‖ bytes                                         clear
//!         | 1 ‖ key_id_len:u16 ‖ key_id ‖ algorithm:u8 ‖ nonce_len:u8 ‖ nonce ‖ len:u64 ‖ ciphertext   sealed
//!         | 2 ‖ reason:u8 (1 erased, 2 purged) ‖ at:u64 (0 unknown) ‖ evidence[16] (zeros unknown)     absent
//! ```
//!
//! Body *i* belongs to part *i* of the event's `content`. Only the event bytes are under the event
//! hash; each body is bound to the event by its commitment.

mod line;

use std::borrow::Cow;

use crate::{
    canonical::{self, NotCanonical},
    content::{AbsentReason, PartBody, Salt, Sealed},
    event::{Event, InvalidEvent},
    hash::{self, Hash},
    id::EventId,
    timestamp::Timestamp,
};

/// An event as every store keeps it.
///
/// ```
/// use agent_audit_core::{event::{Event, chain::ChainClosed}, record::Record};
/// let event = Event::example(ChainClosed::new("shutdown"));
/// let record = Record::new(event.canonical_bytes()?, Vec::new());
/// let stored = record.to_bytes();
/// assert_eq!(Record::from_bytes(&stored)?, record);
/// assert_eq!(record.event()?, event);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    event_bytes: Vec<u8>,
    parts: Vec<PartBody>,
}

impl Record {
    /// Joins canonical event bytes and the bodies of the event's content, in the same order.
    #[must_use]
    pub fn new(event_bytes: Vec<u8>, parts: Vec<PartBody>) -> Self {
        Self { event_bytes, parts }
    }

    /// The canonical bytes of the event: what is hashed.
    #[must_use]
    pub fn event_bytes(&self) -> &[u8] {
        &self.event_bytes
    }

    /// The bodies of the event's content.
    #[must_use]
    pub fn parts(&self) -> &[PartBody] {
        &self.parts
    }

    /// The event hash: SHA-256(0x00 ‖ event bytes).
    #[must_use]
    pub fn event_hash(&self) -> Hash {
        hash::leaf(&self.event_bytes)
    }

    /// The event itself.
    ///
    /// # Errors
    /// [`InvalidEvent`] where the bytes are not an event of a schema that this version reads.
    pub fn event(&self) -> Result<Event, InvalidEvent> {
        Event::from_slice(&self.event_bytes)
    }

    /// The plaintext of a part by its name, where the record holds it in the clear.
    ///
    /// ```
    /// use agent_audit_core::{content::Part, event::{Event, chain::ChainClosed}, record::Record};
    /// let (reference, body) = Part::text("note", "hello").commit();
    /// let event = Event::example(ChainClosed::new("shutdown")).with_content(reference);
    /// let record = Record::new(event.canonical_bytes()?, vec![body]);
    /// assert_eq!(record.content("note"), Some(&b"hello"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn content(&self, name: &str) -> Option<&[u8]> {
        let view = canonical::scan(&self.event_bytes).ok()?;
        let at = view.content().position(|part| part.name == name)?;
        self.parts.get(at)?.bytes()
    }

    /// Whether the record has a binary form: every record that a writer made has one, and a store
    /// that somebody else wrote to can hold another.
    ///
    /// ```
    /// use agent_audit_core::{content::{PartBody, Sealed}, record::Record};
    /// let key = "k".repeat(70_000);
    /// let sealed = PartBody::Sealed(Sealed::new(key, 1, Vec::new(), Vec::new()));
    /// assert!(!Record::new(b"{}".to_vec(), vec![sealed]).has_binary_form());
    /// ```
    #[must_use]
    pub fn has_binary_form(&self) -> bool {
        let body_fits = |body: &PartBody| match body {
            PartBody::Sealed(sealed) => {
                u16::try_from(sealed.key_id.len()).is_ok()
                    && u8::try_from(sealed.nonce.len()).is_ok()
            }
            PartBody::Clear { .. } | PartBody::Absent { .. } => true,
        };
        u32::try_from(self.event_bytes.len()).is_ok()
            && u16::try_from(self.parts.len()).is_ok()
            && self.parts.iter().all(body_fits)
    }

    /// The binary form.
    ///
    /// # Panics
    /// Where there is [none](Self::has_binary_form).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.event_bytes.len() + 64);
        write_event(&mut out, &self.event_bytes);
        write_parts(&mut out, &self.parts);
        out
    }

    /// Reads the binary form.
    ///
    /// # Errors
    /// [`MalformedRecord`] where the bytes are not exactly one record.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedRecord> {
        let view = RecordView::parse(bytes)?;
        Ok(Self { event_bytes: view.event_bytes.to_vec(), parts: view.parts()? })
    }

    /// What the canonical event bytes say, without building an [`Event`].
    ///
    /// # Errors
    /// [`NotCanonical`] where they are not canonical.
    pub fn view(&self) -> Result<canonical::EventView<'_>, NotCanonical> {
        canonical::scan(&self.event_bytes)
    }
}

/// The version of the binary form.
pub(crate) const VERSION: u8 = 1;

/// Writes the first half of a record.
pub(crate) fn write_event(out: &mut Vec<u8>, event_bytes: &[u8]) {
    let len = u32::try_from(event_bytes.len()).expect("the writer limits an event to 16 MiB");
    out.push(VERSION);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(event_bytes);
}

/// How many bytes [`write_parts`] will write, or a little more.
#[cfg(feature = "writer")]
pub(crate) fn parts_bytes(parts: &[PartBody]) -> usize {
    let body = |part: &PartBody| match part {
        PartBody::Clear { bytes, .. } => 41 + bytes.len(),
        PartBody::Sealed(sealed) => {
            13 + sealed.key_id.len() + sealed.nonce.len() + sealed.ciphertext.len()
        }
        PartBody::Absent { .. } => 26,
    };
    2 + parts.iter().map(body).sum::<usize>()
}

/// Writes the second half of a record.
pub(crate) fn write_parts(out: &mut Vec<u8>, parts: &[PartBody]) {
    let len64 = |bytes: &[u8]| (bytes.len() as u64).to_le_bytes();
    let count = u16::try_from(parts.len()).expect("the writer limits an event to 65,535 parts");
    out.extend_from_slice(&count.to_le_bytes());
    for part in parts {
        match part {
            PartBody::Clear { salt, bytes } => {
                out.reserve(41 + bytes.len());
                out.push(0);
                out.extend_from_slice(salt.as_bytes());
                out.extend_from_slice(&len64(bytes));
                out.extend_from_slice(bytes);
            }
            PartBody::Sealed(Sealed { key_id, algorithm, nonce, ciphertext }) => {
                out.push(1);
                let len = u16::try_from(key_id.len()).expect("a key id is at most 65,535 bytes");
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(key_id.as_bytes());
                out.push(*algorithm);
                out.push(u8::try_from(nonce.len()).expect("a nonce is at most 255 bytes"));
                out.extend_from_slice(nonce);
                out.extend_from_slice(&len64(ciphertext));
                out.extend_from_slice(ciphertext);
            }
            PartBody::Absent { reason, at, evidence } => {
                out.push(2);
                out.push(match reason {
                    AbsentReason::Erased => 1,
                    AbsentReason::Purged => 2,
                });
                out.extend_from_slice(&at.map_or(0, Timestamp::as_nanos).to_le_bytes());
                let evidence = evidence.as_ref().map_or(&[0; 16], EventId::as_bytes);
                out.extend_from_slice(evidence);
            }
        }
    }
}

/// Bytes that are not a record.
///
/// ```
/// use agent_audit_core::record::Record;
/// let error = Record::from_bytes(b"\x09").unwrap_err();
/// assert_eq!(error.to_string(), "malformed record: version 9 is unknown, this program reads 1");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed record: {0}")]
pub struct MalformedRecord(Cow<'static, str>);

/// A record borrowed from stored bytes.
///
/// ```
/// use agent_audit_core::{event::{Event, chain::ChainClosed}, record::{Record, RecordView}};
/// let event = Event::example(ChainClosed::new("shutdown"));
/// let stored = Record::new(event.canonical_bytes()?, Vec::new()).to_bytes();
/// assert_eq!(RecordView::parse(&stored)?.event_bytes, event.canonical_bytes()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct RecordView<'a> {
    /// The canonical bytes of the event.
    pub event_bytes: &'a [u8],
    count: u16,
    parts: &'a [u8],
}

impl std::fmt::Debug for RecordView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordView")
            .field("event_bytes", &self.event_bytes.len())
            .field("parts", &self.count)
            .finish()
    }
}

/// The body of a part borrowed from stored bytes.
///
/// ```
/// use agent_audit_core::record::PartView;
/// assert!(matches!(PartView::Sealed { algorithm: 1, len: 48 }, PartView::Sealed { .. }));
/// ```
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum PartView<'a> {
    /// Salt and plaintext.
    Clear {
        /// The key of the commitment.
        salt: &'a [u8; 32],
        /// The plaintext.
        bytes: &'a [u8],
    },
    /// Encrypted.
    Sealed {
        /// How; 1 is AES-256-GCM.
        algorithm: u8,
        /// How many bytes the ciphertext has.
        len: u64,
    },
    /// Gone.
    Absent {
        /// Why.
        reason: AbsentReason,
        /// The event that records it.
        evidence: Option<EventId>,
    },
}

impl std::fmt::Debug for PartView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Clear { bytes, .. } => {
                f.debug_struct("Clear").field("bytes", &bytes.len()).finish_non_exhaustive()
            }
            Self::Sealed { algorithm, len } => {
                f.debug_struct("Sealed").field("algorithm", algorithm).field("len", len).finish()
            }
            Self::Absent { reason, evidence } => f
                .debug_struct("Absent")
                .field("reason", reason)
                .field("evidence", evidence)
                .finish(),
        }
    }
}

impl<'a> RecordView<'a> {
    /// Reads the frame of a record; the bodies are read when asked for.
    ///
    /// # Errors
    /// [`MalformedRecord`] where the bytes are not exactly one record.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MalformedRecord> {
        let mut input = Input(bytes);
        match input.byte()? {
            VERSION => {}
            other => {
                return Err(MalformedRecord(
                    format!("version {other} is unknown, this program reads {VERSION}").into(),
                ));
            }
        }
        let len = u32::from_le_bytes(*input.array()?);
        let event_bytes = input.take(u64::from(len))?;
        let count = u16::from_le_bytes(*input.array()?);
        let view = Self { event_bytes, count, parts: input.0 };
        let mut input = Input(view.parts);
        for _ in 0..count {
            input.part()?;
        }
        if input.0.is_empty() { Ok(view) } else { Err(MalformedRecord("bytes follow it".into())) }
    }

    /// How many part bodies there are.
    #[must_use]
    pub fn part_count(&self) -> usize {
        usize::from(self.count)
    }

    /// The part bodies, borrowed.
    pub fn part_views(&self) -> impl Iterator<Item = PartView<'a>> + use<'a> {
        let mut input = Input(self.parts);
        (0..self.count).map_while(move |_| input.part().ok())
    }

    /// The part bodies, owned.
    ///
    /// # Errors
    /// [`MalformedRecord`] where one is not of a known form.
    pub fn parts(&self) -> Result<Vec<PartBody>, MalformedRecord> {
        let mut input = Input(self.parts);
        (0..self.count).map(|_| input.owned_part()).collect()
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: u64) -> Result<&'a [u8], MalformedRecord> {
        let split = usize::try_from(len).ok().and_then(|len| self.0.split_at_checked(len));
        let (taken, rest) = split.ok_or(MalformedRecord("it ends too early".into()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], MalformedRecord> {
        let (taken, rest) =
            self.0.split_first_chunk().ok_or(MalformedRecord("it ends too early".into()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, MalformedRecord> {
        self.array::<1>().map(|[byte]| *byte)
    }

    fn long(&mut self) -> Result<&'a [u8], MalformedRecord> {
        let len = u64::from_le_bytes(*self.array()?);
        self.take(len)
    }

    fn part(&mut self) -> Result<PartView<'a>, MalformedRecord> {
        match self.byte()? {
            0 => Ok(PartView::Clear { salt: self.array()?, bytes: self.long()? }),
            1 => self.sealed().map(|sealed| PartView::Sealed {
                algorithm: sealed.algorithm,
                len: u64::try_from(sealed.ciphertext.len()).unwrap_or(u64::MAX),
            }),
            2 => self.absent().map(|(reason, _, evidence)| PartView::Absent { reason, evidence }),
            state => Err(MalformedRecord(format!("part state {state} is unknown").into())),
        }
    }

    fn owned_part(&mut self) -> Result<PartBody, MalformedRecord> {
        match self.byte()? {
            0 => Ok(PartBody::Clear {
                salt: Salt::from_bytes(*self.array()?),
                bytes: self.long()?.to_vec(),
            }),
            1 => self.sealed().map(PartBody::Sealed),
            2 => self.absent().map(|(reason, at, evidence)| PartBody::Absent {
                reason,
                at,
                evidence,
            }),
            state => Err(MalformedRecord(format!("part state {state} is unknown").into())),
        }
    }

    fn sealed(&mut self) -> Result<Sealed, MalformedRecord> {
        let key_id_len = u16::from_le_bytes(*self.array()?);
        let key_id = std::str::from_utf8(self.take(u64::from(key_id_len))?)
            .map_err(|_| MalformedRecord("a key id is not UTF-8".into()))?
            .to_owned();
        let algorithm = self.byte()?;
        let nonce_len = self.byte()?;
        let nonce = self.take(u64::from(nonce_len))?.to_vec();
        Ok(Sealed { key_id, algorithm, nonce, ciphertext: self.long()?.to_vec() })
    }

    fn absent(
        &mut self,
    ) -> Result<(AbsentReason, Option<Timestamp>, Option<EventId>), MalformedRecord> {
        let reason = match self.byte()? {
            1 => AbsentReason::Erased,
            2 => AbsentReason::Purged,
            other => {
                return Err(MalformedRecord(format!("absence reason {other} is unknown").into()));
            }
        };
        let at = u64::from_le_bytes(*self.array()?);
        let evidence = *self.array::<16>()?;
        let evidence = (evidence != [0; 16])
            .then(|| EventId::from_bytes(evidence))
            .transpose()
            .map_err(|_| MalformedRecord("the evidence of an absence is not an event id".into()))?;
        Ok((reason, (at != 0).then(|| Timestamp::from_nanos(at)), evidence))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::content::Part;

    fn record() -> Record {
        let (_, clear) = Part::text("output", "hello").commit();
        let sealed = PartBody::Sealed(Sealed::new("k", 1, vec![1; 12], vec![2; 48]));
        let absent = PartBody::Absent {
            reason: AbsentReason::Purged,
            at: Some(Timestamp::from_nanos(5)),
            evidence: Some(EventId::new()),
        };
        let (_, empty) = Part::text("empty", "").commit();
        Record::new(b"{}".to_vec(), vec![clear, sealed, absent, empty])
    }

    #[test]
    fn every_state_survives() {
        let record = record();
        assert_eq!(Record::from_bytes(&record.to_bytes()).unwrap(), record);
    }

    #[test]
    fn every_truncation_and_extension_is_refused() {
        let bytes = record().to_bytes();
        for len in 0..bytes.len() {
            assert!(Record::from_bytes(&bytes[..len]).is_err(), "cut at {len}");
        }
        assert!(Record::from_bytes(&[&bytes[..], b"x"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(record) = Record::from_bytes(&bytes) {
                prop_assert_eq!(record.to_bytes(), bytes);
            }
        }
    }
}
