//! That an answer leaves no event out.
//!
//! Whoever hands over the events of one session can leave some of them out, and each of those that
//! are left is still proved to be in the log. A [`CompletenessProof`] shows that there are no others:
//! with each checkpoint the writer signs an [index](agent_audit_core::index) of the events since the
//! one before, by type, session, reviewer and subject, and the proof holds of every such index either
//! the positions under the value that was asked for, or that the value does not occur in it. It names
//! no session, reviewer or person but those that were asked for.
//!
//! A proof is about one chain, up to the size of a signed checkpoint. It is made from any store by
//! [`prove`], and checked without one by [`CompletenessProof::verify`].
//!
//! # What it rests on
//!
//! The signature: that the writer, when it signed, put every event into the index. Who has all of the
//! events can check that, and a verification of the log does
//! ([`IndexMismatch`](agent_audit_core::verify::FindingKind::IndexMismatch)). What comes behind the
//! largest checkpoint of the proof is not part of it: hold [`Completeness::size`] against the largest
//! checkpoint that you know of.
//!
//! ```
//! use std::sync::Arc;
//! use agent_audit_core::{checkpoint::SignedCheckpoint, event::Other, id::TenantId, log::AuditLog};
//! use agent_audit_query::{Ledger, completeness::{self, Criteria, Field}, scan::Scanned};
//!
//! # let dir = tempfile::tempdir()?;
//! # let key = agent_audit_core::key::SigningKey::generate()?;
//! # let keys = [key.verifying_key()];
//! let sink = agent_audit_core::memory::MemorySink::new();
//! let log = AuditLog::builder(dir.path()).with_signing_key(key).with_sink(sink.clone()).open()?;
//! for session in ["s-1", "s-2", "s-1"] {
//!     log.session("acme", session, "support-agent")?.record_blocking(Other::custom("note")?)?;
//! }
//! log.close_blocking(std::time::Duration::from_secs(5))?;
//!
//! let line = std::fs::read_to_string(dir.path().join("checkpoints/000001.ndjson"))?;
//! let line: serde_json::Value = serde_json::from_str(&line)?;
//! let checkpoint: SignedCheckpoint = line["note"].as_str().unwrap_or_default().parse()?;
//!
//! # pollster::block_on(async {
//! let ledger = Ledger::new(Arc::new(Scanned::new("memory", sink)), TenantId::new("acme")?);
//! let chain = &ledger.chains().await?[0];
//! let session = Criteria::of(Field::Session, "s-1");
//! let proof = completeness::prove(&ledger, chain, &[checkpoint], &session).await?;
//!
//! let filter = agent_audit_query::Filter::new().session("s-1".parse()?);
//! let page = ledger.events(&filter, &agent_audit_query::Request::first(10)).await?;
//! let events: Vec<_> = page.events.iter().map(|e| (e.sequence(), *e.hash())).collect();
//! assert!(proof.verify(events.clone(), &keys)?.is_complete());
//! assert_eq!(proof.verify(events[..1].to_vec(), &keys)?.missing, [3]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod consistency;
mod criteria;
mod interval;
mod proof;
mod prove;
mod refused;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

pub use agent_audit_core::index::Field;
pub use answer::Completeness;
pub use criteria::Criteria;
pub use proof::CompletenessProof;
pub use prove::prove;
pub use refused::{RefusedProof, RefusedProofKind};
