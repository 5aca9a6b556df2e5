//! A file in, records out.

use std::{fmt, fs::File};

use agent_audit_core::{
    columns::{COLUMNS, Columns, Stored, StoredRow, check_columns},
    content::{AbsentReason, PartBody, Salt, Sealed},
    record::Record,
    timestamp::Timestamp,
};
use arrow_array::{
    Array, BinaryArray, Int64Array, ListArray, RecordBatch, RecordBatchReader, StringArray,
    StructArray, TimestampNanosecondArray, UInt8Array,
};
use arrow_schema::Schema;
use bytes::Bytes;
use parquet::{
    arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    file::reader::ChunkReader,
};

use crate::{BYTES, ParquetError, ROWS};

/// A record as it was read.
///
/// ```
/// use agent_audit_parquet::{Rows, Writer};
/// let rows = Rows::of_bytes(Writer::new(Vec::new())?.finish()?.into())?;
/// assert!(rows.into_iter().all(|row| row.is_ok_and(|row| row.mismatch.is_none())));
/// # Ok::<(), agent_audit_parquet::ParquetError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// The canonical bytes of the event, and the bodies of its content.
    pub record: Record,
    /// The first column that does not say what the canonical bytes say, or `event` where these are
    /// none of an event.
    pub mismatch: Option<&'static str>,
}

/// The records of a file, one after the other.
///
/// After an error there are no more.
///
/// ```
/// use agent_audit_parquet::{Rows, Writer};
/// let file = Writer::new(Vec::new())?.finish()?;
/// assert_eq!(Rows::of_bytes(file.into())?.count(), 0);
/// # Ok::<(), agent_audit_parquet::ParquetError>(())
/// ```
pub struct Rows {
    reader: ParquetRecordBatchReader,
    places: Places,
    batch: Option<RecordBatch>,
    at: usize,
    ended: bool,
    content: bool,
}

impl Rows {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ParquetError`] where it is no Parquet.
    pub fn of_file(file: File) -> Result<Self, ParquetError> {
        Self::of(file)
    }

    /// Reads a file that is in memory.
    ///
    /// # Errors
    /// [`ParquetError`] where it is no Parquet.
    pub fn of_bytes(file: Bytes) -> Result<Self, ParquetError> {
        Self::of(file)
    }

    /// Says that the bodies of content were left out when the file was written: a row without them is
    /// no mismatch.
    ///
    /// ```
    /// use agent_audit_core::{content::Part, event::{Event, chain::ChainClosed}, record::Record};
    /// use agent_audit_parquet::{Rows, Writer};
    /// let (reference, _) = Part::text("note", "hello").commit();
    /// let event = Event::example(ChainClosed::new("shutdown")).with_content(reference);
    /// let mut writer = Writer::new(Vec::new())?;
    /// writer.push(&Record::new(event.canonical_bytes()?, Vec::new()))?;
    /// let file = bytes::Bytes::from(writer.finish()?);
    /// let first = |rows: Rows| rows.map(|row| row.map(|row| row.mismatch)).next();
    /// assert_eq!(first(Rows::of_bytes(file.clone())?), Some(Ok(Some("content"))));
    /// assert_eq!(first(Rows::of_bytes(file)?.without_content()), Some(Ok(None)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn without_content(mut self) -> Self {
        self.content = false;
        self
    }

    fn of(file: impl ChunkReader + 'static) -> Result<Self, ParquetError> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|_| unreadable())?;
        let (mut rows, mut bytes) = (0i64, 0i64);
        for group in reader.metadata().row_groups() {
            rows = rows.saturating_add(group.num_rows());
            bytes = bytes.saturating_add(group.total_byte_size());
        }
        // Few at a time where each of them is large.
        let each = usize::try_from(bytes / rows.max(1)).unwrap_or(1).max(1);
        let reader = reader.with_batch_size((BYTES / each).clamp(1, ROWS));
        let reader = reader.build().map_err(|_| unreadable())?;
        let places = Places::of(&reader.schema())?;
        Ok(Self { reader, places, batch: None, at: 0, ended: false, content: true })
    }

    fn row(&mut self) -> Result<Option<Row>, ParquetError> {
        loop {
            if let Some(batch) = self.batch.as_ref().filter(|batch| self.at < batch.num_rows()) {
                let row = self.places.row(batch, self.at, self.content)?;
                self.at += 1;
                return Ok(Some(row));
            }
            match self.reader.next() {
                Some(batch) => self.batch = Some(batch.map_err(|_| unreadable())?),
                None => return Ok(None),
            }
            self.at = 0;
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.row().transpose();
        self.ended = !matches!(row, Some(Ok(_)));
        row
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("ended", &self.ended).finish_non_exhaustive()
    }
}

fn unreadable() -> ParquetError {
    ParquetError::new("it cannot be read as Parquet")
}

