//! The write-ahead journal: opaque entries in one total order, durable by group commit.
//!
//! The journal knows nothing about events. It stores byte strings, numbers them 0, 1, 2, … and
//! promises:
//!
//! - An entry for which [`Durable`] has resolved to `Ok` MUST be found by every later open and read,
//!   once, at its index and unchanged, until it is trimmed.
//! - An entry that was not acknowledged may be found after a crash, but only as part of a run
//!   without holes that directly follows the acknowledged ones.
//! - An index is never given to two acknowledged entries.
//! - Bytes that had been durable are never cut: if they do not read as they were written, opening is
//!   refused ([`JournalErrorKind::Damaged`]).
//! - One process at a time owns a directory.
//!
//! It does not defend against a person who rewrites the files; the chain and its checkpoints do.
//!
//! # Writing
//!
//! [`Journal::admit`] waits for room and reserves it, [`Journal::append`] takes the place in the
//! order (memory only), [`Journal::durable`] waits for the disk. A thread, `audit-journal`, writes
//! everything that is pending with one call and syncs it with one call, however many callers there
//! are. Room is preallocated before it is promised, so that a full disk is an error of `admit` and
//! never hits an entry that has its place.
//!
//! When a write or a sync fails, every entry not yet durable fails with it, and nothing is accepted
//! until [`Journal::recover`] has cut those entries. Their indices are then used again.
//!
//! # Files
//!
//! | name | what |
//! |---|---|
//! | `NNNNNNNNNNNNNNNNNNNN.journal` | a segment; 20 decimal digits, the index of its first entry |
//! | `lock` | held with `flock` by the owner; its content is the owner's process id, for people |
//! | `spare-N.new` | preallocated next segment; meaningless, deleted at open |
//! | `torn-NNNNNNNNNNNNNNNNNNNN-OFFSET` | copy of a tail that was cut at open; never read |
//!
//! Directories are created with mode 0700, files with 0600.
//!
//! # Format, version 1
//!
//! All numbers are unsigned and little-endian; checksums are CRC-32C (RFC 3720, appendix B.4). A
//! segment is a header, then records, some of which are followed by frames, then zeros up to the
//! preallocated size, or a seal and the end of the file.
//!
//! Segment header, 64 bytes:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | `89 41 55 44 4A 0D 0A 1A` (`\x89AUDJ\r\n\x1a`) |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | flags, 0; anything else is a version that this one cannot read |
//! | 16 | 8 | index of the first entry; the same as in the file's name |
//! | 24 | 8 | size to which the file was preallocated, 0 where the file system cannot |
//! | 32 | 8 | salt, random |
//! | 40 | 20 | zeros |
//! | 60 | 4 | checksum of bytes 0 to 59 |
//!
//! Record, 48 bytes:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 4 | `41 4A 52 B1` (`AJR\xB1`) |
//! | 4 | 4 | kind: 1 batch, 2 mark, 3 seal |
//! | 8 | 8 | offset in the file of this record |
//! | 16 | 8 | durable watermark: everything in front of this offset was durable before this was written |
//! | 24 | 8 | index of the next entry after this record |
//! | 32 | 8 | bytes of frames that follow: at least 9 for a batch, 0 for marks and seals |
//! | 40 | 4 | number of those frames: at least 1 for a batch, 0 for marks and seals |
//! | 44 | 4 | checksum of the salt (8 bytes), then bytes 0 to 43 |
//!
//! Frame, one for each entry of a batch:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 4 | length of the body, n: 1 to 2^30 ([`MAX_ENTRY_BYTES`]) |
//! | 4 | 4 | checksum of the body, then the entry's index (8 bytes), then n (4 bytes) |
//! | 8 | n | body |
//!
//! Entries are never empty, so zeros are never a frame, and the length of a frame is below the
//! number that a record begins with, so neither is taken for the other. A *batch* is what one write
//! and one sync made durable. A *mark* stands where no batch followed for a moment. A *seal* ends a
//! segment; it may stand inside a batch, at the place of a frame, and then cuts it there. Every
//! segment but the newest is sealed, and the seal's next index is the first of the next segment.
//!
//! Worked example: the one-byte entry `a`, first in a journal, is the frame
//! `01 00 00 00 B3 78 BE 5B 61`: CRC-32C of `61`, `00` × 8, `01 00 00 00` is 0x5BBE78B3. It stands
//! at offset 112: behind the segment header (64) and the header of its batch (48), which says
//! offset 64, watermark 64, next index 0, 9 bytes, 1 entry. The tests hold these bytes.
//!
//! # Torn or damaged
//!
//! A crash leaves any subset of the pages of the last unsynced write, in any order: a cut, zeros in
//! the middle with intact frames behind them, half a page. None of it was acknowledged, and it must
//! be cut. The same bytes in data that was acknowledged are damage and must never be cut. They are
//! told apart by the watermarks:
//!
//! 1. A batch is written only after the batch before it was synced, and says so: its watermark is
//!    the end of that batch. So at any time at most one batch is written and unsynced, and no intact
//!    record claims as durable what was not.
//! 2. Let X be the first place that does not read as written. If any intact record *behind* X has a
//!    watermark above X, X had been durable: damage. Records are found behind X without relying on
//!    the bytes between: each carries its own offset and a checksum over the segment's secret salt,
//!    so neither stale bytes nor the content of an entry can pass for one.
//! 3. If none has, no batch was written after the one that holds X was synced. Then X lies in the
//!    last batch: torn. What is in front of X is kept, X and what follows is copied aside and cut.
//!
//! The last batch itself has no batch behind it. For that, a mark is written right after each sync
//! when nothing else is pending, and a seal at close. So damage to acknowledged bytes is taken for a
//! torn tail only if it hits the last batch before a crash and the mark behind it is lost too: the
//! mark is in the file when the process dies, and may be lost for some seconds when the machine does.
//!
//! A preallocated file is never shorter than it was made until it is sealed, so a shorter file
//! without a seal has been cut by somebody: damage. A segment gets its name only when its header is
//! durable, so a header that does not read is damage.
//!
//! After a crash or a failure a segment is not written again except for its seal. The seal is synced
//! before the file is cut behind it, so a crash between the two leaves nothing undecided. A mark is
//! not synced, so neither a batch nor a seal behind it claims that it is durable: losing it is torn,
//! and loses no entry.

