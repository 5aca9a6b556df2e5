//! The core of agent-audit: event schema, hash chain, Merkle proofs, durable writer, verifier.
//!
//! Most users want the facade crate `agent-audit`. This crate without its `writer` feature is what
//! a verifier is built from: no async runtime, no network, no filesystem.

#[cfg(feature = "writer")]
pub mod attempt;
pub mod canonical;
pub mod chain;
pub mod checkpoint;
pub mod columns;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod content;
#[cfg(feature = "writer")]
pub mod context;
#[cfg(feature = "writer")]
pub mod delivery;
#[cfg(feature = "writer")]
pub mod error;
pub mod event;
pub mod hash;
pub mod id;
pub mod index;
#[cfg(feature = "writer")]
#[doc(hidden)]
pub mod instrument;
#[cfg(feature = "writer")]
pub mod journal;
pub mod key;
#[cfg(feature = "writer")]
pub mod log;
#[cfg(feature = "writer")]
pub mod memory;
pub mod note;
pub mod openai_chat;
pub mod record;
#[cfg(feature = "schema")]
pub mod schema;
#[cfg(feature = "writer")]
pub mod sink;
pub mod timeline;
pub mod timestamp;
pub mod tree;
#[cfg(feature = "writer")]
mod variables;
pub mod verify;
