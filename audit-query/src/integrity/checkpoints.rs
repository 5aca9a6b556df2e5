//! A tenant's checkpoints as an auditor reads them.

use std::path::Path;

use agent_audit_core::{
    checkpoint::SignedCheckpoint,
    key::VerifyingKey,
    tree::{ConsistencyProof, InclusionProof, MerkleTree, TreeError},
};

use super::{
    TenantState, WatchError,
    log::{Opened, StateLog},
};

/// All checkpoints of one tenant, checked: each follows the one before, and a trusted key signed it.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::sync::Arc;
/// use agent_audit_core::{event::Other, log::AuditLog, memory::MemorySink};
/// use agent_audit_query::{integrity::{TenantCheckpoints, Watch}, scan::Scanned};
/// # let sink = MemorySink::new();
/// # let log = AuditLog::builder(dir.path().join("log")).with_sink(sink.clone()).open()?;
/// # log.session("acme", "s-1", "support-agent")?.record_blocking(Other::custom("note")?)?;
/// # log.close_blocking(std::time::Duration::from_secs(5))?;
/// # pollster::block_on(async {
/// let kept = dir.path().join("checkpoints");
/// let store = Arc::new(Scanned::new("memory", sink));
/// let mut watch = Watch::builder(dir.path().join("integrity"))
///     .with_store(store)
///     .with_checkpoint_dir(&kept)
///     .open()?;
/// watch.run().await?;
/// watch.run().await?;
///
/// let file = std::fs::read_dir(&kept)?.next().unwrap()?.path();
/// let checkpoints = TenantCheckpoints::read(&file, &[watch.verifying_key()])?;
/// assert_eq!(checkpoints.len(), 2);
/// let (first, second) = (checkpoints.note(0).unwrap(), checkpoints.note(1).unwrap());
/// let proof = checkpoints.consistency_proof(1, 2)?;
/// assert!(proof.verify(&first.unverified().root, &second.unverified().root).is_ok());
/// assert_eq!(checkpoints.state(1).unwrap().previous, checkpoints.state(0).unwrap().hash());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TenantCheckpoints {
    origin: String,
    states: Vec<(TenantState, SignedCheckpoint)>,
    tree: MerkleTree,
}

impl TenantCheckpoints {
    /// Reads the checkpoints of a tenant from their file, all into memory.
    ///
    /// # Errors
    /// [`Damaged`](super::WatchErrorKind::Damaged) where any of them is not what was signed.
    pub fn read(path: &Path, keys: &[VerifyingKey]) -> Result<Self, WatchError> {
        let log = match StateLog::open(path.to_owned())? {
            Opened::Log(log) => log,
            Opened::Damaged(what) => return Err(WatchError::damaged(what)),
            Opened::Missing => {
                let what = format!("there are no checkpoints in `{}`", path.display());
                return Err(WatchError::damaged(what));
            }
        };
        let mut tail = log.beginning();
        let (mut states, mut tree) = (Vec::new(), MerkleTree::new());
        let mut bad = None;
        let problem =
            log.follow(&mut tail, keys, &mut |bytes, note| match TenantState::from_slice(bytes) {
                Ok(state) => {
                    tree.push(state.hash());
                    states.push((state, note));
                }
                Err(error) => bad = Some(error.to_string()),
            })?;
        match problem.map(|problem| problem.what).or(bad) {
            Some(what) => Err(WatchError::damaged(format!("`{}`: {what}", path.display()))),
            None => Ok(Self { origin: log.header.origin, states, tree }),
        }
    }

    /// The origin of the checkpoints, for a witness.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// The state of a number, from 0.
    #[must_use]
    pub fn state(&self, number: usize) -> Option<&TenantState> {
        self.states.get(number).map(|(state, _)| state)
    }

    /// The signed checkpoint behind the state of a number: its size is that number and one.
    #[must_use]
    pub fn note(&self, number: usize) -> Option<&SignedCheckpoint> {
        self.states.get(number).map(|(_, note)| note)
    }

    /// Proves that the checkpoint of a size is continued by that of another.
    ///
    /// # Errors
    /// [`TreeError`] where there are fewer states.
    pub fn consistency_proof(
        &self,
        first: u64,
        second: u64,
    ) -> Result<ConsistencyProof, TreeError> {
        self.tree.consistency_proof(first, second)
    }

    /// Proves that the checkpoint of a size covers the state of a number.
    ///
    /// # Errors
    /// [`TreeError`] where it does not.
    pub fn inclusion_proof(&self, number: u64, size: u64) -> Result<InclusionProof, TreeError> {
        self.tree.inclusion_proof_at(number, size)
    }
}