mod commit;
mod cursor;
mod error;
#[cfg(any(test, feature = "conformance"))]
#[doc(hidden)]
pub mod faulty;
mod format;
mod gathering;
mod io;
mod open;
mod options;
mod reader;
mod scan;
mod segment;
mod state;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
mod trim;
mod wait;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use commit::Committer;
pub use error::{JournalError, JournalErrorKind};
pub use format::MAX_ENTRY_BYTES;
use format::{FRAME_HEADER, body_crc, frame_crc};
#[doc(hidden)]
pub use io::{JournalFile, JournalIo, SystemIo};
pub use options::{CheckOnOpen, JournalOptions, WhenFull};
pub use reader::Reader;
pub use scan::{Scan, ScanEnd, ScanEntry};
use state::{Shared, wake_all};
pub use wait::{Admit, Durable, Permit, WaitPast};

/// What [`Journal::open`] found.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::journal::{Journal, JournalOptions};
/// let (journal, recovered) = Journal::open(dir.path(), JournalOptions::default())?;
/// # drop(journal);
/// assert_eq!((recovered.first_index, recovered.next_index, recovered.torn), (0, 0, None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// The oldest entry kept; the same as `next_index` if there is none.
    pub first_index: u64,
    /// Index that the next entry gets.
    pub next_index: u64,
    /// What was cut because it had never been acknowledged.
    pub torn: Option<TornTail>,
}

/// An incomplete write at the end of a journal, never acknowledged.
///
/// ```
/// use agent_audit_core::journal::TornTail;
/// fn warn(tail: &TornTail) -> String {
///     format!("{} bytes at {} of segment {} were cut", tail.bytes, tail.offset, tail.segment)
/// }
/// # let _ = warn;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TornTail {
    /// First entry of the segment, which is also the name of its file.
    pub segment: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// Its length, without the zeros of preallocation behind it.
    pub bytes: u64,
}

