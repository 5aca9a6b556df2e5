//! Content that left a store at the end of its term.
//!
//! Only content goes; the events that name it stay, and so does every proof. No content of its own.

use super::payload::payload;
use crate::timestamp::Timestamp;

payload! {
    /// `content.purged`: a store let content go.
    ///
    /// ```
    /// use agent_audit_core::event::content::ContentPurged;
    /// let payload = ContentPurged::new("postgres", "retention", "policy-90d").with_parts(7u64);
    /// assert_eq!(payload.store, "postgres");
    /// ```
    ContentPurged {
        /// The store that let it go.
        store: String,
        /// A code for why.
        reason: String,
        /// Who or which rule ordered it, as a token.
        authority: String,
        [optional]
        /// The law or contract behind it.
        legal_basis: String,
        /// The content of events recorded before this went.
        before: Timestamp,
        /// How many events lost content.
        events: u64,
        /// How many parts were lost.
        parts: u64,
    }
}
