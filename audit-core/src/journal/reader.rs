//! Reading durable entries of an open journal, beside its writer.

use std::sync::Arc;

use super::cursor::{SegmentCursor, Step};
use super::error::{JournalError, JournalErrorKind};
use super::state::Shared;
use super::wait::WaitPast;

/// Reads durable entries in order from a position, and follows the journal as it grows.
///
/// A reader never sees an entry before it is durable. It takes no lock while it reads a file.
///
/// ```
/// use agent_audit_core::journal::{Journal, JournalOptions};
///
/// let dir = tempfile::tempdir()?;
/// let (journal, _) = Journal::open(dir.path(), JournalOptions::default())?;
/// let mut reader = journal.reader(0)?;
/// let mut entry = Vec::new();
/// assert_eq!(reader.next(&mut entry)?, None);
///
/// let ticket = journal.append(journal.admit_blocking(5)?, &[b"he", b"llo"])?;
/// journal.durable(ticket).wait()?;
/// assert_eq!(reader.wait().wait()?, 1);
/// assert_eq!(reader.next(&mut entry)?, Some(0));
/// assert_eq!(entry, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    cursor: Option<SegmentCursor>,
    position: u64,
    /// Entries before this one are durable, as far as the reader has looked.
    durable: u64,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, from: u64) -> Result<Self, JournalError> {
        let reader = Self { shared, cursor: None, position: from, durable: 0 };
        let (first, next) = {
            let state = reader.shared.lock();
            (state.first_index(), state.next_index)
        };
        if from < first {
            return Err(reader.trimmed(first));
        }
        if from > next {
            return Err(JournalError::new(
                JournalErrorKind::NotWritten,
                format!("entry {from} is past the end of the journal, the next entry is {next}"),
            ));
        }
        Ok(reader)
    }

    /// Copies the next entry into `entry`, replacing what is in it, and returns its index; nothing
    /// if the next one is not durable yet.
    ///
    /// # Errors
    ///
    /// - [`JournalErrorKind::Trimmed`] if it has been trimmed away meanwhile;
    /// - [`JournalErrorKind::Damaged`] if the file is not as it was written. The position stays, so
    ///   that the same error comes again.
    pub fn next(&mut self, entry: &mut Vec<u8>) -> Result<Option<u64>, JournalError> {
        let Some(index) = self.advance()? else { return Ok(None) };
        let Some(cursor) = &mut self.cursor else { return Ok(None) };
        entry.clear();
        entry.extend_from_slice(cursor.body(index)?);
        self.position += 1;
        Ok(Some(index.index))
    }

    /// Index of the entry that comes next.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Waits until the next entry is durable; resolves to the durable index.
    ///
    /// # Errors
    ///
    /// [`JournalErrorKind::Closed`] if the journal is closed first.
    pub fn wait(&self) -> WaitPast {
        WaitPast { shared: Arc::clone(&self.shared), index: self.position, place: None }
    }

    /// Moves the cursor past the entry at the position.
    fn advance(&mut self) -> Result<Option<super::cursor::EntryAt>, JournalError> {
        if self.position >= self.durable {
            self.durable = self.shared.durable_index();
            if self.position >= self.durable {
                return Ok(None);
            }
        }
        loop {
            let Some(cursor) = &mut self.cursor else {
                self.enter()?;
                continue;
            };
            match cursor.step()? {
                Step::Entry(entry) if entry.index < self.position => {}
                Step::Entry(entry) => return Ok(Some(entry)),
                // The entry is durable, so it is further on in this file or in the next.
                Step::Sealed | Step::End => self.enter()?,
                Step::Bad(reason) => {
                    let (path, offset) = (cursor.path.clone(), cursor.offset);
                    self.cursor = None;
                    return Err(JournalError::damaged(&path, offset, reason));
                }
            }
        }
    }

    /// Looks up where the entry at the position is.
    fn enter(&mut self) -> Result<(), JournalError> {
        let position = self.position;
        let (first, found) = {
            let state = self.shared.lock();
            let found = state
                .segments
                .iter()
                .rev()
                .find(|segment| segment.first <= position && position < segment.end);
            (state.first_index(), found.copied())
        };
        let Some(segment) = found else {
            self.cursor = None;
            return Err(self.trimmed(first));
        };
        if let Some(cursor) = &mut self.cursor
            && cursor.header.first == segment.first
        {
            if cursor.limit() >= segment.bytes {
                let reason = "the segment ends before an entry that had been durable";
                let (path, offset) = (cursor.path.clone(), cursor.offset);
                self.cursor = None;
                return Err(JournalError::damaged(&path, offset, reason));
            }
            cursor.set_limit(segment.bytes);
            return Ok(());
        }
        let opened = SegmentCursor::open(&self.shared.dir, segment.first);
        let mut cursor = match opened {
            Ok(cursor) => cursor,
            Err(error) if error.is_not_found() => {
                let first = self.shared.lock().first_index();
                return Err(if position < first { self.trimmed(first) } else { error });
            }
            Err(error) => return Err(error),
        };
        cursor.set_limit(segment.bytes);
        cursor.skip_batches_before(position)?;
        self.cursor = Some(cursor);
        Ok(())
    }

    fn trimmed(&self, first: u64) -> JournalError {
        JournalError::new(
            JournalErrorKind::Trimmed,
            format!(
                "entry {} has been trimmed from the journal, the oldest one kept is {first}",
                self.position
            ),
        )
    }
}
