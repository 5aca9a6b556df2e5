//! Objects as Apache Parquet: one row for each event.

use std::sync::Arc;

use agent_audit_core::{
    columns::{COLUMNS, Columns, Stored, StoredRow, Value, check_columns},
    content::{AbsentReason, PartBody, Salt, Sealed},
    record::Record,
    timestamp::Timestamp,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampNanosecondArray, UInt8Array,
    builder::{
        BinaryBuilder, Int64Builder, ListBuilder, StringBuilder, StructBuilder,
        TimestampNanosecondBuilder, UInt8Builder,
    },
};
use arrow_schema::{DataType, Field, Fields, TimeUnit};
use bytes::Bytes;
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};

/// How many rows are read at a time.
const ROWS: usize = 256;
const UTC: &str = "UTC";

/// Writes records as one Parquet file.
pub(crate) fn encode(records: &[Record]) -> Result<Vec<u8>, String> {
    let failed = |_| "it could not be written as Parquet".to_owned();
    let mut columns: Vec<Column> = COLUMNS.iter().map(|name| Column::new(name)).collect();
    let mut external_ids = ListBuilder::new(StructBuilder::from_fields(external_id(), 0));
    let mut events = BinaryBuilder::new();
    let mut content = ListBuilder::new(StructBuilder::from_fields(part(), 0));
    for record in records {
        let extracted = Columns::of(record.event_bytes()).map_err(|error| error.to_string())?;
        let event_hash = record.event_hash();
        for (column, value) in columns.iter_mut().zip(extracted.values(&event_hash)) {
            column.append(value)?;
        }
        for (key, value) in extracted.external_ids() {
            let row = external_ids.values();
            text(row, 0).append_value(key);
            text(row, 1).append_value(value);
            row.append(true);
        }
        external_ids.append(true);
        events.append_value(record.event_bytes());
        let mut named = extracted.parts();
        for body in record.parts() {
            append_part(content.values(), named.next().unwrap_or_default(), body)?;
        }
        content.append(true);
    }
    let mut arrays: Vec<(&str, ArrayRef, bool)> = Vec::with_capacity(COLUMNS.len() + 3);
    for (name, column) in COLUMNS.iter().zip(columns) {
        arrays.push((name, column.finish(), true));
    }
    arrays.push(("external_ids", Arc::new(external_ids.finish()), false));
    arrays.push(("event", Arc::new(events.finish()), false));
    arrays.push(("content", Arc::new(content.finish()), false));
    let batch = RecordBatch::try_from_iter_with_nullable(arrays);
    let batch = batch.map_err(|_| "its columns do not fit together".to_owned())?;

    let level = ZstdLevel::try_new(3).map_err(failed)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let mut writer =
        ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).map_err(failed)?;
    writer.write(&batch).map_err(failed)?;
    writer.into_inner().map_err(failed)
}

