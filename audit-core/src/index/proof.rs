//! Proofs about one entry of an index, and their verification.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{IndexRoot, builder::bytes_of};
use crate::{
    hash::{Hash, leaf},
    tree::{InclusionProof, ProofError},
};

/// Proof of where in an interval the events with one value are, or that there is none.
///
/// A plain value that may come from anywhere: nothing about it is believed before
/// [`verify`](Self::verify).
///
/// ```
/// use agent_audit_core::{canonical::scan, event::{Event, chain::ChainClosed}};
/// use agent_audit_core::index::{Field, IndexBuilder};
/// let mut builder = IndexBuilder::new(0);
/// builder.push(&scan(&Event::example(ChainClosed::new("shutdown")).canonical_bytes()?)?)?;
/// let index = builder.build();
///
/// let elsewhere = Field::Session.key("another");
/// let proof = index.prove(&elsewhere);
/// assert_eq!(proof.verify(&elsewhere, &index.root())?, [0; 0], "there is none");
/// let here = Field::EventType.key("chain.closed");
/// assert!(proof.verify(&here, &index.root()).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[allow(clippy::exhaustive_enums, reason = "a value occurs or it does not")]
pub enum EntryProof {
    /// The value occurs.
    Present {
        /// The positions of the events, ascending.
        positions: Vec<u64>,
        /// Where the entry is in the index.
        inclusion: InclusionProof,
    },
    /// It does not: these two entries stand side by side, and it would stand between them.
    Absent {
        /// The entry before it; none where it would be the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Neighbour>,
        /// The entry after it; none where it would be the last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Neighbour>,
    },
}

/// An entry beside which another one would stand. It does not say of what it is the entry.
///
/// ```
/// use agent_audit_core::{hash::Hash, index::Neighbour, tree::InclusionProof};
/// let inclusion = InclusionProof { leaf_index: 0, tree_size: 1, hashes: vec![] };
/// let neighbour = Neighbour { key: Hash::ZERO, places: Hash::ZERO, inclusion };
/// assert_eq!(neighbour.key, Hash::ZERO);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "the format of an index fixes what an entry is")]
pub struct Neighbour {
    /// The key of the entry.
    pub key: Hash,
    /// The hash of its positions.
    pub places: Hash,
    /// Where it is in the index.
    pub inclusion: InclusionProof,
}

impl EntryProof {
    /// Checks the proof for a key under the root of an index, and returns the positions of the
    /// events: none where the value does not occur.
    ///
    /// # Errors
    /// [`EntryProofError`] where the proof does not show that.
    pub fn verify(&self, key: &Hash, root: &IndexRoot) -> Result<&[u64], EntryProofError> {
        match self {
            Self::Present { positions, inclusion } => {
                let ascending = positions.windows(2).all(|pair| pair[0] < pair[1]);
                let within = positions.iter().all(|position| root.covers(*position));
                if positions.is_empty() || !ascending || !within {
                    return Err(EntryProofError::Positions);
                }
                let places = Hash::from_bytes(Sha256::digest(bytes_of(positions)).into());
                included(inclusion, key, &places, root)?;
                Ok(positions)
            }
            Self::Absent { before, after } => {
                let sides = [before, after].map(Option::as_ref);
                for side in sides.into_iter().flatten() {
                    included(&side.inclusion, &side.key, &side.places, root)?;
                }
                let place = |side: &Neighbour| side.inclusion.leaf_index;
                let side_by_side = match sides {
                    [Some(before), Some(after)] => {
                        before.key < *key
                            && *key < after.key
                            && place(before).checked_add(1) == Some(place(after))
                    }
                    [None, Some(after)] => *key < after.key && place(after) == 0,
                    [Some(before), None] => {
                        before.key < *key && place(before).checked_add(1) == Some(root.entries)
                    }
                    [None, None] => false,
                };
                if side_by_side { Ok(&[]) } else { Err(EntryProofError::Neighbours) }
            }
        }
    }
}

fn included(
    proof: &InclusionProof,
    key: &Hash,
    places: &Hash,
    root: &IndexRoot,
) -> Result<(), EntryProofError> {
    if proof.tree_size != root.entries {
        let (stated, entries) = (proof.tree_size, root.entries);
        return Err(EntryProofError::Size { stated, entries });
    }
    Ok(proof.verify(&leaf(&leaf_bytes(key, places)), &root.root)?)
}

/// The bytes under the leaf hash of an entry.
pub(super) fn leaf_bytes(key: &Hash, places: &Hash) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(key.as_bytes());
    bytes[32..].copy_from_slice(places.as_bytes());
    bytes
}

/// Why a proof about an entry does not hold.
///
/// ```
/// use agent_audit_core::{hash::Hash, index::{EntryProof, EntryProofError, IndexRoot}};
/// let root = IndexRoot { from: 0, size: 1, entries: 2, root: Hash::ZERO };
/// let nothing = EntryProof::Absent { before: None, after: None };
/// assert_eq!(nothing.verify(&Hash::ZERO, &root), Err(EntryProofError::Neighbours));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryProofError {
    /// The positions are not ascending, or not of the interval.
    #[error("its positions are not in ascending order within the interval")]
    Positions,
    /// The entries do not stand side by side around the key.
    #[error("its neighbours do not stand side by side around the value")]
    Neighbours,
    /// It is about an index of another size.
    #[error("it is about an index of {stated} entries, and the checkpoint's has {entries}")]
    Size {
        /// The size that the proof states.
        stated: u64,
        /// The size that the checkpoint states.
        entries: u64,
    },
    /// An entry is not in the index.
    #[error("an entry is not in the index: {0}")]
    Inclusion(#[from] ProofError),
}
