//! The Kafka sink of agent-audit, and the relay that brings events from Kafka to other sinks.
//!
//! ```no_run
//! # async fn example(batch: agent_audit_core::sink::Batch)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! use agent_audit_core::sink::Sink;
//! use agent_audit_kafka::{KafkaConfig, KafkaSink, Ledger, TopicReader};
//!
//! let config = KafkaConfig::new("kafka-1:9092,kafka-2:9092").with_topic("agent-audit");
//! let sink = KafkaSink::new(config.clone())?;
//! sink.check().await?;
//! let ack = sink.append(&batch).await?;
//!
//! let mut ledger = Ledger::default();
//! TopicReader::open(&config, &["agent-audit"])?.read_to_end(&mut |message| {
//!     if let Ok((chain, record)) = message {
//!         ledger.take(&chain, record);
//!     }
//! })?;
//! # drop(ack);
//! # Ok(())
//! # }
//! ```
//!
//! # What the sink promises
//!
//! - An acknowledgement MUST mean that all in-sync replicas have the events (`acks=all`), written by
//!   an idempotent producer: retries of the client itself neither double nor reorder.
//! - A prefix of a segment MAY be acknowledged, never a segment with a hole.
//! - One message that is refused (too large, a topic that is missing or forbidden) MUST NOT fail
//!   another chain's events in the same batch.
//! - An append MUST end within [`KafkaConfig::message_timeout_ms`] and a few seconds. What was not
//!   acknowledged by then may be in the topic all the same, and its error says so.
//! - Memory is bounded by [`KafkaConfig::max_buffered_bytes`].
//!
//! # What the reader has to do
//!
//! A topic is a log of messages: it has every acknowledged event at least once. After an outage the
//! same event can come again, and events of a segment that was not acknowledged can stand in the
//! topic before one that failed, until delivery has sent the segment again. So a reader keeps the
//! first event at each position of a chain and orders by position, as [`Ledger`] and [`Relay`] do.
//! The sink knows neither heads nor conflicts; the relay tells what contradicts itself.
//!
//! # Messages
//!
//! | part | what |
//! |---|---|
//! | key | `tenant/chain`: a chain stays in one partition, and so in order |
//! | value | [`Encoding::Json`]: the line of JSON of a record; [`Encoding::Protobuf`]: the message `Record` of `docs/schema/agent-audit-1.0.proto`. Both hold the canonical bytes of the event verbatim, and its content |
//! | headers | `audit-tenant`, `audit-event-type`, `audit-event-hash`, `audit-schema-version`, `audit-encoding`: to route by, not to rely on |
//! | timestamp | when the message was produced, so that a topic's retention counts from then |
//!
//! The partition is chosen as the clients in Java do (`murmur2`). Do not add partitions to a topic
//! in use where you can help it: a chain goes on in another partition then, and the relay waits for
//! what is left in the old one, for sinks that can tell how far they are.
//!
//! # What the relay promises
//!
//! - Offsets are committed only when every sink has acknowledged what is before them. Kill the relay
//!   at any instant: the next one begins there, asks the sinks for the head of each chain that it
//!   meets, and loses nothing; sinks that take an event once hold it once.
//! - Every chain is checked as it comes: links, order, copies, forks. Copies are dropped. What comes
//!   early waits for what is missing. What contradicts an event that was read first, what is no
//!   event, what stands in another tenant's topic, and what a sink refuses for good, MUST NOT pass
//!   unseen: it is quarantined, or, without a quarantine, the partition's offset stays before it.
//! - A chain that a sink refuses or does not take now MUST NOT delay another, as long as what is held
//!   of it leaves room in its partition's share of [`RelayConfig::max_buffered_bytes`].
//! - A sink that refuses a chain, lacks events of it or does not answer MUST NOT keep the chain from
//!   another sink, whether this relay met the chain before or the next one does.
//! - What waits for missing events of one tenant MUST NOT have another tenant's given up that holds
//!   less.
//! - A sink that is slower than the others holds back the offsets, and, when the share of a partition
//!   is used up, rests that partition. Memory is bounded.
//! - Relays of one [group](RelayConfig::group) share the partitions, and take over from each other.
//!
//! # TLS, SCRAM and Kerberos
//!
//! This crate builds librdkafka without OpenSSL, which speaks `plaintext` and, over it, SASL `PLAIN`:
//! the password travels in the clear, so use that within a protected network alone. For TLS and SCRAM
//! have your own `Cargo.toml` add the feature to the same client; Cargo unites the two:
//!
//! ```toml
//! [dependencies]
//! agent-audit-kafka = "0.1"
//! rdkafka = { version = "0.39", default-features = false, features = ["ssl-vendored"] }
//! ```
//!
//! Then [`KafkaConfig::tls`] and `SCRAM-SHA-512` work; authorities are named by the property
//! `ssl.ca.location`. Without it both are an error that says so when the sink is made.

mod config;
mod encoding;
mod error;
mod producer;
mod relay;
mod sink;
mod store;
mod topic;
mod wire;

pub use config::{Compression, KafkaConfig, Sasl};
pub use encoding::{Encoding, MalformedMessage, decode};
pub use relay::{
    Gap, PartitionStatus, Problem, ProblemKind, Relay, RelayConfig, RelayMonitor, RelaySinkStatus,
    RelayStatus,
};
pub use sink::{
    HEADER_ENCODING, HEADER_EVENT_HASH, HEADER_EVENT_TYPE, HEADER_SCHEMA_VERSION, HEADER_TENANT,
    KafkaSink,
};
pub use store::{Ledger, NotAnEvent, Taken, TopicReader};
pub use topic::{TopicRouter, TopicTemplate};