/// The place of an entry in the total order, given before it is durable.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::journal::{Journal, JournalOptions};
/// let (journal, _) = Journal::open(dir.path(), JournalOptions::default())?;
/// let first = journal.append(journal.admit_blocking(1)?, &[b"a"])?;
/// let second = journal.append(journal.admit_blocking(1)?, &[b"b"])?;
/// assert_eq!((first.index(), second.index()), (0, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    index: u64,
    generation: u64,
}

impl Ticket {
    /// Index of the entry, if it becomes durable.
    pub fn index(self) -> u64 {
        self.index
    }
}

/// Counters of a journal at one moment.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::journal::{Journal, JournalOptions};
/// let (journal, _) = Journal::open(dir.path(), JournalOptions::default())?;
/// let stats = journal.stats();
/// assert_eq!((stats.next_index, stats.pending_bytes, stats.failed), (0, 0, false));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalStats {
    /// The oldest entry kept.
    pub first_index: u64,
    /// Index that the next entry gets.
    pub next_index: u64,
    /// Entries before this one are durable.
    pub durable_index: u64,
    /// Segment files.
    pub segments: usize,
    /// Bytes of entries kept in them, with their frames.
    pub bytes: u64,
    /// Bytes admitted and not yet durable.
    pub pending_bytes: u64,
    /// Batches synced since the journal was opened.
    pub batches: u64,
    /// Nothing is accepted until [`Journal::recover`].
    pub failed: bool,
}

/// A write-ahead journal in a directory that this handle owns.
///
/// Share it by reference or in an [`Arc`]. Dropping it closes it.
///
/// ```
/// use agent_audit_core::journal::{Journal, JournalOptions};
///
/// let dir = tempfile::tempdir()?;
/// let (journal, recovered) = Journal::open(dir.path(), JournalOptions::default())?;
/// assert_eq!(recovered.next_index, 0);
/// let permit = journal.admit_blocking(11)?;
/// let ticket = journal.append(permit, &[b"first entry"])?;
/// journal.durable(ticket).wait()?; // or .await
/// journal.close();
///
/// let (_journal, recovered) = Journal::open(dir.path(), JournalOptions::default())?;
/// assert_eq!(recovered.next_index, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Serialises those who ask for a recovery.
    recovering: Mutex<()>,
}

impl Journal {
    /// Opens the journal in `dir`, which is created if it is missing.
    ///
    /// An incomplete write at the end that was never acknowledged is cut, and reported.
    ///
    /// # Errors
    ///
    /// - [`JournalErrorKind::Locked`] if it is in use;
    /// - [`JournalErrorKind::Damaged`] if bytes that had been durable are changed or gone; nothing
    ///   is cut then;
    /// - [`JournalErrorKind::PermissionDenied`], [`JournalErrorKind::UnknownVersion`],
    ///   [`JournalErrorKind::NoSpace`], [`JournalErrorKind::Io`].
    pub fn open(
        dir: impl AsRef<Path>,
        options: JournalOptions,
    ) -> Result<(Self, Recovered), JournalError> {
        let dir = dir.as_ref();
        let options = options.bounded();
        open::create_dir(dir)?;
        let lock = open::lock(dir)?;
        let opened = open::load(dir, &options)?;
        let shared = Arc::new(Shared::new(dir, options, opened.segments, opened.next_index));
        let committer = Committer::new(Arc::clone(&shared), lock);
        let thread = std::thread::Builder::new()
            .name("audit-journal".to_owned())
            .spawn(move || committer.run())
            .map_err(|error| JournalError::io("start the commit thread for", dir, error))?;
        let journal = Self { shared, thread: Mutex::new(Some(thread)), recovering: Mutex::new(()) };
        let recovered = journal.recovered(opened.torn);
        Ok((journal, recovered))
    }

