//! Sessions: one run of an agent, and the runs that it spawns.

use super::payload::{payload, words};
use crate::id::{EventId, SessionId};

words! {
    /// Where the knowledge in an event comes from.
    ///
    /// ```
    /// use agent_audit_core::event::session::Provenance;
    /// assert_eq!(Provenance::Imported.as_str(), "imported");
    /// ```
    Provenance {
        /// The event was taken over from a transcript that something else kept; the log did not
        /// witness it.
        Imported = "imported",
    }
    /// How a session ended.
    ///
    /// ```
    /// use agent_audit_core::event::session::SessionOutcome;
    /// assert_eq!(SessionOutcome::from("failed"), SessionOutcome::Failed);
    /// ```
    SessionOutcome {
        /// It came to its end.
        Completed = "completed",
        /// It ended with an error.
        Failed = "failed",
        /// It was cancelled, or its handle was dropped.
        Cancelled = "cancelled",
    }
}

payload! {
    /// `session.started`: an agent session opens.
    ///
    /// ```
    /// use agent_audit_core::event::session::SessionStarted;
    /// let payload = SessionStarted::new().with_agent_version("2.1").with_purpose("refunds");
    /// assert_eq!(payload.purpose.as_deref(), Some("refunds"));
    /// ```
    SessionStarted {
        [optional]
        /// The name of the agent's program.
        agent_name: String,
        /// The version of the agent.
        agent_version: String,
        /// What the session is for.
        purpose: String,
        /// The session that spawned this one, where this is a sub-agent's.
        parent_session_id: SessionId,
        /// The event, usually a `tool.attempted`, that spawned this session.
        spawned_by: EventId,
        /// Set where the session was imported.
        provenance: Provenance,
    }
    /// `session.ended`: an agent session closes.
    ///
    /// ```
    /// use agent_audit_core::event::session::{SessionEnded, SessionOutcome};
    /// assert_eq!(SessionEnded::new(SessionOutcome::Completed).reason, None);
    /// ```
    SessionEnded {
        /// How it ended.
        outcome: SessionOutcome,
        [optional]
        /// A code for why it ended.
        reason: String,
        /// Set where the session was imported.
        provenance: Provenance,
    }
}
