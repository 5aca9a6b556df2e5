//! What a tenant checkpoint commits to.

use agent_audit_core::{
    canonical,
    hash::{self, Hash},
    id::{ChainId, TenantId},
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};

/// The version of the form of a [`TenantState`].
const FORMAT: u32 = 1;

/// The origin of a tenant's checkpoints. The id is random and does not reveal the tenant.
///
/// ```
/// use agent_audit_query::integrity::tenant_origin;
/// assert_eq!(tenant_origin("7c6f"), "agent-audit/tenant/7c6f");
/// ```
#[must_use]
pub fn tenant_origin(id: &str) -> String {
    format!("agent-audit/tenant/{id}")
}

/// Whether a chain has been closed by its writer, as far as it was verified.
///
/// ```
/// use agent_audit_query::integrity::Standing;
/// assert_eq!(serde_json::to_string(&Standing::Closed)?, "\"closed\"");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "the specification names both")]
pub enum Standing {
    /// Its last record is not `chain.closed`: the writer is at work, or died.
    Open,
    /// Its last record is `chain.closed`. A writer that comes back opens it again.
    Closed,
}

/// One chain of a tenant, as far as it has been verified.
///
/// ```
/// use agent_audit_core::{hash::Hash, id::ChainId};
/// use agent_audit_query::integrity::{ChainEntry, Standing};
/// let entry = ChainEntry::new(ChainId::new("c-1")?, 3, Hash::ZERO, Hash::ZERO, Standing::Open);
/// assert_eq!(entry.size, 3);
/// # Ok::<(), agent_audit_core::id::InvalidId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ChainEntry {
    /// The chain.
    pub chain_id: ChainId,
    /// The event hash of its last record.
    pub head: Hash,
    /// The RFC 6962 root over its event hashes.
    pub root: Hash,
    /// How many records it has.
    pub size: u64,
    /// Whether it is closed.
    pub state: Standing,
}

impl ChainEntry {
    /// States size, root and head of a chain.
    #[must_use]
    pub fn new(chain_id: ChainId, size: u64, root: Hash, head: Hash, state: Standing) -> Self {
        Self { chain_id, head, root, size, state }
    }
}

/// The chains of a tenant at one time, and the state before: what one tenant checkpoint commits to.
///
/// Its [canonical bytes](Self::canonical_bytes) are a leaf of the tenant's log of states.
///
/// ```
/// use agent_audit_core::{hash::Hash, id::{ChainId, TenantId}, timestamp::Timestamp};
/// use agent_audit_query::integrity::{ChainEntry, Standing, TenantState};
/// let entry = ChainEntry::new(ChainId::new("c-1")?, 3, Hash::ZERO, Hash::ZERO, Standing::Open);
/// let state = TenantState::new(TenantId::new("acme")?, "agent-audit/tenant/7c6f", Timestamp::now())
///     .with_chains([entry]);
/// let read = TenantState::from_slice(&state.canonical_bytes())?;
/// assert_eq!(read, state);
/// assert_eq!((read.number, read.previous), (0, Hash::ZERO));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TenantState {
    /// When it was signed, by the clock of the job.
    pub at: Timestamp,
    /// The chains, sorted by id byte by byte, each once.
    pub chains: Vec<ChainEntry>,
    /// The version of this form, 1.
    pub format: u32,
    /// Its position in the log of states, from 0.
    pub number: u64,
    /// The origin of the log of states.
    pub origin: String,
    /// The leaf hash of the state before; zeros at number 0.
    pub previous: Hash,
    /// The tenant.
    pub tenant_id: TenantId,
}

impl TenantState {
    /// The first state of a tenant, without chains.
    #[must_use]
    pub fn new(tenant_id: TenantId, origin: impl Into<String>, at: Timestamp) -> Self {
        let (chains, previous) = (Vec::new(), Hash::ZERO);
        Self { at, chains, format: FORMAT, number: 0, origin: origin.into(), previous, tenant_id }
    }

    /// Names the chains, which are put in order.
    #[must_use]
    pub fn with_chains(mut self, chains: impl IntoIterator<Item = ChainEntry>) -> Self {
        self.chains = chains.into_iter().collect();
        self.chains.sort_unstable_by(|a, b| a.chain_id.cmp(&b.chain_id));
        self.chains.dedup_by(|a, b| a.chain_id == b.chain_id);
        self
    }

    /// Puts it behind another state.
    #[must_use]
    pub fn behind(mut self, number: u64, hash: Hash) -> Self {
        self.number = number + 1;
        self.previous = hash;
        self
    }

    /// The bytes that are hashed: RFC 8785, in the subset of the events.
    ///
    /// # Panics
    /// Where a number is 2^53 or more.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        canonical::to_vec(self).expect("a state holds texts and counts below 2^53")
    }

    /// The leaf hash: SHA-256(0x00 ‖ canonical bytes).
    #[must_use]
    pub fn hash(&self) -> Hash {
        hash::leaf(&self.canonical_bytes())
    }

    /// Reads a state, strictly: exactly what [`canonical_bytes`](Self::canonical_bytes) writes.
    ///
    /// # Errors
    /// [`InvalidState`] for everything else.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, InvalidState> {
        let state: Self =
            serde_json::from_slice(bytes).map_err(|error| InvalidState(error.to_string()))?;
        let sorted = state.chains.is_sorted_by(|a, b| a.chain_id < b.chain_id);
        if state.format != FORMAT {
            let format = state.format;
            return Err(InvalidState(format!("format {format} is unknown, this program reads 1")));
        }
        if !sorted {
            return Err(InvalidState("its chains are not sorted, each once".to_owned()));
        }
        if canonical::to_vec(&state).ok().as_deref() != Some(bytes) {
            return Err(InvalidState("it is not in canonical form".to_owned()));
        }
        Ok(state)
    }

    /// The entry of a chain.
    #[must_use]
    pub fn chain(&self, chain: &ChainId) -> Option<&ChainEntry> {
        let at = self.chains.binary_search_by(|entry| entry.chain_id.cmp(chain)).ok()?;
        self.chains.get(at)
    }
}

/// Bytes that are no [`TenantState`].
///
/// ```
/// use agent_audit_query::integrity::TenantState;
/// let error = TenantState::from_slice(b"{}").unwrap_err();
/// assert!(error.to_string().starts_with("not the state of a tenant"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the state of a tenant: {0}")]
pub struct InvalidState(String);