/// Where the columns stand in a file.
struct Places {
    columns: Vec<usize>,
    external_ids: usize,
    event: usize,
    content: usize,
}

impl Places {
    fn of(schema: &Schema) -> Result<Self, ParquetError> {
        let find = |name: &str| {
            let missing = |_| ParquetError::new(format!("it has no column {name}"));
            schema.index_of(name).map_err(missing)
        };
        Ok(Self {
            columns: COLUMNS.iter().map(|name| find(name)).collect::<Result<_, _>>()?,
            external_ids: find("external_ids")?,
            event: find("event")?,
            content: find("content")?,
        })
    }

    fn row(&self, batch: &RecordBatch, at: usize, content: bool) -> Result<Row, ParquetError> {
        let events: &BinaryArray = typed(batch.column(self.event))?;
        if events.is_null(at) {
            return Err(ParquetError::new("it has a row without an event"));
        }
        let columns = self.columns.iter().map(|column| stored(batch.column(*column), at));
        let values: Vec<Stored> = columns.collect();
        let sequence = match values.get(1) {
            Some(Stored::Integer(sequence)) => u64::try_from(*sequence).unwrap_or(u64::MAX),
            _ => u64::MAX,
        };
        let mut row = StoredRow::new(sequence, values);
        let pairs = typed::<ListArray>(batch.column(self.external_ids))?.value(at);
        let pairs: &StructArray = typed(&pairs)?;
        for pair in 0..pairs.len() {
            let of = |name| required_text(pairs, name, pair).map(str::to_owned);
            row.push_external_id(of("key")?, of("value")?);
        }
        let parts = typed::<ListArray>(batch.column(self.content))?.value(at);
        let parts: &StructArray = typed(&parts)?;
        let mut bodies = Vec::with_capacity(parts.len());
        for part in 0..parts.len() {
            let of = |name| required_text(parts, name, part).map(str::to_owned);
            row.push_part(i64::try_from(part).unwrap_or(i64::MAX), of("name")?, of("media_type")?);
            bodies.push(body(parts, part)?);
        }
        let record = Record::new(events.value(at).to_vec(), bodies);
        if !content && parts.is_empty() {
            let named = Columns::of(record.event_bytes());
            for (at, (name, media)) in (0..).zip(named.iter().flat_map(Columns::parts)) {
                row.push_part(at, name.to_owned(), media.to_owned());
            }
        }
        Ok(Row { mismatch: check_columns(&row, record.event_bytes()), record })
    }
}

fn typed<T: Array + 'static>(array: &dyn Array) -> Result<&T, ParquetError> {
    let wrong = || ParquetError::new("a column is not of its type");
    array.as_any().downcast_ref::<T>().ok_or_else(wrong)
}

fn stored(column: &dyn Array, at: usize) -> Stored {
    if column.is_null(at) {
        return Stored::Null;
    }
    let any = column.as_any();
    if let Some(column) = any.downcast_ref::<StringArray>() {
        return Stored::Text(column.value(at).to_owned());
    }
    if let Some(column) = any.downcast_ref::<Int64Array>() {
        return Stored::Integer(column.value(at));
    }
    if let Some(column) = any.downcast_ref::<TimestampNanosecondArray>() {
        return Stored::Integer(column.value(at));
    }
    match any.downcast_ref::<BinaryArray>() {
        Some(column) => Stored::Bytes(column.value(at).to_vec()),
        None => Stored::Other,
    }
}

fn field<'a, T: Array + 'static>(rows: &'a StructArray, name: &str) -> Result<&'a T, ParquetError> {
    let column = rows.column_by_name(name);
    typed(column.ok_or_else(|| ParquetError::new(format!("it has no column {name}")))?.as_ref())
}

fn missing(name: &str) -> ParquetError {
    ParquetError::new(format!("a {name} is missing"))
}

fn required_text<'a>(
    rows: &'a StructArray,
    name: &str,
    at: usize,
) -> Result<&'a str, ParquetError> {
    let column: &StringArray = field(rows, name)?;
    if column.is_null(at) { Err(missing(name)) } else { Ok(column.value(at)) }
}

fn required_bytes<'a>(
    rows: &'a StructArray,
    name: &str,
    at: usize,
) -> Result<&'a [u8], ParquetError> {
    let column: &BinaryArray = field(rows, name)?;
    if column.is_null(at) { Err(missing(name)) } else { Ok(column.value(at)) }
}

