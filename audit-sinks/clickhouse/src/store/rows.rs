//! Rows of the tables, as they are written and read.

use agent_audit_core::{
    columns::{COLUMNS, Columns, Stored, StoredRow, Value},
    content::{AbsentReason, PartBody, Salt, Sealed},
    hash::Hash,
    record::Record,
    sink::ChainRef,
    timestamp::Timestamp,
};

use super::row_binary::{Malformed, Reader, Writer};

/// What a column of `audit_events` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Hash,
    MaybeText,
    MaybeInteger,
}

/// The kinds of [`COLUMNS`], in their order.
const KINDS: [Kind; COLUMNS.len()] = {
    use Kind::{Hash, Integer, MaybeInteger, MaybeText, Text};
    [
        Text,
        Integer,
        Hash,
        Text,
        Text,
        Text,
        Text,
        Integer,
        MaybeInteger,
        MaybeText,
        MaybeText,
        MaybeText,
        MaybeText,
        MaybeText,
        MaybeText,
        MaybeText,
        MaybeText,
        MaybeText,
        MaybeText,
        MaybeText,
        MaybeText,
        MaybeText,
        MaybeText,
        MaybeText,
        MaybeText,
        MaybeText,
        MaybeInteger,
        MaybeText,
        MaybeText,
    ]
};

/// Whether a column of the core holds text.
#[cfg(feature = "query")]
pub(crate) fn is_text(column: &str) -> bool {
    let kind = COLUMNS.iter().zip(KINDS).find(|(name, _)| **name == column).map(|(_, kind)| kind);
    matches!(kind, Some(Kind::Text | Kind::MaybeText))
}

/// The columns of `audit_events` behind `tenant_id`, as they are named in a query.
pub(crate) fn event_columns() -> String {
    format!("{}, external_ids.key, external_ids.value, event", COLUMNS.join(", "))
}

/// The columns of `audit_content` behind `tenant_id`.
pub(crate) const CONTENT_COLUMNS: &str = "chain_id, sequence, event_hash, ordinal, name, \
    media_type, purge_after, state, kept, salt, bytes, key_id, algorithm, nonce, absent_reason, \
    absent_at, absent_evidence";

/// The term of content that stays for ever.
pub(crate) const NEVER: u32 = u32::MAX;

/// Writes an event and its content, or says what about it cannot be stored, having written nothing.
pub(crate) fn write(
    events: &mut Writer,
    content: &mut Writer,
    chain: &ChainRef,
    hash: &Hash,
    record: &Record,
    retention_days: Option<u32>,
) -> Result<(), String> {
    let columns = check(record)?;
    let tenant = chain.tenant_id.as_str().as_bytes();
    let values = columns.values(hash);
    let timestamp = values[7].as_integer().unwrap_or(i64::MAX);
    events.string(tenant);
    for (kind, value) in KINDS.iter().zip(values) {
        if matches!(kind, Kind::MaybeText | Kind::MaybeInteger) {
            events.present(value != Value::Null);
        }
        match value {
            Value::Null => {}
            Value::Integer(number) => events.i64(number),
            Value::Text(text) => events.string(text.as_bytes()),
            Value::Bytes(bytes) => events.fixed(bytes),
        }
    }
    events.count(columns.external_ids().len());
    columns.external_ids().for_each(|(key, _)| events.string(key.as_bytes()));
    events.count(columns.external_ids().len());
    columns.external_ids().for_each(|(_, value)| events.string(value.as_bytes()));
    events.string(record.event_bytes());

    let purge_after = retention_days.map_or(NEVER, |days| end_of_term(timestamp, days));
    for ((ordinal, (name, media_type)), body) in (0..).zip(columns.parts()).zip(record.parts()) {
        content.string(tenant);
        content.string(chain.chain_id.as_str().as_bytes());
        content.i64(values[1].as_integer().unwrap_or(i64::MAX));
        content.fixed(hash.as_bytes());
        content.u32(ordinal);
        content.string(name.as_bytes());
        content.string(media_type.as_bytes());
        content.u32(purge_after);
        write_body(content, body);
    }
    Ok(())
}

/// Whether an event can be stored: its columns, or what about it cannot be read.
pub(crate) fn check(record: &Record) -> Result<Columns<'_>, String> {
    let columns = Columns::of(record.event_bytes()).map_err(|error| error.to_string())?;
    let (named, held) = (columns.parts().len(), record.parts().len());
    if named != held {
        return Err(format!("an event names {named} parts of content and its record has {held}"));
    }
    let hash = Hash::ZERO;
    for ((kind, value), name) in KINDS.iter().zip(columns.values(&hash)).zip(COLUMNS) {
        let fits = match value {
            Value::Null => matches!(kind, Kind::MaybeText | Kind::MaybeInteger),
            Value::Integer(_) => matches!(kind, Kind::Integer | Kind::MaybeInteger),
            Value::Text(_) => matches!(kind, Kind::Text | Kind::MaybeText),
            Value::Bytes(bytes) => *kind == Kind::Hash && bytes.len() == 32,
        };
        if !fits {
            return Err(format!("the event's {name} does not fit its column"));
        }
    }
    if record.parts().iter().any(|body| state_of(body).is_none()) {
        return Err("a part of content is in a state that this release does not know".to_owned());
    }
    Ok(columns)
}

