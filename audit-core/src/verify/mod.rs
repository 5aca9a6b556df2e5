//! Verification: what is wrong with a log, where, and how sure that is.
//!
//! A [`ChainVerifier`] takes the records of one chain in the order in which they are stored and
//! tells what a [`ChainReport`] holds; a [`Report`] joins the chains of a log into one
//! [`Verdict`]. Nothing here needs a file system: [`directory`] (feature `writer`) is the part that
//! reads a log directory and the stores beside it.
//!
//! # What is checked
//!
//! | what | fault |
//! |---|---|
//! | each record is one record, its event bytes canonical, of this tenant and chain | [`Tampered`], [`Foreign`] |
//! | positions from 0 without holes, each once, in order | [`Missing`], [`HeadMissing`], [`Duplicated`], [`Reordered`], [`Forked`] |
//! | each record keeps the hash of the one before; position 0 opens the chain | [`Tampered`] |
//! | each clear part of content matches its commitment | [`ContentMismatch`] |
//! | the tree over all event hashes has the root of every signed checkpoint | [`Tampered`], [`Truncated`], [`Forked`] |
//! | each index that a checkpoint was signed with is that of its events | [`IndexMismatch`] |
//! | checkpoints are of this chain, signed by a trusted key | [`BadSignature`], [`UnknownKey`], [`Foreign`], [`BadCheckpoint`] |
//!
//! One fault gives one finding, and the check goes on behind it: where a record was changed, the
//! hash that its successor keeps stands in for it in the tree, so that the next checkpoint still
//! tells whether anything else was changed.
//!
//! # Who is trusted
//!
//! Nobody who could write to the log. A chain alone can be rewritten from any position to its end
//! by whoever can write to the disk; a signed checkpoint stops everybody without the key; a
//! checkpoint kept elsewhere stops also who has the key. [`Basis`] says which of these a verdict
//! rests on, and [`ChainReport::covered`] how far the checkpoints of that basis reach: what comes
//! behind them can have been written by anybody with the disk.
//!
//! [`Tampered`]: FindingKind::Tampered
//! [`Foreign`]: FindingKind::Foreign
//! [`Missing`]: FindingKind::Missing
//! [`HeadMissing`]: FindingKind::HeadMissing
//! [`Duplicated`]: FindingKind::Duplicated
//! [`Reordered`]: FindingKind::Reordered
//! [`Forked`]: FindingKind::Forked
//! [`ContentMismatch`]: FindingKind::ContentMismatch
//! [`Truncated`]: FindingKind::Truncated
//! [`IndexMismatch`]: FindingKind::IndexMismatch
//! [`BadSignature`]: FindingKind::BadSignature
//! [`UnknownKey`]: FindingKind::UnknownKey
//! [`BadCheckpoint`]: FindingKind::BadCheckpoint

#[cfg(all(test, feature = "writer"))]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod attacks;
mod batch;
mod chain;
mod checkpoints;
#[cfg(feature = "writer")]
pub mod directory;
mod finding;
mod indexes;
mod links;
mod memory;
mod order;
mod report;
#[cfg(all(test, feature = "writer"))]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod testing;

pub use chain::{ChainState, ChainVerifier};
pub use checkpoints::{CheckpointSource, Checkpoints};
pub use finding::{Finding, FindingKind, Severity};
pub use report::{Basis, ChainReport, Coverage, Report, Verdict};