    /// Waits until there is room for an entry of `bytes` bytes, and reserves it.
    ///
    /// Separate from [`Journal::append`] so that nobody waits while holding a lock. Who came first
    /// is admitted first. Do not wait for a permit while holding another: the first may take the
    /// room that the second waits for.
    ///
    /// # Errors
    ///
    /// - [`JournalErrorKind::Full`] if the journal was told to refuse;
    /// - [`JournalErrorKind::NoSpace`] if the device has no room for another segment; nothing was
    ///   changed;
    /// - [`JournalErrorKind::TooLarge`], [`JournalErrorKind::Failed`], [`JournalErrorKind::Closed`].
    pub fn admit(&self, bytes: usize) -> Admit {
        Admit { shared: Arc::clone(&self.shared), bytes, place: None }
    }

    /// [`Journal::admit`], waiting on this thread.
    ///
    /// # Errors
    ///
    /// As [`Journal::admit`].
    pub fn admit_blocking(&self, bytes: usize) -> Result<Permit, JournalError> {
        self.admit(bytes).wait()
    }

    /// Gives an entry its place in the total order; it is not durable yet.
    ///
    /// The entry is handed in as pieces, which are joined. Writes memory only. An entry larger than
    /// its permit is taken; the reservation is then smaller than it should be, so a full device can
    /// make it fail later.
    ///
    /// # Errors
    ///
    /// [`JournalErrorKind::EmptyEntry`], [`JournalErrorKind::TooLarge`], [`JournalErrorKind::Failed`]
    /// or [`JournalErrorKind::Closed`]; the entry then has no place.
    pub fn append(&self, permit: Permit, entry: &[&[u8]]) -> Result<Ticket, JournalError> {
        let bytes = entry.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        if bytes == 0 {
            return Err(JournalError::new(
                JournalErrorKind::EmptyEntry,
                "an entry without bytes cannot be recorded, append at least one",
            ));
        }
        let cost = self.shared.cost(bytes)?;
        let length = u32::try_from(bytes).expect("an entry is at most 2^30 bytes");
        let body_crc = body_crc(entry);

        let mut permit = permit;
        let mut state = self.shared.lock();
        state.check_open()?;
        // A permit of another journal reserved nothing here and is given back there.
        let own = Arc::ptr_eq(&permit.shared, &self.shared);
        let reserved = if own { std::mem::take(&mut permit.cost) } else { 0 };
        state.outstanding = state.outstanding - reserved + cost;
        state.pending_cost += cost;
        let index = state.next_index;
        let crc = frame_crc(body_crc, index, length);
        state.pending.reserve(FRAME_HEADER + bytes);
        state.pending.extend_from_slice(&length.to_le_bytes());
        state.pending.extend_from_slice(&crc.to_le_bytes());
        for part in entry {
            state.pending.extend_from_slice(part);
        }
        state.pending_entries += 1;
        state.next_index += 1;
        let ticket = Ticket { index, generation: state.generation };
        if state.pending_entries >= state.awaited {
            self.shared.wake_committer(&mut state);
        }
        let wakers = if reserved > cost { self.shared.grant(&mut state) } else { Vec::new() };
        drop(state);
        wake_all(wakers);
        Ok(ticket)
    }

    /// Waits until the entry of `ticket` is durable.
    ///
    /// # Errors
    ///
    /// [`JournalErrorKind::Failed`] if it will never be, and
    /// [`JournalError::may_have_been_written`] says whether it may be on disk all the same.
    pub fn durable(&self, ticket: Ticket) -> Durable {
        Durable { shared: Arc::clone(&self.shared), ticket, place: None }
    }

    /// Entries before this index are durable.
    pub fn durable_index(&self) -> u64 {
        self.shared.durable_index()
    }

    /// Index that the next entry gets.
    pub fn next_index(&self) -> u64 {
        self.shared.lock().next_index
    }

    /// The oldest entry kept; the same as the next index if there is none.
    pub fn first_index(&self) -> u64 {
        self.shared.lock().first_index()
    }

    /// Reads durable entries from index `from` on.
    ///
    /// # Errors
    ///
    /// [`JournalErrorKind::Trimmed`] or [`JournalErrorKind::NotWritten`] if `from` is outside the
    /// journal.
    pub fn reader(&self, from: u64) -> Result<Reader, JournalError> {
        Reader::new(Arc::clone(&self.shared), from)
    }

