//! Reading canonical bytes: one strict pass, no allocation.

use crate::hash::Hash;

use super::{
    MAX_DEPTH, MAX_INTEGER,
    likely::{Key, find, named},
    plain::Marks,
    write::is_key,
};

/// What a verifier needs of an event, borrowed from its canonical bytes.
///
/// Text is as it stands between the quotation marks; where a text holds escapes (only in ids of
/// sessions, agents and persons of unusual shape) it is still escaped.
///
/// ```
/// use agent_audit_core::{canonical::scan, event::Event, event::chain::ChainClosed};
/// let event = Event::example(ChainClosed::new("shutdown"));
/// let bytes = event.canonical_bytes()?;
/// let view = scan(&bytes)?;
/// assert_eq!(view.event_type, "chain.closed");
/// assert_eq!(view.tenant_id, event.tenant_id.as_str());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventView<'a> {
    /// The agent that acted.
    pub agent_id: &'a str,
    /// The chain.
    pub chain_id: &'a str,
    /// The identity of the event.
    pub event_id: &'a str,
    /// The type of the event.
    pub event_type: &'a str,
    /// The parent event, where there is one.
    pub parent_event_id: Option<&'a str>,
    /// The event hash of the position before.
    pub previous_event_hash: Hash,
    /// The schema that the event was written in.
    pub schema_version: &'a str,
    /// The position in the chain.
    pub sequence: u64,
    /// The session.
    pub session_id: &'a str,
    /// The person whom the event is about, where it names one.
    pub subject_id: Option<&'a str>,
    /// The tenant.
    pub tenant_id: &'a str,
    /// When it was recorded.
    pub timestamp_utc: &'a str,
    /// The payload's canonical bytes.
    pub payload: &'a [u8],
    content: &'a str,
}

/// One part of an event's content, as the event names it.
///
/// ```
/// use agent_audit_core::{canonical::scan, content::Part, event::Event, event::chain::ChainClosed};
/// let (content, _) = Part::text("output", "hello").commit();
/// let event = Event::example(ChainClosed::new("shutdown")).with_content(content);
/// let bytes = event.canonical_bytes()?;
/// let part = scan(&bytes)?.content().next().expect("one part");
/// assert_eq!((part.name, part.bytes), ("output", 5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContentView<'a> {
    /// The name of the part.
    pub name: &'a str,
    /// The number of plaintext bytes.
    pub bytes: u64,
    /// The commitment to the plaintext.
    pub commitment: Hash,
}

/// Bytes that are not the canonical form of an event.
///
/// ```
/// let error = agent_audit_core::canonical::scan(b"{ }").unwrap_err();
/// assert_eq!(error.to_string(), "not the canonical form of an event at byte 1: expected a key");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the canonical form of an event at byte {at}: {what}")]
pub struct NotCanonical {
    at: usize,
    what: &'static str,
}

/// Reads the canonical bytes of an event.
///
/// The whole of the bytes is checked: the one canonical spelling of JSON, sorted keys, no duplicate
/// keys, integers in range, valid UTF-8, every mandatory field of the envelope.
///
/// # Errors
/// [`NotCanonical`] with the offset of the first byte that is wrong.
///
/// ```
/// assert!(agent_audit_core::canonical::scan(br#"{"agent_id":"a"}"#).is_err());
/// ```
pub fn scan(bytes: &[u8]) -> Result<EventView<'_>, NotCanonical> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| NotCanonical { at: e.valid_up_to(), what: "expected UTF-8" })?;
    let marks = Marks::of(bytes);
    let mut scanner = Scanner { text, bytes, marks: &marks, at: 0 };
    let mut fields = Fields::default();
    scanner.expect(b'{', "expected an object")?;
    scanner.entries(0, &ENVELOPE, |scanner, field| fields.take(scanner, field))?;
    if scanner.at != bytes.len() {
        return scanner.fail("expected the end");
    }
    fields.finish(bytes.len())
}

