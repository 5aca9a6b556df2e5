//! What is done when something fails, in words that an operator finds in the log.
//!
//! The kinds are those of [`Fault`](agent_audit_aws::internal::Fault), which all sinks of Amazon's
//! services share.

/// Sending messages.
pub(crate) fn sending(queue: &str) -> String {
    format!("send messages to queue {queue}")
}

/// Asking for the attributes of the queue.
pub(crate) fn describing(queue: &str) -> String {
    format!("ask for the attributes of queue {queue}")
}

/// Receiving messages.
pub(crate) fn receiving(queue: &str) -> String {
    format!("receive messages from queue {queue}")
}

/// Deleting messages, or letting go of them.
pub(crate) fn settling(queue: &str) -> String {
    format!("settle messages of queue {queue}")
}
