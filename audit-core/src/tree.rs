//! The RFC 6962 Merkle tree over the event hashes of one chain.
//!
//! Three views of the same tree, by what they cost:
//!
//! - [`CompactRange`]: what a writer keeps. O(log n) hashes, one event appended in O(1).
//! - [`MerkleTree`]: what a prover builds. Every complete subtree, any proof in O(log n).
//! - [`InclusionProof`] and [`ConsistencyProof`]: what an auditor holds. Verified from a root
//!   alone, by the algorithms of RFC 9162 sections 2.1.3.2 and 2.1.4.2.
//!
//! The root of `n` hashes splits at the largest power of two below `n`; an odd hash rises as it
//! is and is never paired with itself. The tree takes leaf *hashes* ([`crate::hash::leaf`]), whose
//! prefix keeps a leaf from being taken for a node. The empty tree has the root SHA-256("").

mod ahead;
mod full;
mod proof;
mod range;

pub(crate) use ahead::NodesAhead;
pub use full::{MerkleTree, TreeError};
pub use proof::{ConsistencyProof, InclusionProof, ProofError};
pub use range::{CompactRange, RangeError};

use crate::hash::Hash;

/// The root of a tree without leaves: SHA-256 of nothing.
pub const EMPTY_ROOT: Hash = Hash::from_bytes([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// A count as a decimal string in JSON, as everywhere in this project: a reader whose numbers are
/// doubles must not round it.
mod decimal {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        crate::checkpoint::parse_size(&text).ok_or_else(|| {
            D::Error::custom("expected a decimal count below 2^64 without leading zeros")
        })
    }
}

#[cfg(test)]
mod tests;
