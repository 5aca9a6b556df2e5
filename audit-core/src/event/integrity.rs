//! Integrity: a verification ran, and what it found.
//!
//! Content: `report` (the verifier's whole report) with both events.

use super::payload::payload;
use crate::{
    id::{ChainId, EventId},
    timestamp::Timestamp,
};

payload! {
    /// `integrity.verified`: a verification found the log intact.
    ///
    /// ```
    /// use agent_audit_core::event::integrity::IntegrityVerified;
    /// let payload = IntegrityVerified::new("agent-audit 0.1.0", 10_000u64, 3u64);
    /// assert_eq!((payload.events, payload.chains), (10_000, 3));
    /// ```
    IntegrityVerified {
        /// The program and version that verified.
        verifier: String,
        /// How many events it checked.
        events: u64,
        /// How many chains it checked.
        chains: u64,
        [optional]
        /// When it began.
        started_at: Timestamp,
        /// How long it took, in microseconds, by a monotonic clock.
        duration_us: u64,
        /// The tenant checkpoint that it held the log against, in text form.
        checkpoint: String,
        [lists]
        /// What it checked, chain by chain.
        ranges: VerifiedRange,
    }
    /// `integrity.failed`: a verification found faults, or could not tell.
    ///
    /// ```
    /// use agent_audit_core::event::integrity::{FindingSummary, IntegrityFailed};
    /// let payload = IntegrityFailed::new("agent-audit 0.1.0", 10_000u64, 3u64)
    ///     .with_findings([FindingSummary::new("hash_mismatch").with_sequence(7u64)]);
    /// assert_eq!(payload.findings[0].sequence, Some(7));
    /// ```
    IntegrityFailed {
        /// The program and version that verified.
        verifier: String,
        /// How many events it checked.
        events: u64,
        /// How many chains it checked.
        chains: u64,
        [optional]
        /// When it began.
        started_at: Timestamp,
        /// How long it took, in microseconds, by a monotonic clock.
        duration_us: u64,
        /// The tenant checkpoint that it held the log against, in text form.
        checkpoint: String,
        /// How many findings there are, where the list does not hold them all.
        findings_total: u64,
        [lists]
        /// What it checked, chain by chain.
        ranges: VerifiedRange,
        /// What it found, the first ones first.
        findings: FindingSummary,
    }
    /// What was checked of one chain.
    ///
    /// ```
    /// use agent_audit_core::{event::integrity::VerifiedRange, id::ChainId};
    /// let range = VerifiedRange::new(ChainId::new("chain-1")?, 0u64, 99u64);
    /// assert_eq!(range.to_sequence, 99);
    /// # Ok::<(), agent_audit_core::id::InvalidId>(())
    /// ```
    VerifiedRange {
        /// The chain.
        chain_id: ChainId,
        /// The first position that was checked.
        from_sequence: u64,
        /// The last position that was checked.
        to_sequence: u64,
        [optional]
        /// The checkpoint that the chain was held against: origin, size and root, in text form.
        checkpoint: String,
    }
    /// One fault, and where it is.
    ///
    /// ```
    /// use agent_audit_core::event::integrity::FindingSummary;
    /// assert_eq!(FindingSummary::new("chain_missing").kind, "chain_missing");
    /// ```
    FindingSummary {
        /// The kind of fault.
        kind: String,
        [optional]
        /// The chain.
        chain_id: ChainId,
        /// The position in the chain.
        sequence: u64,
        /// The event.
        event_id: EventId,
    }
}
