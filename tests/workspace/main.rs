//! What holds for the project as a whole: which crate may know which, and that the specification
//! says what the code does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod examples;
mod packages;
mod specification;
