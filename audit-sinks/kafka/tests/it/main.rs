//! The sink, the reader and the relay against a real Kafka.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod cluster;
mod conformance;
mod messages;
mod outages;
mod proxied;
mod refusals;
mod relay;
mod relay_halted;
mod relay_killed;
mod relay_shared;
