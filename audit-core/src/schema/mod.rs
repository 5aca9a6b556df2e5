//! The event schema for programs in other languages: a JSON Schema and a `.proto`, both from the
//! types of [`event`](crate::event).
//!
//! The files in `docs/schema/` are what these functions give; a test fails when they differ. The
//! JSON Schema describes the hashed form of an event; it checks shape and not canonical spelling.
//! The `.proto` is for transport and for code that reads events: no hash is ever over its encoding.

mod json;
mod proto;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

pub use json::{json_schema, json_schema_text};
pub use proto::proto;
