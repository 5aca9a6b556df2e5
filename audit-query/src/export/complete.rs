//! Proofs of completeness in an export: one line for each chain.

use agent_audit_core::id::{ChainId, TenantId};

use super::{
    chain::{Written, line},
    checkpoints::LogCheckpoints,
    manifest::{COMPLETENESS, ExportedChain, ProvenAt},
    output::Output,
};
use crate::{
    Filter, Ledger, QueryError, QueryErrorKind,
    completeness::{self, Criteria},
};

/// Writes a proof for each chain, that every event which matches is in the export; says no, and
/// leaves no file, where the checkpoints of one of them have no index.
pub(super) async fn write(
    ledger: &Ledger,
    chains: &[ChainId],
    checkpoints: Option<&LogCheckpoints>,
    filter: &Filter,
    output: &mut Output,
) -> Result<bool, QueryError> {
    let Some(checkpoints) = checkpoints else { return Ok(false) };
    let criteria = Criteria::from_filter(filter)?;
    // The last checkpoint is the one that the proofs of the events lead to.
    let indexed = |chain: &ChainId| {
        let last = checkpoints.of(chain).last();
        last.is_some_and(|signed| !signed.unverified().extensions.is_empty())
    };
    if chains.is_empty() || !chains.iter().all(indexed) {
        return Ok(false);
    }
    let mut writing = output.begin(COMPLETENESS)?;
    for chain in chains {
        match completeness::prove(ledger, chain, checkpoints.of(chain), &criteria).await {
            Ok(proof) => writing.put(&line(&proof)?)?,
            Err(error)
                if matches!(
                    error.kind(),
                    QueryErrorKind::NotFound | QueryErrorKind::Unsupported
                ) =>
            {
                output.discard(writing)?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    output.commit(writing, None)?;
    Ok(true)
}

impl Written {
    /// Names the chains that no event of the export is of: the proof says that nothing in them
    /// matches.
    pub(super) fn add_empty_chains(
        &mut self,
        tenant: &TenantId,
        chains: &[ChainId],
        checkpoints: &LogCheckpoints,
    ) {
        for chain in chains {
            let Some(last) = checkpoints.of(chain).last() else { continue };
            if self.chains.iter().any(|entry| entry.chain_id == *chain) {
                continue;
            }
            let stated = last.unverified();
            let at = Some(ProvenAt::new(stated.size, stated.root));
            self.chains.push(ExportedChain::of(chain.clone(), at));
            self.add_checkpoint(tenant, chain, last, checkpoints);
        }
        self.chains.sort_by(|a, b| a.chain_id.cmp(&b.chain_id));
    }
}