/// The second in which a term ends.
fn end_of_term(timestamp_nanos: i64, days: u32) -> u32 {
    let seconds = u64::try_from(timestamp_nanos).unwrap_or(0) / 1_000_000_000;
    let end = seconds.saturating_add(u64::from(days) * 86_400);
    u32::try_from(end).unwrap_or(NEVER)
}

fn state_of(body: &PartBody) -> Option<&'static str> {
    match body {
        PartBody::Clear { .. } => Some("clear"),
        PartBody::Sealed(_) => Some("sealed"),
        PartBody::Absent { reason: AbsentReason::Erased | AbsentReason::Purged, .. } => {
            Some("absent")
        }
        _ => None,
    }
}

fn write_body(out: &mut Writer, body: &PartBody) {
    out.string(state_of(body).unwrap_or_default().as_bytes());
    out.u8(1);
    let none: &[u8] = &[];
    let (salt, bytes, sealed) = match body {
        PartBody::Clear { salt, bytes } => (salt.as_bytes().as_slice(), bytes.as_slice(), None),
        PartBody::Sealed(sealed) => (none, sealed.ciphertext.as_slice(), Some(sealed)),
        _ => (none, none, None),
    };
    out.string(salt);
    out.string(bytes);
    out.string(sealed.map_or(none, |sealed| sealed.key_id.as_bytes()));
    out.u8(sealed.map_or(0, |sealed| sealed.algorithm));
    out.string(sealed.map_or(none, |sealed| &sealed.nonce));
    let (reason, at, evidence) = match body {
        PartBody::Absent { reason: AbsentReason::Erased, at, evidence } => ("erased", at, evidence),
        PartBody::Absent { reason: AbsentReason::Purged, at, evidence } => ("purged", at, evidence),
        _ => ("", &None, &None),
    };
    out.string(reason.as_bytes());
    out.present(at.is_some());
    if let Some(at) = at {
        out.u64(at.as_nanos());
    }
    out.present(evidence.is_some());
    if let Some(evidence) = evidence {
        out.string(evidence.to_string().as_bytes());
    }
}

/// One row of `audit_events` as it is stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EventRow {
    pub(crate) sequence: i64,
    pub(crate) event_hash: Hash,
    values: Vec<Stored>,
    external_ids: (Vec<Stored>, Vec<Stored>),
    pub(crate) event: Vec<u8>,
}

impl EventRow {
    /// Reads a row that begins with [`event_columns`].
    pub(crate) fn read(rows: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut values = Vec::with_capacity(KINDS.len());
        for kind in KINDS {
            values.push(match kind {
                Kind::Text => text(rows)?,
                Kind::Integer => Stored::Integer(rows.i64()?),
                Kind::Hash => Stored::Bytes(rows.fixed::<32>()?.to_vec()),
                Kind::MaybeText => rows.nullable(text)?.unwrap_or(Stored::Null),
                Kind::MaybeInteger => {
                    rows.nullable(Reader::i64)?.map_or(Stored::Null, Stored::Integer)
                }
            });
        }
        let (sequence, event_hash) = match &values[1..3] {
            [Stored::Integer(sequence), Stored::Bytes(hash)] => (
                *sequence,
                hash.as_slice().try_into().map(Hash::from_bytes).map_err(|_| Malformed)?,
            ),
            _ => return Err(Malformed),
        };
        let list = |rows: &mut Reader<'_>| -> Result<Vec<Stored>, Malformed> {
            let len = rows.count()?;
            (0..len).map(|_| text(rows)).collect()
        };
        let external_ids = (list(rows)?, list(rows)?);
        let event = rows.bytes()?.to_vec();
        Ok(Self { sequence, event_hash, values, external_ids, event })
    }

    /// The columns, with the parts of content that are stored for the event.
    pub(crate) fn stored(self, parts: &[ContentRow]) -> (StoredRow, Vec<u8>) {
        // A position before 0 is that of no event: its column then does not agree with any.
        let sequence = u64::try_from(self.sequence).unwrap_or(u64::MAX);
        let mut row = StoredRow::new(sequence, self.values);
        for part in parts {
            row.push_part(i64::from(part.ordinal), part.name.clone(), part.media_type.clone());
        }
        let (keys, values) = self.external_ids;
        for pair in keys.into_iter().zip(values) {
            // What is not text is never equal to text.
            let shown = |stored| match stored {
                Stored::Text(text) => text,
                _ => "\u{fffd}".to_owned(),
            };
            row.push_external_id(shown(pair.0), shown(pair.1));
        }
        (row, self.event)
    }
}

fn text(rows: &mut Reader<'_>) -> Result<Stored, Malformed> {
    Ok(rows.text()?.map_or(Stored::Other, |text| Stored::Text(text.to_owned())))
}