    /// Waits until entry `index` is durable; resolves to the durable index.
    ///
    /// It waits on through a failure and a recovery.
    ///
    /// # Errors
    ///
    /// [`JournalErrorKind::Closed`] if the journal is closed first.
    pub fn wait_past(&self, index: u64) -> WaitPast {
        WaitPast { shared: Arc::clone(&self.shared), index, place: None }
    }

    /// Lets go of entries before `keep_from`.
    ///
    /// Deletes the segments that hold nothing else, oldest first, and never the newest. When the
    /// newest stands in the way of a full journal, a new one is begun so that it can go too.
    ///
    /// # Errors
    ///
    /// A file that could not be deleted; trimming can be tried again.
    pub fn trim(&self, keep_from: u64) -> Result<(), JournalError> {
        {
            let mut state = self.shared.lock();
            state.trim_to = state.trim_to.max(keep_from.min(state.durable_index));
        }
        let result = self.shared.trim();
        let mut state = self.shared.lock();
        self.shared.wake_committer(&mut state);
        result
    }

    /// Makes a failed journal usable again, and says where it continues.
    ///
    /// Cuts every entry that was not durable when it failed; their indices are used again, in a new
    /// segment. Does nothing if the journal has not failed.
    ///
    /// # Errors
    ///
    /// What still stands in the way; the journal stays failed and this can be tried again.
    pub fn recover(&self) -> Result<Recovered, JournalError> {
        let _one_at_a_time = self.recovering.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.shared.lock();
        if state.failed {
            state.recover_asked = true;
            state.recover_answer = None;
            self.shared.wake_committer(&mut state);
            let answer = loop {
                if let Some(answer) = state.recover_answer.take() {
                    break answer;
                }
                if state.closed {
                    break Err(JournalError::closed());
                }
                let woken = self.shared.answered.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
            };
            answer?;
        } else if state.closing || state.closed {
            return Err(JournalError::closed());
        }
        drop(state);
        Ok(self.recovered(None))
    }

    /// About how many bytes the durable entries from `index` on take; within a segment they are
    /// taken to be equally large.
    pub(crate) fn bytes_from(&self, index: u64) -> u64 {
        let state = self.shared.lock();
        let part = |segment: &state::Segment| {
            let all = segment.end.saturating_sub(segment.first);
            let left = segment.end.saturating_sub(index.max(segment.first));
            let bytes = u128::from(segment.bytes) * u128::from(left) / u128::from(all.max(1));
            u64::try_from(bytes).unwrap_or(u64::MAX)
        };
        state.segments.iter().rev().take_while(|segment| segment.end > index).map(part).sum()
    }

    /// First entry, index after the last and bytes of each segment, oldest first.
    pub(crate) fn spans(&self) -> Vec<(u64, u64, u64)> {
        let state = self.shared.lock();
        state.segments.iter().map(|segment| (segment.first, segment.end, segment.bytes)).collect()
    }

    /// Counters at this moment.
    pub fn stats(&self) -> JournalStats {
        let state = self.shared.lock();
        JournalStats {
            first_index: state.first_index(),
            next_index: state.next_index,
            durable_index: state.durable_index,
            segments: state.segments.len(),
            bytes: state.bytes,
            pending_bytes: state.outstanding,
            batches: state.batches,
            failed: state.failed,
        }
    }

    /// Commits what is pending, ends the commit thread and gives up the directory.
    ///
    /// Nothing is accepted from then on; readers can still read. A failed journal is closed as it
    /// is. Blocks for a sync; closing again does nothing.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.closing = true;
        let wakers = self.shared.grant(&mut state);
        self.shared.wake_committer(&mut state);
        drop(state);
        wake_all(wakers);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            // A waker may drop the last handle on the commit thread itself.
            && thread.thread().id() != std::thread::current().id()
        {
            // It does not panic, and if it did there would be nothing left to wait for.
            let _ = thread.join();
        }
    }

    fn recovered(&self, torn: Option<TornTail>) -> Recovered {
        let state = self.shared.lock();
        Recovered { first_index: state.first_index(), next_index: state.next_index, torn }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}
