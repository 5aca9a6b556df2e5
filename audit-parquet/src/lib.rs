//! Events as Apache Parquet: one row for each, for archives and exports.
//!
//! A row has the [columns](agent_audit_core::columns) that every store has, the canonical bytes of
//! the event, and its content:
//!
//! | column | type |
//! |---|---|
//! | those of [`COLUMNS`](agent_audit_core::columns::COLUMNS) | text as `STRING`; `sequence` and `decided_after_us` as `INT64`; `timestamp_utc` and `occurred_at` as `TIMESTAMP(NANOS, UTC)`; `event_hash` as `BINARY` |
//! | `external_ids` | list of `{key, value}` |
//! | `event` | `BINARY`: the canonical bytes, which the event hash is of |
//! | `content` | list of `{name, media_type, state, salt, bytes, key_id, algorithm, nonce, reason, at, evidence}` |
//!
//! Of a part of content, `state` is `clear`, `sealed` or `absent`, as in a record's line of JSON, and
//! what a state does not have is null. The columns repeat what the canonical bytes say, so that a
//! file can be queried; a reader believes the bytes, and [`Row::mismatch`] names a column that does
//! not agree with them.
//!
//! Both directions go through bounded memory: about 16 MiB of records, and one record.
//!
//! ```
//! use agent_audit_core::{event::{Event, chain::ChainClosed}, record::Record};
//! use agent_audit_parquet::{Rows, Writer};
//!
//! let event = Event::example(ChainClosed::new("shutdown"));
//! let record = Record::new(event.canonical_bytes()?, Vec::new());
//! let mut writer = Writer::new(Vec::new())?;
//! writer.push(&record)?;
//! let file = writer.finish()?;
//!
//! let rows: Vec<_> = Rows::of_bytes(file.into())?.collect::<Result<_, _>>()?;
//! assert_eq!((&rows[0].record, rows[0].mismatch), (&record, None));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod read;
mod write;

pub use read::{Row, Rows};
pub use write::Writer;

/// A file that cannot be written or read as Parquet. It shows nothing of what is in it.
///
/// ```
/// use agent_audit_parquet::Rows;
/// let error = Rows::of_bytes("no parquet".into()).unwrap_err();
/// assert_eq!(error.to_string(), "it cannot be read as Parquet");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParquetError(String);

impl ParquetError {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// About how many bytes of records are in memory at a time.
const BYTES: usize = 16 << 20;
/// How many rows at most are put together, or read, at a time.
const ROWS: usize = 1_024;
const UTC: &str = "UTC";
