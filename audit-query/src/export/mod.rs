//! Exports: events of a tenant in files that prove what they are, without the store they came from.
//!
//! An [`Exporter`] writes a directory; [`verify`] reads it anywhere, with nothing but public keys.
//!
//! ```text
//! events-000001.ndjson      the events by chain and position, one a line (or .parquet, one a row)
//! events-000002.ndjson      …
//! proofs.ndjson             one line for each contiguous run of events: its inclusion proof
//! checkpoints.ndjson        the signed checkpoints that the proofs lead to
//! evidence.ndjson           events that say why content is gone, where they were not asked for
//! evidence-proofs.ndjson    their proofs
//! completeness.ndjson       proofs from signed indexes that no event which matches was left out
//! manifest.json             what all this is: the question, counts, every file with its SHA-256
//! manifest.note             the exporter's signature over the manifest
//! ```
//!
//! Evidence and completeness are there where there is need of them. Every byte is specified in
//! `docs/SPEC.md`.
//!
//! # What is proved
//!
//! | that | by |
//! |---|---|
//! | the files are those that the exporter wrote | their SHA-256 in the manifest, and the note over it |
//! | each event was recorded, at its position of its chain | its proof and the checkpoint, which the log signed |
//! | content is what the event committed to | its commitment |
//! | content that is gone went for a recorded reason | the event that says so, and its proof |
//! | nothing was left out between two positions of a chain | a run without a hole: the proof of its ends |
//! | nothing that matches was left out | a proof from the signed indexes, for questions that have one |
//!
//! Events behind the last checkpoint of their chain are exported and counted apart: whoever could
//! write to the store could have written them. That the tenant has no other chain is not shown.

mod chain;
mod checkpoints;
mod claim;
mod complete;
mod events;
mod example;
mod exporter;
mod line;
mod manifest;
mod output;
mod pages;
mod parts;
mod progress;
mod proof;
mod proven;
mod range;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
mod tree;
mod verify;

pub use checkpoints::LogCheckpoints;
pub use claim::Claim;
pub use example::example;
pub use exporter::{Exported, Exporter};
pub use manifest::{Counts, ExportedChain, ExportedFile, ExporterName, Format, Manifest, ProvenAt};
pub use progress::Progress;
pub use verify::{
    ExportCompleteness, ExportReport, ExportVerdict, VerifyOptions, is_export, verify,
};