/// Reads records, each with the name of a column that does not agree with it.
pub(crate) fn decode(
    bytes: &Bytes,
    each: &mut dyn FnMut(Record, Option<&'static str>) -> bool,
) -> Result<(), String> {
    let failed = |_| "it cannot be read as Parquet".to_owned();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).map_err(failed)?;
    let reader = reader.with_batch_size(ROWS).build().map_err(failed)?;
    for batch in reader {
        let batch = batch.map_err(|_| "it cannot be read as Parquet".to_owned())?;
        let rows = Rows::of(&batch)?;
        for at in 0..batch.num_rows() {
            let (record, row) = rows.row(at)?;
            let mismatch = check_columns(&row, record.event_bytes());
            if !each(record, mismatch) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// One column on its way into a file.
enum Column {
    Text(StringBuilder),
    Integer(Int64Builder),
    Time(TimestampNanosecondBuilder),
    Bytes(BinaryBuilder),
}

impl Column {
    fn new(name: &str) -> Self {
        match name {
            "sequence" | "decided_after_us" => Self::Integer(Int64Builder::new()),
            "timestamp_utc" | "occurred_at" => {
                Self::Time(TimestampNanosecondBuilder::new().with_timezone(UTC))
            }
            "event_hash" => Self::Bytes(BinaryBuilder::new()),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    fn append(&mut self, value: Value<'_>) -> Result<(), String> {
        match (self, value) {
            (Self::Text(column), Value::Text(text)) => column.append_value(text),
            (Self::Text(column), Value::Null) => column.append_null(),
            (Self::Integer(column), Value::Integer(number)) => column.append_value(number),
            (Self::Integer(column), Value::Null) => column.append_null(),
            (Self::Time(column), Value::Integer(nanos)) => column.append_value(nanos),
            (Self::Time(column), Value::Null) => column.append_null(),
            (Self::Bytes(column), Value::Bytes(bytes)) => column.append_value(bytes),
            (Self::Bytes(column), Value::Null) => column.append_null(),
            _ => return Err("a value is not of the type of its column".to_owned()),
        }
        Ok(())
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut column) => Arc::new(column.finish()),
            Self::Integer(mut column) => Arc::new(column.finish()),
            Self::Time(mut column) => Arc::new(column.finish()),
            Self::Bytes(mut column) => Arc::new(column.finish()),
        }
    }
}

fn external_id() -> Fields {
    ["key", "value"].map(|name| Field::new(name, DataType::Utf8, false)).into_iter().collect()
}

/// The columns of a part of content. What a state does not have is null.
fn part() -> Fields {
    let time = DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()));
    [
        ("name", DataType::Utf8, false),
        ("media_type", DataType::Utf8, false),
        ("state", DataType::Utf8, false),
        ("salt", DataType::Binary, true),
        ("bytes", DataType::Binary, true),
        ("key_id", DataType::Utf8, true),
        ("algorithm", DataType::UInt8, true),
        ("nonce", DataType::Binary, true),
        ("reason", DataType::Utf8, true),
        ("at", time, true),
        ("evidence", DataType::Utf8, true),
    ]
    .map(|(name, kind, nullable)| Field::new(name, kind, nullable))
    .into_iter()
    .collect()
}

fn text(row: &mut StructBuilder, at: usize) -> &mut StringBuilder {
    row.field_builder(at).expect("the builder was made from the fields above")
}

fn binary(row: &mut StructBuilder, at: usize) -> &mut BinaryBuilder {
    row.field_builder(at).expect("the builder was made from the fields above")
}

fn append_part(
    row: &mut StructBuilder,
    (name, media_type): (&str, &str),
    body: &PartBody,
) -> Result<(), String> {
    text(row, 0).append_value(name);
    text(row, 1).append_value(media_type);
    let (mut salt, mut bytes, mut key_id, mut algorithm) = (None, None, None, None);
    let (mut nonce, mut reason, mut at, mut evidence) = (None, None, None, None);
    let state = match body {
        PartBody::Clear { salt: s, bytes: b } => {
            (salt, bytes) = (Some(s.as_bytes().as_slice()), Some(b.as_slice()));
            "clear"
        }
        PartBody::Sealed(sealed) => {
            bytes = Some(sealed.ciphertext.as_slice());
            key_id = Some(sealed.key_id.as_str());
            algorithm = Some(sealed.algorithm);
            nonce = Some(sealed.nonce.as_slice());
            "sealed"
        }
        PartBody::Absent { reason: why, at: when, evidence: by } => {
            reason = Some(match why {
                AbsentReason::Erased => "erased",
                AbsentReason::Purged => "purged",
                _ => return Err("content is absent for a reason that has no name".to_owned()),
            });
            at = when.map(Timestamp::as_nanos_i64);
            evidence = by.as_ref().map(ToString::to_string);
            "absent"
        }
        _ => return Err("content is in a state that has no name".to_owned()),
    };
    text(row, 2).append_value(state);
    binary(row, 3).append_option(salt);
    binary(row, 4).append_option(bytes);
    text(row, 5).append_option(key_id);
    let field: Option<&mut UInt8Builder> = row.field_builder(6);
    field.expect("the builder was made from the fields above").append_option(algorithm);
    binary(row, 7).append_option(nonce);
    text(row, 8).append_option(reason);
    let field: Option<&mut TimestampNanosecondBuilder> = row.field_builder(9);
    field.expect("the builder was made from the fields above").append_option(at);
    text(row, 10).append_option(evidence);
    row.append(true);
    Ok(())
}

/// The columns of some rows, each of its type.
struct Rows<'a> {
    columns: Vec<&'a dyn Array>,
    external_ids: &'a ListArray,
    events: &'a BinaryArray,
    content: &'a ListArray,
}

