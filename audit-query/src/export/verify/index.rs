//! Do the signed indexes say that no event which matches was left out?

use std::collections::BTreeMap;

use agent_audit_core::{
    chain::ChainRef,
    hash::Hash,
    id::ChainId,
    key::VerifyingKey,
    verify::{Finding, FindingKind, Severity},
};

use super::{chains::Chains, files::Files, lines::Lines, report::Draft};
use crate::{
    Filter, QueryError,
    completeness::{CompletenessProof, Criteria, RefusedProofKind},
    export::{ExportCompleteness, manifest::COMPLETENESS},
};

/// The events of each chain, by position and event hash.
pub(super) type Events = BTreeMap<ChainId, Vec<(u64, Hash)>>;

/// Holds the events of an export against its proofs of completeness.
pub(super) fn check(
    files: &Files,
    query: &Filter,
    mut events: Events,
    chains: &Chains,
    keys: &[VerifyingKey],
    draft: &mut Draft,
) -> Result<ExportCompleteness, QueryError> {
    let criteria = Criteria::from_filter(query)?;
    let mut answer = ExportCompleteness::Proven;
    let mut proven = Vec::new();
    let mut lines = Lines::<CompletenessProof>::open(files, COMPLETENESS)?;
    while let Some((place, proof)) = lines.next(draft)? {
        let id = proof.chain_id().clone();
        let chain = ChainRef::new(chains.tenant().clone(), id.clone());
        let find = |kind, detail: String| {
            Finding::new(kind, detail).in_chain(&chain).in_place(place.clone())
        };
        if !chains.has(&id) || proven.contains(&id) || *proof.criteria() != criteria {
            let detail = "a proof of completeness is of another question, of a chain that is not in \
                          the export, or the second one of its chain";
            draft.add(find(FindingKind::Foreign, detail.to_owned()));
            continue;
        }
        proven.push(id.clone());
        let found = match proof.verify(events.remove(&id).unwrap_or_default(), keys) {
            Ok(found) => found,
            Err(error) => {
                let kind = match error.kind() {
                    RefusedProofKind::UnknownKey => FindingKind::UnknownKey,
                    RefusedProofKind::UnknownVersion => FindingKind::UnknownSchema,
                    RefusedProofKind::BadSignature => FindingKind::BadSignature,
                    RefusedProofKind::OtherChain => FindingKind::Foreign,
                    _ => FindingKind::Tampered,
                };
                draft.add(find(kind, format!("the proof of completeness does not hold: {error}")));
                answer = worse(answer, ExportCompleteness::Unproven);
                continue;
            }
        };
        for (first, last) in ranges(found.missing) {
            let one = first == last;
            let detail = format!(
                "{}, and {} left out of the export: the signed indexes of the chain say so",
                if one { "matches" } else { "match" },
                if one { "is" } else { "are" },
            );
            draft.add(find(FindingKind::Missing, detail).at(first, last));
            answer = ExportCompleteness::Broken;
        }
        for (first, last) in ranges(found.foreign) {
            let what = if first == last { "does not" } else { "do not" };
            let detail = format!("{what} match, as the signed indexes of the chain say");
            draft.add(find(FindingKind::Foreign, detail).at(first, last));
        }
        let checkpoint = chains.checkpoint(&chain);
        let same = checkpoint.is_some_and(|own| (own.size, own.root) == (found.size, found.root));
        if !same {
            let detail = "the proof of completeness leads to another checkpoint than the proofs of \
                          the events";
            draft.add(find(FindingKind::BadCheckpoint, detail.to_owned()));
            answer = worse(answer, ExportCompleteness::Unproven);
        }
        for unproven in found.unproven.iter().filter(|range| !range.is_empty()) {
            let detail = "are covered by no signed index: whether one of them matches and was left \
                          out cannot be told";
            let finding = find(FindingKind::NotVouched, detail.to_owned());
            let finding = finding.with_severity(Severity::Warning);
            draft.add(finding.at(unproven.start, unproven.end - 1));
            answer = worse(answer, ExportCompleteness::Unproven);
        }
    }
    for claimed in chains.iter().filter(|claimed| !proven.contains(&claimed.said.chain_id)) {
        let detail = "the proof of completeness that the export claims is missing";
        let finding = Finding::new(FindingKind::Missing, detail).in_chain(&claimed.chain);
        draft.add(finding.in_place(COMPLETENESS));
        answer = worse(answer, ExportCompleteness::Unproven);
    }
    Ok(answer)
}

fn worse(a: ExportCompleteness, b: ExportCompleteness) -> ExportCompleteness {
    if a == ExportCompleteness::Broken { a } else { b }
}

/// Positions that follow each other, as the first and last of each run.
fn ranges(positions: Vec<u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for at in positions {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(at) => *last = at,
            _ => ranges.push((at, at)),
        }
    }
    ranges
}
