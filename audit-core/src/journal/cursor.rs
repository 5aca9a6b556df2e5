//! Reading one segment: frame after frame in bounded memory, and what to think of a place that
//! cannot be read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::{JournalError, JournalErrorKind};
use super::format::{
    FORMAT_VERSION, FRAME_HEADER, HeaderFault, MAX_ENTRY_BYTES, RECORD, RECORD_MAGIC, Record,
    RecordKind, SEGMENT_HEADER, SegmentHeader, as_length, as_offset, body_crc, frame_crc, le32,
    segment_name,
};

/// How much is read at once; an entry that is larger is read whole.
const BLOCK: usize = 1 << 20;

/// A window onto a file that moves forward.
#[derive(Debug)]
struct Window {
    file: File,
    bytes: Vec<u8>,
    /// Offset in the file of the first byte in the window.
    start: u64,
    /// How many bytes of the buffer are filled.
    filled: usize,
    /// Nothing at or after this offset is read.
    limit: u64,
}

impl Window {
    /// The `length` bytes at `offset`, or nothing if they do not lie in front of the limit.
    fn get(&mut self, offset: u64, length: usize) -> io::Result<Option<&[u8]>> {
        if offset.checked_add(as_offset(length)).is_none_or(|end| end > self.limit) {
            return Ok(None);
        }
        let inside = offset >= self.start
            && offset + as_offset(length) <= self.start + as_offset(self.filled);
        if !inside && !self.fill(offset, length)? {
            return Ok(None);
        }
        let at = as_length(offset - self.start);
        Ok(Some(&self.bytes[at..at + length]))
    }

    /// Moves the window to `offset`; false if the file turned out to be shorter than its limit.
    fn fill(&mut self, offset: u64, length: usize) -> io::Result<bool> {
        let end = self.start + as_offset(self.filled);
        if offset >= self.start && offset < end {
            let at = as_length(offset - self.start);
            self.bytes.copy_within(at..self.filled, 0);
            self.filled -= at;
        } else {
            self.filled = 0;
        }
        self.start = offset;
        let capacity = length.max(as_length((self.limit - offset).min(as_offset(BLOCK))));
        if self.bytes.len() < capacity || self.bytes.len() > capacity.max(4 * BLOCK) {
            // Also lets go of the memory of an exceptionally large entry.
            self.bytes.resize(capacity.max(self.filled), 0);
            self.bytes.shrink_to_fit();
        }
        while self.filled < length {
            let from = self.start + as_offset(self.filled);
            let room = as_offset(self.bytes.len() - self.filled).min(self.limit - from);
            let target = &mut self.bytes[self.filled..self.filled + as_length(room)];
            match self.file.read_at(target, from) {
                Ok(0) => return Ok(false),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn forget(&mut self) {
        self.filled = 0;
    }

    /// The first offset at or after `from` that is not zero.
    fn first_used(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut offset = from;
        while offset < self.limit {
            let length = as_length((self.limit - offset).min(as_offset(BLOCK)));
            let Some(bytes) = self.get(offset, length)? else { return Ok(None) };
            if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
                return Ok(Some(offset + as_offset(at)));
            }
            offset += as_offset(length);
        }
        Ok(None)
    }

    /// The end of the last byte at or after `from` that is not zero.
    fn used_end(&mut self, from: u64) -> io::Result<u64> {
        let (mut offset, mut end) = (from, from);
        while offset < self.limit {
            let length = as_length((self.limit - offset).min(as_offset(BLOCK)));
            let Some(bytes) = self.get(offset, length)? else { break };
            if let Some(at) = bytes.iter().rposition(|byte| *byte != 0) {
                end = offset + as_offset(at) + 1;
            }
            offset += as_offset(length);
        }
        Ok(end)
    }
}

/// What stands at the cursor.
#[derive(Debug)]
pub(super) enum Step {
    /// An intact entry; [`SegmentCursor::body`] has its bytes.
    Entry(EntryAt),
    /// The segment was ended here.
    Sealed,
    /// Nothing has been written from here on, up to the limit.
    End,
    /// Something stands here that is not what was written.
    Bad(&'static str),
}

/// Where the body of an entry stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryAt {
    pub(super) index: u64,
    offset: u64,
    length: usize,
}

/// What a place that cannot be read means.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It was never acknowledged.
    Torn,
    /// It had been durable.
    Damaged(String),
    /// A writer was at work there; it can be read now.
    Readable,
}

/// Reads a segment from its beginning.
#[derive(Debug)]
pub(super) struct SegmentCursor {
    pub(super) path: PathBuf,
    pub(super) header: SegmentHeader,
    window: Window,
    /// Where the next record or frame stands.
    pub(super) offset: u64,
    /// Index of the next entry.
    pub(super) next: u64,
    /// Highest durable watermark seen.
    durable: u64,
    /// End of the batch that the cursor is in: offset and entry index.
    batch: Option<(u64, u64)>,
}

impl SegmentCursor {
    /// Opens the segment whose name says that it starts with entry `first`.
    pub(super) fn open(dir: &Path, first: u64) -> Result<Self, JournalError> {
        let path = dir.join(segment_name(first));
        let failed = |error| JournalError::io("read journal segment", &path, error);
        let file = File::open(&path).map_err(failed)?;
        let limit = file.metadata().map_err(failed)?.len();
        let mut window = Window { file, bytes: Vec::new(), start: 0, filled: 0, limit };
        let mut bytes = [0; SEGMENT_HEADER];
        match window.get(0, SEGMENT_HEADER).map_err(failed)? {
            Some(found) => bytes.copy_from_slice(found),
            None => return Err(JournalError::damaged(&path, 0, "the segment header is cut off")),
        }
        let header = match SegmentHeader::decode(&bytes) {
            Ok(header) if header.first == first => header,
            Ok(_) => {
                return Err(JournalError::damaged(
                    &path,
                    16,
                    "the header names another first entry than the file name",
                ));
            }
            Err(HeaderFault::Damaged) => {
                return Err(JournalError::damaged(&path, 0, "the segment header is not intact"));
            }
            Err(HeaderFault::Version(version)) => {
                return Err(JournalError::new(
                    JournalErrorKind::UnknownVersion,
                    format!(
                        "segment `{}` has format version {version}, this library reads version \
                         {FORMAT_VERSION}; use a newer version",
                        path.display()
                    ),
                ));
            }
        };
        let start = as_offset(SEGMENT_HEADER);
        Ok(Self { path, header, window, offset: start, next: first, durable: start, batch: None })
    }

