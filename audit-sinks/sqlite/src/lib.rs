//! The embedded sink of agent-audit: one `SQLite` database per tenant, in one directory.
//!
//! ```
//! use agent_audit_core::{
//!     event::{Event, chain::ChainClosed},
//!     record::Record,
//!     sink::{Batch, ChainRef, Segment, SegmentOutcome, Sink},
//! };
//! use agent_audit_sqlite::{SqliteSink, SqliteStore};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let dir = tempfile::tempdir()?;
//! let sink = SqliteSink::open(dir.path())?;
//!
//! let event = Event::example(ChainClosed::new("shutdown"));
//! let chain = ChainRef::new(event.tenant_id.clone(), event.chain_id.clone());
//! let record = Record::new(event.canonical_bytes()?, Vec::new());
//! let batch = Batch::new(vec![Segment::new(chain.clone(), vec![record.clone()])?]);
//! let ack = sink.append(&batch).await?;
//! assert!(matches!(ack.outcomes[..], [SegmentOutcome::Accepted]));
//!
//! let store = SqliteStore::open_read_only(dir.path())?;
//! let (_, stored) = store.records(&chain, 0)?.next().expect("one record")?;
//! assert_eq!(stored, record);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! - An acknowledgement MUST mean that the events are on disk: each commit syncs the write-ahead log
//!   (`journal_mode = WAL`, `synchronous = FULL`), and what a killed process left in that log is
//!   synced by the next one before it is taken as stored.
//! - One tenant's database, locked, full or corrupt, MUST NOT fail another tenant's segments.
//! - Memory and file handles are bounded by [`SqliteConfig::max_open`], not by the number of tenants.
//! - [`SqliteStore`] MUST NOT change what it reads, with or without a live writer.
//!
//! # Files
//!
//! The directory has mode 0700 and holds `<tenant>.sqlite3` (mode 0600) and, while in use,
//! `<tenant>.sqlite3-wal` and `-shm`. Some file systems take `Acme` and `acme` for one name, so
//! capitals are written small and marked: `Acme` is `acme=1.sqlite3` (see [`file_of_tenant`]).
//!
//! # Tables
//!
//! The schema is [`SCHEMA`]; `user_version` is its version and `application_id` is `0x61617564`
//! (`aaud`). Table `events` holds the canonical bytes verbatim, and columns that are extracted from
//! them to be found by. `content` holds the bodies of content, apart so that they can go, and
//! `external_ids` the things outside that tool calls touched.
//!
//! - `events` has a rowid: its rows hold a kilobyte and more, which fills the inner pages of a table
//!   without one, and each of its many indexes points to an event by a small integer instead of by
//!   a chain id of 36 bytes. Events are appended, so rows lie in the order of arrival.
//! - Triggers refuse every UPDATE and DELETE of events and external ids. Content can be updated
//!   once: to become absent. They guard against mistakes; whoever can write the file can drop a
//!   trigger, and against that there is the verifier.
//! - Nothing is unique but `event_id` and the position in the chain.

mod config;
mod error;
#[cfg(feature = "query")]
mod query;
mod sink;
mod store;

pub use config::SqliteConfig;
#[cfg(feature = "query")]
pub use query::SqliteEvents;
pub use sink::SqliteSink;
pub use store::{Records, SCHEMA, SqliteStore, file_of_tenant, tenant_of_file};
