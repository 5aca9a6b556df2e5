//! Tools: the intent before the side effect, the outcome after it.
//!
//! Content: `input` (the exact input) with `tool.attempted`; `output` (the raw output) and `error`
//! (the error message) with `tool.completed`. A parameter marked `sensitive` is a part of its own,
//! `input.<name>`.

use super::{
    payload::{payload, words},
    session::Provenance,
};
use crate::id::{CallId, EventId};

words! {
    /// What a call can do to the world.
    ///
    /// ```
    /// use agent_audit_core::event::tool::Effect;
    /// assert_eq!(Effect::ReadOnly.as_str(), "read_only");
    /// ```
    Effect {
        /// It changes nothing.
        ReadOnly = "read_only",
        /// It changes something, and doing it again changes nothing more.
        Idempotent = "idempotent",
        /// It changes something each time.
        Destructive = "destructive",
    }
    /// How a tool call ended.
    ///
    /// ```
    /// use agent_audit_core::event::tool::ToolStatus;
    /// assert!(ToolStatus::Ok.is_ok() && !ToolStatus::Unknown.is_ok());
    /// ```
    ToolStatus {
        /// It returned normally.
        Ok = "ok",
        /// It returned an error.
        Error = "error",
        /// It returned normally, and what it returned says that it failed.
        ToolError = "tool_error",
        /// It was dropped before it finished; what it had done by then stays done.
        Cancelled = "cancelled",
        /// It panicked.
        Panicked = "panicked",
        /// The process died in the middle: whether it took effect is not known.
        Unknown = "unknown",
    }
    /// How a tool call found the decision that caused it.
    ///
    /// ```
    /// use agent_audit_core::event::tool::DecisionLink;
    /// assert_eq!(DecisionLink::from("call_id"), DecisionLink::CallId);
    /// ```
    DecisionLink {
        /// By the provider's call id: certain.
        CallId = "call_id",
        /// Named by the application.
        Explicit = "explicit",
        /// The latest decision of the surrounding scope: likely.
        Scope = "scope",
    }
}

impl ToolStatus {
    /// Whether the call did what it should.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        *self == Self::Ok
    }
}

payload! {
    /// `tool.attempted`: a tool is about to act. Durable before the side effect.
    ///
    /// ```
    /// use agent_audit_core::event::tool::{Effect, ToolAttempted};
    /// let payload = ToolAttempted::new("refund").with_effect(Effect::Destructive);
    /// assert_eq!(payload.tool_name, "refund");
    /// ```
    ToolAttempted {
        /// The name of the tool.
        tool_name: String,
        [optional]
        /// The version of the tool.
        tool_version: String,
        /// What the call can do to the world.
        effect: Effect,
        /// The provider's id of the call.
        call_id: CallId,
        /// How `parent_event_id` was found, where it names a `model.decided`.
        decision_link: DecisionLink,
        /// The `review.decided` event that allows the call.
        approval_event_id: EventId,
        /// Set where the call was imported.
        provenance: Provenance,
        [lists]
        /// Parameters that the application left out of the record on purpose.
        omitted_inputs: String,
    }
    /// `tool.completed`: a tool call ended. Its `parent_event_id` is the `tool.attempted`.
    ///
    /// ```
    /// use agent_audit_core::{event::tool::{ToolCompleted, ToolStatus}, id::EventId};
    /// let payload = ToolCompleted::new("refund", EventId::new(), ToolStatus::Ok).with_duration_us(950u64);
    /// assert_eq!(payload.duration_us, Some(950));
    /// ```
    ToolCompleted {
        /// The name of the tool.
        tool_name: String,
        /// The `tool.attempted` event that this ends.
        attempt_event_id: EventId,
        /// How the call ended.
        status: ToolStatus,
        [optional]
        /// The provider's id of the call.
        call_id: CallId,
        /// The type or code of the error; its message is content.
        error_code: String,
        /// How long the call took, in microseconds, by a monotonic clock.
        duration_us: u64,
        /// Set where the call was imported.
        provenance: Provenance,
        [lists]
        /// Things outside that the call touched.
        external_ids: ExternalId,
    }
    /// A thing outside that a call touched, by the name of its kind.
    ///
    /// ```
    /// use agent_audit_core::event::tool::ExternalId;
    /// assert_eq!(ExternalId::new("order", "A-1").value, "A-1");
    /// ```
    ExternalId {
        /// The kind of thing, as `order` or `payment`.
        key: String,
        /// Its id in the system that owns it.
        value: String,
    }
}
