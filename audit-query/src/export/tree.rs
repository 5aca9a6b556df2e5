//! The tree over all event hashes of a chain, in a temporary file.
//!
//! Every complete subtree is kept, in the order in which they become complete: a leaf, and behind it
//! the nodes that it completes. Before leaf *i* there are 2*i* hashes less one for each one-bit of
//! *i*, so that every hash has a place that can be computed, at 64 bytes a leaf.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use agent_audit_core::{
    hash::{Hash, node},
    tree::EMPTY_ROOT,
};

use super::range::split;

const HASH: u64 = 32;

/// A tree that grows.
pub(super) struct GrowingTree {
    out: BufWriter<File>,
    size: u64,
    /// The roots of the complete subtrees, largest first.
    complete: Vec<Hash>,
}

impl GrowingTree {
    /// An empty tree, in a file of this directory that has no name and goes with the process.
    pub(super) fn new_in(dir: &Path) -> io::Result<Self> {
        let out = BufWriter::with_capacity(64 << 10, tempfile::tempfile_in(dir)?);
        Ok(Self { out, size: 0, complete: Vec::new() })
    }

    pub(super) fn push(&mut self, leaf: Hash) -> io::Result<()> {
        let mut hash = leaf;
        self.out.write_all(hash.as_bytes())?;
        for _ in 0..self.size.trailing_ones() {
            let left = self.complete.pop().expect("one hash for each one-bit of the size");
            hash = node(&left, &hash);
            self.out.write_all(hash.as_bytes())?;
        }
        self.complete.push(hash);
        self.size += 1;
        Ok(())
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn root(&self) -> Hash {
        let mut smallest_first = self.complete.iter().rev();
        match smallest_first.next() {
            None => EMPTY_ROOT,
            Some(&last) => smallest_first.fold(last, |right, left| node(left, &right)),
        }
    }

    pub(super) fn finish(self) -> io::Result<Tree> {
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Tree { file, size: self.size })
    }
}

/// A tree that is asked for proofs.
pub(super) struct Tree {
    file: File,
    size: u64,
}

impl Tree {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The event hash at a position below the size.
    pub(super) fn leaf(&self, at: u64) -> io::Result<Hash> {
        self.node(0, at)
    }

    /// The root over the positions from `start` to before `end`, which a tree of this size splits
    /// off by itself.
    pub(super) fn subtree(&self, start: u64, end: u64) -> io::Result<Hash> {
        let count = end - start;
        if count.is_power_of_two() && start.is_multiple_of(count) {
            return self.node(count.trailing_zeros(), start / count);
        }
        let middle = split(start, end);
        Ok(node(&self.subtree(start, middle)?, &self.subtree(middle, end)?))
    }

    fn node(&self, level: u32, index: u64) -> io::Result<Hash> {
        let last_leaf = ((index + 1) << level) - 1;
        let before = 2 * last_leaf - u64::from(last_leaf.count_ones());
        let mut hash = [0; 32];
        self.file.read_exact_at(&mut hash, (before + u64::from(level)) * HASH)?;
        Ok(Hash::from_bytes(hash))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::{hash::leaf, tree::MerkleTree};

    use super::*;
    use crate::export::range::{self, RangeCheck};

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|at| leaf(&at.to_le_bytes())).collect()
    }

    fn tree(leaves: &[Hash]) -> Tree {
        let mut tree = GrowingTree::new_in(&std::env::temp_dir()).unwrap();
        let plain = MerkleTree::from_leaves(leaves);
        for (size, leaf) in (0u64..).zip(leaves) {
            assert_eq!(tree.root(), plain.root_at(size).unwrap());
            tree.push(*leaf).unwrap();
        }
        assert_eq!(tree.root(), plain.root());
        tree.finish().unwrap()
    }

    #[test]
    fn every_range_of_every_small_tree_is_proved_and_no_other_leaf_fits() {
        for size in 1..34u64 {
            let all = leaves(size);
            let tree = tree(&all);
            let root = tree.subtree(0, size).unwrap();
            for first in 0..size {
                for end in first + 1..=size {
                    let proof = range::prove(first, end, size, &|s, e| tree.subtree(s, e)).unwrap();
                    let given = |change: Option<u64>, hashes: &[Hash]| {
                        let mut check = RangeCheck::new(first, end, size, hashes.to_vec())?;
                        for at in first..end {
                            let leaf = all[usize::try_from(at).unwrap()];
                            check.push(if change == Some(at) { Hash::ZERO } else { leaf });
                        }
                        check.root()
                    };
                    assert_eq!(given(None, &proof), Some(root), "{first}..{end} of {size}");
                    for at in first..end {
                        assert_ne!(given(Some(at), &proof), Some(root), "{at}");
                    }
                    assert_eq!(given(None, &[&proof[..], &[Hash::ZERO]].concat()), None);
                    if let [_, rest @ ..] = &proof[..] {
                        assert_eq!(given(None, rest), None);
                    }
                }
            }
        }
    }

    /// The proof of one event has the hashes of RFC 6962, those on the left first.
    #[test]
    fn the_proof_of_one_event_is_its_audit_path() {
        for size in 1..70u64 {
            let all = leaves(size);
            let plain = MerkleTree::from_leaves(&all);
            let tree = tree(&all);
            for at in 0..size {
                let mut ours = range::prove(at, at + 1, size, &|s, e| tree.subtree(s, e)).unwrap();
                let mut path = plain.inclusion_proof(at).unwrap().hashes;
                ours.sort_unstable();
                path.sort_unstable();
                assert_eq!(ours, path, "{at} of {size}");
            }
        }
    }

    #[test]
    fn too_few_leaves_and_ranges_that_are_none_have_no_root() {
        let all = leaves(8);
        let tree = tree(&all);
        let proof = range::prove(2, 5, 8, &|s, e| tree.subtree(s, e)).unwrap();
        let mut check = RangeCheck::new(2, 5, 8, proof).unwrap();
        check.push(all[2]);
        check.push(all[3]);
        assert_eq!(check.root(), None);
        for (first, end, size) in [(3, 3, 8), (4, 3, 8), (7, 9, 8), (0, 1, 0)] {
            assert!(RangeCheck::new(first, end, size, Vec::new()).is_none());
        }
    }
}
