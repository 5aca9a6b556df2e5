//! The SQS sink of agent-audit: one message of a FIFO queue for each event, one group for each
//! chain.
//!
//! ```no_run
//! use agent_audit_core::sink::Sink;
//! use agent_audit_sqs::{ClaimConfig, SqsConfig, SqsSink};
//!
//! # async fn run() -> Result<(), agent_audit_core::sink::SinkError> {
//! let url = "https://sqs.eu-central-1.amazonaws.com/000000000000/audit.fifo";
//! let config = SqsConfig::new(url).with_claims(ClaimConfig::new("acme-audit-large"));
//! let sink = SqsSink::connect(config).await?;
//! sink.check().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - An acknowledgement MUST mean that the service took each event: it is then on several of its
//!   servers, for as long as the queue retains messages.
//! - The same event again within five minutes MUST be one message: its hash is the deduplication id.
//!   After that it is a second one, and the reader drops what it has by chain and sequence.
//! - What is acknowledged of a chain MUST be without a hole. A call can fail for single messages and
//!   take those that follow. The sink then acknowledges what precedes the first such message; that
//!   message comes behind those that follow it in its chain. The reader orders by sequence, and MUST
//!   NOT wait for the missing one before it deletes what it has (see [`SqsReader`]). With
//!   [`strict_order`](SqsConfig::strict_order) each message is sent after the one before it in its
//!   chain was taken, and the queue is in order but for repetitions; calls still carry messages of
//!   up to ten chains.
//! - An event MUST NOT be truncated. One that is larger than a message may be goes to an object
//!   ([`ClaimConfig`]) and its message says where and what that is; without a bucket it is refused.
//! - A message that fails MUST stop its own chain alone, and a message that the service refuses too.
//!
//! # What is not
//!
//! - A queue does not notice another event at a position: it takes both, and the reader says so.
//! - It cannot be asked what it holds of a chain. After a lost cursor delivery sends again what the
//!   journal holds.
//! - The same event with less content, within five minutes of the first, is dropped by the queue,
//!   which knows the event's hash alone.
//! - Messages go when they are deleted, and when the retention of the queue is over: a queue carries
//!   events to a store, and is none.
//!
//! # Messages
//!
//! | field | holds |
//! |---|---|
//! | group id | `tenant/chain`, or the SHA-256 of that in hexadecimal digits where it has more than 128 characters |
//! | deduplication id | the event hash, in hexadecimal digits |
//! | attributes | `tenant`, `event_type`, `event_hash`, each a string |
//! | body | the record's line of JSON ([`Record::to_json_line`](agent_audit_core::record::Record::to_json_line)), or a claim on an object that holds it, as [`agent_audit_aws`] specifies |
//!
//! A line that holds U+FFFE or U+FFFF, which no message may, is sent as base64 of it: a body that
//! does not begin with `{`.

mod config;
mod error;
mod sink;
mod store;

pub use agent_audit_aws::{Arrival, Arrivals, AwsConfig, ClaimConfig, Received};
pub use config::SqsConfig;
pub use sink::SqsSink;
pub use store::{SqsMessage, SqsReader};
