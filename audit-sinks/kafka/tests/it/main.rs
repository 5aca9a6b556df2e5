//! The sink, the reader and the relay against a real Kafka.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod cluster;
mod conformance;
mod messages;
mod outages;
mod refusals;
