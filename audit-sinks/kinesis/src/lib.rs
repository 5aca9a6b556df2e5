//! The Kinesis Data Streams sink of agent-audit: one record for each event, keyed by its chain.
//!
//! ```no_run
//! use agent_audit_core::sink::Sink;
//! use agent_audit_kinesis::{ClaimConfig, KinesisConfig, KinesisSink};
//!
//! # async fn run() -> Result<(), agent_audit_core::sink::SinkError> {
//! let config = KinesisConfig::new("audit-events").with_claims(ClaimConfig::new("audit-large"));
//! let sink = KinesisSink::connect(config).await?;
//! sink.check().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - An acknowledgement MUST mean that the service gave each event a sequence number: it is then on
//!   the disks of three availability zones, for as long as the stream retains records.
//! - Each event MUST be in the stream at least once. After a fault it can be there again: the reader
//!   drops what it has by chain and sequence, as [`Arrivals`] does.
//! - What is acknowledged of a chain MUST be without a hole. `PutRecords` can fail for single
//!   records and store those that follow. The sink then acknowledges what precedes the first such
//!   record; what followed comes again, and stands in the stream twice: the first time before the
//!   record that it follows in its chain. The reader orders by sequence. With
//!   [`strict_order`](KinesisConfig::strict_order) each record is put after the one before it was
//!   taken, with `SequenceNumberForOrdering`, and the stream is in order but for repetitions.
//! - An event MUST NOT be truncated. One that is larger than a record may be goes to an object
//!   ([`ClaimConfig`]) and its record says where and what that is; without a bucket it is refused.
//! - A record that is throttled MUST stop its own chain alone, and a record that the service refuses
//!   too.
//!
//! # What is not
//!
//! - A stream does not notice another event at a position: it takes both, and the reader says so.
//! - It cannot be asked what it holds of a chain. After a lost cursor delivery sends again what the
//!   journal holds.
//! - Records go when the retention of the stream is over: a stream carries events to a store, and is
//!   none.
//!
//! # Records
//!
//! The partition key is `tenant/chain`, or the SHA-256 of that in hexadecimal digits where it has
//! more than 256 characters. The data is the record's line of JSON
//! ([`Record::to_json_line`](agent_audit_core::record::Record::to_json_line)) without a line feed, or
//! a claim on an object that holds the line, as [`agent_audit_aws`] specifies.

mod config;
mod error;
mod sink;
mod store;

pub use agent_audit_aws::{Arrival, Arrivals, AwsConfig, ClaimConfig, Received};
pub use config::KinesisConfig;
pub use sink::KinesisSink;
pub use store::{KinesisReader, KinesisRecord, Positions};
