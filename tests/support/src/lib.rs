//! What the tests of all sinks share.
//!
//! - [`servers`]: real servers, started and killed by the tests that need one of their own;
//! - [`data`]: real data beside the repository;
//! - [`disk`]: a small disk, for servers whose disk is to be full;
//! - [`proxy`]: a TCP proxy that breaks connections in every way a network does;
//! - [`race`]: ways to do the same side by side, for benchmarks;
//! - [`sessions`]: ledgers of any size, to be asked about;
//! - [`sinks`]: appending to a sink, and what came of it;
//! - [`service`]: an HTTP service that answers as a test wants it, for faults that no server has;
//! - [`aws`]: users of the emulator of Amazon's services;
//! - [`odd`]: names that mean something to somebody else;
//! - [`outages`]: one suite of outages for all sinks, each through a real log.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests: what does not hold is a panic")]

pub mod aws;
pub mod data;
pub mod disk;
pub mod odd;
pub mod outages;
pub mod proxy;
pub mod race;
pub mod servers;
pub mod service;
pub mod sessions;
pub mod sinks;
