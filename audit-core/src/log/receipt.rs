//! What a caller gets back: proof of the place, and how far the event has come.

use crate::{hash::Hash, id::EventId, sink::ChainRef};

/// The place of a recorded event. Keep the hash to prove later that the event was not changed.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::{event::Other, log::AuditLog};
/// let log = AuditLog::open(dir.path())?;
/// let session = log.session("acme", "s-1", "support-agent")?;
/// let receipt = session.record_blocking(Other::custom("note")?)?;
/// assert_eq!(receipt.sequence, 1, "position 0 is chain.opened");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The identity of the event.
    pub event_id: EventId,
    /// The chain that it is in.
    pub chain: ChainRef,
    /// Its position in the chain.
    pub sequence: u64,
    /// Its event hash.
    pub event_hash: Hash,
}

/// How far an event has come when `record` returns.
///
/// ```
/// use agent_audit_core::log::Durability;
/// assert_eq!(Durability::default(), Durability::Journaled);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Durability {
    /// It is on this machine's disk: fdatasync has returned. A crash at any instant after does not
    /// lose it.
    #[default]
    Journaled,
    /// And every required sink has acknowledged it.
    Delivered,
    /// It has its place, in memory, and is written within moments: a crash can lose it. The
    /// attempts of tools and reviews are never weaker than `Journaled`.
    Buffered,
}
