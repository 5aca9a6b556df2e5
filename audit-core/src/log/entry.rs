//! Entries of the journal: one byte of kind, then the body.
//!
//! | kind | body |
//! |---|---|
//! | 1 | a [record](crate::record) |
//!
//! Other kinds are reserved; a reader that meets one cannot tell what it means and says so.

use crate::{
    error::{AuditError, AuditErrorKind},
    record::RecordView,
};

/// The kind of an entry that holds a record.
pub const RECORD: u8 = 1;

/// Kind, record version and length of the event: what stands in front of the event bytes.
pub(crate) fn record_header(event_len: u32) -> [u8; 6] {
    let [a, b, c, d] = event_len.to_le_bytes();
    [RECORD, crate::record::VERSION, a, b, c, d]
}

/// The record in the entry with this index.
pub(crate) fn read(index: u64, entry: &[u8]) -> Result<RecordView<'_>, AuditError> {
    match entry.split_first() {
        Some((&RECORD, record)) => RecordView::parse(record).map_err(|error| {
            AuditError::damaged(format!(
                "journal entry {index} does not hold a record: restore the log from a backup or a \
                 sink"
            ))
            .with_source(error)
        }),
        Some((kind, _)) => Err(AuditError::new(
            AuditErrorKind::UnknownVersion,
            format!(
                "journal entry {index} is of kind {kind}, which a later version wrote: use that \
                 version or a later one"
            ),
        )),
        None => Err(AuditError::damaged(format!(
            "journal entry {index} is empty: restore the log from a backup or a sink"
        ))),
    }
}
