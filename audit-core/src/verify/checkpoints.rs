//! The signed checkpoints of one chain: which of them can be believed.

use crate::{
    chain::ChainRef,
    checkpoint::{Checkpoint, CheckpointErrorKind, SignedCheckpoint, chain_origin},
    hash::Hash,
    index::IndexRoot,
    key::VerifyingKey,
};

use super::{Basis, Finding, FindingKind};

/// Where a checkpoint comes from.
///
/// ```
/// use agent_audit_core::verify::CheckpointSource;
/// assert_ne!(CheckpointSource::Own, CheckpointSource::Separate);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums, reason = "a checkpoint is kept with the log or apart from it")]
pub enum CheckpointSource {
    /// It was found beside the log.
    Own,
    /// The caller kept it apart from the log.
    Separate,
}

/// The checkpoints of one chain whose signatures hold, and findings about the others.
///
/// ```
/// use agent_audit_core::{chain::ChainRef, checkpoint::Checkpoint, id::{ChainId, TenantId}};
/// use agent_audit_core::{key::SigningKey, tree::EMPTY_ROOT};
/// use agent_audit_core::verify::{CheckpointSource, Checkpoints};
///
/// let chain = ChainRef::new(TenantId::new("acme")?, ChainId::new("c-1")?);
/// let key = SigningKey::generate()?;
/// let note = Checkpoint::new("agent-audit/chain/c-1", 0, EMPTY_ROOT).sign(&key)?.to_string();
/// let mut checkpoints = Checkpoints::trusting(&chain, vec![key.verifying_key()]);
/// checkpoints.add(&note, CheckpointSource::Separate);
/// assert_eq!(checkpoints.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Checkpoints {
    chain: Option<ChainRef>,
    keys: Vec<VerifyingKey>,
    keys_from_log: bool,
    /// Sorted by size, one for each size and root.
    pub(super) known: Vec<Known>,
    /// Sorted by the beginning of their intervals, each once.
    pub(super) indexes: Vec<SignedIndex>,
    pub(super) findings: Vec<Finding>,
}

/// A checkpoint whose signature holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) size: u64,
    pub(super) root: Hash,
    pub(super) basis: Basis,
}

/// The index of an interval, and the checkpoint whose signature it is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SignedIndex {
    pub(super) size: u64,
    pub(super) root: Hash,
    pub(super) index: IndexRoot,
}

impl Checkpoints {
    /// No checkpoints: the verdict rests on the chain alone.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Checkpoints of a chain, believed where one of these keys signed them.
    #[must_use]
    pub fn trusting(chain: &ChainRef, keys: Vec<VerifyingKey>) -> Self {
        Self { chain: Some(chain.clone()), keys, ..Self::default() }
    }

    /// Says that the keys were found beside the log and not given by the caller.
    #[must_use]
    pub fn with_keys_from_log(mut self) -> Self {
        self.keys_from_log = true;
        self
    }

    /// Adds a signed note. What cannot be believed becomes a finding of the chain.
    pub fn add(&mut self, note: &str, source: CheckpointSource) {
        match SignedCheckpoint::parse(note) {
            Ok(signed) => self.add_signed(&signed, source),
            Err(error) => self.find(
                FindingKind::BadCheckpoint,
                format!("a checkpoint of the chain cannot be read: {error}"),
            ),
        }
    }

    /// Adds a signed checkpoint. What cannot be believed becomes a finding of the chain.
    pub fn add_signed(&mut self, signed: &SignedCheckpoint, source: CheckpointSource) {
        let Some(chain) = &self.chain else { return };
        let size = signed.unverified().size;
        match signed.verify(&chain_origin(chain.chain_id.as_str()), &self.keys) {
            Ok(checkpoint) => {
                let basis = match source {
                    CheckpointSource::Separate => Basis::SeparateCheckpoint,
                    CheckpointSource::Own if self.keys_from_log => Basis::OwnKey,
                    CheckpointSource::Own => Basis::OwnCheckpoint,
                };
                self.insert(Known { size, root: checkpoint.root, basis });
                self.insert_indexes(checkpoint);
            }
            Err(error) => {
                let (kind, detail) = match error.kind() {
                    CheckpointErrorKind::UnknownKey => (
                        FindingKind::UnknownKey,
                        format!(
                            "the checkpoint of size {size} is not signed by a trusted key; give \
                             the key that signs this chain's checkpoints"
                        ),
                    ),
                    CheckpointErrorKind::BadSignature => (
                        FindingKind::BadSignature,
                        format!(
                            "the checkpoint of size {size} names a trusted key, and its signature \
                             does not verify: the checkpoint was changed"
                        ),
                    ),
                    CheckpointErrorKind::ForeignOrigin => (
                        FindingKind::Foreign,
                        format!("the checkpoint of size {size} is of another chain: {error}"),
                    ),
                    _ => (
                        FindingKind::BadCheckpoint,
                        format!("the checkpoint of size {size} cannot be used: {error}"),
                    ),
                };
                self.find(kind, detail);
            }
        }
    }

    /// How many checkpoints can be believed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there is none that can be believed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The largest size that a believed checkpoint states.
    #[must_use]
    pub fn largest(&self) -> Option<u64> {
        self.known.last().map(|known| known.size)
    }

    fn insert(&mut self, new: Known) {
        // Checkpoints come almost always in the order of their size.
        let at = self.known.partition_point(|known| known.size < new.size);
        let same_size = self.known[at..].iter_mut().take_while(|known| known.size == new.size);
        let mut other_root = false;
        for known in same_size {
            if known.root == new.root {
                known.basis = known.basis.max(new.basis);
                return;
            }
            other_root = true;
        }
        self.known.insert(at, new);
        if other_root {
            let size = new.size;
            let mut finding = self.finding(
                FindingKind::Forked,
                format!(
                    "two signed checkpoints of size {size} have different roots: the holder of \
                     the key signed two histories"
                ),
            );
            if let Some(last) = size.checked_sub(1) {
                finding = finding.at(last, last);
                finding.detail = format!("is the end of two histories: {}", finding.detail);
            }
            self.findings.push(finding);
        }
    }

    fn insert_indexes(&mut self, checkpoint: &Checkpoint) {
        let Checkpoint { size, root, .. } = *checkpoint;
        match IndexRoot::all_of(checkpoint) {
            Ok(indexes) => {
                for index in indexes {
                    let new = SignedIndex { size, root, index };
                    let at = self.indexes.partition_point(|known| known.index.from <= index.from);
                    let same = self.indexes[..at].iter().rev();
                    let mut same = same.take_while(|known| known.index.from == index.from);
                    if !same.any(|known| *known == new) {
                        self.indexes.insert(at, new);
                    }
                }
            }
            Err(error) => self.find(
                FindingKind::BadCheckpoint,
                format!("the indexes of the checkpoint of size {size} cannot be read: {error}"),
            ),
        }
    }

    fn find(&mut self, kind: FindingKind, detail: String) {
        let finding = self.finding(kind, detail);
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    fn finding(&self, kind: FindingKind, detail: String) -> Finding {
        let finding = Finding::new(kind, detail);
        match &self.chain {
            Some(chain) => finding.in_chain(chain),
            None => finding,
        }
    }
}