impl<'a> EventView<'a> {
    /// The parts of the event's content, in order.
    pub fn content(&self) -> impl Iterator<Item = ContentView<'a>> + use<'a> {
        // `scan` has walked these bytes already, so a failure here cannot happen; ending early
        // instead of panicking costs nothing, because the number of parts is compared by callers.
        let (text, bytes) = (self.content, self.content.as_bytes());
        let mut at = 1;
        std::iter::from_fn(move || {
            if bytes.get(at) == Some(&b',') {
                at += 1;
            }
            let mut scanner = Scanner { text, bytes, marks: &Marks::NONE, at };
            let part = scanner.part().ok();
            at = scanner.at;
            part
        })
    }

    /// How many parts the event's content has.
    #[must_use]
    pub fn content_len(&self) -> usize {
        self.content().count()
    }
}

#[derive(Default)]
struct Fields<'a> {
    agent_id: Option<&'a str>,
    chain_id: Option<&'a str>,
    content: &'a str,
    event_id: Option<&'a str>,
    event_type: Option<&'a str>,
    parent_event_id: Option<&'a str>,
    payload: Option<&'a [u8]>,
    previous_event_hash: Option<Hash>,
    schema_version: Option<&'a str>,
    sequence: Option<u64>,
    session_id: Option<&'a str>,
    subject_id: Option<&'a str>,
    tenant_id: Option<&'a str>,
    timestamp_utc: Option<&'a str>,
}

impl<'a> Fields<'a> {
    #[inline(always)]
    fn take(
        &mut self,
        scanner: &mut Scanner<'a, '_>,
        field: Option<Field>,
    ) -> Result<(), NotCanonical> {
        let slot = match field {
            Some(Field::AgentId) => &mut self.agent_id,
            Some(Field::ChainId) => &mut self.chain_id,
            Some(Field::EventId) => &mut self.event_id,
            Some(Field::EventType) => &mut self.event_type,
            Some(Field::ParentEventId) => &mut self.parent_event_id,
            Some(Field::SchemaVersion) => &mut self.schema_version,
            Some(Field::SessionId) => &mut self.session_id,
            Some(Field::SubjectId) => &mut self.subject_id,
            Some(Field::TenantId) => &mut self.tenant_id,
            Some(Field::TimestampUtc) => &mut self.timestamp_utc,
            Some(Field::Content) => {
                let start = scanner.at;
                scanner.content()?;
                self.content = &scanner.text[start..scanner.at];
                return Ok(());
            }
            Some(Field::Payload) => {
                let start = scanner.at;
                if scanner.peek() != Some(b'{') {
                    return scanner.fail("expected the payload to be an object");
                }
                scanner.value(1)?;
                self.payload = Some(&scanner.bytes[start..scanner.at]);
                return Ok(());
            }
            Some(Field::PreviousEventHash) => {
                self.previous_event_hash = Some(scanner.hash()?);
                return Ok(());
            }
            Some(Field::Sequence) => {
                self.sequence = Some(scanner.unsigned()?);
                return Ok(());
            }
            Some(Field::Other) | None => return scanner.value(1),
        };
        *slot = Some(scanner.string()?);
        Ok(())
    }

    fn finish(self, end: usize) -> Result<EventView<'a>, NotCanonical> {
        let missing = |what| NotCanonical { at: end, what };
        Ok(EventView {
            agent_id: self.agent_id.ok_or(missing("agent_id is missing"))?,
            chain_id: self.chain_id.ok_or(missing("chain_id is missing"))?,
            event_id: self.event_id.ok_or(missing("event_id is missing"))?,
            event_type: self.event_type.ok_or(missing("event_type is missing"))?,
            parent_event_id: self.parent_event_id,
            previous_event_hash: self
                .previous_event_hash
                .ok_or(missing("previous_event_hash is missing"))?,
            schema_version: self.schema_version.ok_or(missing("schema_version is missing"))?,
            sequence: self.sequence.ok_or(missing("sequence is missing"))?,
            session_id: self.session_id.ok_or(missing("session_id is missing"))?,
            subject_id: self.subject_id,
            tenant_id: self.tenant_id.ok_or(missing("tenant_id is missing"))?,
            timestamp_utc: self.timestamp_utc.ok_or(missing("timestamp_utc is missing"))?,
            payload: self.payload.ok_or(missing("payload is missing"))?,
            content: self.content,
        })
    }
}

