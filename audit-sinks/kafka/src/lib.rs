//! Kafka sink of agent-audit, and its consumer.
mod config;
mod encoding;
mod error;
mod producer;
mod sink;
mod store;
mod topic;
mod wire;

pub use config::{Compression, KafkaConfig, Sasl};
pub use encoding::{Encoding, MalformedMessage, decode};
pub use sink::{
    HEADER_ENCODING, HEADER_EVENT_HASH, HEADER_EVENT_TYPE, HEADER_SCHEMA_VERSION, HEADER_TENANT,
    KafkaSink,
};
pub use store::{Ledger, NotAnEvent, Taken, TopicReader};
pub use topic::{TopicRouter, TopicTemplate};
