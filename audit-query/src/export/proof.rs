//! The lines of a file of proofs.

use agent_audit_core::{hash::Hash, id::ChainId};
use serde::{Deserialize, Serialize};

/// A contiguous run of events of one chain, and the proof that it stands at its positions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProofLine {
    pub(super) chain_id: ChainId,
    /// The position of the first event.
    pub(super) first: u64,
    /// The hashes that lead from the events to the root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) hashes: Vec<Hash>,
    /// The position of the last event.
    pub(super) last: u64,
    /// The size of the checkpoint that the proof leads to; absent where none covers the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
}

/// A run that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) covered: bool,
}

impl Run {
    pub(super) fn new(first: u64, covered: bool) -> Self {
        Self { first, last: first, covered }
    }

    /// The position behind it.
    pub(super) fn next(&self) -> u64 {
        self.last + 1
    }
}
