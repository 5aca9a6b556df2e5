//! The questions that every store answers alike.
//!
//! [`Input`] is what is asked about: the records of several tenants, with sub-agents, reviews of every
//! outcome, failing, panicking and unfinished calls, several models, two writers of one tenant, and
//! real transcripts where there are some. A store takes it in through its sink
//! ([`Input::load`]) and is then held against the records themselves, read one by one
//! ([`assert_same_answers`]).

#![allow(clippy::panic, clippy::unwrap_used, reason = "an answer that differs is a panic")]

mod input;
mod questions;
mod selections;
mod tenants;

use std::sync::Arc;

pub use input::Input;

use crate::EventStore;

/// Asks a store that has taken [`Input`] in everything, and panics at the first answer that is not
/// that of the records themselves.
///
/// ```
/// use std::sync::Arc;
/// use agent_audit_core::memory::MemorySink;
/// use agent_audit_query::{conformance::{Input, assert_same_answers}, scan::Scanned};
///
/// # pollster::block_on(async {
/// let input = Input::new("example-").await;
/// let sink = MemorySink::new();
/// input.load(&sink).await;
/// assert_same_answers(&input, Arc::new(Scanned::new("memory", sink))).await;
/// # });
/// ```
///
/// # Panics
/// Where an answer differs; the message names the question.
pub async fn assert_same_answers(input: &Input, store: Arc<dyn EventStore>) {
    selections::compare(input, &*store).await;
    tenants::cross(input, &store).await;
    questions::compare(input, &store).await;
}
