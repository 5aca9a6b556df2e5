//! The proof, and what it takes to believe it.

use agent_audit_core::{
    checkpoint::{Checkpoint, CheckpointErrorKind, SignedCheckpoint, chain_origin},
    hash::Hash,
    id::ChainId,
    index::IndexRoot,
    key::VerifyingKey,
    tree::ConsistencyProof,
};
use serde::{Deserialize, Serialize};

use super::{
    Completeness, Criteria, RefusedProof,
    answer::Answer,
    interval::{IntervalProof, Proven},
    refused::Refusal,
};

const FORMAT: u32 = 1;

/// Which positions of a chain hold the events that meet some criteria, and that there are no others.
///
/// A plain value that may come from anywhere: nothing about it is believed before
/// [`verify`](Self::verify). Its JSON form is specified in `docs/SPEC.md`.
///
/// ```
/// use agent_audit_query::completeness::CompletenessProof;
/// let nothing = r#"{"format":1,"chain_id":"c-1","criteria":{"session":["s-1"]},"checkpoints":[]}"#;
/// let proof: CompletenessProof = serde_json::from_str(nothing)?;
/// let error = proof.verify([], &[]).unwrap_err();
/// assert_eq!(error.to_string(), "the proof has no checkpoint");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompletenessProof {
    format: u32,
    chain_id: ChainId,
    criteria: Criteria,
    checkpoints: Vec<Link>,
}

/// A checkpoint, and what is proved under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    /// The signed note.
    pub(super) note: String,
    /// That its tree goes on from that of the checkpoint before; empty in the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) consistency: Vec<Hash>,
    /// One for each of its indexes, in order.
    pub(super) indexes: Vec<IntervalProof>,
}

impl CompletenessProof {
    pub(super) fn new(chain_id: ChainId, criteria: Criteria, checkpoints: Vec<Link>) -> Self {
        Self { format: FORMAT, chain_id, criteria, checkpoints }
    }

    /// The chain that it is about.
    #[must_use]
    pub fn chain_id(&self) -> &ChainId {
        &self.chain_id
    }

    /// Which events it is about.
    #[must_use]
    pub fn criteria(&self) -> &Criteria {
        &self.criteria
    }

    /// Holds events, by position and event hash, against the proof.
    ///
    /// The events are those of one chain that were handed over as the answer. That each of them is at
    /// its position of the chain is for its inclusion proof to show, under [`Completeness::root`]; the
    /// hash tells two events at one position from one that was handed over twice.
    ///
    /// # Errors
    /// [`RefusedProof`] where the proof itself does not hold: nothing is known then.
    pub fn verify(
        &self,
        events: impl IntoIterator<Item = (u64, Hash)>,
        keys: &[VerifyingKey],
    ) -> Result<Completeness, RefusedProof> {
        if self.format != FORMAT {
            return Err(Refusal::Format(self.format).into());
        }
        if self.criteria.asks_nothing() {
            return Err(Refusal::NoCriteria.into());
        }
        let mut answer = Answer::default();
        let mut before: Option<Checkpoint> = None;
        for link in &self.checkpoints {
            let checkpoint = link.checkpoint(&self.chain_id, keys)?;
            link.follows(before.as_ref(), &checkpoint)?;
            for proven in link.proven(&self.criteria, &checkpoint)? {
                answer.take(proven)?;
            }
            before = Some(checkpoint);
        }
        let last = before.ok_or(Refusal::NoCheckpoint)?;
        Ok(answer.compare(&last, events))
    }
}

impl Link {
    fn checkpoint(&self, chain: &ChainId, keys: &[VerifyingKey]) -> Result<Checkpoint, Refusal> {
        let signed = SignedCheckpoint::parse(&self.note)
            .map_err(|error| Refusal::Unreadable(error.to_string()))?;
        let size = signed.unverified().size;
        match signed.verify(&chain_origin(chain.as_str()), keys) {
            Ok(checkpoint) => Ok(checkpoint.clone()),
            Err(error) => Err(match error.kind() {
                CheckpointErrorKind::ForeignOrigin => Refusal::OtherChain { size },
                CheckpointErrorKind::UnknownKey => Refusal::UnknownKey { size },
                CheckpointErrorKind::BadSignature => Refusal::BadSignature { size },
                _ => Refusal::Unreadable(error.to_string()),
            }),
        }
    }

    /// Both checkpoints must be of one history: who has two could take of each what suits.
    fn follows(&self, before: Option<&Checkpoint>, own: &Checkpoint) -> Result<(), Refusal> {
        let Some(before) = before else {
            let none = self.consistency.is_empty();
            return none.then_some(()).ok_or(Refusal::OtherHistory { size: own.size });
        };
        let proof = ConsistencyProof {
            first_size: before.size,
            second_size: own.size,
            hashes: self.consistency.clone(),
        };
        let consistent = before.size < own.size && proof.verify(&before.root, &own.root).is_ok();
        consistent.then_some(()).ok_or(Refusal::OtherHistory { size: own.size })
    }

    fn proven(&self, criteria: &Criteria, own: &Checkpoint) -> Result<Vec<Proven>, Refusal> {
        let size = own.size;
        let roots = IndexRoot::all_of(own).map_err(|error| {
            Refusal::Unreadable(format!("its checkpoint of size {size}: {error}"))
        })?;
        if roots.len() != self.indexes.len() {
            return Err(Refusal::Indexes { size });
        }
        let proofs = self.indexes.iter().zip(roots);
        proofs
            .map(|(proof, root)| {
                proof.verify(criteria, root).map_err(|fault| Refusal::of(fault, root))
            })
            .collect()
    }
}