impl<'a> Rows<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, String> {
        let find = |name: &str| {
            let column = batch.column_by_name(name).map(AsRef::as_ref);
            column.ok_or_else(|| format!("it has no column {name}"))
        };
        Ok(Self {
            columns: COLUMNS.iter().map(|name| find(name)).collect::<Result<_, _>>()?,
            external_ids: typed(find("external_ids")?)?,
            events: typed(find("event")?)?,
            content: typed(find("content")?)?,
        })
    }

    fn row(&self, at: usize) -> Result<(Record, StoredRow), String> {
        let values: Vec<Stored> = self.columns.iter().map(|column| stored(*column, at)).collect();
        let sequence = match values.get(1) {
            Some(Stored::Integer(sequence)) => u64::try_from(*sequence).unwrap_or(u64::MAX),
            _ => u64::MAX,
        };
        let mut row = StoredRow::new(sequence, values);
        let pairs = self.external_ids.value(at);
        let pairs: &StructArray = typed(&pairs)?;
        for pair in 0..pairs.len() {
            let of = |name| required_text(pairs, name, pair).map(str::to_owned);
            row.push_external_id(of("key")?, of("value")?);
        }
        let parts = self.content.value(at);
        let parts: &StructArray = typed(&parts)?;
        let mut bodies = Vec::with_capacity(parts.len());
        for part in 0..parts.len() {
            let of = |name| required_text(parts, name, part).map(str::to_owned);
            let ordinal = i64::try_from(part).unwrap_or(i64::MAX);
            row.push_part(ordinal, of("name")?, of("media_type")?);
            bodies.push(body(parts, part)?);
        }
        if self.events.is_null(at) {
            return Err("it has a row without an event".to_owned());
        }
        Ok((Record::new(self.events.value(at).to_vec(), bodies), row))
    }
}

fn typed<T: Array + 'static>(array: &dyn Array) -> Result<&T, String> {
    let wrong = || "a column is not of its type".to_owned();
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

fn field<'a, T: Array + 'static>(rows: &'a StructArray, name: &str) -> Result<&'a T, String> {
    let column = rows.column_by_name(name).ok_or_else(|| format!("it has no column {name}"))?;
    typed(column.as_ref())
}

fn required_text<'a>(rows: &'a StructArray, name: &str, at: usize) -> Result<&'a str, String> {
    let column: &StringArray = field(rows, name)?;
    if column.is_null(at) { Err(format!("a {name} is missing")) } else { Ok(column.value(at)) }
}

fn required_bytes<'a>(rows: &'a StructArray, name: &str, at: usize) -> Result<&'a [u8], String> {
    let column: &BinaryArray = field(rows, name)?;
    if column.is_null(at) { Err(format!("a {name} is missing")) } else { Ok(column.value(at)) }
}

fn body(parts: &StructArray, at: usize) -> Result<PartBody, String> {
    match required_text(parts, "state", at)? {
        "clear" => {
            let salt = required_bytes(parts, "salt", at)?;
            let salt = salt.try_into().map_err(|_| "a salt does not have 32 bytes".to_owned())?;
            let bytes = required_bytes(parts, "bytes", at)?.to_vec();
            Ok(PartBody::Clear { salt: Salt::from_bytes(salt), bytes })
        }
        "sealed" => {
            let algorithm: &UInt8Array = field(parts, "algorithm")?;
            if algorithm.is_null(at) {
                return Err("an algorithm is missing".to_owned());
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
                _ => return Err("content is absent for a reason that is unknown".to_owned()),
            };
            let when: &TimestampNanosecondArray = field(parts, "at")?;
            let when = (!when.is_null(at)).then(|| u64::try_from(when.value(at)).ok());
            let evidence: &StringArray = field(parts, "evidence")?;
            let evidence = (!evidence.is_null(at)).then(|| evidence.value(at).parse());
            Ok(PartBody::Absent {
                reason,
                at: when.flatten().map(Timestamp::from_nanos),
                evidence: evidence
                    .transpose()
                    .map_err(|_| "an evidence is no event id".to_owned())?,
            })
        }
        _ => Err("content is in a state that is unknown".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::{conformance::TestChain, content::Part, id::EventId};

    use super::*;

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
        let mut read = Vec::new();
        decode(&encode(chain.records()).unwrap().into(), &mut |record, mismatch| {
            assert_eq!(mismatch, None);
            read.push(record);
            true
        })
        .unwrap();
        assert_eq!(read, chain.records());
    }

    #[test]
    fn a_column_that_does_not_agree_is_named() {
        let mut chain = TestChain::new();
        chain.extend(3);
        let bytes = Bytes::from(encode(chain.records()).unwrap());
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        let batch = reader.map(Result::unwrap).next().unwrap();
        let mut columns = batch.columns().to_vec();
        let at = batch.schema().index_of("event_type").unwrap();
        columns[at] = Arc::new(StringArray::from(vec!["tool.attempted"; 3]));
        let edited = RecordBatch::try_new(batch.schema(), columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), edited.schema(), None).unwrap();
        writer.write(&edited).unwrap();
        let mut mismatches = Vec::new();
        decode(&writer.into_inner().unwrap().into(), &mut |_, mismatch| {
            mismatches.push(mismatch);
            true
        })
        .unwrap();
        assert_eq!(mismatches, [Some("event_type"); 3]);
    }
}
