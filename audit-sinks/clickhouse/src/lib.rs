//! The sink of agent-audit for ClickHouse: the ledgers of all tenants in the tables of one database,
//! ordered by tenant and chain.
//!
//! ```
//! use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseSink, ClickHouseStore};
//! use agent_audit_core::log::AuditLog;
//!
//! # async fn show(directory: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! // Once, with the rights to create.
//! let admin = ClickHouseConfig::new("https://clickhouse.example:8443").with_user("admin", "secret");
//! ClickHouseStore::new(admin)?.migrate().await?;
//!
//! // In every process that writes, with the rights of the role `audit_writer`.
//! let config = ClickHouseConfig::new("https://clickhouse.example:8443")
//!     .with_user("agents", "secret")
//!     .with_content_retention_days(180);
//! let log = AuditLog::builder(directory).with_sink(ClickHouseSink::with_config(config)?).open()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - An acknowledgement MUST mean that the events are on the server's disk: the tables sync every
//!   part before an insert is answered (`fsync_after_insert`, `fsync_part_directory`), and what a
//!   merge writes before it replaces anything.
//! - The same event again MUST be read once. The server itself drops an identical insert by its
//!   token; the sink looks before it inserts; and a reader passes over rows that are equal.
//! - Another event at a stored position MUST be a conflict, and what came first MUST stay first, for
//!   the sink and for every reader, also when two writers are at one chain in the same moment.
//! - An event that is there has its content: content is inserted first.
//! - A row that the server refuses MUST NOT keep other tenants' rows, or other chains, from it.
//! - No text of the server reaches an error or a trace, because it quotes rows.
//!
//! # Two writers of one chain
//!
//! ClickHouse has no unique key, and the sink does not pretend to one. It reads the positions of a
//! segment, inserts what is missing, and reads the positions again. Of two rows at one position the
//! one with the lower `_block_number` counts. The server gives these numbers in the order of commits
//! and keeps them through merges (`enable_block_number_column`). So whoever looks behind its own
//! commit sees every row that could come before its own: of two writers at the same position one is
//! acknowledged, and the other gets a conflict. That order is what release 26.9 was measured to have,
//! four inserts at a time; the server's documentation does not promise it.
//!
//! The loser's rows are in the table then. They are read behind the first ones, so that the verifier
//! names the fork, and nothing of them was acknowledged. Where they reach further than the winner
//! has come, the winner gets a conflict there as well: its chain stops, and a person has to decide. A
//! log owns its chains through its journal, so two writers of one chain are a mistake of who runs
//! them: a copied directory, for example.
//!
//! # Tables
//!
//! [`SCHEMA`] is the SQL. `audit_events` holds the canonical bytes verbatim and the columns of
//! [`agent_audit_core::columns`] beside them, `audit_content` the bodies of content, and
//! `audit_schema` the version.
//!
//! - `ORDER BY (tenant_id, chain_id, sequence)`: the look before each insert, the reading of a chain
//!   and everything that is asked of one tenant are ranges of the primary key, however many other
//!   tenants there are. A session lies within one chain, near together, and is found by a bloom
//!   filter over granules of 1,024 rows, as are events, parents, calls, reviews, reviewers, traces,
//!   subjects and things outside. Times have a minimum and maximum for each granule; types, models,
//!   tools and agents the set of their values. Sessions, and with them chains and tenants, are counted
//!   in a projection.
//! - There are no partitions. An insert is then one part, and so all of it or nothing, and events are
//!   never dropped by month. Content goes by its term.
//! - Content has a term for each row, `purge_after`. When it has ended, a merge takes the bytes, the
//!   salt and the nonce away, within `merge_with_ttl_timeout` (an hour) and the time of the merge;
//!   the row stays, and is read as [`Absent`](agent_audit_core::content::PartBody::Absent), purged.
//!   Until that merge the content is read as before. A legal hold is an `ALTER TABLE audit_content
//!   UPDATE purge_after = …`.
//!
//! # Rights
//!
//! [`PERMISSIONS`] creates roles: the writer inserts and reads no more than positions and hashes, the
//! reader reads one tenant by a row policy of its own ([`TENANT_READER`]), the asker the tenant that each
//! question names, the verifier reads all, the eraser makes content absent without seeing it. None of
//! them can change or delete an event.
//! Whoever administers the server can; against that there is the verifier.
//!
//! # What does not hold
//!
//! - Replicated tables are not tested. With `ReplicatedMergeTree` in place of `MergeTree` an
//!   acknowledgement is that of one replica, unless the profile of the writer sets `insert_quorum`
//!   and `select_sequential_consistency`.
//! - Bodies go over the wire as they are, without compression.
//! - What a fault leaves between content and events stays as content without an event: nobody reads
//!   it, and its term ends like that of any other.

mod config;
mod error;
#[cfg(feature = "query")]
mod query;
mod sink;
mod store;

pub use config::ClickHouseConfig;
#[cfg(feature = "query")]
pub use query::ClickHouseEvents;
pub use sink::ClickHouseSink;
pub use store::{ClickHouseStore, PERMISSIONS, Records, SCHEMA, TENANT_READER};
