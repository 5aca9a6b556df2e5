//! What is proved of one interval of a chain.

use std::collections::BTreeSet;

use agent_audit_core::{
    hash::Hash,
    index::{EntryProof, EntryProofError, Field, Index, IndexRoot},
};
use serde::{Deserialize, Serialize};

use super::Criteria;

/// Of one index, a proof for each value that was asked for, in the order of fields and values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct IntervalProof(pub(super) Vec<EntryProof>);

/// Which events of an interval meet the criteria.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proven {
    pub(super) index: IndexRoot,
    pub(super) positions: BTreeSet<u64>,
}

/// Why nothing is known of an interval.
#[derive(Debug)]
pub(super) enum Fault {
    /// Fewer or more proofs than values.
    Count,
    /// The proof of one value does not hold.
    Entry { field: Field, value: String, error: EntryProofError },
}

/// The keys of the values that are asked for, in their order.
pub(super) fn keys(criteria: &Criteria) -> Vec<Hash> {
    criteria.iter().map(|(field, value)| field.key(value)).collect()
}

impl IntervalProof {
    pub(super) fn of(index: &Index, keys: &[Hash]) -> Self {
        Self(keys.iter().map(|key| index.prove(key)).collect())
    }

    pub(super) fn verify(&self, criteria: &Criteria, index: IndexRoot) -> Result<Proven, Fault> {
        if self.0.len() != criteria.iter().count() {
            return Err(Fault::Count);
        }
        let mut proofs = self.0.iter();
        let mut positions: Option<BTreeSet<u64>> = None;
        for (field, values) in criteria.fields() {
            let mut any = BTreeSet::new();
            for (value, proof) in values.iter().zip(&mut proofs) {
                let found = proof
                    .verify(&field.key(value), &index)
                    .map_err(|error| Fault::Entry { field, value: value.clone(), error })?;
                any.extend(found);
            }
            positions = Some(match positions {
                None => any,
                Some(all) => all.intersection(&any).copied().collect(),
            });
        }
        Ok(Proven { index, positions: positions.unwrap_or_default() })
    }
}
