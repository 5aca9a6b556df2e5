//! The test support under test: a suite that cannot fail would prove nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod broken;
mod framed;
mod outages;
mod process;
mod proxy;
mod servers;
