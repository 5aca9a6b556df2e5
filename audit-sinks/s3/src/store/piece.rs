//! What of a segment goes into one object, and the work that this takes.

use std::{ops::Range, sync::Arc};

use agent_audit_core::{
    chain::ChainRef,
    content::PartBody,
    hash::Hash,
    record::Record,
    sink::{Segment, SinkErrorKind},
    tree::CompactRange,
};
use tokio::sync::Semaphore;

use super::Body;
use crate::{config::ObjectFormat, error::Fault};

/// Some of the events of a segment, which stand in it as they are.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    segment: Segment,
    /// Never empty.
    range: Range<usize>,
}

impl Piece {
    /// All of a segment.
    pub(crate) fn whole(segment: Segment) -> Self {
        let range = 0..segment.len();
        Self { segment, range }
    }

    /// The events from a position of the segment on, as many as belong into one object of so many
    /// bytes; one at least. None where the segment does not have the position.
    pub(crate) fn cut(segment: &Segment, from: u64, most_bytes: usize) -> Option<Self> {
        let start = usize::try_from(from.checked_sub(segment.first())?).ok()?;
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let room = bytes < most_bytes.max(1);
            bytes += size(record);
            room
        };
        let count = segment.records().get(start..)?.iter().take_while(fits).count();
        // A copy of a segment shares its records.
        (count > 0).then(|| Self { segment: segment.clone(), range: start..start + count })
    }

    pub(crate) fn chain(&self) -> &ChainRef {
        self.segment.chain()
    }

    /// The position of the first event.
    pub(crate) fn first(&self) -> u64 {
        self.segment.first() + self.range.start as u64
    }

    /// The position of the last event.
    pub(crate) fn last(&self) -> u64 {
        self.first() + self.range.len() as u64 - 1
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.segment.records()[self.range.clone()]
    }

    pub(crate) fn hashes(&self) -> &[Hash] {
        &self.segment.hashes()[self.range.clone()]
    }
}

/// How many bytes a record has, nearly.
fn size(record: &Record) -> usize {
    let body = |part: &PartBody| match part {
        PartBody::Clear { bytes, .. } => bytes.len() + 64,
        PartBody::Sealed(sealed) => sealed.ciphertext.len() + 64,
        _ => 64,
    };
    record.event_bytes().len() + record.parts().iter().map(body).sum::<usize>()
}

/// Encodes pieces on threads where that disturbs nobody.
///
/// As many at a time as there are processors: more would only make the first of them later, and
/// with it everything that can be sent while the others are encoded.
#[derive(Debug)]
pub(crate) struct Press {
    format: ObjectFormat,
    turns: Arc<Semaphore>,
}

/// A piece as it is stored.
pub(crate) struct Pressed {
    pub(crate) body: Body,
    /// The tree over all events up to the last of the piece.
    pub(crate) tree: CompactRange,
}

impl Press {
    pub(crate) fn new(format: ObjectFormat) -> Self {
        let turns = std::thread::available_parallelism().map_or(1, usize::from);
        Self { format, turns: Arc::new(Semaphore::new(turns)) }
    }

    pub(crate) fn format(&self) -> ObjectFormat {
        self.format
    }

    /// The object of a piece, and the tree that it makes of the one before it.
    pub(crate) async fn press(
        &self,
        piece: &Piece,
        before: &CompactRange,
    ) -> Result<Pressed, Fault> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.expect("nobody closes the semaphore");
        let (format, piece, before) = (self.format, piece.clone(), before.clone());
        let work = tokio::task::spawn_blocking(move || {
            // It ends with the work, also where nobody waits for that any more.
            let _turn = turn;
            let body = Body::encode(format, &piece)?;
            Ok(Pressed { body, tree: grown(before, &piece) })
        });
        let stopped = |_| Fault::new(SinkErrorKind::Other, "the work on an object was stopped");
        work.await.map_err(stopped)?
    }
}

/// The tree with the events of a piece.
pub(crate) fn grown(mut tree: CompactRange, piece: &Piece) -> CompactRange {
    tree.extend(piece.hashes().iter().copied());
    tree
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::{conformance::TestChain, content::Part};

    use super::*;

    #[test]
    fn a_segment_is_cut_into_pieces_without_a_hole() {
        let mut chain = TestChain::new();
        chain.extend(2);
        for _ in 0..5 {
            chain.extend_with(vec![Part::text("output", "x".repeat(1_000)).commit()]);
        }
        let segment = chain.segment(2..=6);
        let mut ranges = Vec::new();
        let mut from = 3;
        while let Some(piece) = Piece::cut(&segment, from, 2_000) {
            assert_eq!(piece.records().len(), piece.hashes().len());
            assert_eq!(piece.records()[0].view().unwrap().sequence, piece.first());
            ranges.push((piece.first(), piece.last()));
            from = piece.last() + 1;
        }
        assert_eq!(ranges, [(3, 4), (5, 6)]);
        assert!(Piece::cut(&segment, 1, 2_000).is_none());
        // However large it is, one event always goes.
        assert_eq!(Piece::cut(&segment, 2, 0).unwrap().records().len(), 1);
        assert_eq!(Piece::whole(segment.clone()).records(), segment.records());
    }

    #[tokio::test]
    async fn pieces_grow_the_tree_of_the_whole() {
        let mut chain = TestChain::new();
        let segment = chain.extend(9);
        let press = Press::new(ObjectFormat::NdjsonZstd);
        let mut tree = CompactRange::default();
        let mut from = 0;
        while let Some(piece) = Piece::cut(&segment, from, 2_000) {
            tree = press.press(&piece, &tree).await.unwrap().tree;
            from = piece.last() + 1;
        }
        let whole: CompactRange = segment.hashes().iter().copied().collect();
        assert_eq!(tree, whole);
    }
}
