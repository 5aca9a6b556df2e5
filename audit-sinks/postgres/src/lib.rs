//! The PostgreSQL sink of agent-audit: events of all tenants in one database, each tenant's rows
//! apart by row-level security.
//!
//! ```no_run
//! use agent_audit_core::sink::Sink;
//! use agent_audit_postgres::{PostgresConfig, PostgresSink, PostgresStore};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! // Once for each release, as a login that is a member of `audit_owner`.
//! let owner = PostgresConfig::new("postgres://deployment@db.example.com/ledger");
//! PostgresStore::new(owner.with_password("…".to_owned()))?.migrate().await?;
//!
//! // In the agent, as a login that is a member of `audit_writer`.
//! let sink = PostgresSink::new(PostgresConfig::from_env()?)?;
//! sink.check().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - An acknowledgement MUST mean that the events are committed, with `synchronous_commit` on:
//!   [`check`](agent_audit_core::sink::Sink::check) refuses a server that does not sync its log.
//! - The same event again MUST be stored once, a position MUST be given once, and a hole MUST never be
//!   stored, also under many writers at once: the database decides it, under the lock of the chain.
//! - A chain that another transaction holds, or an event that the database refuses, MUST NOT fail
//!   another segment of the batch.
//! - A writer's login MUST NOT be able to read, change or delete anything; a reader's MUST NOT see
//!   another tenant's rows; an eraser's MUST be able to make content absent, and nothing else.
//! - No UPDATE, DELETE or TRUNCATE of events succeeds, also as the owner of the tables and on their
//!   partitions.
//! - An event that the log accepts MUST NOT be refused for long names, control characters in them, or
//!   a month without a partition.
//! - An error MUST NOT hold content, a value of a row, or a password.
//!
//! The guards are for mistakes and for stolen logins. Whoever owns the database can remove them, and
//! against that there is the verifier: the bytes of each event are kept verbatim in `event`, and
//! [`PostgresStore`] reads them for it, with every column beside them.
//!
//! # Roles
//!
//! [`ROLES`] is run once in each database by an administrator; [`GRANTS`] is the list of what each
//! role may do, and is put into force by every [`PostgresStore::migrate`].
//!
//! | role | may |
//! |---|---|
//! | `audit_writer` | call `audit_append`, `audit_head` and `ensure_partitions`; no table |
//! | `audit_reader` | select from events, content, external ids and heads: of one tenant |
//! | `audit_eraser` | see which content of one tenant is there, and make it absent |
//! | `audit_owner` | own the tables, migrate, detach months; sees no row of any tenant |
//! | `audit_gate` | own the functions of the writer; nobody logs in as it |
//!
//! A reader or eraser names its tenant by the setting `audit.tenant_id`. Which login may name which
//! tenant is in the table `audit_access`: without a row there it sees nothing, whatever it sets.
//!
//! # Tables
//!
//! All are in the schema `agent_audit`; [`MIGRATIONS`] makes them.
//!
//! - `audit_events`: the canonical bytes, and the columns of [`agent_audit_core::columns`] with the
//!   tenant in front. Names of more than 1,000 bytes are in no index.
//! - `audit_content`: the bodies of content, apart so that they can go. A row changes once: to absent.
//! - `audit_external_ids`: the things outside that tool calls touched.
//! - `audit_heads`: position and hash of the last event of each chain. Its row is the chain's lock.
//! - `audit_access`, `audit_migrations`.
//!
//! The first three are partitioned by month. An event id is a UUIDv7, which begins with the time it
//! was made at, so a month is a range of ids, and `(tenant_id, event_id)` is unique over all months by
//! an index. That a position is unique over all months is the work of `audit_heads`.
//!
//! `ensure_partitions(months)` creates months ahead. The sink calls it when it starts and when a month
//! begins (see [`PostgresConfig::partitions_ahead`]); what has no partition goes to the default one.
//! `detach_month(date)` takes a month out that is over: its tables stay, guarded, until the owner
//! archives or drops them. The head of a chain stays too, so that the chain goes on.
//!
//! # Outages
//!
//! Calls fail with a [`SinkError`](agent_audit_core::sink::SinkError) that says whether to retry and
//! whether the events may have been stored; delivery retries, and the same events again are stored
//! once.
//!
//! | what | kind |
//! |---|---|
//! | refused, reset, shut down, a standby that takes no writes | `Unavailable` |
//! | no answer in time, statement cancelled | `Timeout` |
//! | disk full, out of memory, too many connections | `Exhausted` |
//! | wrong password, unknown login | `Unauthenticated` |
//! | missing privilege | `PermissionDenied` |
//! | missing tables, another version of them, unknown database, untrusted certificate | `Misconfigured` |
//! | an event that the database refuses, alone | `Rejected` |
//! | a position was given, and no event is there | `Corrupt` |
//!
//! # What does not hold
//!
//! - A pooler that gives each transaction another session (`PgBouncer` in transaction mode) does not
//!   work: statements are prepared, and time limits set, once for each connection.
//! - A part of content or an event of more than 1,000,000,000 bytes is refused.
//! - Content that was made absent is gone from the tables at once, from the disk with VACUUM, and from
//!   WAL archives and backups when these go. Destroying a key works in every copy.
//! - A segment that overlaps a month that was detached cannot be compared and is refused as `Corrupt`;
//!   what follows the head goes on. A chain without its first months is read from where it begins, and
//!   the verifier says what is missing.
//! - Tested with PostgreSQL 15.

mod config;
mod error;
mod pool;
#[cfg(feature = "query")]
mod query;
mod sink;
mod store;
mod tls;

pub use config::{PostgresConfig, SslMode};
#[cfg(feature = "query")]
pub use query::PostgresEvents;
pub use sink::PostgresSink;
pub use store::{GRANTS, MIGRATIONS, PostgresStore, ROLES, Records};
