//! What is done when something fails, in words that an operator finds in the log.
//!
//! The kinds are those of [`Fault`](agent_audit_aws::internal::Fault), which all sinks of Amazon's
//! services share.

/// Putting records.
pub(crate) fn putting(stream: &str) -> String {
    format!("put records into stream {stream}")
}

/// Asking for the state of the stream.
pub(crate) fn describing(stream: &str) -> String {
    format!("describe stream {stream}")
}

/// Reading records.
pub(crate) fn reading(stream: &str) -> String {
    format!("read records of stream {stream}")
}