/// One row of `audit_content` as it is stored.
#[derive(Debug)]
pub(crate) struct ContentRow {
    #[cfg_attr(not(feature = "query"), expect(dead_code, reason = "one chain is read at a time"))]
    pub(crate) chain: String,
    pub(crate) sequence: i64,
    pub(crate) event_hash: Hash,
    pub(crate) ordinal: u32,
    name: String,
    media_type: String,
    /// `None` where the row holds what no part can be.
    pub(crate) body: Option<PartBody>,
}

impl ContentRow {
    /// Reads a row that is made of [`CONTENT_COLUMNS`].
    pub(crate) fn read(rows: &mut Reader<'_>) -> Result<Self, Malformed> {
        let lossy = |rows: &mut Reader<'_>| {
            rows.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let chain = lossy(rows)?;
        let (sequence, event_hash, ordinal) = (rows.i64()?, rows.hash()?, rows.u32()?);
        let (name, media_type) = (lossy(rows)?, lossy(rows)?);
        let purge_after = rows.u32()?;
        let (state, kept) = (rows.bytes()?, rows.u8()?);
        let (salt, bytes, key_id) = (rows.bytes()?, rows.bytes()?, lossy(rows)?);
        let (algorithm, nonce) = (rows.u8()?, rows.bytes()?);
        let reason = rows.bytes()?;
        let at = rows.nullable(Reader::u64)?.map(Timestamp::from_nanos);
        let evidence = rows.nullable(lossy)?;
        let body = match (state, kept) {
            // The term ended, and a merge has taken the content away.
            (b"clear" | b"sealed", 0) => Some(PartBody::Absent {
                reason: AbsentReason::Purged,
                at: Some(Timestamp::from_nanos(u64::from(purge_after) * 1_000_000_000)),
                evidence: None,
            }),
            (b"clear", _) => salt.try_into().ok().map(|salt| PartBody::Clear {
                salt: Salt::from_bytes(salt),
                bytes: bytes.to_vec(),
            }),
            (b"sealed", _) => Some(PartBody::Sealed(Sealed::new(
                key_id,
                algorithm,
                nonce.to_vec(),
                bytes.to_vec(),
            ))),
            (b"absent", _) => absent(reason, at, evidence),
            _ => None,
        };
        Ok(Self { chain, sequence, event_hash, ordinal, name, media_type, body })
    }
}

fn absent(reason: &[u8], at: Option<Timestamp>, evidence: Option<String>) -> Option<PartBody> {
    let reason = match reason {
        b"erased" => AbsentReason::Erased,
        b"purged" => AbsentReason::Purged,
        _ => return None,
    };
    let evidence = evidence.map(|id| id.parse()).transpose().ok()?;
    Some(PartBody::Absent { reason, at, evidence })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::{columns::check_columns, conformance::TestChain};

    use super::*;

    #[test]
    fn what_is_written_is_read_and_agrees() {
        let mut chain = TestChain::new();
        let segment = chain.extend(20);
        let (mut events, mut content) = (Writer::default(), Writer::default());
        for (_, hash, record) in segment.iter() {
            write(&mut events, &mut content, segment.chain(), hash, record, None).unwrap();
        }
        let (events, content) = (events.into_bytes(), content.into_bytes());
        let (mut events, mut content) = (Reader::new(&events), Reader::new(&content));
        for (sequence, hash, record) in segment.iter() {
            events.bytes().unwrap();
            let row = EventRow::read(&mut events).unwrap();
            assert_eq!((u64::try_from(row.sequence).unwrap(), row.event_hash), (sequence, *hash));
            let parts: Vec<ContentRow> = record
                .parts()
                .iter()
                .map(|_| {
                    content.bytes().unwrap();
                    ContentRow::read(&mut content).unwrap()
                })
                .collect();
            let (stored, bytes) = row.stored(&parts);
            let bodies = parts.into_iter().map(|part| part.body.unwrap()).collect();
            assert_eq!(Record::new(bytes, bodies), *record);
            assert_eq!(check_columns(&stored, record.event_bytes()), None);
        }
        assert!(events.is_empty() && content.is_empty());
    }

    #[test]
    fn a_term_ends_at_the_last_moment_there_is() {
        assert_eq!(end_of_term(1_000_000_000, 1), 86_401);
        assert_eq!(end_of_term(i64::MAX, 1), NEVER);
        assert_eq!(end_of_term(0, u32::MAX), NEVER);
        assert_eq!(end_of_term(-1, 0), 0);
    }

    #[test]
    fn an_event_without_the_body_of_a_part_is_refused() {
        let mut chain = TestChain::new();
        let segment = chain.extend(20);
        let with_content =
            segment.records().iter().find(|record| !record.parts().is_empty()).unwrap();
        let record = Record::new(with_content.event_bytes().to_vec(), Vec::new());
        assert!(check(&record).unwrap_err().contains("its record has 0"));
        assert!(check(&Record::new(b"{}".to_vec(), Vec::new())).is_err());
    }
}
