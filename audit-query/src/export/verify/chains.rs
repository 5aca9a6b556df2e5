//! What an export says of its chains, and which signed checkpoints stand behind that.

use std::collections::BTreeMap;

use agent_audit_core::{
    chain::ChainRef,
    checkpoint::{CheckpointErrorKind, SignedCheckpoint, chain_origin},
    id::{ChainId, TenantId},
    key::VerifyingKey,
    verify::{Basis, Finding, FindingKind},
};

use super::{VerifyOptions, files::Files, lines::Lines, report::Draft};
use crate::{
    QueryError,
    export::{
        LogCheckpoints,
        checkpoints::CheckpointLine,
        manifest::{CHECKPOINTS, ExportedChain, Manifest, ProvenAt},
    },
};

/// The chains of an export.
pub(super) struct Chains {
    tenant: TenantId,
    by_id: BTreeMap<ChainId, Claimed>,
    /// Checkpoints that the caller kept apart; none were given where there is nothing.
    separate: Option<LogCheckpoints>,
}

/// What is said of one chain, and what was seen of it.
pub(super) struct Claimed {
    pub(super) chain: ChainRef,
    pub(super) said: ExportedChain,
    /// What the checkpoint in the export is worth.
    pub(super) basis: Basis,
    /// Checkpoints that were kept apart, and reach no further than the one in the export.
    pub(super) marks: Vec<ProvenAt>,
    pub(super) seen: Seen,
}

/// What was seen of a chain.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) events: u64,
    /// Events that were proved under the checkpoint in the export.
    pub(super) proven: u64,
    pub(super) covered: u64,
    pub(super) runs: u64,
    pub(super) first: Option<u64>,
    pub(super) last: Option<u64>,
    /// How many events, from position 0, checkpoints that were kept apart cover.
    pub(super) separate: u64,
}

impl Claimed {
    /// What stands behind the events of the chain that are covered.
    pub(super) fn worth(&self) -> Basis {
        let proven = self.seen.proven;
        if proven == 0 {
            Basis::ChainOnly
        } else if self.seen.separate >= proven {
            Basis::SeparateCheckpoint
        } else {
            self.basis
        }
    }
}

impl Chains {
    pub(super) fn read(
        manifest: &Manifest,
        files: &Files,
        options: &VerifyOptions<'_>,
        draft: &mut Draft,
    ) -> Result<Self, QueryError> {
        let tenant = manifest.tenant_id.clone();
        let mut chains = Self { tenant, by_id: BTreeMap::new(), separate: None };
        for said in &manifest.chains {
            let claimed = Claimed {
                chain: ChainRef::new(manifest.tenant_id.clone(), said.chain_id.clone()),
                said: said.clone(),
                basis: Basis::ChainOnly,
                marks: Vec::new(),
                seen: Seen::default(),
            };
            chains.by_id.insert(said.chain_id.clone(), claimed);
        }
        let (keys, basis) = match &options.log_keys[..] {
            [] => (&manifest.checkpoint_keys, Basis::OwnKey),
            _ => (&options.log_keys, Basis::OwnCheckpoint),
        };
        if !options.checkpoints.is_empty() {
            let mut separate = LogCheckpoints::trusting(manifest.tenant_id.clone(), keys.clone());
            for path in &options.checkpoints {
                separate.read(path)?;
            }
            chains.separate = Some(separate);
        }
        chains.read_checkpoints(manifest, files, keys, basis, draft)?;
        chains.compare(draft);
        Ok(chains)
    }

    /// A chain of the tenant.
    pub(super) fn get(&mut self, chain: &ChainRef) -> Option<&mut Claimed> {
        self.by_id.get_mut(&chain.chain_id)
    }

    pub(super) fn has(&self, chain: &ChainId) -> bool {
        self.by_id.contains_key(chain)
    }

    /// The checkpoint that the proofs of a chain lead to.
    pub(super) fn checkpoint(&self, chain: &ChainRef) -> Option<ProvenAt> {
        self.by_id.get(&chain.chain_id)?.said.checkpoint
    }

    pub(super) fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Claimed> {
        self.by_id.values()
    }

    /// Checkpoints that were kept apart.
    pub(super) fn separate(&self) -> Option<&LogCheckpoints> {
        self.separate.as_ref()
    }

