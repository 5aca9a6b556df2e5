//! A durable, tamper-evident record of what AI agents saw, decided and did, kept apart for each
//! customer.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! use agent_audit::{AuditLog, Part, ToolCall, ToolOutcome, event::tool::ToolStatus};
//!
//! let log = AuditLog::open(dir.path())?;
//! let session = log.session("acme", "session-1", "support-agent")?;
//! let attempt = session.attempt_tool_blocking(ToolCall::new("refund"))?; // on disk before the act
//! let done = ToolOutcome::new(ToolStatus::Ok).with_part(Part::text("output", "refunded"));
//! let receipt = attempt.complete_blocking(done)?; // on disk when this returns
//! # assert_eq!(receipt.sequence, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With the feature `macros`, which is on by default, [`#[audited]`](macro@audited) does the same
//! for a function.
//!
//! # Where things are
//!
//! | to | use |
//! |---|---|
//! | open a log, choose sinks, close it | [`AuditLog`] |
//! | let the environment choose | [`builder_from_env`] |
//! | see how the sinks are doing | [`AuditLog::health`], [`delivery`] |
//! | say for whom an agent acts | [`AuditLog::session`], [`AuditContext`] |
//! | take that along to another task | [`spawn`], [`spawn_blocking`], [`InCurrentAudit`] |
//! | record an act by hand | [`ToolCall`], [`ModelCall`], [`ReviewCall`], [`Draft`] |
//! | test an agent by what it recorded | [`memory::MemorySink`] |
//! | check a log | [`verify`], and the command `agent-audit verify` |
//! | ask what happened, why, and what came of it | `query::Ledger` (feature `query`), and the command |
//! | keep events elsewhere | the feature of a sink, or [`sink::Sink`] for one of your own |
//!
//! # Promises
//!
//! - When an act is recorded, it is on disk: `fdatasync` has returned. [`Durability`] names what is
//!   more and what is less.
//! - The intent of a tool call is on disk before the call begins. Where it cannot be, the call does
//!   not happen ([`AuditUnavailable`]), unless you say otherwise.
//! - Whoever changes, removes, inserts or reorders what was recorded is found by [`verify`], as far
//!   as its [basis](verify::Basis) carries.
//! - Content (prompts, outputs, inputs) is beside the hashed event and never in it, so that it can
//!   be erased while every proof holds.
//!
//! The repository says more: `docs/ARCHITECTURE.md` how it works, `docs/SPEC.md` every byte that is
//! hashed or stored, `docs/THREAT-MODEL.md` who is trusted with what.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `macros` (default) | [`#[audited]`](macro@audited) |
//! | `sqlite` | the embedded sink, module `sqlite` |
//! | `postgres`, `clickhouse` | databases that many processes write to, modules `postgres`, `clickhouse` |
//! | `s3`, `s3-parquet` | the archive under Object Lock, module `s3`; its objects as Parquet |
//! | `kafka`, `kinesis`, `sqs` | queues and streams, modules of these names |
//! | `otlp` | an OpenTelemetry collector, module `otlp` |
//! | `query` | the read side, module `query`, and the stores of the sinks that are on as its `EventStore`s |
//! | `opentelemetry` | `AuditContext::with_current_span`: the trace and span of events from the active OpenTelemetry span; `AuditLog::observe`: how the sinks are doing, as metrics |
//!
//! A feature adds API and never changes what the rest does.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub use agent_audit_core::{
    attempt, canonical, chain, checkpoint, content, context, delivery, error, event, hash, id,
    index, journal, key, log, memory, note, openai_chat, record, sink, timeline, timestamp, tree,
    verify,
};
#[doc(no_inline)]
pub use agent_audit_core::{
    attempt::{
        ModelAttempt, ModelCall, ModelOutcome, ReviewAttempt, ReviewCall, ReviewVerdict,
        ToolAttempt, ToolCall, ToolOutcome,
    },
    content::Part,
    context::{AuditContext, InCurrentAudit, Parent, spawn, spawn_blocking},
    error::{AuditError, AuditErrorKind, AuditUnavailable},
    log::{AuditLog, AuditLogBuilder, CloseReport, Draft, Durability, Receipt},
};

mod env;

#[doc(inline)]
pub use agent_audit_core::instrument::{ModelResponse, ReviewResponse};
pub use env::builder_from_env;

#[cfg(feature = "macros")]
pub use agent_audit_macros::audited;

/// ClickHouse, for large volumes.
#[cfg(feature = "clickhouse")]
pub mod clickhouse {
    pub use agent_audit_clickhouse::*;
}

/// Kafka, and the relay that brings its topics to other sinks.
#[cfg(feature = "kafka")]
pub mod kafka {
    pub use agent_audit_kafka::*;
}

/// Amazon Kinesis Data Streams.
#[cfg(feature = "kinesis")]
pub mod kinesis {
    pub use agent_audit_kinesis::*;
}

/// An OpenTelemetry collector, over OTLP.
#[cfg(feature = "otlp")]
pub mod otlp {
    pub use agent_audit_otlp::*;
}

/// PostgreSQL, with row-level security.
#[cfg(feature = "postgres")]
pub mod postgres {
    pub use agent_audit_postgres::*;
}

/// The read side: questions to a tenant's ledger, exports that prove themselves, the integrity job.
///
/// ```
/// # #[cfg(feature = "sqlite")] {
/// # let dir = tempfile::tempdir()?;
/// use std::sync::Arc;
/// use agent_audit::{AuditLog, event::Other, query::{Filter, Ledger, Request}, sqlite::{SqliteEvents, SqliteSink}};
///
/// let store = dir.path().join("store");
/// let log = AuditLog::builder(dir.path().join("log")).with_sink(SqliteSink::open(&store)?).open()?;
/// log.session("acme", "session-1", "support-agent")?.record_blocking(Other::custom("note")?)?;
/// log.close_blocking(std::time::Duration::from_secs(5))?;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let ledger = Ledger::new(Arc::new(SqliteEvents::open(&store)?), "acme".parse()?);
/// let notes = ledger.events(&Filter::new().event_type("custom.note"), &Request::first(10)).await?;
/// assert_eq!(notes.events.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "query")]
pub mod query {
    pub use agent_audit_query::*;
}

/// The archive in S3 and what speaks its protocol, under Object Lock.
#[cfg(feature = "s3")]
pub mod s3 {
    pub use agent_audit_s3::*;
}

/// The embedded sink: one SQLite database per tenant.
#[cfg(feature = "sqlite")]
pub mod sqlite {
    pub use agent_audit_sqlite::*;
}

/// Amazon SQS queues, first in, first out.
#[cfg(feature = "sqs")]
pub mod sqs {
    pub use agent_audit_sqs::*;
}

/// What `#[audited]` expands to. Not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use agent_audit_core::instrument::*;
}

/// The examples of the README.
#[cfg(all(doctest, feature = "macros", feature = "sqlite"))]
#[doc = include_str!("../README.md")]
pub struct Readme;
