//! The read side of agent-audit: every question an auditor asks, of one tenant at a time.
//!
//! A [`Ledger`] is one tenant's records in one store. It is the only way to ask: there is no question
//! without a tenant, and whatever a store answers is checked again before anybody sees it.
//!
//! ```
//! use std::sync::Arc;
//! use agent_audit_core::{log::AuditLog, event::Other, id::TenantId};
//! use agent_audit_query::{Filter, Ledger, Request, scan::Scanned};
//!
//! # let dir = tempfile::tempdir()?;
//! let sink = agent_audit_core::memory::MemorySink::new();
//! let log = AuditLog::builder(dir.path()).with_sink(sink.clone()).open()?;
//! let session = log.session("acme", "session-1", "support-agent")?;
//! session.record_blocking(Other::custom("note")?)?;
//! log.close_blocking(std::time::Duration::from_secs(5))?;
//!
//! # pollster::block_on(async {
//! let ledger = Ledger::new(Arc::new(Scanned::new("memory", sink)), TenantId::new("acme")?);
//! let page = ledger.events(&Filter::new().session("session-1".parse()?), &Request::first(10)).await?;
//! assert_eq!(page.events[0].event_type(), "custom.note");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
pub mod completeness;
#[cfg(feature = "conformance")]
pub mod conformance;
mod content;
mod error;
pub mod export;
mod filter;
mod found;
pub mod integrity;
mod joined;
mod ledger;
mod page;
pub mod questions;
pub mod scan;
mod store;

pub use access::{Access, Answer};
pub use content::Content;
pub use error::{QueryError, QueryErrorKind};
pub use filter::{Filter, Predicate};
pub use found::Found;
pub use joined::Joined;
pub use ledger::Ledger;
pub use page::{Cursor, InvalidCursor, Order, Page, Request};
pub use store::{EventStore, Select, SessionSummary};
