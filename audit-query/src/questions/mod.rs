//! The questions, each one call of a [`Ledger`](crate::Ledger).
//!
//! | call | answers |
//! |---|---|
//! | [`Ledger::story`](crate::Ledger::story) | what happened in this session, and in those that it spawned? |
//! | [`Ledger::why`](crate::Ledger::why) | what led to this event? |
//! | [`Ledger::effects`](crate::Ledger::effects) | what did this event cause? |
//! | [`Ledger::overrides`](crate::Ledger::overrides) | what did reviewers reject, change or hand on? |
//! | [`Ledger::attribution`](crate::Ledger::attribution) | what did this version of a model decide, and what came of it? |
//! | [`Ledger::anomalies`](crate::Ledger::anomalies) | what is not as it should be? |
//! | [`Ledger::usage`](crate::Ledger::usage) | how many tokens, how long, at what cost? |
//! | [`Ledger::events`](crate::Ledger::events) | which events match? |
//! | [`Ledger::sessions`](crate::Ledger::sessions) | which sessions were there? |
//!
//! An answer says what the records say. Whether the records are as they were written is the
//! verifier's question.

pub mod anomalies;
pub mod attribution;
pub mod links;
mod order;
pub mod overrides;
pub mod story;
pub mod usage;
pub mod walk;
