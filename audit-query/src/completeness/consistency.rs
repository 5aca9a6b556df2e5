//! Proofs of consistency between two checkpoints, from the events between them.

use agent_audit_core::{hash::Hash, tree::CompactRange};

/// The proof of RFC 6962 section 2.1.2 that the tree `before` is the beginning of that with these
/// further leaves. Every subtree that it names lies wholly before the size of the first tree, and is
/// then one of the complete subtrees that a [`CompactRange`] holds, or wholly behind it.
pub(super) fn consistency(before: &CompactRange, leaves: &[Hash]) -> Vec<Hash> {
    let mut path = Path { before, leaves, hashes: Vec::new() };
    let first = before.size();
    let second = first + u64::try_from(leaves.len()).expect("a count of things in memory");
    if 0 < first && first < second {
        path.walk(0, second, true);
    }
    path.hashes
}

struct Path<'a> {
    before: &'a CompactRange,
    leaves: &'a [Hash],
    hashes: Vec<Hash>,
}

impl Path<'_> {
    /// SUBPROOF within leaves `start..end`; `known` while the verifier has the root of what of them
    /// lies in the first tree already.
    fn walk(&mut self, start: u64, end: u64, known: bool) {
        let first = self.before.size();
        if first == end {
            if !known {
                self.hashes.push(self.complete(start));
            }
            return;
        }
        let middle = start + (1 << (end - start - 1).ilog2());
        if first <= middle {
            self.walk(start, middle, known);
            self.hashes.push(self.behind(middle, end));
        } else {
            self.walk(middle, end, false);
            self.hashes.push(self.complete(start));
        }
    }

    /// The complete subtree of the first tree that begins here.
    fn complete(&self, start: u64) -> Hash {
        let size = self.before.size();
        let larger = (size & (u64::MAX << (size - start).ilog2())).count_ones() - 1;
        self.before.hashes()[usize::try_from(larger).expect("at most 64 subtrees")]
    }

    fn behind(&self, start: u64, end: u64) -> Hash {
        let first = self.before.size();
        let at = |position: u64| usize::try_from(position - first).expect("leaves are in memory");
        self.leaves[at(start)..at(end)].iter().copied().collect::<CompactRange>().root()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::{hash::leaf, tree::MerkleTree};

    use super::*;

    #[test]
    fn is_that_of_the_whole_tree() {
        let leaves: Vec<_> = (0..80u8).map(|at| leaf(&[at])).collect();
        let tree = MerkleTree::from_leaves(&leaves);
        for second in 0..=leaves.len() {
            for first in 0..=second {
                let before: CompactRange = leaves[..first].iter().copied().collect();
                let whole = tree.consistency_proof(first as u64, second as u64).unwrap();
                let ours = consistency(&before, &leaves[first..second]);
                assert_eq!(ours, whole.hashes, "{first} to {second}");
            }
        }
    }
}
