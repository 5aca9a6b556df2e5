//! The tree a prover builds, with every complete subtree at hand.

use std::fmt;

use super::{ConsistencyProof, EMPTY_ROOT, InclusionProof};
use crate::hash::{Hash, node};

/// A tree with all its complete subtrees in memory, from which every proof is one walk.
///
/// Takes 64 bytes for each leaf. A writer needs no such tree: see
/// [`CompactRange`](super::CompactRange).
///
/// ```
/// use agent_audit_core::hash::leaf;
/// use agent_audit_core::tree::{CompactRange, MerkleTree};
///
/// let leaves: Vec<_> = (0..100_u8).map(|event| leaf(&[event])).collect();
/// let tree = MerkleTree::from_leaves(&leaves);
/// assert_eq!(tree.root(), leaves.into_iter().collect::<CompactRange>().root());
/// ```
#[derive(Clone, Default)]
pub struct MerkleTree {
    /// `levels[k][i]` is the root of the complete subtree over leaves `i·2^k .. (i+1)·2^k`.
    levels: Vec<Vec<Hash>>,
}

impl MerkleTree {
    /// The empty tree.
    #[must_use]
    pub const fn new() -> Self {
        Self { levels: Vec::new() }
    }

    /// Builds the tree over the given leaf hashes.
    #[must_use]
    pub fn from_leaves(leaves: &[Hash]) -> Self {
        let mut levels = Vec::new();
        let mut level = leaves.to_vec();
        while !level.is_empty() {
            let above = level.chunks_exact(2).map(|pair| node(&pair[0], &pair[1])).collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        Self { levels }
    }

    /// Appends the hash of the next event.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for level in &mut self.levels {
            level.push(hash);
            match level.as_slice() {
                [.., left, right] if level.len() % 2 == 0 => hash = node(left, right),
                _ => return,
            }
        }
        self.levels.push(vec![hash]);
    }

    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        let leaves = self.leaf_count();
        u64::try_from(leaves).expect("a count of things in memory is below 2^64")
    }

    /// The RFC 6962 root over all leaves.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.subtree(0, self.leaf_count())
    }

    /// The root that the tree had when it had `size` leaves.
    ///
    /// # Errors
    ///
    /// If the tree has fewer leaves.
    pub fn root_at(&self, size: u64) -> Result<Hash, TreeError> {
        Ok(self.subtree(0, self.within(size)?))
    }

    /// Proves that the leaf at `index` is in the whole tree.
    ///
    /// # Errors
    ///
    /// If the tree has no such leaf.
    pub fn inclusion_proof(&self, index: u64) -> Result<InclusionProof, TreeError> {
        self.inclusion_proof_at(index, self.size())
    }

    /// Proves that the leaf at `index` was in the tree when it had `size` leaves: the size of a
    /// checkpoint, usually.
    ///
    /// # Errors
    ///
    /// If the tree has fewer than `size` leaves or `index` is not below `size`.
    pub fn inclusion_proof_at(&self, index: u64, size: u64) -> Result<InclusionProof, TreeError> {
        let end = self.within(size)?;
        let leaf = self.within(index)?;
        if leaf >= end {
            return Err(TreeError { value: index, size });
        }
        let mut hashes = Vec::new();
        self.inclusion_path(leaf, 0, end, &mut hashes);
        Ok(InclusionProof { leaf_index: index, tree_size: size, hashes })
    }

    /// Proves that the tree of `first` leaves is the beginning of the tree of `second` leaves.
    ///
    /// # Errors
    ///
    /// If the tree has fewer than `second` leaves or `first` exceeds `second`.
    pub fn consistency_proof(
        &self,
        first: u64,
        second: u64,
    ) -> Result<ConsistencyProof, TreeError> {
        let (start, end) = (self.within(first)?, self.within(second)?);
        if start > end {
            return Err(TreeError { value: first, size: second });
        }
        let mut hashes = Vec::new();
        if 0 < start && start < end {
            self.consistency_path(start, 0, end, true, &mut hashes);
        }
        Ok(ConsistencyProof { first_size: first, second_size: second, hashes })
    }

    fn leaf_count(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    fn within(&self, value: u64) -> Result<usize, TreeError> {
        usize::try_from(value)
            .ok()
            .filter(|&value| value <= self.leaf_count())
            .ok_or_else(|| TreeError { value, size: self.size() })
    }

    /// The siblings of `leaf` within leaves `start..end`, from the leaf upwards.
    fn inclusion_path(&self, leaf: usize, start: usize, end: usize, path: &mut Vec<Hash>) {
        if end - start <= 1 {
            return;
        }
        let middle = start + split(end - start);
        if leaf < middle {
            self.inclusion_path(leaf, start, middle, path);
            path.push(self.subtree(middle, end));
        } else {
            self.inclusion_path(leaf, middle, end, path);
            path.push(self.subtree(start, middle));
        }
    }

    /// SUBPROOF of RFC 6962 section 2.1.2 within leaves `start..end`; `known` while the verifier
    /// has the root of `start..first` already.
    fn consistency_path(
        &self,
        first: usize,
        start: usize,
        end: usize,
        known: bool,
        path: &mut Vec<Hash>,
    ) {
        if first == end {
            if !known {
                path.push(self.subtree(start, end));
            }
            return;
        }
        let middle = start + split(end - start);
        if first <= middle {
            self.consistency_path(first, start, middle, known, path);
            path.push(self.subtree(middle, end));
        } else {
            self.consistency_path(first, middle, end, false, path);
            path.push(self.subtree(start, middle));
        }
    }

    /// The root over leaves `start..end`, where `start` is a multiple of every complete subtree
    /// that fits: the case of all ranges that splitting a tree yields.
    fn subtree(&self, start: usize, end: usize) -> Hash {
        let count = end - start;
        if count == 0 {
            return EMPTY_ROOT;
        }
        let level = count.ilog2();
        let left = self.levels[level as usize][start >> level];
        if count.is_power_of_two() {
            return left;
        }
        node(&left, &self.subtree(start + (1 << level), end))
    }
}

impl fmt::Debug for MerkleTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MerkleTree")
            .field("size", &self.size())
            .field("root", &self.root())
            .finish_non_exhaustive()
    }
}

/// A position or size beyond the tree that was asked.
///
/// ```
/// use agent_audit_core::tree::MerkleTree;
///
/// let error = MerkleTree::new().inclusion_proof(7).unwrap_err();
/// assert_eq!(error.to_string(), "7 lies beyond the tree of size 0");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value} lies beyond the tree of size {size}")]
pub struct TreeError {
    value: u64,
    size: u64,
}

/// The largest power of two below `count`, for a count of at least two.
fn split(count: usize) -> usize {
    1 << (count - 1).ilog2()
}
