//! The name of a chain.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{ChainId, TenantId};

/// The tenant and the id of one chain.
///
/// ```
/// use agent_audit_core::{chain::ChainRef, id::{ChainId, TenantId}};
/// let chain = ChainRef::new(TenantId::new("acme")?, ChainId::new("c-1")?);
/// assert_eq!(chain.to_string(), "acme/c-1");
/// # Ok::<(), agent_audit_core::id::InvalidId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChainRef {
    /// The tenant to whom the chain belongs.
    pub tenant_id: TenantId,
    /// The chain.
    pub chain_id: ChainId,
}

impl ChainRef {
    /// Names a chain.
    #[must_use]
    pub fn new(tenant_id: TenantId, chain_id: ChainId) -> Self {
        Self { tenant_id, chain_id }
    }
}

impl fmt::Display for ChainRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant_id, self.chain_id)
    }
}
