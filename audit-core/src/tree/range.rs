//! The state a writer keeps of its tree.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{EMPTY_ROOT, NodesAhead, decimal};
use crate::hash::{Hash, node};

/// The roots of the complete subtrees of a tree, largest first: all it takes to append to the
/// tree and to know its root.
///
/// Holds one hash for each one-bit of its size, so at most 64. `push` hashes once on average and
/// does not allocate once the tree has grown to its height. A serialised range holds the size and
/// the hashes and is validated when it is read.
///
/// ```
/// use agent_audit_core::hash::leaf;
/// use agent_audit_core::tree::{CompactRange, EMPTY_ROOT};
///
/// let mut tree = CompactRange::new();
/// assert_eq!(tree.root(), EMPTY_ROOT);
/// for event in ["a", "b", "c"] {
///     tree.push(leaf(event.as_bytes()));
/// }
/// assert_eq!(tree.size(), 3);
///
/// let restored = CompactRange::from_parts(tree.size(), tree.hashes().to_vec()).unwrap();
/// assert_eq!(restored.root(), tree.root());
/// ```
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct CompactRange {
    #[serde(with = "decimal")]
    size: u64,
    hashes: Vec<Hash>,
}

impl CompactRange {
    /// The empty tree.
    #[must_use]
    pub const fn new() -> Self {
        Self { size: 0, hashes: Vec::new() }
    }

    /// Restores a tree from what [`size`](Self::size) and [`hashes`](Self::hashes) returned.
    ///
    /// The hashes themselves cannot be checked here; compare [`root`](Self::root) with a known
    /// one.
    ///
    /// # Errors
    ///
    /// If there is not exactly one hash for each one-bit of `size`, or `size` exceeds 2^63.
    pub fn from_parts(size: u64, hashes: Vec<Hash>) -> Result<Self, RangeError> {
        // The bound leaves room for more pushes than a process can ever do: `push` cannot overflow.
        if size > 1 << 63 {
            return Err(RangeError::TooLarge { size });
        }
        if usize::try_from(size.count_ones()) != Ok(hashes.len()) {
            return Err(RangeError::Count {
                size,
                expected: size.count_ones(),
                found: hashes.len(),
            });
        }
        Ok(Self { size, hashes })
    }

    /// Appends the hash of the next event.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Each trailing one-bit of the size is a complete subtree that the new leaf completes
        // into one of twice the size.
        for _ in 0..self.size.trailing_ones() {
            let left = self.hashes.pop();
            hash = node(&left.expect("one hash for each one-bit of the size"), &hash);
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// Appends the hash of the next event, with nodes that were hashed ahead.
    pub(crate) fn push_ahead(&mut self, leaf: Hash, ahead: &NodesAhead) {
        let mut hash = leaf;
        let mut level = 0;
        while self.size >> level & 1 == 1 {
            let left = self.hashes.pop();
            let left = left.expect("one hash for each one-bit of the size");
            hash = ahead
                .above(level, self.size >> level, [&left, &hash])
                .unwrap_or_else(|| node(&left, &hash));
            level += 1;
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// The number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The RFC 6962 root over all leaves, computed in O(log n).
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut smallest_first = self.hashes.iter().rev();
        match smallest_first.next() {
            None => EMPTY_ROOT,
            Some(&last) => smallest_first.fold(last, |right, left| node(left, &right)),
        }
    }

    /// The roots of the complete subtrees, largest first.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }
}

impl Extend<Hash> for CompactRange {
    fn extend<I: IntoIterator<Item = Hash>>(&mut self, leaves: I) {
        leaves.into_iter().for_each(|leaf| self.push(leaf));
    }
}

impl FromIterator<Hash> for CompactRange {
    fn from_iter<I: IntoIterator<Item = Hash>>(leaves: I) -> Self {
        let mut range = Self::new();
        range.extend(leaves);
        range
    }
}

impl fmt::Debug for CompactRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompactRange")
            .field("size", &self.size)
            .field("root", &self.root())
            .finish_non_exhaustive()
    }
}

/// Why stored parts are not a tree.
///
/// ```
/// use agent_audit_core::tree::CompactRange;
///
/// let error = CompactRange::from_parts(3, vec![]).unwrap_err();
/// assert_eq!(error.to_string(), "a tree of size 3 has 2 subtree hashes, found 0");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// There is not one hash for each one-bit of the size.
    #[error("a tree of size {size} has {expected} subtree hashes, found {found}")]
    Count {
        /// The size that was given.
        size: u64,
        /// How many hashes a tree of this size has.
        expected: u32,
        /// How many hashes were given.
        found: usize,
    },
    /// The size exceeds 2^63.
    #[error("a tree of size {size} is larger than the maximum of 2^63")]
    TooLarge {
        /// The size that was given.
        size: u64,
    },
}

#[derive(Deserialize)]
struct Parts {
    #[serde(with = "decimal")]
    size: u64,
    hashes: Vec<Hash>,
}

impl TryFrom<Parts> for CompactRange {
    type Error = RangeError;

    fn try_from(parts: Parts) -> Result<Self, RangeError> {
        Self::from_parts(parts.size, parts.hashes)
    }
}
