//! Proofs and their verification, from roots alone.

use serde::{Deserialize, Serialize};

use super::{EMPTY_ROOT, decimal};
use crate::hash::{Hash, node};

/// Proof that one leaf is at one position of a tree of a known root.
///
/// A plain value that may come from anywhere: nothing about it is trusted before
/// [`verify`](Self::verify), which does at most 64 steps whatever it holds.
///
/// ```
/// use agent_audit_core::hash::leaf;
/// use agent_audit_core::tree::MerkleTree;
///
/// let leaves = [leaf(b"a"), leaf(b"b"), leaf(b"c")];
/// let tree = MerkleTree::from_leaves(&leaves);
/// let proof = tree.inclusion_proof(1).unwrap();
/// assert!(proof.verify(&leaves[1], &tree.root()).is_ok());
/// assert!(proof.verify(&leaves[0], &tree.root()).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "RFC 6962 fixes what an inclusion proof is")]
pub struct InclusionProof {
    /// The position of the leaf, from 0: the event's sequence number.
    #[serde(with = "decimal")]
    pub leaf_index: u64,
    /// The number of leaves in the tree.
    #[serde(with = "decimal")]
    pub tree_size: u64,
    /// The sibling subtrees on the way from the leaf to the root.
    pub hashes: Vec<Hash>,
}

/// Proof that a tree is the beginning of a larger one: nothing in it was changed or taken away.
///
/// ```
/// use agent_audit_core::hash::leaf;
/// use agent_audit_core::tree::MerkleTree;
///
/// let leaves = [leaf(b"a"), leaf(b"b"), leaf(b"c")];
/// let tree = MerkleTree::from_leaves(&leaves);
/// let before = MerkleTree::from_leaves(&leaves[..2]).root();
/// let proof = tree.consistency_proof(2, 3).unwrap();
/// assert!(proof.verify(&before, &tree.root()).is_ok());
/// assert!(proof.verify(&leaves[0], &tree.root()).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "RFC 6962 fixes what a consistency proof is")]
pub struct ConsistencyProof {
    /// The number of leaves in the earlier tree.
    #[serde(with = "decimal")]
    pub first_size: u64,
    /// The number of leaves in the later tree.
    #[serde(with = "decimal")]
    pub second_size: u64,
    /// The subtrees from which both roots follow.
    pub hashes: Vec<Hash>,
}

impl InclusionProof {
    /// Checks that `leaf` is at `leaf_index` of the tree of `tree_size` leaves under `root`.
    ///
    /// The size is part of what is proved only as far as `root` is bound to a size: take both from
    /// one checkpoint and compare them with [`tree_size`](Self::tree_size).
    ///
    /// # Errors
    ///
    /// If the proof has not the form that its index and size demand, or leads to another root.
    pub fn verify(&self, leaf: &Hash, root: &Hash) -> Result<(), ProofError> {
        // RFC 9162 section 2.1.3.2, with its names.
        if self.leaf_index >= self.tree_size {
            return Err(ProofError::Range { value: self.leaf_index, size: self.tree_size });
        }
        let mut path = Path::new(self.leaf_index, self.tree_size - 1);
        let mut r = *leaf;
        for p in &self.hashes {
            r = match path.step().ok_or(ProofError::Length)? {
                Side::Left => node(p, &r),
                Side::Right => node(&r, p),
            };
        }
        path.end()?;
        if r == *root { Ok(()) } else { Err(ProofError::Root) }
    }
}

impl ConsistencyProof {
    /// Checks that the tree under `first` is the beginning of the tree under `second`.
    ///
    /// Two cases lie outside RFC 9162 and hold here: trees of one size are consistent if their
    /// roots are equal, and every tree continues the empty one. Both take an empty proof.
    ///
    /// # Errors
    ///
    /// If the proof has not the form that its sizes demand, or leads to another root.
    pub fn verify(&self, first: &Hash, second: &Hash) -> Result<(), ProofError> {
        if self.first_size > self.second_size {
            return Err(ProofError::Range { value: self.first_size, size: self.second_size });
        }
        if self.first_size == 0 && *first != EMPTY_ROOT
            || self.second_size == 0 && *second != EMPTY_ROOT
        {
            return Err(ProofError::Root);
        }
        if self.first_size == 0 || self.first_size == self.second_size {
            return match (self.hashes.is_empty(), self.first_size == 0 || first == second) {
                (false, _) => Err(ProofError::Length),
                (true, false) => Err(ProofError::Root),
                (true, true) => Ok(()),
            };
        }

        // RFC 9162 section 2.1.4.2, with its names. A first tree that is one complete subtree is
        // its own beginning of the path.
        let mut hashes = self.hashes.iter();
        let start = if self.first_size.is_power_of_two() {
            first
        } else {
            hashes.next().ok_or(ProofError::Length)?
        };
        let complete = (self.first_size - 1).trailing_ones();
        let mut path = Path::new(
            (self.first_size - 1).checked_shr(complete).unwrap_or(0),
            (self.second_size - 1).checked_shr(complete).unwrap_or(0),
        );
        let (mut fr, mut sr) = (*start, *start);
        for c in hashes {
            match path.step().ok_or(ProofError::Length)? {
                Side::Left => {
                    fr = node(c, &fr);
                    sr = node(c, &sr);
                }
                Side::Right => sr = node(&sr, c),
            }
        }
        path.end()?;
        if fr == *first && sr == *second { Ok(()) } else { Err(ProofError::Root) }
    }
}

/// Why a proof does not hold.
///
/// ```
/// use agent_audit_core::hash::Hash;
/// use agent_audit_core::tree::{InclusionProof, ProofError};
///
/// let proof = InclusionProof { leaf_index: 0, tree_size: 2, hashes: vec![] };
/// assert_eq!(proof.verify(&Hash::ZERO, &Hash::ZERO), Err(ProofError::Length));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The position or the earlier size lies beyond the tree.
    #[error("the proof is about {value}, which lies beyond its tree of size {size}")]
    Range {
        /// The leaf index or the earlier size.
        value: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The proof has more or fewer hashes than its sizes demand.
    #[error("the proof has more or fewer hashes than a tree of its size demands")]
    Length,
    /// The proof leads to another root.
    #[error("the proof leads to another root than the one given")]
    Root,
}

/// The way from a node to the root, level by level.
///
/// `index` is the node's position on its level, `last` the position of the last node there.
struct Path {
    index: u64,
    last: u64,
}

/// Where the sibling stands that the proof gives for a level.
enum Side {
    Left,
    Right,
}

impl Path {
    const fn new(index: u64, last: u64) -> Self {
        Self { index, last }
    }

    /// The next level that has a sibling, or `None` at the root.
    fn step(&mut self) -> Option<Side> {
        if self.last == 0 {
            return None;
        }
        let side = if self.index & 1 == 1 {
            Side::Left
        } else if self.index == self.last {
            // The last of an odd level rises alone until it is a right child.
            let levels = self.index.trailing_zeros();
            self.index >>= levels;
            self.last >>= levels;
            Side::Left
        } else {
            Side::Right
        };
        self.index >>= 1;
        self.last >>= 1;
        Some(side)
    }

    /// That the root has been reached.
    fn end(&self) -> Result<(), ProofError> {
        if self.last == 0 { Ok(()) } else { Err(ProofError::Length) }
    }
}
