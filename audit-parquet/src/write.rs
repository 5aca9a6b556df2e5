//! Records in, a file out.

use std::{fmt, io::Write, sync::Arc};

use agent_audit_core::{
    columns::{COLUMNS, Columns, Value},
    content::{AbsentReason, PartBody},
    record::Record,
    timestamp::Timestamp,
};
use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{
        BinaryBuilder, Int64Builder, ListBuilder, StringBuilder, StructBuilder,
        TimestampNanosecondBuilder, UInt8Builder,
    },
};
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};

use crate::{BYTES, ParquetError, ROWS, UTC};

/// Writes records as one Parquet file.
///
/// The same records give the same bytes. Nothing is a file before [`finish`](Self::finish).
///
/// ```
/// use agent_audit_parquet::Writer;
/// let file = Writer::new(Vec::new())?.finish()?;
/// assert_eq!(&file[..4], b"PAR1");
/// # Ok::<(), agent_audit_parquet::ParquetError>(())
/// ```
pub struct Writer<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: Arc<Schema>,
    rows: Rows,
    /// About how many bytes the rows take that are not in the writer yet.
    waiting: usize,
}

impl<W: Write + Send> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// [`ParquetError`] where the beginning cannot be written.
    pub fn new(out: W) -> Result<Self, ParquetError> {
        let schema = Arc::new(Schema::new(fields()));
        let level = ZstdLevel::try_new(3).map_err(failed)?;
        let properties =
            WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        let writer =
            ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties)).map_err(failed)?;
        Ok(Self { writer, schema, rows: Rows::new(), waiting: 0 })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`ParquetError`] where it is no event, or cannot be written.
    pub fn push(&mut self, record: &Record) -> Result<(), ParquetError> {
        self.rows.push(record)?;
        self.waiting +=
            record.event_bytes().len() * 2 + record.parts().iter().map(body_bytes).sum::<usize>();
        if self.rows.count >= ROWS || self.waiting >= BYTES {
            self.write_rows()?;
        }
        Ok(())
    }

    /// About how many bytes the file has so far, those that wait in memory among them.
    #[must_use]
    pub fn len(&self) -> u64 {
        let size = self.writer.bytes_written() + self.writer.in_progress_size() + self.waiting;
        u64::try_from(size).unwrap_or(u64::MAX)
    }

    /// Whether no record was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() <= u64::try_from(MAGIC).unwrap_or(u64::MAX)
    }

    /// Ends the file and gives back what it was written to.
    ///
    /// # Errors
    /// [`ParquetError`] where the end cannot be written.
    pub fn finish(mut self) -> Result<W, ParquetError> {
        self.write_rows()?;
        self.writer.into_inner().map_err(failed)
    }

    fn write_rows(&mut self) -> Result<(), ParquetError> {
        if self.rows.count == 0 {
            return Ok(());
        }
        self.waiting = 0;
        let arrays = std::mem::replace(&mut self.rows, Rows::new()).finish();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .map_err(|_| ParquetError::new("its columns do not fit together"))?;
        self.writer.write(&batch).map_err(failed)?;
        if self.writer.in_progress_size() >= BYTES {
            self.writer.flush().map_err(failed)?;
        }
        Ok(())
    }
}

impl<W: Write + Send> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The bytes with which every file begins.
const MAGIC: usize = 4;

fn failed(_: parquet::errors::ParquetError) -> ParquetError {
    ParquetError::new("it could not be written as Parquet")
}

fn body_bytes(body: &PartBody) -> usize {
    match body {
        PartBody::Clear { bytes, .. } => bytes.len(),
        PartBody::Sealed(sealed) => sealed.ciphertext.len(),
        _ => 0,
    }
}

/// The columns of a file.
fn fields() -> Fields {
    let column = |name: &&str| Field::new(*name, column_type(name), true);
    let list = |name: &str, of: Fields| {
        let item = Field::new_list_field(DataType::Struct(of), true);
        Field::new(name, DataType::List(Arc::new(item)), false)
    };
    let mut fields: Vec<Field> = COLUMNS.iter().map(column).collect();
    fields.push(list("external_ids", external_id()));
    fields.push(Field::new("event", DataType::Binary, false));
    fields.push(list("content", part()));
    fields.into()
}

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()))
}