    fn read_checkpoints(
        &mut self,
        manifest: &Manifest,
        files: &Files,
        keys: &[VerifyingKey],
        basis: Basis,
        draft: &mut Draft,
    ) -> Result<(), QueryError> {
        let mut found = Vec::new();
        let mut lines = Lines::<CheckpointLine>::open(files, CHECKPOINTS)?;
        while let Some((place, line)) = lines.next(draft)? {
            let chain = ChainRef::new(line.tenant_id.clone(), line.chain_id.clone());
            let find = |kind, detail: String| {
                Finding::new(kind, detail).in_chain(&chain).in_place(place.to_string())
            };
            if line.tenant_id != manifest.tenant_id {
                let detail =
                    format!("a checkpoint is of another tenant than {}", manifest.tenant_id);
                draft.add(find(FindingKind::Foreign, detail));
                continue;
            }
            let stated = match self.by_id.get(&line.chain_id) {
                Some(claimed) if !found.contains(&line.chain_id) => claimed.said.checkpoint,
                _ => {
                    let detail = "a checkpoint is of a chain that the export does not have, or the \
                                  second one of its chain";
                    draft.add(find(FindingKind::Foreign, detail.to_owned()));
                    continue;
                }
            };
            found.push(line.chain_id.clone());
            match believe(&line, keys, stated) {
                Ok(()) => {
                    if let Some(claimed) = self.by_id.get_mut(&line.chain_id) {
                        claimed.basis = basis;
                    }
                }
                Err((kind, detail)) => draft.add(find(kind, detail)),
            }
        }
        for claimed in self.by_id.values() {
            if claimed.said.checkpoint.is_some() && !found.contains(&claimed.said.chain_id) {
                let detail = "the checkpoint that its proofs lead to is missing";
                let finding = Finding::new(FindingKind::Missing, detail).in_chain(&claimed.chain);
                draft.add(finding.in_place(CHECKPOINTS));
            }
        }
        Ok(())
    }

    /// Holds the checkpoints in the export against those that were kept apart.
    fn compare(&mut self, draft: &mut Draft) {
        let Some(separate) = &self.separate else { return };
        for claimed in self.by_id.values_mut() {
            let Some(own) = claimed.said.checkpoint else { continue };
            for other in separate.of(&claimed.said.chain_id) {
                let other = other.unverified();
                if other.size == own.size && other.root != own.root {
                    let detail = format!(
                        "has two histories: the checkpoint of size {} in the export has another \
                         root than the one that was kept apart",
                        own.size
                    );
                    let finding = Finding::new(FindingKind::Forked, detail);
                    draft.add(finding.in_chain(&claimed.chain).in_place(CHECKPOINTS));
                } else if other.size == own.size {
                    claimed.basis = Basis::SeparateCheckpoint;
                } else if other.size < own.size && other.size > 0 {
                    claimed.marks.push(ProvenAt::new(other.size, other.root));
                }
            }
            let last = separate.of(&claimed.said.chain_id).last();
            let last = last.map_or(0, |last| last.unverified().size);
            if last > own.size {
                let detail = format!(
                    "had {last} records, as a checkpoint that was kept apart states, and the export \
                     reaches {} of them: it was made before, or its end was left out",
                    own.size
                );
                let finding = Finding::new(FindingKind::UncoveredTail, detail);
                draft.add(finding.in_chain(&claimed.chain).in_place(CHECKPOINTS));
            }
        }
    }
}

/// Whether a checkpoint is of its chain, signed, and states what the manifest says.
fn believe(
    line: &CheckpointLine,
    keys: &[VerifyingKey],
    stated: Option<ProvenAt>,
) -> Result<(), (FindingKind, String)> {
    let signed: SignedCheckpoint = line.note.parse().map_err(|error| {
        (FindingKind::BadCheckpoint, format!("the checkpoint cannot be read: {error}"))
    })?;
    let origin = chain_origin(line.chain_id.as_str());
    let checkpoint = signed.verify(&origin, keys).map_err(|error| {
        let size = signed.unverified().size;
        match error.kind() {
            CheckpointErrorKind::UnknownKey => (
                FindingKind::UnknownKey,
                format!(
                    "the checkpoint of size {size} is not signed by a key of the log that you \
                     trust; give the key that signs its checkpoints"
                ),
            ),
            CheckpointErrorKind::ForeignOrigin => (
                FindingKind::Foreign,
                format!("the checkpoint of size {size} is of another chain: {error}"),
            ),
            _ => (
                FindingKind::BadSignature,
                format!("the checkpoint of size {size} was changed: {error}"),
            ),
        }
    })?;
    if stated != Some(ProvenAt::new(checkpoint.size, checkpoint.root)) {
        let detail = format!(
            "the checkpoint of size {} does not state what the manifest says of it",
            checkpoint.size
        );
        return Err((FindingKind::Tampered, detail));
    }
    Ok(())
}
