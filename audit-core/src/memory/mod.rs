//! A sink in memory, and what a test asks of it.
//!
//! [`MemorySink`] keeps what a real sink would keep: the bytes that the log's own encoder wrote,
//! chained and hashed. A test of an agent opens a log with it, runs the agent, closes the log (or
//! records with `Durability::Delivered`, or awaits [`MemorySink::wait_for`]), and asks:
//!
//! ```text
//! let refund = sink.tools().named("refund").only();
//! assert_eq!(refund.status(), Some(&ToolStatus::Ok));
//! assert!(refund.attempt().caused_by(&sink.models().only()));
//! sink.assert_no_orphans();
//! sink.assert_chain_valid();
//! ```
//!
//! An assertion that does not hold panics with the [timeline](crate::timeline) of what was
//! recorded. Everything belongs to the instance: tests in one process do not see each other.
//!
//! - [`MemorySink::faults`] makes the sink fail as scripted, before or after it kept the events.
//! - [`MemorySink::tamper`] changes what was kept, for tests of verifiers.

#![allow(clippy::panic, reason = "an assertion that does not hold is a panic")]

mod assertions;
mod calls;
mod entry;
mod faults;
mod selection;
mod sink;
mod tamper;
#[cfg(test)]
mod tests;

pub use assertions::{Orphan, OrphanKind};
pub use calls::{ModelCall, Review, ToolCall};
pub use entry::Entry;
pub use faults::{Fault, Faults, Injected, Operation};
pub use selection::Selection;
pub use sink::MemorySink;
pub use tamper::Tamper;
