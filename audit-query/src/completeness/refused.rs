//! Why a proof is refused.

use agent_audit_core::index::IndexRoot;

use super::interval::Fault;

/// A proof that does not hold. It says what is wrong with it.
///
/// ```
/// use agent_audit_query::completeness::{CompletenessProof, RefusedProofKind};
/// let later = r#"{"format":2,"chain_id":"c-1","criteria":{"session":["s-1"]},"checkpoints":[]}"#;
/// let error = serde_json::from_str::<CompletenessProof>(later)?.verify([], &[]).unwrap_err();
/// assert_eq!(error.kind(), RefusedProofKind::UnknownVersion);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct RefusedProof(#[from] Refusal);

/// What kind of trouble a proof is in.
///
/// ```
/// use agent_audit_query::completeness::RefusedProofKind;
/// assert_ne!(RefusedProofKind::UnknownKey, RefusedProofKind::BadSignature);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusedProofKind {
    /// It is not a proof, or not a whole one.
    Malformed,
    /// It was made by a later release.
    UnknownVersion,
    /// A checkpoint is of another chain.
    OtherChain,
    /// No trusted key signed a checkpoint: nothing can be said.
    UnknownKey,
    /// A checkpoint names a trusted key, and its signature does not verify.
    BadSignature,
    /// Its checkpoints are not of one history, in order.
    OtherHistory,
    /// What it says of an index does not follow from what was signed.
    Index,
}

impl RefusedProof {
    /// The kind of trouble.
    #[must_use]
    pub fn kind(&self) -> RefusedProofKind {
        match self.0 {
            Refusal::NoCheckpoint
            | Refusal::NoCriteria
            | Refusal::Unreadable(_)
            | Refusal::Indexes { .. } => RefusedProofKind::Malformed,
            Refusal::Format(_) => RefusedProofKind::UnknownVersion,
            Refusal::OtherChain { .. } => RefusedProofKind::OtherChain,
            Refusal::UnknownKey { .. } => RefusedProofKind::UnknownKey,
            Refusal::BadSignature { .. } => RefusedProofKind::BadSignature,
            Refusal::OtherHistory { .. } => RefusedProofKind::OtherHistory,
            Refusal::Values { .. } | Refusal::Entry { .. } | Refusal::Contradiction { .. } => {
                RefusedProofKind::Index
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the proof is of format {0}, which this program does not know: use a later release")]
    Format(u32),
    #[error("the proof names no field and value")]
    NoCriteria,
    #[error("the proof has no checkpoint")]
    NoCheckpoint,
    #[error("the proof cannot be read: {0}")]
    Unreadable(String),
    #[error("the checkpoint of size {size} is of another chain")]
    OtherChain { size: u64 },
    #[error(
        "the checkpoint of size {size} is not signed by a trusted key; give the key that signs this \
         chain's checkpoints"
    )]
    UnknownKey { size: u64 },
    #[error("the checkpoint of size {size} was changed: its signature does not verify")]
    BadSignature { size: u64 },
    #[error(
        "the checkpoint of size {size} is not proved to go on from the one before it: they can be \
         of two histories"
    )]
    OtherHistory { size: u64 },
    #[error("the proof leaves out an index of the checkpoint of size {size}, or has one too many")]
    Indexes { size: u64 },
    #[error("the proof does not speak of each value in positions {from} to {to}")]
    Values { from: u64, to: u64 },
    #[error(
        "what the proof says of {field} {value:?} in positions {from} to {to} does not hold: {why}"
    )]
    Entry { field: &'static str, value: String, from: u64, to: u64, why: String },
    #[error("two signed indexes contradict each other about positions {from} to {to}")]
    Contradiction { from: u64, to: u64 },
}

impl Refusal {
    pub(super) fn of(fault: Fault, root: IndexRoot) -> Self {
        let (from, to) = (root.from, root.size - 1);
        match fault {
            Fault::Count => Self::Values { from, to },
            Fault::Entry { field, value, error } => {
                let (field, why) = (field.as_str(), error.to_string());
                Self::Entry { field, value, from, to, why }
            }
        }
    }
}
