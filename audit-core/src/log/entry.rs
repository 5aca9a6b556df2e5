//! Entries of the journal: one byte of kind, then the body.
//!
//! | kind | body |
//! |---|---|
//! | 1 | a [record](crate::record) |
//!
//! Other kinds are reserved; a reader that meets one cannot tell what it means and says so.

use crate::{error::AuditError, record::RecordView};

/// The kind of an entry that holds a record.
pub const RECORD: u8 = 1;

/// Kind, record version and length of the event: what stands in front of the event bytes.
pub(crate) fn record_header(event_len: u32) -> [u8; 6] {
    let [a, b, c, d] = event_len.to_le_bytes();
    [RECORD, crate::record::VERSION, a, b, c, d]
}

/// The record in an entry.
pub(crate) fn read(entry: &[u8]) -> Result<RecordView<'_>, AuditError> {
    match entry.split_first() {
        Some((&RECORD, record)) => {
            RecordView::parse(record).map_err(|error| AuditError::damaged(error.to_string()))
        }
        Some((kind, _)) => Err(AuditError::damaged(format!(
            "a journal entry of kind {kind} was written by a later version"
        ))),
        None => Err(AuditError::damaged("a journal entry is empty")),
    }
}
