//! The files that the commit thread writes to, and what fits into them.

use std::path::PathBuf;

use super::format::{
    FRAME_HEADER, RECORD, Record, RecordKind, SEGMENT_HEADER, as_length, as_offset, le32,
};
use super::io::{JournalFile, write_all_at};

#[derive(Debug)]
pub(super) struct ActiveFile {
    pub(super) file: Box<dyn JournalFile>,
    pub(super) path: PathBuf,
    pub(super) salt: u64,
    /// Where the next record goes; everything before it is durable, but for a mark.
    pub(super) offset: u64,
    /// End of the last batch that was synced.
    pub(super) durable: u64,
    pub(super) capacity: u64,
    /// Blocks before this offset have been written, if only with zeros; the capacity where there
    /// are no preallocated blocks.
    pub(super) zeroed: u64,
}

/// How far ahead zeros are written over preallocated blocks.
const ZERO_AHEAD: u64 = 1 << 20;

impl ActiveFile {
    /// Writes zeros behind `end` over preallocated blocks, so that the batches which come there
    /// need not change the file's block map: their sync then writes the data and nothing else,
    /// which halves its time. Preallocated blocks read as zeros before and after.
    pub(super) fn zero_ahead(&mut self, end: u64) -> std::io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        if end <= self.zeroed {
            return Ok(());
        }
        let until = (end + ZERO_AHEAD).min(self.capacity);
        let mut at = end;
        while at < until {
            let zeros = &ZEROS[..as_length((until - at).min(as_offset(ZEROS.len())))];
            write_all_at(self.file.as_ref(), zeros, at)?;
            at += as_offset(zeros.len());
        }
        self.zeroed = until.max(end);
        Ok(())
    }
}

/// The preallocated file that becomes the next segment.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) file: Box<dyn JournalFile>,
    pub(super) path: PathBuf,
    pub(super) capacity: u64,
    pub(super) allocated: bool,
}

impl Spare {
    /// Bytes of records and frames that fit.
    pub(super) fn room(&self) -> u64 {
        self.capacity.saturating_sub(as_offset(SEGMENT_HEADER + RECORD))
    }
}

/// Ends a segment at `offset`, durably; where the seal ends.
///
/// `durable` is how far the file was durable before, which a mark in front of the seal is not.
pub(super) fn write_seal(
    file: &dyn JournalFile,
    salt: u64,
    offset: u64,
    durable: u64,
    next: u64,
) -> std::io::Result<u64> {
    let seal = Record { kind: RecordKind::Seal, offset, durable, next, payload: 0, entries: 0 };
    write_all_at(file, &seal.encode(salt), offset)?;
    file.sync_data()?;
    Ok(offset + as_offset(RECORD))
}

/// How many bytes and entries at the start of `frames` fit into `room`.
pub(super) fn fitting_prefix(frames: &[u8], entries: u32, room: u64) -> (usize, u32) {
    if as_offset(frames.len()) <= room {
        return (frames.len(), entries);
    }
    let (room, mut at, mut count) = (as_length(room), 0, 0);
    while at < frames.len() {
        let length = first_frame(&frames[at..]);
        if at + length > room {
            break;
        }
        at += length;
        count += 1;
    }
    (at, count)
}

/// Length of the frame at the start of `frames`.
pub(super) fn first_frame(frames: &[u8]) -> usize {
    FRAME_HEADER + as_length(u64::from(le32(frames, 0)))
}
