//! The sink and its reader on an emulator of the service.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod faults;
mod place;
mod reading;
#[path = "../../../aws/tests/shared/mod.rs"]
mod shared;
