//! Columns between the core and `SQLite`.

use agent_audit_core::columns::{COLUMNS, Stored, StoredRow, Value};
use rusqlite::{
    ToSql,
    types::{ToSqlOutput, ValueRef},
};

const SEQUENCE: usize = 1;

/// A value on its way into a statement.
pub(crate) struct Bound<'a>(pub(crate) Value<'a>);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(value) => ValueRef::Integer(value),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// The columns of a row that starts with [`COLUMNS`].
pub(crate) fn stored_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<StoredRow> {
    let values = (0..COLUMNS.len())
        .map(|at| row.get_ref(at).map(stored))
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(StoredRow::new(row.get(SEQUENCE)?, values))
}

fn stored(value: ValueRef<'_>) -> Stored {
    match value {
        ValueRef::Null => Stored::Null,
        ValueRef::Integer(value) => Stored::Integer(value),
        ValueRef::Text(bytes) => {
            str::from_utf8(bytes).map_or(Stored::Other, |text| Stored::Text(text.to_owned()))
        }
        ValueRef::Blob(bytes) => Stored::Bytes(bytes.to_vec()),
        ValueRef::Real(_) => Stored::Other,
    }
}