    /// Size of the file when it was opened, or the limit set since.
    pub(super) fn limit(&self) -> u64 {
        self.window.limit
    }

    /// Reads nothing at or after `limit`.
    pub(super) fn set_limit(&mut self, limit: u64) {
        // What was read behind the limit may have been read before it was written.
        let window = &mut self.window;
        let kept = limit.saturating_sub(window.start).min(as_offset(window.filled));
        window.filled = as_length(kept);
        window.limit = limit;
    }

    /// The entry that follows the segment, if its last bytes are its seal.
    pub(super) fn sealed_next(&mut self) -> Result<Option<u64>, JournalError> {
        let back = self.offset;
        let Some(offset) = self.limit().checked_sub(as_offset(RECORD)) else { return Ok(None) };
        self.offset = offset.max(back);
        let record = self.record_here();
        self.offset = back;
        let record = record.map_err(|error| self.failed(error))?;
        Ok(record.filter(|record| record.kind == RecordKind::Seal).map(|record| record.next))
    }

    /// Reads what stands at the cursor and moves past it if it is intact.
    pub(super) fn step(&mut self) -> Result<Step, JournalError> {
        self.try_step().map_err(|error| self.failed(error))
    }

    /// The bytes of the entry that the last step returned.
    pub(super) fn body(&mut self, entry: EntryAt) -> Result<&[u8], JournalError> {
        let path = &self.path;
        match self.window.get(entry.offset, entry.length) {
            Ok(Some(body)) => Ok(body),
            Ok(None) => Err(JournalError::damaged(path, entry.offset, "the segment was cut")),
            Err(error) => Err(JournalError::io("read journal segment", path, error)),
        }
    }

    /// Moves to the batch that holds entry `index`, as far as headers alone tell.
    pub(super) fn skip_batches_before(&mut self, index: u64) -> Result<(), JournalError> {
        while self.batch.is_none() {
            let record = match self.record_here() {
                Ok(record) => record,
                Err(error) => return Err(self.failed(error)),
            };
            let Some(record) = record else { return Ok(()) };
            let end = record.next.saturating_add(u64::from(record.entries));
            if record.kind == RecordKind::Seal || self.check(&record).is_err() || end > index {
                return Ok(());
            }
            self.durable = record.durable;
            self.offset += as_offset(RECORD) + record.payload;
            self.next = end;
        }
        Ok(())
    }

    /// Judges a place where [`Step::Bad`] was met, in the newest segment of a journal.
    pub(super) fn judge(&mut self, reason: &str) -> Result<Verdict, JournalError> {
        self.try_judge(reason).map_err(|error| self.failed(error))
    }

    /// Whether the file is shorter than it was made, which a crash cannot do.
    pub(super) fn is_cut_short(&self) -> bool {
        self.window.limit < self.header.allocated
    }

