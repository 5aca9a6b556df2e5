//! The bytes of a segment file: encoding and checking of its header, records and frames.
//!
//! The layout is specified in the [module documentation](super); nothing here touches a file.

use crc32c::crc32c_append;

/// First bytes of every segment file; the line end catches transfers in text mode.
pub(super) const SEGMENT_MAGIC: [u8; 8] = *b"\x89AUDJ\r\n\x1a";
/// Version of the layout that this code writes and the only one it reads.
pub(super) const FORMAT_VERSION: u32 = 1;
/// Length of the segment header.
pub(super) const SEGMENT_HEADER: usize = 64;
/// First bytes of every record. As a little-endian number it is above [`MAX_ENTRY_BYTES`], so that
/// a record can never be taken for the length field of a frame.
pub(super) const RECORD_MAGIC: [u8; 4] = *b"AJR\xB1";
/// Length of a record: batch header, mark or seal.
pub(super) const RECORD: usize = 48;
/// Bytes in front of the body of an entry: length and checksum.
pub(super) const FRAME_HEADER: usize = 8;

/// Largest entry that a journal takes: 1 GiB.
pub const MAX_ENTRY_BYTES: usize = 1 << 30;

/// The header of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Index of the first entry of the segment.
    pub(super) first: u64,
    /// Size to which the file was preallocated; 0 where the file system cannot.
    pub(super) allocated: u64,
    /// Random number that every record's checksum starts from.
    pub(super) salt: u64,
}

/// Why bytes are not a segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// Not our magic, or a checksum that does not match.
    Damaged,
    /// Intact, but of a version or with flags that this code does not know.
    Version(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.allocated.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c_append(0, &bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; SEGMENT_HEADER]) -> Result<Self, HeaderFault> {
        if bytes[..8] != SEGMENT_MAGIC || le32(bytes, 60) != crc32c_append(0, &bytes[..60]) {
            return Err(HeaderFault::Damaged);
        }
        let (version, flags) = (le32(bytes, 8), le32(bytes, 12));
        if version != FORMAT_VERSION || flags != 0 {
            return Err(HeaderFault::Version(version));
        }
        Ok(Self { first: le64(bytes, 16), allocated: le64(bytes, 24), salt: le64(bytes, 32) })
    }
}

/// What a record announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// `payload` bytes of frames follow.
    Batch,
    /// Says how far the segment is durable while no batch is there to say it.
    Mark,
    /// The segment ends here; what follows in the file is nothing.
    Seal,
}

/// A record: batch header, mark or seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: RecordKind,
    /// Where in the file the record itself stands.
    pub(super) offset: u64,
    /// Everything in front of this offset was durable before the record was written.
    pub(super) durable: u64,
    /// Index of the first entry after the record.
    pub(super) next: u64,
    /// Bytes of frames that follow; 0 for marks and seals.
    pub(super) payload: u64,
    /// Entries in those bytes.
    pub(super) entries: u32,
}

impl Record {
    pub(super) fn encode(&self, salt: u64) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        let kind: u32 = match self.kind {
            RecordKind::Batch => 1,
            RecordKind::Mark => 2,
            RecordKind::Seal => 3,
        };
        bytes[..4].copy_from_slice(&RECORD_MAGIC);
        bytes[4..8].copy_from_slice(&kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.durable.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.next.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.payload.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.entries.to_le_bytes());
        let crc = record_crc(salt, &bytes);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The record at `offset`, or nothing if these bytes are not one that was written there.
    pub(super) fn decode(bytes: &[u8; RECORD], salt: u64, offset: u64) -> Option<Self> {
        if bytes[..4] != RECORD_MAGIC || le32(bytes, 44) != record_crc(salt, bytes) {
            return None;
        }
        let kind = match le32(bytes, 4) {
            1 => RecordKind::Batch,
            2 => RecordKind::Mark,
            3 => RecordKind::Seal,
            _ => return None,
        };
        let record = Self {
            kind,
            offset: le64(bytes, 8),
            durable: le64(bytes, 16),
            next: le64(bytes, 24),
            payload: le64(bytes, 32),
            entries: le32(bytes, 40),
        };
        let empty = record.payload == 0 && record.entries == 0;
        let shape = (kind == RecordKind::Batch) != empty;
        (shape && record.offset == offset && record.durable <= offset).then_some(record)
    }
}

fn record_crc(salt: u64, bytes: &[u8; RECORD]) -> u32 {
    crc32c_append(crc32c_append(0, &salt.to_le_bytes()), &bytes[..44])
}

/// The checksum of a frame, from that of its body: so that the long part is done without a lock,
/// before the index is known.
pub(super) fn frame_crc(body_crc: u32, index: u64, length: u32) -> u32 {
    let mut tail = [0; 12];
    tail[..8].copy_from_slice(&index.to_le_bytes());
    tail[8..].copy_from_slice(&length.to_le_bytes());
    crc32c_append(body_crc, &tail)
}

/// The checksum of a body handed in as several pieces.
pub(super) fn body_crc(parts: &[&[u8]]) -> u32 {
    parts.iter().fold(0, |crc, part| crc32c_append(crc, part))
}

/// Name of the segment file whose first entry is `first`.
pub(super) fn segment_name(first: u64) -> String {
    format!("{first:020}.journal")
}

/// The first entry index that a file name stands for, if it is the name of a segment.
pub(super) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".journal")?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// The little-endian number at `at`; the caller has checked that it lies inside.
pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

/// A length as a file offset; `usize` is at most 64 bits wide on every target.
pub(super) fn as_offset(length: usize) -> u64 {
    length as u64
}

/// A distance inside a buffer as a length.
pub(super) fn as_length(distance: u64) -> usize {
    usize::try_from(distance).expect("a distance inside a buffer fits in memory")
}
