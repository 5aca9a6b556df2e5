//! Attempts: the intent is durable before the side effect, the outcome is recorded after it.
//!
//! A guard stands for what is going on. Completing it records the outcome; dropping it records
//! that the work was cancelled, or panicked. If the process dies, the next open of the log records
//! that the outcome is unknown.

mod model;
mod outcome;
mod review;
mod tool;

pub use model::{ModelAttempt, ModelCall, ModelOutcome};
pub use review::{ReviewAttempt, ReviewCall, ReviewVerdict};
pub use tool::{ToolAttempt, ToolCall, ToolOutcome};

pub use crate::context::Parent;
