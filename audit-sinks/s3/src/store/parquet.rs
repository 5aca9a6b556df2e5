//! Objects as Apache Parquet: one row for each event.

use agent_audit_core::record::Record;
use agent_audit_parquet::{Rows, Writer};
use bytes::Bytes;

/// Writes records as one Parquet file.
pub(crate) fn encode(records: &[Record]) -> Result<Vec<u8>, String> {
    let mut writer = Writer::new(Vec::new()).map_err(|error| error.to_string())?;
    for record in records {
        writer.push(record).map_err(|error| error.to_string())?;
    }
    writer.finish().map_err(|error| error.to_string())
}

/// Reads records, each with the name of a column that does not agree with it.
pub(crate) fn decode(
    bytes: &Bytes,
    each: &mut dyn FnMut(Record, Option<&'static str>) -> bool,
) -> Result<(), String> {
    for row in Rows::of_bytes(bytes.clone()).map_err(|error| error.to_string())? {
        let row = row.map_err(|error| error.to_string())?;
        if !each(row.record, row.mismatch) {
            break;
        }
    }
    Ok(())
}
