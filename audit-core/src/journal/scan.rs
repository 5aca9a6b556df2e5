//! Reading a journal directory without owning it: for verifiers, on a copy or beside a live writer.

use std::path::{Path, PathBuf};

use super::TornTail;
use super::cursor::{EntryAt, SegmentCursor, Step, Verdict};
use super::error::{JournalError, JournalErrorKind};
use super::format::parse_segment_name;

/// Reads every entry of a journal directory in order, takes no lock and changes nothing.
///
/// Memory is bounded by 1 MiB or the largest entry. On the directory of a live process the scan
/// sees some moment between its start and its end; a write in flight then looks like a torn tail.
///
/// ```
/// use agent_audit_core::journal::{Journal, JournalOptions, Scan, ScanEnd};
///
/// let dir = tempfile::tempdir()?;
/// let (journal, _) = Journal::open(dir.path(), JournalOptions::default())?;
/// let permit = journal.admit_blocking(5)?;
/// let ticket = journal.append(permit, &[b"hello"])?;
/// journal.durable(ticket).wait()?;
///
/// let mut scan = Scan::open(dir.path())?;
/// let entry = scan.next_entry()?.expect("one entry");
/// assert_eq!((entry.index, entry.bytes), (0, &b"hello"[..]));
/// assert!(scan.next_entry()?.is_none());
/// assert!(matches!(scan.end(), Some(ScanEnd::Clean { next_index: 1, .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Scan {
    dir: PathBuf,
    /// First entries of the segments not yet begun, newest first.
    ahead: Vec<u64>,
    current: Option<SegmentCursor>,
    expected: Option<u64>,
    first_index: Option<u64>,
    end: Option<ScanEnd>,
}

/// An entry found by a [`Scan`].
///
/// ```
/// use agent_audit_core::journal::ScanEntry;
/// let entry = ScanEntry { index: 7, segment: 0, bytes: b"hello" };
/// assert!(entry.segment <= entry.index);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanEntry<'a> {
    /// The entry's index.
    pub index: u64,
    /// First entry of the segment that holds it, which is also the name of the segment's file.
    pub segment: u64,
    /// The entry, as it was appended.
    pub bytes: &'a [u8],
}

/// How a [`Scan`] came to its end.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::journal::{Journal, JournalOptions, Scan, ScanEnd};
/// let (journal, _journal) = Journal::open(dir.path(), JournalOptions::default())?;
/// let mut scan = Scan::open(dir.path())?;
/// assert!(scan.next_entry()?.is_none());
/// assert!(matches!(scan.end(), Some(ScanEnd::Clean { next_index: 0, .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScanEnd {
    /// Everything written was read.
    #[non_exhaustive]
    Clean {
        /// Index that the next entry will have.
        next_index: u64,
    },
    /// The last write was never acknowledged and is incomplete; everything before it was read.
    #[non_exhaustive]
    Torn {
        /// Index that the next entry will have.
        next_index: u64,
        /// What would be cut when the journal is opened.
        tail: TornTail,
    },
    /// Bytes that had been durable are changed or gone.
    #[non_exhaustive]
    Damaged {
        /// First entry of the damaged segment, which is also the name of its file.
        segment: u64,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        reason: String,
        /// The first entry that could not be read.
        next_index: u64,
    },
    /// A segment in the middle is missing, or one is there twice.
    #[non_exhaustive]
    Gap {
        /// The entry that should come next.
        expected: u64,
        /// The first entry of the next segment.
        found: u64,
    },
}