fn body(parts: &StructArray, at: usize) -> Result<PartBody, ParquetError> {
    match required_text(parts, "state", at)? {
        "clear" => {
            let salt = required_bytes(parts, "salt", at)?.try_into();
            let salt = salt.map_err(|_| ParquetError::new("a salt does not have 32 bytes"))?;
            let bytes = required_bytes(parts, "bytes", at)?.to_vec();
            Ok(PartBody::Clear { salt: Salt::from_bytes(salt), bytes })
        }
        "sealed" => {
            let algorithm: &UInt8Array = field(parts, "algorithm")?;
            if algorithm.is_null(at) {
                return Err(missing("algorithm"));
            }
            Ok(PartBody::Sealed(Sealed::new(
                required_text(parts, "key_id", at)?,
                algorithm.value(at),
                required_bytes(parts, "nonce", at)?.to_vec(),
                required_bytes(parts, "bytes", at)?.to_vec(),
            )))
        }
        "absent" => {
            let reason = match required_text(parts, "reason", at)? {
                "erased" => AbsentReason::Erased,
                "purged" => AbsentReason::Purged,
                _ => return Err(ParquetError::new("content is absent for an unknown reason")),
            };
            let when: &TimestampNanosecondArray = field(parts, "at")?;
            let when = (!when.is_null(at)).then(|| u64::try_from(when.value(at)).ok());
            let evidence: &StringArray = field(parts, "evidence")?;
            let evidence = (!evidence.is_null(at)).then(|| evidence.value(at).parse());
            let evidence = evidence.transpose();
            Ok(PartBody::Absent {
                reason,
                at: when.flatten().map(Timestamp::from_nanos),
                evidence: evidence.map_err(|_| ParquetError::new("an evidence is no event id"))?,
            })
        }
        _ => Err(ParquetError::new("content is in a state that is unknown")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use agent_audit_core::{conformance::TestChain, content::Part, id::EventId};
    use arrow_array::StringArray;
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::Writer;

    fn encode(records: &[Record]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        records.iter().for_each(|record| writer.push(record).unwrap());
        writer.finish().unwrap()
    }

    fn decode(bytes: Vec<u8>) -> Vec<Row> {
        Rows::of_bytes(bytes.into()).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn content_in_every_state_comes_back() {
        let mut chain = TestChain::new();
        let absent = |reason, at, evidence| PartBody::Absent { reason, at, evidence };
        let bodies = [
            PartBody::Sealed(Sealed::new("key-1", 1, vec![1; 12], vec![2; 64])),
            absent(AbsentReason::Erased, Some(Timestamp::from_nanos(5)), Some(EventId::new())),
            absent(AbsentReason::Purged, None, None),
        ];
        let content = bodies.into_iter().enumerate().map(|(at, body)| {
            let (reference, _) = Part::text(format!("part.{at}"), "x").commit();
            (reference, body)
        });
        chain.extend_with(content.collect());
        chain.extend(20);
        let rows = decode(encode(chain.records()));
        assert!(rows.iter().all(|row| row.mismatch.is_none()));
        assert!(rows.iter().map(|row| &row.record).eq(chain.records()));
    }

    #[test]
    fn many_and_large_records_come_back_from_a_file() {
        let mut chain = TestChain::new();
        chain.extend(2_500);
        for _ in 0..3 {
            chain.extend_with(vec![Part::new("blob", "x/y", vec![7; 9 << 20]).commit()]);
        }
        let mut writer = Writer::new(tempfile::tempfile().unwrap()).unwrap();
        assert!(writer.is_empty());
        chain.records().iter().for_each(|record| writer.push(record).unwrap());
        assert!(!writer.is_empty());
        let rows = Rows::of_file(writer.finish().unwrap()).unwrap();
        assert!(rows.map(|row| row.unwrap().record).eq(chain.records().iter().cloned()));
    }

    #[test]
    fn a_column_that_does_not_agree_is_named() {
        let mut chain = TestChain::new();
        chain.extend(3);
        let bytes = Bytes::from(encode(chain.records()));
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        let batch = reader.map(Result::unwrap).next().unwrap();
        let mut columns = batch.columns().to_vec();
        let at = batch.schema().index_of("event_type").unwrap();
        columns[at] = Arc::new(StringArray::from(vec!["tool.attempted"; 3]));
        let edited = RecordBatch::try_new(batch.schema(), columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), edited.schema(), None).unwrap();
        writer.write(&edited).unwrap();
        let rows = decode(writer.into_inner().unwrap());
        let mismatches: Vec<_> = rows.into_iter().map(|row| row.mismatch).collect();
        assert_eq!(mismatches, [Some("event_type"); 3]);
    }

    #[test]
    fn what_is_cut_is_an_error_and_shows_nothing() {
        let mut chain = TestChain::new();
        chain.extend(9);
        let bytes = encode(chain.records());
        for len in [0, 3, bytes.len() / 2, bytes.len() - 1] {
            let error = match Rows::of_bytes(Bytes::copy_from_slice(&bytes[..len])) {
                Err(error) => error,
                Ok(mut rows) => rows.find_map(Result::err).unwrap(),
            };
            assert!(!error.to_string().contains("refund"), "{error}");
        }
    }
}