fn column_type(name: &str) -> DataType {
    match name {
        "sequence" | "decided_after_us" => DataType::Int64,
        "timestamp_utc" | "occurred_at" => time(),
        "event_hash" => DataType::Binary,
        _ => DataType::Utf8,
    }
}

fn external_id() -> Fields {
    ["key", "value"].map(|name| Field::new(name, DataType::Utf8, false)).into_iter().collect()
}

/// The columns of a part of content. What a state does not have is null.
fn part() -> Fields {
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
        ("at", time(), true),
        ("evidence", DataType::Utf8, true),
    ]
    .map(|(name, kind, nullable)| Field::new(name, kind, nullable))
    .into_iter()
    .collect()
}

/// Rows on their way into a file.
struct Rows {
    count: usize,
    columns: Vec<Column>,
    external_ids: ListBuilder<StructBuilder>,
    events: BinaryBuilder,
    content: ListBuilder<StructBuilder>,
}

impl Rows {
    fn new() -> Self {
        Self {
            count: 0,
            columns: COLUMNS.iter().map(|name| Column::new(name)).collect(),
            external_ids: ListBuilder::new(StructBuilder::from_fields(external_id(), 0)),
            events: BinaryBuilder::new(),
            content: ListBuilder::new(StructBuilder::from_fields(part(), 0)),
        }
    }

    fn push(&mut self, record: &Record) -> Result<(), ParquetError> {
        let extracted = Columns::of(record.event_bytes())
            .map_err(|error| ParquetError::new(error.to_string()))?;
        let event_hash = record.event_hash();
        for (column, value) in self.columns.iter_mut().zip(extracted.values(&event_hash)) {
            column.append(value)?;
        }
        for (key, value) in extracted.external_ids() {
            let row = self.external_ids.values();
            text(row, 0).append_value(key);
            text(row, 1).append_value(value);
            row.append(true);
        }
        self.external_ids.append(true);
        self.events.append_value(record.event_bytes());
        let mut named = extracted.parts();
        for body in record.parts() {
            append_part(self.content.values(), named.next().unwrap_or_default(), body)?;
        }
        self.content.append(true);
        self.count += 1;
        Ok(())
    }

    fn finish(self) -> Vec<ArrayRef> {
        let Self { columns, mut external_ids, mut events, mut content, .. } = self;
        let mut arrays: Vec<ArrayRef> = columns.into_iter().map(Column::finish).collect();
        arrays.push(Arc::new(external_ids.finish()));
        arrays.push(Arc::new(events.finish()));
        arrays.push(Arc::new(content.finish()));
        arrays
    }
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
        match column_type(name) {
            DataType::Int64 => Self::Integer(Int64Builder::new()),
            DataType::Binary => Self::Bytes(BinaryBuilder::new()),
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            _ => Self::Time(TimestampNanosecondBuilder::new().with_timezone(UTC)),
        }
    }

    fn append(&mut self, value: Value<'_>) -> Result<(), ParquetError> {
        match (self, value) {
            (Self::Text(column), Value::Text(text)) => column.append_value(text),
            (Self::Text(column), Value::Null) => column.append_null(),
            (Self::Integer(column), Value::Integer(number)) => column.append_value(number),
            (Self::Integer(column), Value::Null) => column.append_null(),
            (Self::Time(column), Value::Integer(nanos)) => column.append_value(nanos),
            (Self::Time(column), Value::Null) => column.append_null(),
            (Self::Bytes(column), Value::Bytes(bytes)) => column.append_value(bytes),
            (Self::Bytes(column), Value::Null) => column.append_null(),
            _ => return Err(ParquetError::new("a value is not of the type of its column")),
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
) -> Result<(), ParquetError> {
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
                _ => {
                    return Err(ParquetError::new("content is absent for a reason without a name"));
                }
            });
            at = when.map(Timestamp::as_nanos_i64);
            evidence = by.as_ref().map(ToString::to_string);
            "absent"
        }
        _ => return Err(ParquetError::new("content is in a state that has no name")),
    };
    text(row, 0).append_value(name);
    text(row, 1).append_value(media_type);
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