/// A field of the envelope.
#[derive(Clone, Copy)]
enum Field {
    AgentId,
    ChainId,
    Content,
    EventId,
    EventType,
    ParentEventId,
    Payload,
    PreviousEventHash,
    SchemaVersion,
    Sequence,
    SessionId,
    SubjectId,
    TenantId,
    TimestampUtc,
    /// One that a verifier has no use for.
    Other,
}

const ENVELOPE: [Key<Field>; 18] = [
    Key::new(Field::AgentId, b"agent_id"),
    Key::new(Field::ChainId, b"chain_id"),
    Key::new(Field::Content, b"content"),
    Key::new(Field::EventId, b"event_id"),
    Key::new(Field::EventType, b"event_type"),
    Key::new(Field::Other, b"occurred_at"),
    Key::new(Field::ParentEventId, b"parent_event_id"),
    Key::new(Field::Payload, b"payload"),
    Key::new(Field::PreviousEventHash, b"previous_event_hash"),
    Key::new(Field::SchemaVersion, b"schema_version"),
    Key::new(Field::Sequence, b"sequence"),
    Key::new(Field::SessionId, b"session_id"),
    Key::new(Field::Other, b"span_id"),
    Key::new(Field::SubjectId, b"subject_id"),
    Key::new(Field::TenantId, b"tenant_id"),
    Key::new(Field::TimestampUtc, b"timestamp_utc"),
    Key::new(Field::Other, b"trace_id"),
    Key::new(Field::Other, b"writer_id"),
];

/// A field of a content reference.
#[derive(Clone, Copy)]
enum PartField {
    Bytes,
    Commitment,
    MediaType,
    Name,
}

const PART: [Key<PartField>; 4] = [
    Key::new(PartField::Bytes, b"bytes"),
    Key::new(PartField::Commitment, b"commitment"),
    Key::new(PartField::MediaType, b"media_type"),
    Key::new(PartField::Name, b"name"),
];

fn out_of_order(at: usize) -> NotCanonical {
    NotCanonical { at, what: "the keys are not in order" }
}

struct Scanner<'a, 'm> {
    text: &'a str,
    bytes: &'a [u8],
    marks: &'m Marks,
    at: usize,
}

