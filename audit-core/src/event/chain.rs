//! The life of a chain: opened, resumed, closed, and what could not be written.

use super::payload::{payload, words};
use crate::{id::WriterId, timestamp::Timestamp};

words! {
    /// Why events could not be written.
    ///
    /// ```
    /// use agent_audit_core::event::chain::GapReason;
    /// assert_eq!(GapReason::JournalFull.as_str(), "journal_full");
    /// ```
    GapReason {
        /// The journal could not write or sync.
        JournalFailed = "journal_failed",
        /// The journal was full and its policy is to refuse.
        JournalFull = "journal_full",
    }
}

payload! {
    /// `chain.opened`: position 0 of every chain.
    ///
    /// ```
    /// use agent_audit_core::{event::chain::ChainOpened, id::WriterId};
    /// let payload = ChainOpened::new(WriterId::random(), "ed25519:…", "agent-audit 0.1.0");
    /// assert!(payload.software.starts_with("agent-audit"));
    /// ```
    ChainOpened {
        /// The log that writes the chain.
        writer_id: WriterId,
        /// The key whose signature its checkpoints carry, in text form.
        public_key: String,
        /// The program and version that wrote it.
        software: String,
    }
    /// `chain.resumed`: a chain goes on in a new process.
    ///
    /// ```
    /// use agent_audit_core::{event::chain::ChainResumed, id::WriterId};
    /// let payload = ChainResumed::new(WriterId::random(), "ed25519:…", "agent-audit 0.1.0");
    /// assert_eq!(payload.torn_bytes, None);
    /// ```
    ChainResumed {
        /// The log that writes the chain.
        writer_id: WriterId,
        /// The key whose signature its checkpoints carry from here on.
        public_key: String,
        /// The program and version that wrote it.
        software: String,
        [optional]
        /// Whether the process before closed the chain itself.
        closed_before: bool,
        /// How many bytes of writes that nobody had been promised were cut from the journal's end.
        torn_bytes: u64,
    }
    /// `chain.closed`: the writer stopped in an orderly way. A resumed chain goes on after it.
    ///
    /// ```
    /// use agent_audit_core::event::chain::ChainClosed;
    /// assert_eq!(ChainClosed::new("shutdown").reason, "shutdown");
    /// ```
    ChainClosed {
        /// Why.
        reason: String,
    }
    /// `chain.gap`: events were offered and could not be written.
    ///
    /// ```
    /// use agent_audit_core::event::chain::{ChainGap, GapReason};
    /// let payload = ChainGap::new(GapReason::JournalFailed, 3u64);
    /// assert_eq!(payload.lost_events, 3);
    /// ```
    ChainGap {
        /// Why.
        reason: GapReason,
        /// How many events were refused.
        lost_events: u64,
        [optional]
        /// How many actions went ahead without a record, because their policy was `proceed`.
        unrecorded_actions: u64,
        /// When the first was refused.
        first_at: Timestamp,
        /// When the last was refused.
        last_at: Timestamp,
    }
}
