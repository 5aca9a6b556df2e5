//! Access: the log was read, and reading is recorded too.
//!
//! Content: `query` (the whole question, with its filters) with both events.

use super::payload::payload;
use crate::hash::Hash;

payload! {
    /// `access.queried`: someone asked the log a question.
    ///
    /// ```
    /// use agent_audit_core::event::access::AccessQueried;
    /// let payload = AccessQueried::new("auditor-3", "session").with_rows(42u64);
    /// assert_eq!(payload.rows, Some(42));
    /// ```
    AccessQueried {
        /// A token of who asked; never a name or an address itself.
        actor: String,
        /// The kind of question.
        query: String,
        [optional]
        /// How many events the answer held.
        rows: u64,
        /// The digest of the answer.
        digest: Hash,
        /// What the answer is for.
        purpose: String,
    }
    /// `access.exported`: evidence left the log.
    ///
    /// ```
    /// use agent_audit_core::event::access::AccessExported;
    /// let payload = AccessExported::new("auditor-3", "time_range", "ndjson").with_files(2u64);
    /// assert_eq!((payload.format.as_str(), payload.files), ("ndjson", Some(2)));
    /// ```
    AccessExported {
        /// A token of who asked; never a name or an address itself.
        actor: String,
        /// The kind of question.
        query: String,
        /// The format of the files.
        format: String,
        [optional]
        /// How many events left.
        rows: u64,
        /// How many files they are in.
        files: u64,
        /// The digest of the export's manifest.
        digest: Hash,
        /// What the export is for.
        purpose: String,
    }
}
