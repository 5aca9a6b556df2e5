//! Many records at once: read each, and hash all of them side by side.

use std::ops::Range;

use crate::{
    canonical::{self, EventView},
    hash::{self, Hash},
    record::{PartView, RecordView},
};

/// How many records are worth to be hashed together.
pub(super) const RECORDS: usize = 128;
/// How many bytes of records are hashed together, as long as that is enough for all lanes.
pub(super) const BYTES: usize = 256 << 10;

/// Records that have been read and hashed, and not been judged yet.
pub(super) struct Batch<'a> {
    pub(super) records: Vec<Read<'a>>,
    commitments: Vec<Hash>,
}

/// A stored record, as far as it could be read.
#[allow(clippy::large_enum_variant, reason = "nearly every record is whole")]
pub(super) enum Read<'a> {
    Whole(Whole<'a>),
    /// Not a record, or one whose event is not canonical.
    #[cfg_attr(
        not(feature = "writer"),
        allow(dead_code, reason = "a directory has use for the frame")
    )]
    Damaged {
        record: Option<RecordView<'a>>,
        what: String,
    },
}

/// A record whose event could be read.
pub(super) struct Whole<'a> {
    pub(super) record: RecordView<'a>,
    pub(super) event: EventView<'a>,
    pub(super) hash: Hash,
    commitments: Range<usize>,
}

/// Splits records into groups that are hashed together.
pub(super) fn groups<'r, 'a>(records: &'r [&'a [u8]]) -> impl Iterator<Item = &'r [&'a [u8]]> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let mut fits = |record: &&[u8]| {
            let room = bytes < BYTES;
            bytes += record.len();
            room
        };
        let count = rest.iter().take(RECORDS).take_while(|record| fits(record)).count();
        let (group, behind) = rest.split_at(count);
        rest = behind;
        (!group.is_empty()).then_some(group)
    })
}

/// Has the processor bring a record near: all of it is asked for at once, and not piece by piece
/// when the first look at it has to wait.
fn fetch(stored: &[u8]) {
    const LINE: usize = 64;
    std::hint::black_box(stored.iter().step_by(LINE).fold(0, |all, byte| all | byte));
}

impl<'a> Batch<'a> {
    pub(super) fn read(stored: &[&'a [u8]]) -> Self {
        let mut records = Vec::with_capacity(stored.len());
        let mut events = Vec::with_capacity(stored.len());
        let mut texts = Vec::with_capacity(stored.len());
        stored.iter().for_each(|stored| fetch(stored));
        let frames = stored.iter().map(|stored| RecordView::parse(stored));
        for frame in frames {
            let record = match frame {
                Ok(record) => record,
                Err(error) => {
                    records.push(Read::Damaged { record: None, what: error.to_string() });
                    continue;
                }
            };
            records.push(match canonical::scan(record.event_bytes) {
                Ok(event) => {
                    let start = texts.len();
                    texts.extend(record.part_views().filter_map(|part| match part {
                        PartView::Clear { salt, bytes } => Some((salt, bytes)),
                        PartView::Sealed { .. } | PartView::Absent { .. } => None,
                    }));
                    events.push(record.event_bytes);
                    let commitments = start..texts.len();
                    Read::Whole(Whole { record, event, hash: Hash::ZERO, commitments })
                }
                Err(error) => Read::Damaged { record: Some(record), what: error.to_string() },
            });
        }
        let (leaves, commitments) = hash::leaves_and_macs(&events, &texts);
        let mut batch = Self { records, commitments };
        for (record, leaf) in batch.whole_mut().zip(leaves) {
            record.hash = leaf;
        }
        batch
    }

    fn whole_mut(&mut self) -> impl Iterator<Item = &mut Whole<'a>> {
        self.records.iter_mut().filter_map(|record| match record {
            Read::Whole(whole) => Some(whole),
            Read::Damaged { .. } => None,
        })
    }

    /// The event hashes, in order.
    pub(super) fn leaves(&self) -> impl Iterator<Item = Hash> {
        self.records.iter().filter_map(|record| match record {
            Read::Whole(whole) => Some(whole.hash),
            Read::Damaged { .. } => None,
        })
    }

    /// The commitments to the clear parts of a record, in order.
    pub(super) fn commitments(&self, record: &Whole<'a>) -> &[Hash] {
        &self.commitments[record.commitments.clone()]
    }
}
