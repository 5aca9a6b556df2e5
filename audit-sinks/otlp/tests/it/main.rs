//! The sink against a real collector, and against a service that fails as a test wants it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod collector;
mod conformance;
mod faults;
mod received;
mod service;
mod throttling;