    /// How many bytes from the cursor on are not just zeros at the end.
    pub(super) fn used_after(&mut self) -> Result<u64, JournalError> {
        let offset = self.offset;
        self.window.used_end(offset).map(|end| end - offset).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> JournalError {
        JournalError::io("read journal segment", &self.path, error)
    }

    fn try_step(&mut self) -> io::Result<Step> {
        loop {
            if let Some((end, end_index)) = self.batch {
                if self.offset < end {
                    return self.frame(end, end_index);
                }
                self.batch = None;
            }
            if self.offset == self.window.limit {
                return Ok(Step::End);
            }
            let Some(record) = self.record_here()? else {
                return Ok(match self.window.first_used(self.offset)? {
                    None => Step::End,
                    Some(_) => Step::Bad("the record that should be here is not intact"),
                });
            };
            if let Err(reason) = self.check(&record) {
                return Ok(Step::Bad(reason));
            }
            self.durable = record.durable;
            if record.kind == RecordKind::Seal {
                return Ok(Step::Sealed);
            }
            self.offset += as_offset(RECORD);
            if record.kind == RecordKind::Batch {
                let end_index = record.next + u64::from(record.entries);
                self.batch = Some((self.offset + record.payload, end_index));
            }
        }
    }

    fn frame(&mut self, end: u64, end_index: u64) -> io::Result<Step> {
        let offset = self.offset;
        let Some(head) = self.window.get(offset, FRAME_HEADER)? else {
            return Ok(Step::Bad("the segment ends inside a frame"));
        };
        if head[..4] == RECORD_MAGIC {
            // The only record inside a batch is a seal that cut the batch here.
            let seal = self.record_here()?.filter(|record| record.kind == RecordKind::Seal);
            return Ok(match seal {
                Some(seal) if seal.next == self.next => Step::Sealed,
                _ => Step::Bad("a record stands where a frame should be"),
            });
        }
        let (length, crc) = (le32(head, 0), le32(head, 4));
        let body_at = offset + as_offset(FRAME_HEADER);
        let frame_end = body_at + u64::from(length);
        let Some(body_length) = usize::try_from(length)
            .ok()
            .filter(|length| (1..=MAX_ENTRY_BYTES).contains(length) && frame_end <= end)
        else {
            return Ok(Step::Bad("the length of the frame is impossible"));
        };
        let Some(body) = self.window.get(body_at, body_length)? else {
            return Ok(Step::Bad("the segment ends inside a frame"));
        };
        if frame_crc(body_crc(&[body]), self.next, length) != crc {
            return Ok(Step::Bad("the checksum of the frame does not match"));
        }
        if (frame_end == end) != (self.next + 1 == end_index) {
            return Ok(Step::Bad("the batch does not hold as many frames as it says"));
        }
        let index = self.next;
        self.offset = frame_end;
        self.next += 1;
        Ok(Step::Entry(EntryAt { index, offset: body_at, length: body_length }))
    }

    fn record_here(&mut self) -> io::Result<Option<Record>> {
        let (offset, salt) = (self.offset, self.header.salt);
        let Some(found) = self.window.get(offset, RECORD)? else { return Ok(None) };
        let mut bytes = [0; RECORD];
        bytes.copy_from_slice(found);
        Ok(Record::decode(&bytes, salt, offset))
    }

    /// Whether a record fits what came before it.
    fn check(&self, record: &Record) -> Result<(), &'static str> {
        if record.next != self.next {
            return Err("the record continues at another entry index");
        }
        if record.durable < self.durable {
            return Err("the record says that less is durable than an earlier one");
        }
        // A batch may claim more than there is: a seal inside it says that it was cut.
        let end = (self.offset + as_offset(RECORD)).checked_add(record.payload);
        let end_index = record.next.checked_add(u64::from(record.entries));
        if end.is_none() || end_index.is_none() {
            return Err("the record counts past every limit");
        }
        Ok(())
    }

    /// A place is damaged, and not torn, if a record behind it says that it had been durable.
    fn try_judge(&mut self, reason: &str) -> io::Result<Verdict> {
        let bad = self.offset;
        if self.is_cut_short() {
            return Ok(Verdict::Damaged(format!(
                "the file has {} bytes, it was made with {} and never ended by a seal ({reason})",
                self.window.limit, self.header.allocated
            )));
        }
        let Some(witness) = self.find_durable_past(bad)? else { return Ok(Verdict::Torn) };
        // A live writer may have finished this place after it was read and before the witness was.
        self.window.forget();
        let (next, durable, batch) = (self.next, self.durable, self.batch);
        let again = self.try_step()?;
        let readable = !matches!(again, Step::Bad(_));
        (self.offset, self.next, self.durable, self.batch) = (bad, next, durable, batch);
        if readable {
            return Ok(Verdict::Readable);
        }
        Ok(Verdict::Damaged(format!(
            "{reason}, and the record at offset {} says that it had been durable",
            witness.offset
        )))
    }

    /// The first record behind `bad` that was written when the byte at `bad` was durable.
    fn find_durable_past(&mut self, bad: u64) -> io::Result<Option<Record>> {
        let salt = self.header.salt;
        let mut offset = bad + 1;
        // Each look covers one block and the start of the next, for a record across the border.
        while offset + as_offset(RECORD) <= self.window.limit {
            let length = as_length((self.window.limit - offset).min(as_offset(BLOCK + RECORD)));
            let Some(bytes) = self.window.get(offset, length)? else { return Ok(None) };
            for (at, candidate) in bytes.windows(RECORD).enumerate() {
                if candidate[..4] != RECORD_MAGIC {
                    continue;
                }
                let mut found = [0; RECORD];
                found.copy_from_slice(candidate);
                let here = offset + as_offset(at);
                if let Some(record) = Record::decode(&found, salt, here)
                    && record.durable > bad
                {
                    return Ok(Some(record));
                }
            }
            offset += as_offset(length - RECORD + 1);
        }
        Ok(None)
    }
}