impl<'a> Scanner<'a, '_> {
    fn fail<T>(&self, what: &'static str) -> Result<T, NotCanonical> {
        Err(NotCanonical { at: self.at, what })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), NotCanonical> {
        if self.peek() != Some(byte) {
            return self.fail(what);
        }
        self.at += 1;
        Ok(())
    }

    /// The entries of an object whose opening brace has been read, up to its closing brace.
    ///
    /// `entry` is told which of the likely keys it is, where it is one.
    #[inline(always)]
    fn entries<T: Copy>(
        &mut self,
        depth: usize,
        likely: &[Key<T>],
        mut entry: impl FnMut(&mut Self, Option<T>) -> Result<(), NotCanonical>,
    ) -> Result<(), NotCanonical> {
        if depth >= MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        let mut ahead = 0;
        // Likely keys are found ahead alone and so are in order among themselves: only the text of
        // an unlikely one has to be compared with what follows.
        // Absent and not empty before the first: to compare with nothing is slow where `memcmp` reads
        // behind a mask, because the pointer of an empty slice points nowhere.
        let mut previous: Option<&[u8]> = None;
        let mut in_order = true;
        loop {
            let start = self.at;
            let found = self.bytes.get(start..).and_then(|rest| find(likely, ahead, rest));
            let (name, key) = match found {
                Some((index, name, key)) => {
                    ahead = index + 1;
                    self.at += key.len() + 3;
                    if !in_order && previous >= Some(key) {
                        return Err(out_of_order(start));
                    }
                    in_order = true;
                    (Some(name), key)
                }
                None => {
                    let key = self.key()?;
                    if previous >= Some(key) {
                        return Err(out_of_order(start));
                    }
                    self.expect(b':', "expected a colon")?;
                    let named = named(likely, key);
                    ahead = named.map_or(ahead, |(index, _)| index + 1);
                    in_order = named.is_some();
                    (named.map(|(_, name)| name), key)
                }
            };
            previous = Some(key);
            entry(self, name)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fail("expected a comma or a closing brace"),
            }
        }
    }

    /// A key of any kind.
    fn key(&mut self) -> Result<&'a [u8], NotCanonical> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return self.fail("expected a key");
        }
        let key = self.string()?.as_bytes();
        if !is_key(key) {
            return Err(NotCanonical { at: start, what: "the key is outside its alphabet" });
        }
        Ok(key)
    }

    fn value(&mut self, depth: usize) -> Result<(), NotCanonical> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => {
                self.at += 1;
                self.object(depth)
            }
            Some(b'[') => self.array(depth, |scanner| scanner.value(depth + 1)),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'-' | b'0'..=b'9') => self.integer(),
            _ => self.fail("expected a string, a boolean, an integer, an array or an object"),
        }
    }

    /// The entries of an object of any kind.
    fn object(&mut self, depth: usize) -> Result<(), NotCanonical> {
        self.entries(depth, &[] as &[Key<()>], |scanner, _| scanner.value(depth + 1))
    }

    fn array(
        &mut self,
        depth: usize,
        mut element: impl FnMut(&mut Self) -> Result<(), NotCanonical>,
    ) -> Result<(), NotCanonical> {
        if depth >= MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        self.expect(b'[', "expected an array")?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            element(self)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fail("expected a comma or a closing bracket"),
            }
        }
    }

    fn literal(&mut self, literal: &'static [u8]) -> Result<(), NotCanonical> {
        if !self.bytes[self.at..].starts_with(literal) {
            return self.fail("expected true or false");
        }
        self.at += literal.len();
        Ok(())
    }

    fn integer(&mut self) -> Result<(), NotCanonical> {
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        if self.unsigned()? == 0 && negative {
            return self.fail("minus zero is written 0");
        }
        Ok(())
    }

    fn unsigned(&mut self) -> Result<u64, NotCanonical> {
        let start = self.at;
        let mut value = 0u64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value * 10 + u64::from(digit - b'0');
            self.at += 1;
            if value > MAX_INTEGER {
                return self.fail("the integer is beyond 2^53-1");
            }
        }
        let digits = self.at - start;
        if digits == 0 || (digits > 1 && self.bytes[start] == b'0') {
            return self.fail("expected an integer in plain decimal");
        }
        Ok(value)
    }

    /// A string's text between its quotation marks, escapes checked and left as they are.
    fn string(&mut self) -> Result<&'a str, NotCanonical> {
        self.expect(b'"', "expected a string")?;
        let start = self.at;
        loop {
            self.at = self.marks.next(self.bytes, self.at);
            match self.peek() {
                Some(b'"') => {
                    // Both ends are next to ASCII quotation marks, so they are boundaries.
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return self.fail("a control character must be escaped"),
                None => return self.fail("the string does not end"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), NotCanonical> {
        let rest = &self.bytes[self.at + 1..];
        match rest {
            [b'"' | b'\\' | b'b' | b't' | b'n' | b'f' | b'r', ..] => self.at += 2,
            [b'u', b'0', b'0', high @ (b'0' | b'1'), low, ..] => {
                let low = match low {
                    b'0'..=b'9' => low - b'0',
                    b'a'..=b'f' => low - b'a' + 10,
                    _ => return self.fail("the escape is not in its shortest form"),
                };
                let short = *high == b'0' && matches!(low, 0x08 | 0x09 | 0x0a | 0x0c | 0x0d);
                if short {
                    return self.fail("the escape is not in its shortest form");
                }
                self.at += 6;
            }
            _ => return self.fail("the escape is not in its shortest form"),
        }
        Ok(())
    }

    fn hash(&mut self) -> Result<Hash, NotCanonical> {
        let start = self.at;
        // Sixty-four digits hold no quotation mark: they need no search for the end.
        if let Some([b'"', digits @ .., b'"']) = self.bytes[start..].first_chunk::<66>()
            && let Some(hash) = Hash::from_digits(digits)
        {
            self.at += 66;
            return Ok(hash);
        }
        self.string()?
            .parse()
            .map_err(|_| NotCanonical { at: start, what: "expected 64 lower-case hex digits" })
    }

    fn content(&mut self) -> Result<(), NotCanonical> {
        self.array(1, |scanner| scanner.part().map(drop))
    }

    fn part(&mut self) -> Result<ContentView<'a>, NotCanonical> {
        let start = self.at;
        let (mut name, mut bytes, mut commitment) = (None, None, None);
        self.expect(b'{', "expected a content part")?;
        self.entries(2, &PART, |scanner, field| {
            match field {
                Some(PartField::Name) => name = Some(scanner.string()?),
                Some(PartField::Bytes) => bytes = Some(scanner.unsigned()?),
                Some(PartField::Commitment) => commitment = Some(scanner.hash()?),
                Some(PartField::MediaType) | None => scanner.value(3)?,
            }
            Ok(())
        })?;
        match (name, bytes, commitment) {
            (Some(name), Some(bytes), Some(commitment)) => {
                Ok(ContentView { name, bytes, commitment })
            }
            _ => Err(NotCanonical { at: start, what: "the part lacks name, bytes or commitment" }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn sample() -> Value {
        json!({
            "agent_id": "a\"\\\n", "chain_id": "c", "event_id": "e", "event_type": "custom.x",
            "content": [{"name": "output", "bytes": 5, "commitment": "ab".repeat(32), "media_type": "text/plain"}],
            "payload": {"deep": [{"n": -5, "t": true}, "\u{1}é"]},
            "previous_event_hash": "0".repeat(64), "schema_version": "1.0", "sequence": 7,
            "session_id": "s", "tenant_id": "t", "timestamp_utc": "now", "zone": {"later": []},
        })
    }

    #[test]
    fn reads_what_was_written() {
        let bytes = super::super::to_vec(&sample()).unwrap();
        let view = scan(&bytes).unwrap();
        assert_eq!(view.sequence, 7);
        assert_eq!(view.agent_id, "a\\\"\\\\\\n");
        assert_eq!(view.payload, "{\"deep\":[{\"n\":-5,\"t\":true},\"\\u0001é\"]}".as_bytes());
        let parts: Vec<_> = view.content().collect();
        assert_eq!((parts.len(), parts[0].name, parts[0].bytes), (1, "output", 5));
    }

    #[test]
    fn refuses_every_other_spelling() {
        let good = String::from_utf8(super::super::to_vec(&sample()).unwrap()).unwrap();
        for (from, to) in [
            ("{\"agent", "{ \"agent"),
            ("\"sequence\":7", "\"sequence\":07"),
            ("\"sequence\":7", "\"sequence\":7.0"),
            ("\"sequence\":7", "\"sequence\":9007199254740992"),
            ("\"sequence\":7", "\"sequence\":7,\"sequence\":8"),
            ("\"n\":-5", "\"n\":-0"),
            ("\"n\":-5", "\"n\":null"),
            ("\"n\":-5", "\"n\":1e3"),
            ("\\u0001", "\\u0001\u{1}"),
            ("\\u0001", "\\u000A"),
            ("\\u0001", "\\u000a"),
            ("\\u0001", "\\u0041"),
            ("\\u0001", "\\ud800"),
            ("\"n\":-5,\"t\":true", "\"t\":true,\"n\":-5"),
            ("\"n\":", "\"$serde_json::private::Number\":"),
            ("\"chain_id\":\"c\",", ""),
            ("\"payload\":{", "\"payload\":[{"),
        ] {
            assert!(good.contains(from), "{from}");
            let bad = good.replacen(from, to, 1);
            assert!(scan(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(scan(format!("{good} ").as_bytes()).is_err());
        assert!(scan(&good.as_bytes()[..good.len() - 1]).is_err());
        let nested = format!("{{\"agent_id\":{}", "[".repeat(100_000));
        assert!(scan(nested.as_bytes()).is_err());
        let nested = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(scan(nested.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = scan(&bytes);
        }

        /// What the scanner takes is exactly what the JCS library would write again.
        #[test]
        fn takes_only_canonical_bytes(at in 0usize..400, byte in any::<u8>()) {
            let mut bytes = super::super::to_vec(&sample()).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            if scan(&bytes).is_ok() {
                let value: Value = serde_json::from_slice(&bytes).unwrap();
                prop_assert_eq!(serde_json_canonicalizer::to_vec(&value).unwrap(), bytes);
            }
        }
    }
}