impl Scan {
    /// Starts at the oldest entry kept in `dir`.
    ///
    /// # Errors
    ///
    /// [`JournalErrorKind::Io`] or [`JournalErrorKind::PermissionDenied`] if the directory cannot
    /// be listed.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, JournalError> {
        let dir = dir.as_ref().to_path_buf();
        let mut ahead = list_segments(&dir)?;
        ahead.reverse();
        let first_index = ahead.last().copied();
        Ok(Self { dir, ahead, current: None, expected: None, first_index, end: None })
    }

    /// The next entry, or nothing once [`Scan::end`] says why.
    ///
    /// # Errors
    ///
    /// An operation that the system refused, or [`JournalErrorKind::UnknownVersion`]. Damage is
    /// not an error of the scan but its finding.
    pub fn next_entry(&mut self) -> Result<Option<ScanEntry<'_>>, JournalError> {
        let Some(entry) = self.advance()? else { return Ok(None) };
        let Some(cursor) = self.current.as_mut() else { return Ok(None) };
        let segment = cursor.header.first;
        Ok(Some(ScanEntry { index: entry.index, segment, bytes: cursor.body(entry)? }))
    }

    /// How the scan ended, once it has.
    pub fn end(&self) -> Option<&ScanEnd> {
        self.end.as_ref()
    }

    /// Index of the oldest entry kept; nothing if the directory has no segment.
    pub fn first_index(&self) -> Option<u64> {
        self.first_index
    }

    /// Moves past the next entry, or to the end.
    fn advance(&mut self) -> Result<Option<EntryAt>, JournalError> {
        loop {
            if self.end.is_some() || (self.current.is_none() && !self.enter_next()?) {
                return Ok(None);
            }
            let Some(cursor) = self.current.as_mut() else { continue };
            let newest = self.ahead.is_empty();
            match cursor.step()? {
                Step::Entry(entry) => return Ok(Some(entry)),
                Step::Sealed => {
                    self.expected = Some(cursor.next);
                    self.current = None;
                }
                Step::End if !newest => self.damaged("the segment ends without its seal"),
                Step::End if cursor.is_cut_short() => {
                    self.damaged("the file is shorter than it was made and has no seal");
                }
                Step::End => {
                    self.end = Some(ScanEnd::Clean { next_index: cursor.next });
                }
                Step::Bad(reason) if !newest => self.damaged(reason),
                Step::Bad(reason) => match cursor.judge(reason)? {
                    Verdict::Readable => {}
                    Verdict::Damaged(reason) => self.damaged(&reason),
                    Verdict::Torn => {
                        let tail = TornTail {
                            segment: cursor.header.first,
                            offset: cursor.offset,
                            bytes: cursor.used_after()?,
                        };
                        self.end = Some(ScanEnd::Torn { next_index: cursor.next, tail });
                    }
                },
            }
        }
    }

    fn enter_next(&mut self) -> Result<bool, JournalError> {
        let Some(first) = self.ahead.pop() else {
            self.end = Some(ScanEnd::Clean { next_index: self.expected.unwrap_or(0) });
            return Ok(false);
        };
        if let Some(expected) = self.expected
            && expected != first
        {
            self.end = Some(ScanEnd::Gap { expected, found: first });
            return Ok(false);
        }
        match SegmentCursor::open(&self.dir, first) {
            Ok(cursor) => self.current = Some(cursor),
            Err(error) if error.kind() == JournalErrorKind::Damaged => {
                let reason = error.to_string();
                let end = ScanEnd::Damaged { segment: first, offset: 0, reason, next_index: first };
                self.end = Some(end);
                return Ok(false);
            }
            Err(error) => {
                // A live writer trims its oldest segments; then the scan starts behind them.
                let trimmed = error.is_not_found() && self.expected.is_none();
                if trimmed && !self.ahead.is_empty() {
                    self.first_index = self.ahead.last().copied();
                    return self.enter_next();
                }
                return Err(error);
            }
        }
        Ok(true)
    }

    fn damaged(&mut self, reason: &str) {
        if let Some(cursor) = &self.current {
            self.end = Some(ScanEnd::Damaged {
                segment: cursor.header.first,
                offset: cursor.offset,
                reason: reason.to_owned(),
                next_index: cursor.next,
            });
        }
    }
}

/// The first entries of the segments in `dir`, oldest first.
pub(super) fn list_segments(dir: &Path) -> Result<Vec<u64>, JournalError> {
    let failed = |error| JournalError::io("list journal directory", dir, error);
    let mut segments = Vec::new();
    for item in std::fs::read_dir(dir).map_err(failed)? {
        let name = item.map_err(failed)?.file_name();
        segments.extend(name.to_str().and_then(parse_segment_name));
    }
    segments.sort_unstable();
    Ok(segments)
}
