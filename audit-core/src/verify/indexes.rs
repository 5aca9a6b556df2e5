//! The signed indexes of a chain, recomputed while its records pass.

use crate::{
    canonical::EventView,
    hash::Hash,
    index::{IndexBuilder, IndexRoot},
};

use super::{Finding, FindingKind, checkpoints::SignedIndex, memory::Findings};

/// How many intervals that overlap are recomputed at a time. Those of successive checkpoints join; a
/// writer whose process died may sign a few anew.
const MAX_OPEN: usize = 16;

#[derive(Debug, Clone)]
pub(super) struct Indexes {
    /// Sorted by the beginning of their intervals.
    signed: Vec<SignedIndex>,
    ahead: usize,
    open: Vec<Open>,
    /// Those that the records do not give, until it is known whether the checkpoint fits them.
    other: Vec<SignedIndex>,
    pub(super) checked: u64,
}

#[derive(Debug, Clone)]
struct Open {
    index: IndexRoot,
    at: usize,
    builder: IndexBuilder,
}

impl Indexes {
    /// Positions before `start` will not pass.
    pub(super) fn new(signed: Vec<SignedIndex>, start: u64) -> Self {
        let ahead = signed.partition_point(|signed| signed.index.from < start);
        Self { signed, ahead, open: Vec::new(), other: Vec::new(), checked: 0 }
    }

    /// Takes the record at a position.
    #[inline]
    pub(super) fn push(&mut self, findings: &mut Findings, at: u64, event: &EventView<'_>) {
        let next = self.signed.get(self.ahead);
        if !self.open.is_empty() || next.is_some_and(|signed| signed.index.from <= at) {
            self.take(findings, at, event);
        }
    }

    fn take(&mut self, findings: &mut Findings, at: u64, event: &EventView<'_>) {
        self.open_from(findings, at);
        // Where records are missing, and findings say so, there is nothing to hold an index against.
        self.open.retain_mut(|open| open.builder.next() == at && open.builder.push(event).is_ok());
        let whole = |open: &mut Open| open.index.size == at + 1;
        for open in self.open.extract_if(.., whole) {
            self.checked += 1;
            if open.builder.build().root() != open.index {
                self.other.push(self.signed[open.at]);
            }
        }
    }

    fn open_from(&mut self, findings: &mut Findings, at: u64) {
        while let Some(signed) = self.signed.get(self.ahead).filter(|s| s.index.from <= at) {
            let index = signed.index;
            if index.from == at && self.open.len() < MAX_OPEN {
                let builder = IndexBuilder::new(at);
                self.open.push(Open { index, at: self.ahead, builder });
            } else if index.from == at {
                let detail = format!(
                    "have an index, in the checkpoint of size {}, that was not recomputed: more \
                     than {MAX_OPEN} others overlap it",
                    signed.size
                );
                let finding = Finding::new(FindingKind::BadCheckpoint, detail);
                findings.add(finding.at(index.from, index.size - 1));
            }
            self.ahead += 1;
        }
    }

    /// The records have the root of a checkpoint of this size: they are what was signed, and where an
    /// index of it is not theirs, that is at fault.
    pub(super) fn judge(&mut self, findings: &mut Findings, fits: Option<(u64, Hash)>) {
        let Some((size, root)) = fits.filter(|_| !self.other.is_empty()) else { return };
        let decided = |signed: &mut SignedIndex| signed.size <= size;
        for SignedIndex { size: signed, root: its, index } in self.other.extract_if(.., decided) {
            let last = index.size - 1;
            let at_fault = findings.tampered_within(index.from, last);
            if (signed, its) == (size, root) && !at_fault {
                let detail = format!(
                    "are not those of the index that the checkpoint of size {signed} was signed \
                     with: a proof of completeness by it would leave out or add events"
                );
                let finding = Finding::new(FindingKind::IndexMismatch, detail);
                findings.add(finding.at(index.from, last));
            }
        }
    }
}
