//! Is anything left out between positions that are claimed to be there whole?

use agent_audit_core::{
    chain::ChainRef,
    id::ChainId,
    verify::{Finding, FindingKind, Severity},
};

use super::{chains::Chains, report::Draft};
use crate::export::{claim::Positions, manifest::PROOFS};

/// Follows the runs of an export that claims to leave no position out.
pub(super) struct Cover {
    positions: Positions,
    chain: Option<ChainRef>,
    next: u64,
    pub(super) left_out: bool,
}

impl Cover {
    pub(super) fn new(positions: Positions) -> Self {
        Self { positions, chain: None, next: 0, left_out: false }
    }

    /// The next run, by chain and position.
    pub(super) fn run(
        &mut self,
        chain: &ChainRef,
        (first, last): (u64, u64),
        chains: &Chains,
        draft: &mut Draft,
    ) {
        if self.chain.as_ref() != Some(chain) {
            self.end_chain(chains, draft);
            self.chain = Some(chain.clone());
            self.next = self.positions.from;
        }
        if first > self.next {
            self.missing(chain, self.next, first - 1, draft);
        }
        self.next = self.next.max(last.saturating_add(1));
    }

    /// There are no more runs.
    pub(super) fn finish(&mut self, chains: &Chains, draft: &mut Draft) {
        self.end_chain(chains, draft);
        for claimed in chains.iter().filter(|claimed| claimed.seen.runs == 0) {
            self.chain = Some(claimed.chain.clone());
            self.next = self.positions.from;
            self.end_chain(chains, draft);
        }
        self.chains_elsewhere(chains, draft);
    }

    fn end_chain(&mut self, chains: &Chains, draft: &mut Draft) {
        let Some(chain) = self.chain.take() else { return };
        let size = chains.checkpoint(&chain).map_or(0, |checkpoint| checkpoint.size);
        let end = self.positions.to.min(size);
        if self.next < end {
            self.missing(&chain, self.next, end - 1, draft);
        }
    }

    fn missing(&mut self, chain: &ChainRef, first: u64, last: u64, draft: &mut Draft) {
        self.left_out = true;
        let one = first == last;
        let detail = format!(
            "{} left out of the export, which claims to have every position that was asked for",
            if one { "is" } else { "are" }
        );
        let finding = Finding::new(FindingKind::Missing, detail).in_chain(chain);
        draft.add(finding.at(first, last).in_place(PROOFS));
    }

    /// Chains that were asked for, or are known from elsewhere, and are not in the export: nobody can
    /// tell whether they were there when it was made.
    fn chains_elsewhere(&self, chains: &Chains, draft: &mut Draft) {
        let asked = |chain: &ChainId| {
            self.positions.chains.as_ref().is_none_or(|asked| asked.contains(chain))
        };
        let mut unsure = |chain: &ChainId, detail: &str| {
            let finding = Finding::new(FindingKind::ChainMissing, detail);
            let chain = ChainRef::new(chains.tenant().clone(), chain.clone());
            draft.add(finding.with_severity(Severity::Unsure).in_chain(&chain));
        };
        for chain in self.positions.chains.iter().flatten().filter(|chain| !chains.has(chain)) {
            unsure(chain, "was asked for, and the export has no event of it");
        }
        for chain in chains.separate().iter().flat_map(|separate| separate.chains()) {
            if asked(chain) && !chains.has(chain) && self.positions.chains.is_none() {
                unsure(
                    chain,
                    "is not in the export, and a checkpoint that was kept apart names it: it began \
                     later, or was left out",
                );
            }
        }
    }
}
